package corestore

import (
	"iter"
	"slices"

	"github.com/p2pcore/p2pcore/feed"
)

// callbacks is a set of functions in the order they were added. Under shared.mu.
type callbacks[F any] struct {
	list []*F
}

func (c *callbacks[F]) add(fn F) *F {
	c.list = append(slices.Clip(c.list), &fn)
	return &fn
}

func (c *callbacks[F]) remove(p *F) {
	c.list = slices.DeleteFunc(slices.Clone(c.list), func(q *F) bool { return q == p })
}

// snapshot returns the functions; add and remove leave it as it is.
func (c *callbacks[F]) snapshot() []F {
	fns := make([]F, len(c.list))
	for i, p := range c.list {
		fns[i] = *p
	}
	return fns
}

// OnOpen calls fn for every feed opened from now on, before anybody gets hold of the feed; again
// when a feed is opened again. Until fn returns, callers of that feed wait. fn must not wait for the
// store nor open feeds, and gets no reference: the feed may close when nobody uses it.
//
// Feeds that are open already are not passed to fn; add the callback first and look at Active then.
// stop removes fn; a call that has begun may still run when stop returns.
func (s *Store) OnOpen(fn func(*feed.Feed)) (stop func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.onOpen.add(fn)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.onOpen.remove(p)
	}
}

// OnActive calls fn(f, true) when f gets its first session and fn(f, false) when it loses the last
// one. Calls for one feed come one at a time and in order, and changes that cancel each other while
// a call runs are left out. A session may be handed out shortly before the call for it. fn must not
// wait for the store. Nothing is called any more once the store closes.
//
// Add the callback first and range over Active then; a feed may be seen by both.
func (s *Store) OnActive(fn func(f *feed.Feed, active bool)) (stop func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.onActive.add(fn)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.onActive.remove(p)
	}
}

// Active returns the feeds that have a session now, in no order. Feeds that are open only to serve a
// peer (Resolve), or idle, are not among them.
func (s *Store) Active() iter.Seq[*feed.Feed] {
	return func(yield func(*feed.Feed) bool) {
		s.mu.Lock()
		feeds := make([]*feed.Feed, 0, len(s.slots))
		for _, sl := range s.slots {
			if sl.sessions > 0 {
				feeds = append(feeds, sl.feed)
			}
		}
		s.mu.Unlock()
		for _, f := range feeds {
			if !yield(f) {
				return
			}
		}
	}
}

func (s *shared) openCallbacks() []func(*feed.Feed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.onOpen.snapshot()
}

// tell brings the active callbacks up to date with the slot. If another goroutine is at it, that one
// sees the change too.
func (s *shared) tell(sl *slot) {
	_, leave, ok := s.group.Enter()
	if !ok {
		return
	}
	defer leave()
	s.mu.Lock()
	defer s.mu.Unlock()
	if sl.telling {
		return
	}
	sl.telling = true
	for sl.active != (sl.sessions > 0 && !sl.leaving) {
		sl.active = !sl.active
		active, fns := sl.active, s.onActive.snapshot()
		s.mu.Unlock()
		for _, fn := range fns {
			fn(sl.feed, active)
		}
		s.mu.Lock()
	}
	sl.telling = false
	if sl.told != nil {
		close(sl.told)
		sl.told = nil
	}
}

// OnRemove calls fn when a feed leaves the group, by Remove or by Delete, open or not. The feed has no session that is
// told as active any more; f is nil if it is not open, else it is still open, and closed when fn has returned; nobody
// can open it meanwhile. So fn may end what uses the feed, and wait for that. It must not wait for the store. stop removes
// fn; a call that has begun may still run when stop returns.
func (s *Store) OnRemove(fn func(dk feed.DiscoveryKey, f *feed.Feed)) (stop func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.onRemove.add(fn)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.onRemove.remove(p)
	}
}
