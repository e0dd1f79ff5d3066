package corestore

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/p2pcore/p2pcore/feed"
)

// Remove takes the stored feed of key out of the group, durably: its sessions end, the remove callbacks run, so that
// replication closes its channels and nobody announces it any more, List leaves it out, and Resolve does not
// open it for a peer that asks. Its storage stays. Keyed, Named and all that hands a session of it out bring it back,
// as it was. Removing again changes nothing.
//
// If the error is the datastore's or ctx's, the feed has been closed and may still be in the group. Else it is
// ErrUnknownFeed, ErrReadOnly or ErrClosed.
func (s *Store) Remove(ctx context.Context, key feed.Key) error {
	n, rec, leave, err := s.takeFeed(ctx, key)
	if err != nil {
		return err
	}
	defer leave()
	switch {
	case rec == nil:
		return ErrUnknownFeed
	case rec.removed():
		return nil
	}
	dk := key.DiscoveryKey()
	done, err := s.evict(ctx, dk)
	if err != nil {
		return err
	}
	defer done()
	rec.flags |= flagRemoved
	if err := s.updateFlags(ctx, n, rec); err != nil {
		return fmt.Errorf("remove feed %s: %w", dk.Short(), err)
	}
	s.opts.Logger.Info("feed removed", "feed", dk.Short(), "number", n)
	return nil
}

// takeFeed takes the turn for a change of the feed of key, and finds its record, nil if it is not stored. The caller calls
// leave if there is no error.
func (s *Store) takeFeed(ctx context.Context, key feed.Key) (n uint32, rec *record, leave func(), err error) {
	if s.opts.ReadOnly {
		return 0, nil, nil, s.readOnly()
	}
	exit, err := s.enter()
	if err != nil {
		return 0, nil, nil, err
	}
	if err := take(ctx, s.turn); err != nil {
		exit()
		return 0, nil, nil, err
	}
	leave = func() {
		<-s.turn
		exit()
	}
	if n, rec, err = s.index.find(ctx, key.DiscoveryKey()); err != nil {
		leave()
		return 0, nil, nil, err
	}
	return n, rec, leave, nil
}

// bringBack puts a removed feed into the group again, durably.
func (s *shared) bringBack(ctx context.Context, dk feed.DiscoveryKey) error {
	if err := take(ctx, s.turn); err != nil {
		return err
	}
	defer func() { <-s.turn }()
	n, rec, err := s.index.find(ctx, dk)
	if err != nil || rec == nil || !rec.removed() {
		return err // it was deleted, or somebody else was faster: whoever asked looks again
	}
	rec.flags &^= flagRemoved
	if err := s.updateFlags(ctx, n, rec); err != nil {
		return fmt.Errorf("bring feed %s back: %w", dk.Short(), err)
	}
	// Inspect may have it open.
	s.mu.Lock()
	if sl := s.slots[dk]; sl != nil {
		sl.removed = false
	}
	s.mu.Unlock()
	s.opts.Logger.Info("feed brought back", "feed", dk.Short(), "number", n)
	return nil
}

// updateFlags rewrites the record of a stored feed with other flags and nothing else: one put, which no crash
// tears. The turn is held.
func (s *shared) updateFlags(ctx context.Context, n uint32, r *record) error {
	if err := s.ds.Put(ctx, recordKey(n), r.append(nil)); err != nil {
		return err
	}
	return s.sync(ctx)
}

// Inspect returns a stored feed as Resolve does, but also a removed one, which stays removed: to look at it, not to
// share it.
func (s *Store) Inspect(ctx context.Context, key feed.Key) (f *feed.Feed, release func(), err error) {
	return s.resolve(ctx, key.DiscoveryKey(), true)
}

// resolve is Resolve, with removed feeds or without.
func (s *Store) resolve(ctx context.Context, dk feed.DiscoveryKey, removed bool) (f *feed.Feed, release func(), err error) {
	leave, err := s.enter()
	if err != nil {
		return nil, nil, err
	}
	defer leave()
	sl, err := s.acquire(ctx, dk, func(ctx context.Context, sl *slot) (*feed.Feed, error) {
		return s.openStored(ctx, sl, feed.Options{}, removed)
	})
	if err != nil {
		return nil, nil, err
	}
	if !removed {
		if err := s.checkRemoved(ctx, sl); err != nil {
			s.release(sl)
			return nil, nil, err
		}
	}
	return sl.feed, sync.OnceFunc(func() { s.release(sl) }), nil
}

// checkRemoved returns ErrRemoved if the feed of an open slot was opened by Inspect and is not in the group. The caller
// has a reference.
func (s *shared) checkRemoved(ctx context.Context, sl *slot) error {
	s.mu.Lock()
	removed := sl.removed
	s.mu.Unlock()
	if !removed {
		return nil
	}
	// It may have been brought back while it was being opened.
	_, rec, err := s.index.find(ctx, sl.dk)
	if err != nil || rec == nil {
		return errors.Join(ErrRemoved, err)
	}
	if rec.removed() {
		return ErrRemoved
	}
	s.mu.Lock()
	sl.removed = false
	s.mu.Unlock()
	return nil
}
