package corestore

import (
	"context"
	"errors"

	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/internal/lifecycle"
	"github.com/p2pcore/p2pcore/internal/shrink"
)

// slot is one open feed, or one that is being opened or closed.
type slot struct {
	dk feed.DiscoveryKey

	// All under shared.mu.
	busy     chan struct{} // not nil while somebody opens or closes the feed; closed after that
	feed     *feed.Feed    // nil while opening
	pair     *feed.KeyPair // learned after the feed was opened; nil: none
	refs     int           // sessions and releases
	sessions int
	idle     func() bool   // stops the idle timer; nil if none runs
	active   bool          // what the active callbacks were told last
	telling  bool          // somebody is calling them
	leaving  bool          // the feed is being removed or deleted: it is not active any more, whoever has a session
	told     chan struct{} // made by evict while somebody calls them; closed when they are done
	removed  bool          // opened by Inspect: not in the group
}

// acquire returns the slot of dk with one more reference. open is called by one caller at a time for
// each feed, with nothing held, when the feed is not open; if it fails the next caller tries.
func (s *shared) acquire(ctx context.Context, dk feed.DiscoveryKey, open func(context.Context, *slot) (*feed.Feed, error)) (*slot, error) {
	for {
		s.mu.Lock()
		if s.closing {
			s.mu.Unlock()
			return nil, ErrClosed
		}
		sl := s.slots[dk]
		if sl == nil {
			sl = &slot{dk: dk, busy: make(chan struct{})}
			s.slots[dk] = sl
			s.mu.Unlock()
			return s.fill(ctx, sl, open)
		}
		if busy := sl.busy; busy != nil {
			s.mu.Unlock()
			select {
			case <-busy:
				continue
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		sl.refs++
		if sl.idle != nil {
			sl.idle()
			sl.idle = nil
		}
		s.mu.Unlock()
		return sl, nil
	}
}

// fill opens the feed of a new slot and tells the open callbacks. Others wait for it meanwhile.
func (s *shared) fill(ctx context.Context, sl *slot, open func(context.Context, *slot) (*feed.Feed, error)) (*slot, error) {
	f, err := open(ctx, sl)
	if err == nil {
		for _, fn := range s.openCallbacks() {
			fn(f)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	close(sl.busy)
	sl.busy = nil
	if err != nil {
		s.dropLocked(sl.dk)
		return nil, err
	}
	sl.feed = f
	sl.refs = 1
	s.opts.Logger.Debug("feed opened", "feed", sl.dk.Short())
	return sl, nil
}

// release gives one reference back. The last one starts the idle timer.
func (s *shared) release(sl *slot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sl.refs--
	if sl.refs > 0 || s.closing || s.slots[sl.dk] != sl || s.opts.IdleTimeout < 0 {
		return
	}
	sl.idle = lifecycle.AfterFunc(&s.group, s.opts.IdleTimeout, func() { s.expire(sl) })
}

// expire closes a feed that nobody has used since its timer was started.
func (s *shared) expire(sl *slot) {
	s.mu.Lock()
	// A timer that fires while acquire stops it finds a reference, or another timer running.
	due := sl.idle != nil && s.takeIdle(sl)
	s.mu.Unlock()
	if !due {
		return
	}
	if err := s.closeIdle(sl); err != nil {
		s.opts.Logger.Error("closing an idle feed failed", "feed", sl.dk.Short(), "err", err)
	}
}

// dropLocked takes a slot out. mu is held.
func (s *shared) dropLocked(dk feed.DiscoveryKey) { shrink.Delete(&s.slots, dk, &s.gone) }

// takeIdle keeps everybody from a feed that nobody uses, for closeIdle; false if somebody does. mu is held.
func (s *shared) takeIdle(sl *slot) bool {
	if sl.refs > 0 || sl.busy != nil || s.slots[sl.dk] != sl {
		return false
	}
	if sl.idle != nil {
		sl.idle()
		sl.idle = nil
	}
	sl.busy = make(chan struct{})
	return true
}

// closeIdle closes a feed that takeIdle has taken.
func (s *shared) closeIdle(sl *slot) error {
	err := sl.feed.Close()
	s.mu.Lock()
	s.dropLocked(sl.dk)
	close(sl.busy)
	s.mu.Unlock()
	s.opts.Logger.Debug("idle feed closed", "feed", sl.dk.Short())
	return err
}

// Suspend closes the feeds that nobody uses, without waiting for Options.IdleTimeout, and makes everything written so
// far durable: before a machine sleeps, or when memory is short. The store goes on as before; whatever is asked for is
// opened again. The error is ErrClosed, a feed's, ctx's, or the datastore's.
func (s *Store) Suspend(ctx context.Context) error {
	leave, err := s.enter()
	if err != nil {
		return err
	}
	defer leave()
	var unused []*slot
	s.mu.Lock()
	for _, sl := range s.slots {
		if s.takeIdle(sl) {
			unused = append(unused, sl)
		}
	}
	s.mu.Unlock()
	var errs []error
	for _, sl := range unused {
		errs = append(errs, s.closeIdle(sl))
	}
	return errors.Join(append(errs, s.sync(ctx))...)
}

// closeFeeds closes what is open. The group has ended: nobody opens or closes feeds any more, except
// another Close, which finds nothing left.
func (s *shared) closeFeeds() error {
	s.mu.Lock()
	slots := s.slots
	s.slots = nil
	s.mu.Unlock()
	var errs []error
	for _, sl := range slots {
		errs = append(errs, sl.feed.Close())
	}
	return errors.Join(errs...)
}

// session hands the slot's feed out. It takes over the caller's reference, also when it fails.
func (s *Store) session(sl *slot, opts feed.SessionOptions) (*feed.Session, error) {
	var session *feed.Session
	// The hook may run before session is set only when the store closes; its entry is then gone
	// with the handle.
	opts.OnClose = func() {
		s.handleMu.Lock()
		shrink.Delete(&s.sessions, session, &s.ended)
		s.handleMu.Unlock()
		s.sessionEnds(sl)
	}
	opts.ReadOnly = opts.ReadOnly || s.opts.ReadOnly
	s.mu.Lock()
	sl.sessions++
	if opts.KeyPair == nil {
		opts.KeyPair = sl.pair
	}
	s.mu.Unlock()

	s.handleMu.Lock()
	var err error
	if s.closed {
		err = ErrClosed
	} else if session, err = sl.feed.Session(opts); err == nil {
		if s.sessions == nil {
			s.sessions = make(map[*feed.Session]struct{})
		}
		s.sessions[session] = struct{}{}
	}
	s.handleMu.Unlock()
	if err != nil {
		s.sessionEnds(sl)
		return nil, err
	}
	s.tell(sl)
	return session, nil
}

// sessionEnds undoes what session counted.
func (s *shared) sessionEnds(sl *slot) {
	s.mu.Lock()
	sl.sessions--
	s.mu.Unlock()
	s.tell(sl)
	s.release(sl)
}
