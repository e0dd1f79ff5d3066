package feed

import (
	"context"
	"errors"
	"iter"
	"math"
)

// ReadOptions of Session.Blocks.
type ReadOptions struct {
	// Local reads only what is stored: a missing block ends the iteration with ErrNotAvailable.
	Local bool
	// Follow goes on past the end as the feed grows, until the range or ctx ends.
	Follow bool
}

// readAhead is how many blocks are asked for at once; two such windows are open at a time. It is
// enough to keep a connection of 100,000 blocks per second and 20 ms busy, and bounds what an
// iteration that is broken off has fetched in vain.
const readAhead = 1024

// Blocks returns the blocks of r in order. Without Follow, r ends at the feed's length at the
// beginning. Missing blocks are fetched ahead from the Source, in order. Each block is the caller's.
//
// An error ends the iteration, as the last pair: those of Get, or of GetLocal with Local.
func (s *Session) Blocks(ctx context.Context, r Range, o ReadOptions) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		ctx, done, err := s.enter(ctx)
		if err != nil {
			yield(nil, err)
			return
		}
		defer done()
		read := s.readEach
		if o.Follow {
			read = s.readFollowing
		} else {
			r.End = min(r.End, s.Info().Length)
		}
		if err := read(ctx, r, o.Local, yield); err != nil {
			yield(nil, because(ctx, err))
		}
	}
}

// readEach yields the blocks of r. It returns nil also when yield has had enough.
func (s *Session) readEach(ctx context.Context, r Range, local bool, yield func([]byte, error) bool) error {
	ahead := r.Start
	for i := r.Start; i < r.End; i++ {
		for !local && ahead < r.End && ahead < i+readAhead {
			window := Range{Start: ahead, End: min(ahead+readAhead, r.End)}
			s.fetchAhead(ctx, Want{Range: window, Linear: true})
			ahead = window.End
		}
		b, err := s.getLocal(ctx, i)
		if err != nil && missing(err) && !local {
			b, err = s.Get(ctx, i)
		}
		if err != nil {
			return err
		}
		if !yield(b, nil) {
			return nil
		}
	}
	return nil
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
func (s *Session) readFollowing(ctx context.Context, r Range, local bool, yield func([]byte, error) bool) error {
	sub := s.feed.Subscribe()
	defer sub.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failed := make(chan error, 1)
	if !local {
		s.feed.ops.Go(func(context.Context) {
			if err := s.follow(ctx, r.Start); err != nil {
				failed <- err
				cancel()
			}
		})
	}
	for i := r.Start; i < r.End; {
		b, err := s.getLocal(ctx, i)
		switch {
		case err == nil:
			if !yield(b, nil) {
				return nil
			}
			i++
			continue
		case !missing(err), local && errors.Is(err, ErrNotAvailable), s.source() == nil && errors.Is(err, ErrNotAvailable):
			return err
		}
		// The subscription is older than the look at the feed: no change is missed.
		if _, err := sub.Next(ctx); err != nil {
			select {
			case err = <-failed: // nobody brings the blocks any more
			default:
			}
			return err
		}
	}
	return nil
}

// follow has the Source bring all blocks from start on, as the feed grows. It returns why the Source
// has given up, such as ErrNoSpace; or nil when ctx has ended or there is no Source any more.
func (s *Session) follow(ctx context.Context, start uint64) error {
	want := Want{Range: Range{Start: start, End: math.MaxUint64}, Linear: true, Follow: true}
	for source := s.source(); source != nil; {
		err := source.Fetch(ctx, want)
		if err == nil || ctx.Err() != nil {
			return nil
		}
		now := s.source()
		if now == source {
			return err
		}
		source = now // it was replaced, and ended for that
	}
	return nil
}
