package corestore

import (
	"context"
	"errors"
	"fmt"
	"sync"

	datastore "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"

	"github.com/p2pcore/p2pcore/feed"
)

// errDeleting: the deletion of the feed has begun, and has to be finished before the feed can be made again.
var errDeleting = errors.New("corestore: the deletion of the feed has not been finished")

// deletion is one of a feed that has begun.
type deletion struct {
	n         uint32
	record    *record
	tombstone []byte // nil: none is left
	unmade    bool   // only the records of the feed itself are left; the feed may have been made again under another number
}

// deletions are those that have begun and have not ended, at most one of each feed. One is added and changed by whoever has
// evicted the feed. It is safe for concurrent use.
type deletions struct {
	mu  sync.Mutex
	all map[feed.DiscoveryKey]*deletion // under mu, as are their fields unmade
}

func (ds *deletions) add(d *deletion) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	if ds.all == nil {
		ds.all = make(map[feed.DiscoveryKey]*deletion)
	}
	ds.all[d.record.key.DiscoveryKey()] = d
}

func (ds *deletions) remove(d *deletion) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	delete(ds.all, d.record.key.DiscoveryKey())
}

func (ds *deletions) get(dk feed.DiscoveryKey) *deletion {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	return ds.all[dk]
}

// hides says that the feed is not to be known any more, whatever is stored of it.
func (ds *deletions) hides(dk feed.DiscoveryKey) bool {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	d := ds.all[dk]
	return d != nil && !d.unmade
}

func (ds *deletions) setUnmade(d *deletion) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	d.unmade = true
}

// carryOut deletes a feed that is evicted, or goes on where an error has ended that before. After an error the feed is as
// it was if the datastore says that it does not have the note; else the deletion is to be carried out again.
func (s *shared) carryOut(ctx context.Context, d *deletion) error {
	dk := d.record.key.DiscoveryKey()
	if !d.unmade {
		if err := s.unmake(ctx, d); err != nil {
			err = fmt.Errorf("delete feed %s: %w", dk.Short(), err)
			// Also if ctx is what has ended it.
			if noted, look := s.ds.Has(context.WithoutCancel(ctx), purgeKey(d.n)); look == nil && !noted {
				s.deletions.remove(d)
				return err
			}
			s.defaultDeleted(d.record.key)
			return err
		}
		s.defaultDeleted(d.record.key)
		s.deletions.setUnmade(d)
	}
	if err := s.purge(ctx, d.n); err != nil {
		return fmt.Errorf("delete feed %s: %w", dk.Short(), err)
	}
	s.deletions.remove(d)
	s.opts.Logger.Info("feed deleted", "feed", dk.Short(), "number", d.n)
	return nil
}

// finishDeletion carries out the deletion of a feed if one has begun. The turn is held.
func (s *shared) finishDeletion(ctx context.Context, dk feed.DiscoveryKey) (finished bool, err error) {
	d := s.deletions.get(dk)
	if d == nil {
		return false, nil
	}
	done, err := s.evict(ctx, dk)
	if err != nil {
		return false, err
	}
	defer done()
	return true, s.carryOut(ctx, d)
}

// makeRoom finishes the deletion of a feed that is to be made again.
func (s *shared) makeRoom(ctx context.Context, dk feed.DiscoveryKey) error {
	if err := take(ctx, s.turn); err != nil {
		return err
	}
	defer func() { <-s.turn }()
	if !s.deletions.hides(dk) {
		return nil // somebody else was faster
	}
	_, err := s.finishDeletion(ctx, dk)
	return err
}

// finishDeleting deletes what a crash has left of feeds that were being deleted. A store that is read-only does not know them.
func (s *shared) finishDeleting(ctx context.Context) error {
	results, err := s.ds.Query(ctx, query.Query{Prefix: purgePrefix})
	if err != nil {
		return fmt.Errorf("list deleted feeds: %w", err)
	}
	rest, err := results.Rest()
	if err != nil {
		return fmt.Errorf("list deleted feeds: %w", err)
	}
	for _, e := range rest {
		n, err := numberBelow(purgePrefix, e.Key)
		if err != nil {
			return err
		}
		r, err := parseRecord(e.Value)
		if err != nil {
			return err
		}
		if s.opts.ReadOnly {
			if err := s.hide(ctx, n, r); err != nil {
				return err
			}
			continue
		}
		if err := s.unmakeAgain(ctx, n, r); err != nil {
			return err
		}
		if err := s.purge(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// unmakeAgain is the second half of unmake. The same key may have been stored again since under another
// number; that one is left alone.
func (s *shared) unmakeAgain(ctx context.Context, n uint32, r *record) error {
	now, ok, err := s.index.number(ctx, r.key.DiscoveryKey())
	if err != nil {
		return err
	}
	return s.commit(ctx, func(b datastore.Batch) error {
		if ok && now != n {
			return b.Delete(ctx, recordKey(n))
		}
		return s.deleteEntries(ctx, b, n, r)
	})
}

// hide makes a feed unknown whose deletion has begun, unless the key was stored again under another number.
func (s *shared) hide(ctx context.Context, n uint32, r *record) error {
	now, ok, err := s.index.number(ctx, r.key.DiscoveryKey())
	if err != nil || !ok || now != n {
		return err
	}
	s.deletions.add(&deletion{n: n, record: r})
	return nil
}
