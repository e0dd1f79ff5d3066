package corestore

import (
	"context"
	"errors"
	"fmt"
	"slices"

	datastore "github.com/ipfs/go-datastore"

	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/internal/compact"
)

// again opens until the feed was not closed by a Delete or Remove between being found and being opened, each
// further try waits for that to end, until a feed that was removed is back in the group, and until one is gone whose
// deletion has begun.
func (s *Store) again(ctx context.Context, dk feed.DiscoveryKey, open func(context.Context) (*feed.Session, error)) (*feed.Session, error) {
	for {
		session, err := open(ctx)
		switch {
		case errors.Is(err, ErrRemoved) && s.opts.ReadOnly:
			return nil, fmt.Errorf("%w: %w", s.readOnly(), err)
		case errors.Is(err, ErrRemoved):
			if err := s.bringBack(ctx, dk); err != nil {
				return nil, err
			}
		case errors.Is(err, errDeleting):
			if err := s.makeRoom(ctx, dk); err != nil {
				return nil, err
			}
		case !errors.Is(err, feed.ErrClosed) || s.isClosing():
			return session, err
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
}

func (s *shared) isClosing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing
}

// openNamed returns a session of a feed that a name stands for.
func (s *Store) openNamed(ctx context.Context, dk feed.DiscoveryKey) (*feed.Session, error) {
	return s.again(ctx, dk, func(ctx context.Context) (*feed.Session, error) { return s.openNamedOnce(ctx, dk) })
}

func (s *Store) openNamedOnce(ctx context.Context, dk feed.DiscoveryKey) (*feed.Session, error) {
	sl, err := s.acquire(ctx, dk, func(ctx context.Context, sl *slot) (*feed.Feed, error) {
		return s.openStored(ctx, sl, feed.Options{}, false)
	})
	if err != nil {
		return nil, err
	}
	if err := s.checkRemoved(ctx, sl); err != nil {
		s.release(sl)
		return nil, err
	}
	return s.session(sl, feed.SessionOptions{})
}

// openOrCreate returns a session of the feed of want, which is made if it is not stored. opts holds
// what is known of its identity.
func (s *Store) openOrCreate(ctx context.Context, want *record, opts feed.Options) (*feed.Session, error) {
	for {
		leads := want.key.DiscoveryKey() // unless the name leads elsewhere
		session, err := s.again(ctx, leads, func(ctx context.Context) (session *feed.Session, err error) {
			session, leads, err = s.openOrCreateOnce(ctx, want, opts)
			return session, err
		})
		if leads == want.key.DiscoveryKey() {
			return session, err
		}
		// Not inside, where the turn is held: bringing a feed back takes it.
		session, err = s.openNamed(ctx, leads)
		if !errors.Is(err, ErrUnknownFeed) || s.opts.ReadOnly || ctx.Err() != nil {
			return session, err
		}
	}
}

// openOrCreateOnce returns the discovery key of another feed, and neither a session nor an error, if that one has the
// name.
func (s *Store) openOrCreateOnce(ctx context.Context, want *record, opts feed.Options) (*feed.Session, feed.DiscoveryKey, error) {
	dk := want.key.DiscoveryKey()
	if len(want.names) > 0 && !s.opts.ReadOnly {
		// The turn keeps Alias from giving the name away meanwhile.
		if err := take(ctx, s.turn); err != nil {
			return nil, dk, err
		}
		defer func() { <-s.turn }()
		taken, ok, err := s.index.named(ctx, want.names[0])
		if err != nil {
			return nil, dk, err
		}
		if ok && taken != dk {
			// What a crash without atomic batches has left of a deleted feed is no name.
			_, stored, err := s.index.number(ctx, taken)
			if err != nil {
				return nil, dk, err
			}
			if stored {
				return nil, taken, nil
			}
		}
	}
	created := false
	sl, err := s.acquire(ctx, dk, func(ctx context.Context, sl *slot) (*feed.Feed, error) {
		f, err := s.openStored(ctx, sl, opts, false)
		switch {
		case !errors.Is(err, ErrUnknownFeed) || errors.Is(err, ErrRemoved):
			return f, err
		case s.opts.ReadOnly:
			return nil, fmt.Errorf("%w: %w", err, s.readOnly())
		}
		if s.deletions.hides(dk) {
			return nil, errDeleting
		}
		created = true
		return s.create(ctx, want, opts)
	})
	if err != nil {
		return nil, dk, err
	}
	err = s.checkRemoved(ctx, sl)
	if err == nil && !created && want.kind != noSecret {
		err = s.adopt(ctx, sl, want, opts)
	}
	if err != nil {
		s.release(sl)
		return nil, dk, err
	}
	session, err := s.session(sl, feed.SessionOptions{KeyPair: opts.KeyPair})
	return session, dk, err
}

// openStored opens the feed of a slot if it is stored; ErrUnknownFeed if it is not, ErrRemoved if it is removed and
// removed ones are not asked for. opts may add to what the store knows of its identity.
func (s *Store) openStored(ctx context.Context, sl *slot, opts feed.Options, removed bool) (*feed.Feed, error) {
	dk := sl.dk
	n, rec, err := s.index.find(ctx, dk)
	switch {
	case err != nil:
		return nil, err
	case rec == nil:
		return nil, ErrUnknownFeed
	case rec.removed() && !removed:
		return nil, ErrRemoved
	}
	s.mu.Lock()
	sl.removed = rec.removed()
	s.mu.Unlock()
	opts.Key = &rec.key
	if pair, ok := s.primary.pairOf(rec); ok && opts.KeyPair == nil {
		opts.KeyPair, opts.Manifest = &pair, manifestOf(rec.key, pair)
	}
	f, err := feed.Open(ctx, s.ds, s.feedOptions(n, opts))
	if errors.Is(err, feed.ErrNotFound) {
		// A crash without atomic batches: the index says so and the feed is not there.
		return nil, fmt.Errorf("%w: its first record is missing", ErrUnknownFeed)
	}
	if err != nil {
		return nil, fmt.Errorf("open feed %s: %w", dk.Short(), err)
	}
	k, ok, err := s.index.encryption(ctx, dk)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open feed %s: %w", dk.Short(), err), f.Close())
	}
	if ok {
		f.SetEncryption(encryptionOf(f, &k))
	}
	return f, nil
}

func (s *shared) feedOptions(n uint32, opts feed.Options) feed.Options {
	opts.Prefix = numberPrefix(n)
	opts.NoSync = s.opts.NoSync
	opts.ReadOnly = s.opts.ReadOnly
	opts.Logger = s.opts.Logger
	return opts
}

// create makes the feed of want and makes it known.
//
// With atomic batches both happen in one. Without, the feed comes first: until the single put of its
// number under its discovery key it does not exist, and a crash before leaves records under a number
// that is never used again.
func (s *Store) create(ctx context.Context, want *record, opts feed.Options) (*feed.Feed, error) {
	dk := want.key.DiscoveryKey()
	n, err := s.takeNumber(ctx)
	if err != nil {
		return nil, fmt.Errorf("create feed %s: %w", dk.Short(), err)
	}
	opts.Key = &want.key
	if want.kind != noSecret { // who cannot write it follows its writer, from the beginning
		if opts.Fork, err = s.firstFork(ctx, dk); err != nil {
			return nil, fmt.Errorf("create feed %s: %w", dk.Short(), err)
		}
	}
	opts = s.feedOptions(n, opts)
	if s.atomic {
		opts.Also = func(ctx context.Context, b datastore.Batch) error { return s.index.put(ctx, b, n, want) }
	}
	f, err := feed.Create(ctx, s.ds, opts)
	if err == nil && !s.atomic {
		err = s.makeKnown(ctx, n, want)
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}
	if err != nil {
		return nil, fmt.Errorf("create feed %s: %w", dk.Short(), err)
	}
	s.opts.Logger.Info("feed created", "feed", dk.Short(), "number", n)
	return f, nil
}

// makeKnown writes the index entries of a feed whose own records are durable, one by one. A datastore
// without atomic batches may also lose the older of two writes, hence the sync between them.
func (s *shared) makeKnown(ctx context.Context, n uint32, r *record) error {
	if err := s.ds.Put(ctx, recordKey(n), r.append(nil)); err != nil {
		return err
	}
	if err := s.sync(ctx); err != nil {
		return err
	}
	if err := s.index.put(ctx, s.ds, n, r); err != nil {
		return err
	}
	return s.sync(ctx)
}

// takeNumber returns a feed number that was never returned before and never will be again, whatever
// becomes of the feed: numbers are set aside, numberBlock at a time, before the first one is used.
func (s *shared) takeNumber(ctx context.Context) (uint32, error) {
	if err := take(ctx, s.numberTurn); err != nil {
		return 0, err
	}
	defer func() { <-s.numberTurn }()
	if s.next == s.end {
		end := s.next + numberBlock
		if end > 1<<32 {
			return 0, errors.New("corestore: all feed numbers are used up")
		}
		if err := s.ds.Put(ctx, nextKey, compact.AppendUint(nil, end)); err != nil {
			return 0, err
		}
		// An atomic datastore keeps a prefix of the writes: whatever uses the number comes later.
		if !s.atomic {
			if err := s.sync(ctx); err != nil {
				return 0, err
			}
		}
		s.end = end
	}
	n := uint32(s.next)
	s.next++
	return n, nil
}

// passTombstone takes a feed that is about to be written here past the last fork of its life before: the blocks that
// were deleted with it may be at its readers, who would see two feeds in one.
func (s *shared) passTombstone(ctx context.Context, f *feed.Feed, pair *feed.KeyPair) error {
	first, err := s.firstFork(ctx, f.DiscoveryKey())
	if err != nil || f.Info().Fork >= first {
		return err
	}
	session, err := f.Session(feed.SessionOptions{KeyPair: pair})
	if err != nil {
		return err
	}
	defer session.Close()
	_, err = session.Truncate(ctx, session.Info().Length, feed.TruncateOptions{Fork: first})
	return err
}

// adopt adds the secret and the names of want to a feed that was stored before them, such as one that
// was opened by key. The turn is held if want has names. The error is feed.ErrClosed if the feed has been deleted meanwhile.
func (s *shared) adopt(ctx context.Context, sl *slot, want *record, opts feed.Options) error {
	if s.opts.ReadOnly {
		return nil
	}
	if err := sl.feed.SetManifest(ctx, opts.Manifest); err != nil {
		return err
	}
	if err := s.passTombstone(ctx, sl.feed, opts.KeyPair); err != nil {
		return err
	}
	// Later sessions sign too; not before the manifest says that they may.
	s.mu.Lock()
	sl.pair = opts.KeyPair
	s.mu.Unlock()
	if len(want.names) == 0 {
		if err := take(ctx, s.turn); err != nil {
			return err
		}
		defer func() { <-s.turn }()
	}
	n, rec, err := s.index.find(ctx, sl.dk)
	if err != nil {
		return err
	}
	if rec == nil {
		return feed.ErrClosed // it was deleted since it was opened
	}
	changed := false
	if rec.kind == noSecret {
		rec.kind, rec.origin = want.kind, want.origin
		if want.kind == storedSecret {
			rec.kind, rec.seed = keptSecret, opts.KeyPair.Seed()
		}
		changed = true
	}
	for _, name := range want.names {
		entry, ok, err := s.index.named(ctx, name)
		if err != nil {
			return err
		}
		if !ok || entry != sl.dk || !slices.Contains(rec.names, name) {
			rec.addName(name)
			changed = true
		}
	}
	if !changed {
		return nil
	}
	return s.update(ctx, n, rec)
}

func (r *record) addName(name Name) {
	if !slices.Contains(r.names, name) {
		r.names = append(r.names, name)
	}
}

// update rewrites the record of a stored feed, and its names. The turn is held.
func (s *shared) update(ctx context.Context, n uint32, r *record) error {
	if len(r.names) > maxNames {
		return fmt.Errorf("%w: a feed has at most %d", ErrName, maxNames)
	}
	if !s.atomic {
		return s.makeKnown(ctx, n, r)
	}
	b, err := s.ds.Batch(ctx)
	if err != nil {
		return err
	}
	if err := s.index.put(ctx, b, n, r); err != nil {
		return err
	}
	if err := b.Commit(ctx); err != nil {
		return err
	}
	return s.sync(ctx)
}
