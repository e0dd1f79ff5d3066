package corestore

import (
	"context"
	"errors"
	"fmt"

	datastore "github.com/ipfs/go-datastore"

	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/internal/compact"
)

// DeleteOptions of Store.Delete.
type DeleteOptions struct {
	// Forget leaves no tombstone, and drops that of a feed which was deleted before. If the feed is ever made again from the same secret, it begins at fork 0
	// and contradicts what its readers have: they freeze it for good.
	Forget bool
}

// Delete deletes the feed of key for good: its sessions end, then blocks, tree, head, secret, names and
// settings are deleted, and the datastore is made to give the space back. The feed need not be open.
// It is durable when it returns; a crash in the middle leaves either the whole feed, or none that opens,
// and the next Open of the store deletes the rest. So does an error: as soon as the datastore may have the note that the feed
// is to be deleted the feed is unknown here. The next Delete finishes it, or else whoever makes the feed again, before it is made.
//
// Of a feed whose secret is derived, so that the same name makes it again, a tombstone stays: the hash of
// its discovery key, and its last fork. Made again it begins at the next fork, so that its readers see a
// truncation. Opened by key, without the secret, it is a feed like any other; should the secret come later, the feed
// goes to the next fork with what it has.
//
// The remove callbacks run as for Remove; whoever has the feed by Resolve finds it closed. A default feed that was
// given may be deleted too: the store's own takes its place. The error is ErrUnknownFeed (with Forget only if there
// is no tombstone either), ErrReadOnly, ErrClosed, the datastore's, or wraps ctx's. If the feed is too damaged for
// its last fork to be read, it is feed.ErrCorrupt unless Forget is set.
func (s *Store) Delete(ctx context.Context, key feed.Key, o DeleteOptions) error {
	n, rec, leave, err := s.takeFeed(ctx, key)
	if err != nil {
		return err
	}
	defer leave()
	dk := key.DiscoveryKey()
	finished, err := s.finishDeletion(ctx, dk)
	switch {
	case err != nil:
		return err
	case rec == nil && o.Forget:
		if err := s.forget(ctx, dk); !finished || !errors.Is(err, ErrUnknownFeed) {
			return err
		}
		return nil
	case rec == nil && finished:
		return nil
	case rec == nil:
		return ErrUnknownFeed
	}
	done, err := s.evict(ctx, dk)
	if err != nil {
		return err
	}
	defer done()
	tombstone, err := s.tombstone(ctx, n, rec, o)
	if err != nil {
		return fmt.Errorf("delete feed %s: its last fork: %w", dk.Short(), err)
	}
	d := &deletion{n: n, record: rec, tombstone: tombstone}
	s.deletions.add(d)
	return s.carryOut(ctx, d)
}

// forget drops the tombstone of a feed that is not stored, durably. The turn is held.
func (s *shared) forget(ctx context.Context, dk feed.DiscoveryKey) error {
	b, err := s.index.get(ctx, tombKey(dk))
	if err != nil {
		return err
	}
	if b == nil {
		return ErrUnknownFeed
	}
	if err := s.ds.Delete(ctx, tombKey(dk)); err != nil {
		return fmt.Errorf("forget feed %s: %w", dk.Short(), err)
	}
	return s.sync(ctx)
}

// evict closes a stored feed, ending its sessions, after the remove callbacks, and keeps others from opening it until
// done is called.
func (s *shared) evict(ctx context.Context, dk feed.DiscoveryKey) (done func(), err error) {
	for {
		s.mu.Lock()
		if s.closing {
			s.mu.Unlock()
			return nil, ErrClosed
		}
		sl := s.slots[dk]
		if sl != nil && sl.busy != nil {
			busy := sl.busy
			s.mu.Unlock()
			select {
			case <-busy:
				continue
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		if sl == nil {
			sl = &slot{dk: dk}
			s.slots[dk] = sl
		}
		if sl.idle != nil {
			sl.idle()
			sl.idle = nil
		}
		sl.busy = make(chan struct{})
		sl.leaving = true
		told := make(chan struct{})
		if sl.telling {
			sl.told = told
		} else {
			close(told)
		}
		removed := s.onRemove.snapshot()
		s.mu.Unlock()
		if sl.feed != nil {
			<-told // the callbacks wait for nothing
			s.tell(sl)
		}
		for _, fn := range removed {
			fn(dk, sl.feed)
		}
		if sl.feed != nil {
			if err := sl.feed.Close(); err != nil {
				s.opts.Logger.Warn("closing a feed that is deleted failed", "feed", dk.Short(), "err", err)
			}
		}
		return func() {
			s.mu.Lock()
			s.dropLocked(dk)
			close(sl.busy)
			sl.busy = nil
			s.mu.Unlock()
		}, nil
	}
}

// tombstone returns what stays of a feed, nil for nothing. One that an earlier life of the feed has left stays, whatever
// the feed was this time, unless it is to be forgotten.
func (s *shared) tombstone(ctx context.Context, n uint32, r *record, o DeleteOptions) ([]byte, error) {
	if o.Forget {
		return nil, nil
	}
	first, err := s.firstFork(ctx, r.key.DiscoveryKey())
	if err != nil || first == 0 && r.kind != derivedSecret {
		return nil, err
	}
	fork, err := s.lastFork(ctx, n)
	if err != nil {
		return nil, err
	}
	if first > 0 {
		fork = max(fork, first-1)
	}
	return compact.AppendUint(nil, fork), nil
}

// lastFork reads the fork of a feed that is closed. One that was never finished has none.
func (s *shared) lastFork(ctx context.Context, n uint32) (uint64, error) {
	f, err := feed.Open(ctx, s.ds, s.feedOptions(n, feed.Options{}))
	switch {
	case errors.Is(err, feed.ErrNotFound):
		return 0, nil
	case err != nil:
		return 0, err
	}
	return f.Info().Fork, f.Close()
}

// unmake makes a feed unknown, and notes that its records are to be deleted.
//
// Without atomic batches a crash may keep any of the writes since the last sync, and the steps are: the tombstone, for a
// feed without one could be made again at the same fork; the note; what makes the feed known; then the rest. A feed
// that is noted is deleted by the next Open.
func (s *shared) unmake(ctx context.Context, d *deletion) error {
	n, r := d.n, d.record
	steps := []func(b datastore.Batch) error{
		func(b datastore.Batch) error {
			if d.tombstone == nil {
				return b.Delete(ctx, tombKey(r.key.DiscoveryKey()))
			}
			return b.Put(ctx, tombKey(r.key.DiscoveryKey()), d.tombstone)
		},
		func(b datastore.Batch) error { return b.Put(ctx, purgeKey(n), r.append(nil)) },
		func(b datastore.Batch) error { return s.deleteEntries(ctx, b, n, r) },
	}
	if s.atomic {
		return s.commit(ctx, steps...)
	}
	for _, step := range steps {
		if err := s.commit(ctx, step); err != nil {
			return err
		}
	}
	return nil
}

// commit writes one batch, durably, whatever Options.NoSync says: what is deleted must not come back in part.
func (s *shared) commit(ctx context.Context, steps ...func(b datastore.Batch) error) error {
	batch, err := s.ds.Batch(ctx)
	if err != nil {
		return err
	}
	for _, step := range steps {
		if err := step(batch); err != nil {
			return err
		}
	}
	if err := batch.Commit(ctx); err != nil {
		return err
	}
	return s.ds.Sync(ctx, datastore.RawKey("/"))
}

// deleteEntries deletes what makes a feed known, and its settings.
func (s *shared) deleteEntries(ctx context.Context, b datastore.Batch, n uint32, r *record) error {
	dk := r.key.DiscoveryKey()
	keys := []datastore.Key{discoveryKey(dk), recordKey(n), encryptionKey(dk)}
	if err := s.deleteDefault(ctx, b, r.key); err != nil {
		return err
	}
	for _, name := range r.names {
		// A name may lead elsewhere by now, if a crash has left it in two records.
		entry, ok, err := s.index.named(ctx, name)
		if err != nil {
			return err
		}
		if ok && entry == dk {
			keys = append(keys, nameKey(name))
		}
	}
	for _, k := range keys {
		if err := b.Delete(ctx, k); err != nil {
			return err
		}
	}
	return nil
}

// purge deletes the records of a feed that is not known any more, and the note of that.
func (s *shared) purge(ctx context.Context, n uint32) error {
	if err := feed.Purge(ctx, s.ds, numberPrefix(n)); err != nil {
		return err
	}
	if err := s.ds.Delete(ctx, purgeKey(n)); err != nil {
		return err
	}
	return s.sync(ctx)
}

// firstFork returns the fork at which a feed begins that is written here from now on: past the last one of the feed of
// the same key that was deleted.
func (s *shared) firstFork(ctx context.Context, dk feed.DiscoveryKey) (uint64, error) {
	b, err := s.index.get(ctx, tombKey(dk))
	if b == nil || err != nil {
		return 0, err
	}
	d := compact.NewDecoder(b)
	fork := d.Uint()
	if d.Err() != nil || fork >= compact.MaxInt {
		return 0, fmt.Errorf("%w: tombstone %x", ErrCorrupt, b)
	}
	return fork + 1, nil
}
