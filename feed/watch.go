package feed

import (
	"cmp"
	"context"
	"slices"
	"sync"
)

// Subscription tells of the changes of a feed. Changes that have not been taken merge into one, so a
// slow receiver costs nothing and the writer never waits.
type Subscription struct {
	// set in Subscribe
	feed  *Feed
	wake  func()
	ready chan struct{} // capacity 1; a token means: look. Closed by nobody
	done  chan struct{} // closed by end

	// under mu
	mu      sync.Mutex
	pending *Change
	ended   bool
}

// Subscribe starts a subscription; what happened before is not told. Close it when done.
func (f *Feed) Subscribe() *Subscription { return f.SubscribeFunc(nil) }

// SubscribeFunc is Subscribe with a function that is called each time a change becomes pending where
// there was none. It is called under no lock, by whoever has changed the feed: it must not block.
func (f *Feed) SubscribeFunc(wake func()) *Subscription {
	s := &Subscription{feed: f, wake: wake, ready: make(chan struct{}, 1), done: make(chan struct{})}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		s.ended = true
		close(s.done)
		return s
	}
	f.subs[s] = struct{}{}
	return s
}

// Next waits for a change and takes it. The error is ErrClosed once the subscription or the feed is
// closed and nothing is pending, or wraps ctx's.
func (s *Subscription) Next(ctx context.Context) (Change, error) {
	for {
		if c, ok := s.Take(); ok {
			return c, nil
		}
		select {
		case <-s.ready:
		case <-s.done:
			if c, ok := s.Take(); ok {
				return c, nil
			}
			return Change{}, ErrClosed
		case <-ctx.Done():
			return Change{}, ctx.Err()
		}
	}
}

// Take returns what is pending and does not wait.
func (s *Subscription) Take() (Change, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pending == nil {
		return Change{}, false
	}
	c := *s.pending
	s.pending = nil
	return c, true
}

// Close ends the subscription. It may be called twice.
func (s *Subscription) Close() {
	s.feed.mu.Lock()
	delete(s.feed.subs, s)
	s.feed.mu.Unlock()
	s.end()
}

func (s *Subscription) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.ended = true
		close(s.done)
	}
}

// announce tells all subscriptions of a change. The caller holds no lock.
func (f *Feed) announce(c Change) {
	f.mu.RLock()
	subs := make([]*Subscription, 0, len(f.subs))
	for s := range f.subs {
		subs = append(subs, s)
	}
	f.mu.RUnlock()
	for _, s := range subs {
		s.add(c)
	}
}

func (s *Subscription) add(c Change) {
	s.mu.Lock()
	first := s.pending == nil && !s.ended
	switch {
	case s.ended:
	case first:
		c.Added, c.Dropped = slices.Clone(c.Added), slices.Clone(c.Dropped)
		s.pending = &c
	default:
		s.pending.merge(&c)
	}
	s.mu.Unlock()
	if !first {
		return
	}
	select {
	case s.ready <- struct{}{}:
	default:
	}
	if s.wake != nil {
		s.wake()
	}
}

// merge adds a later change. What was added and dropped since is told as dropped, and the reverse.
func (c *Change) merge(later *Change) {
	c.Head = later.Head
	switch {
	case c.Forked && later.Forked:
		c.Ancestors = min(c.Ancestors, later.Ancestors)
	case later.Forked:
		c.Forked, c.Ancestors = true, later.Ancestors
	}
	c.Manifest = c.Manifest || later.Manifest
	c.Frozen = c.Frozen || later.Frozen
	c.Added = mergeRanges(subtractRanges(c.Added, later.Dropped), later.Added, MaxChangeRanges)
	c.Dropped = mergeRanges(subtractRanges(c.Dropped, later.Added), later.Dropped, MaxChangeRanges)
}

// mergeRanges returns the union of two sorted lists in a. If there are more than most, the smallest
// gaps are taken in.
func mergeRanges(a, b []Range, most int) []Range {
	if len(b) == 1 && len(a) > 0 && a[len(a)-1].End == b[0].Start { // the common case: growth at the end
		a[len(a)-1].End = b[0].End
		return a
	}
	a = append(a, b...)
	slices.SortFunc(a, func(x, y Range) int { return cmp.Compare(x.Start, y.Start) })
	out := a[:0]
	for _, r := range a {
		if n := len(out); n > 0 && r.Start <= out[n-1].End {
			out[n-1].End = max(out[n-1].End, r.End)
		} else if r.Start < r.End {
			out = append(out, r)
		}
	}
	if len(out) <= most {
		return out
	}
	gaps := make([]uint64, 0, len(out)-1)
	for i := 1; i < len(out); i++ {
		gaps = append(gaps, out[i].Start-out[i-1].End)
	}
	slices.Sort(gaps)
	widest := gaps[len(out)-1-most/2] // joins at least half of what is too much
	joined := out[:1]
	for _, r := range out[1:] {
		if last := &joined[len(joined)-1]; r.Start-last.End <= widest {
			last.End = r.End
		} else {
			joined = append(joined, r)
		}
	}
	return joined
}

// subtractRanges returns what of a is not in b; both are sorted.
func subtractRanges(a, b []Range) []Range {
	if len(a) == 0 || len(b) == 0 {
		return a
	}
	var out []Range
	for _, r := range a {
		for _, d := range b {
			if d.End <= r.Start {
				continue
			}
			if d.Start >= r.End {
				break
			}
			if d.Start > r.Start {
				out = append(out, Range{Start: r.Start, End: d.Start})
			}
			r.Start = d.End
			if r.Start >= r.End {
				break
			}
		}
		if r.Start < r.End {
			out = append(out, r)
		}
	}
	return out
}
