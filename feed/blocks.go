package feed

import (
	"context"
	"errors"
	"iter"
	"math"
	"sync/atomic"
)

// ReadOptions of Session.Blocks and Session.Entries.
type ReadOptions struct {
	// Local reads only what is stored: a missing block ends the iteration with ErrNotAvailable.
	Local bool
	// Follow goes on past the end as the feed grows, until the range or ctx ends. It has no meaning on a
	// snapshot or branch, or in an atom.
	Follow bool
	// Reverse goes from the end of the range to its start. It has no meaning with Follow.
	Reverse bool
}

// Entry is a block and its index.
type Entry struct {
	Index uint64
	Data  []byte // the caller's
}

// readAhead is how many blocks are asked for at once; two such windows are open at a time. It is
// enough to keep a connection of 100,000 blocks per second and 20 ms busy, and bounds what an
// iteration that is broken off has fetched in vain.
const readAhead = 1024

// Blocks returns the blocks of r in order. Without Follow they are those of a snapshot: r ends at the
// feed's length at the beginning, and a truncation meanwhile changes nothing, except that a block which
// was not stored cannot come any more (ErrSnapshotNotAvailable). With Follow a truncation below what has
// been read lets the iteration wait until the feed has grown past it again. Missing blocks are fetched ahead from the
// Source, in order. Each block is the caller's.
//
// An error ends the iteration, as the last pair: those of Get, or of GetLocal with Local.
func (s *Session) Blocks(ctx context.Context, r Range, o ReadOptions) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for e, err := range s.Entries(ctx, r, o) {
			if !yield(e.Data, err) {
				return
			}
		}
	}
}

// Entries is Blocks with the index of each block.
func (s *Session) Entries(ctx context.Context, r Range, o ReadOptions) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		ctx, done, err := s.enterFor(ctx, &waiter{unbounded: true})
		if err != nil {
			yield(Entry{}, err)
			return
		}
		defer done()
		if o.Follow && s.line == nil {
			err = s.readFollowing(ctx, r, o.Local, yield)
		} else {
			err = s.readSnapshot(ctx, r, o, yield)
		}
		if err != nil {
			yield(Entry{}, because(ctx, err))
		}
	}
}

func (s *Session) readSnapshot(ctx context.Context, r Range, o ReadOptions, yield func(Entry, error) bool) error {
	if !s.ofAtom() {
		snapshot, err := s.Snapshot()
		if err != nil {
			return err
		}
		defer snapshot.Close()
		s = snapshot
	}
	r.End = min(r.End, s.Info().Length)
	if o.Reverse {
		return s.readBack(ctx, r, o.Local, yield)
	}
	return s.readEach(ctx, r, o.Local, yield)
}

// readEach yields the blocks of r. It returns nil also when yield has had enough.
func (s *Session) readEach(ctx context.Context, r Range, local bool, yield func(Entry, error) bool) error {
	ahead := r.Start
	for i := r.Start; i < r.End; i++ {
		for !local && ahead < r.End && ahead < i+readAhead {
			window := Range{Start: ahead, End: min(ahead+readAhead, r.End)}
			s.fetchAhead(ctx, Want{Range: window, Linear: true})
			ahead = window.End
		}
		b, err := s.readOne(ctx, i, local)
		if err != nil {
			return err
		}
		if !yield(Entry{i, b}, nil) {
			return nil
		}
	}
	return nil
}

// readBack is readEach from the end to the start.
func (s *Session) readBack(ctx context.Context, r Range, local bool, yield func(Entry, error) bool) error {
	ahead := r.End
	for i := r.End; i > r.Start; i-- {
		if !local && i == ahead {
			window := Range{Start: max(r.Start, ahead-min(ahead, readAhead)), End: ahead}
			s.fetchAhead(ctx, Want{Range: window})
			ahead = window.Start
		}
		b, err := s.readOne(ctx, i-1, local)
		if err != nil {
			return err
		}
		if !yield(Entry{i - 1, b}, nil) {
			return nil
		}
	}
	return nil
}

func (s *Session) readOne(ctx context.Context, i uint64, local bool) ([]byte, error) {
	b, err := s.getLocal(ctx, i)
	if err != nil && missing(err) && !local {
		return s.Get(ctx, i)
	}
	return b, err
}

// fetchAhead asks for blocks and does not wait for them. What goes wrong shows when the block is read.
func (s *Session) fetchAhead(ctx context.Context, w Want) {
	source := s.source()
	if source == nil || s.HasRange(w.Range) {
		return
	}
	s.feed.ops.Go(func(context.Context) { _ = source.Fetch(ctx, w) })
}

// readFollowing is readEach without an end.
func (s *Session) readFollowing(ctx context.Context, r Range, local bool, yield func(Entry, error) bool) error {
	sub := s.feed.Subscribe()
	defer sub.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	gaveUp := make(chan error, 1)
	var next atomic.Uint64 // the block that is read next
	next.Store(r.Start)
	if !local {
		s.feed.ops.Go(func(context.Context) { gaveUp <- s.follow(ctx, r, &next) })
	}
	for i := r.Start; i < r.End; next.Store(i) {
		b, err := s.getLocal(ctx, i)
		switch {
		case err == nil:
			if !yield(Entry{i, b}, nil) {
				return nil
			}
			i++
			continue
		case !missing(err), errors.Is(err, ErrNotAvailable) && (local || s.source() == nil):
			return err
		}
		// The subscription is older than the look at the feed: no change is missed.
		select {
		case <-sub.ready:
			sub.Take()
		case <-sub.done:
			return ErrClosed
		case <-ctx.Done():
			return ctx.Err()
		case err := <-gaveUp: // nobody brings the blocks any more
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// firstLost returns the first block from next on that a change may have taken away, or end.
func firstLost(c Change, next, end uint64) uint64 {
	if c.Forked {
		return min(max(c.Ancestors, next), end)
	}
	for _, d := range c.Dropped {
		if d.End > next {
			end = min(end, max(d.Start, next))
		}
	}
	return end
}

// follow has the Source bring the blocks of r from next on, as the feed grows. It returns why the Source has given up, such
// as ErrNoSpace; or nil when ctx has ended or there is no Source any more.
func (s *Session) follow(ctx context.Context, r Range, next *atomic.Uint64) error {
	sub := s.feed.Subscribe()
	defer sub.Close()
	want := Want{Range: r, Linear: true}
	if r.End > maxLength {
		want.Range.End, want.Follow = math.MaxUint64, true
	}
	for source := s.source(); source != nil; {
		want.Range.Start = max(want.Range.Start, next.Load())
		err := source.Fetch(ctx, want)
		if ctx.Err() != nil {
			return nil
		}
		now := s.source()
		switch {
		case err != nil && now == source:
			return err
		case err == nil:
			// All of r has come. What is taken away before it is read has to come again.
			for lost := r.End; lost >= r.End; {
				c, err := sub.Next(ctx)
				if err != nil {
					return nil
				}
				lost = firstLost(c, next.Load(), r.End)
				want.Range.Start = max(r.Start, lost)
			}
		}
		source = s.source() // it may have been replaced, and ended for that
	}
	return nil
}
