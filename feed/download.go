package feed

import (
	"context"
	"fmt"
	"io"
	"math"
	"slices"
)

// DownloadOptions of Session.NewDownload. Blocks, if not nil, counts instead of Range and Follow.
type DownloadOptions struct {
	Range    Range    // End 0: to the feed's length at the beginning; it may lie past the length: then growth is waited for
	Blocks   []uint64 // in order of need; copied
	Linear   bool     // in order; else in any order that suits
	Follow   bool     // without an end: also all that the feed grows by. The newest block comes with its head. Not past the end of a snapshot or branch
	Priority int      // higher first; above 0 somebody waits, as in Get
}

// Progress is how far a Download is. Total grows with the feed if it follows, and is no more than
// there is yet if the end lies past the feed's length.
type Progress struct {
	Done, Total uint64 // blocks
}

// Download is a download that runs until it has everything, fails, or is closed. All methods are safe for
// concurrent use.
type Download struct {
	s      *Session
	o      DownloadOptions
	sub    *Subscription
	cancel func()
	done   chan struct{} // closed at the end
	err    error         // set before

	turn chan struct{} // capacity 1: of the calls of Next, one waits
	last Progress      // that Next has returned; in a turn
	told bool          // in a turn
}

// NewDownload begins to download blocks. It goes on while the feed is truncated and grows: what is wanted
// are the blocks of these numbers. ctx bounds nothing but the call. A Download that nobody closes ends by itself, at
// the latest with the session.
//
// The error is ErrNotAvailable if some are missing and there is no Source, ErrSnapshotNotAvailable on a snapshot
// or branch whose missing blocks cannot come any more, ErrOutOfRange if a block is past what any feed can have, ErrFrozen,
// or ErrClosed.
func (s *Session) NewDownload(ctx context.Context, o DownloadOptions) (*Download, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	switch {
	case o.Blocks != nil:
		o.Blocks, o.Range, o.Follow = slices.Clone(o.Blocks), Range{}, false
		if i := slices.IndexFunc(o.Blocks, func(b uint64) bool { return b >= maxLength }); i >= 0 {
			return nil, fmt.Errorf("%w: block %d", ErrOutOfRange, o.Blocks[i])
		}
	case o.Follow && s.line == nil:
		o.Range.End = math.MaxUint64
	case o.Follow || o.Range.End == 0:
		o.Range.End, o.Follow = s.Info().Length, false
	}
	d := &Download{s: s, o: o, done: make(chan struct{}), turn: make(chan struct{}, 1)}
	// The context is of the session and of Close, not of the call.
	w := &waiter{unbounded: true}
	life, end, err := s.enterFor(context.WithoutCancel(ctx), w)
	if err != nil {
		return nil, err
	}
	d.cancel = func() { w.cancel(ErrClosed) }
	d.sub = s.feed.Subscribe()
	finish := func(err error) {
		d.err = because(life, err)
		end()
		d.sub.Close()
		close(d.done)
	}
	ready, err := d.ready()
	switch {
	case ready || err != nil:
		finish(err)
	// The session's end, also by the feed's Close, ends life.
	case !s.feed.ops.Go(func(context.Context) { finish(d.run(life)) }):
		finish(ErrClosed)
	default:
		return d, nil
	}
	if d.err != nil {
		return nil, d.err
	}
	return d, nil
}

// ready reports whether there is nothing to wait for. The error says why waiting is in vain.
func (d *Download) ready() (bool, error) {
	if !d.o.Follow && d.complete() {
		return true, nil
	}
	if d.s.source() == nil {
		return false, fmt.Errorf("%w: and there is nobody to ask", ErrNotAvailable)
	}
	if err := d.s.feed.frozenError(); err != nil {
		return false, err
	}
	if block, lost := d.lost(); lost {
		return false, fmt.Errorf("%w: block %d", ErrSnapshotNotAvailable, block)
	}
	return false, nil
}

// run has the Source bring what is wanted, and one that takes its place. What has come may be gone again, lost in a
// truncation.
func (d *Download) run(ctx context.Context) error {
	for {
		ready, err := d.ready()
		if ready || err != nil {
			return err
		}
		source := d.s.source()
		if source == nil {
			continue
		}
		forked, err := d.fetch(ctx, source)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil && d.o.Follow {
			return nil
		}
		if now := d.s.source(); err != nil && !forked && (now == source || now == nil) {
			return err
		}
	}
}

// fetch has a Source bring what is wanted. Of a snapshot or branch that is what it shares with the feed, and when the
// feed forks that is another: then it ends early.
func (d *Download) fetch(ctx context.Context, source Source) (forked bool, err error) {
	want := Want{Range: d.o.Range, Blocks: d.o.Blocks, Linear: d.o.Linear, Priority: d.o.Priority, Follow: d.o.Follow}
	if d.s.line == nil {
		return false, source.Fetch(ctx, want)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	sub := d.s.feed.Subscribe()
	defer sub.Close()
	shared := d.s.shared()
	want.Range.End = min(want.Range.End, shared)
	want.Blocks = slices.DeleteFunc(slices.Clone(want.Blocks), func(b uint64) bool { return b >= shared })
	d.s.feed.ops.Go(func(context.Context) {
		for {
			c, err := sub.Next(ctx)
			if err != nil {
				return
			}
			if c.Forked {
				cancel(errForked)
			}
		}
	})
	err = source.Fetch(ctx, want)
	return context.Cause(ctx) == errForked, err
}

// lost returns a block that is wanted, not stored, and past what a snapshot or branch shares with the feed: it cannot
// come.
func (d *Download) lost() (block uint64, lost bool) {
	f, l := d.s.feed, d.s.line
	if l == nil {
		return 0, false
	}
	f.mu.RLock()
	defer f.mu.RUnlock()
	if d.o.Blocks == nil {
		block = f.firstMissingLocked(l, max(d.o.Range.Start, l.shared))
		return block, block < d.o.Range.End
	}
	for _, b := range d.o.Blocks {
		if b >= l.shared && !l.bits.Has(b) {
			return b, true
		}
	}
	return 0, false
}

func (d *Download) complete() bool {
	if d.o.Blocks == nil {
		return d.s.HasRange(d.o.Range)
	}
	for _, b := range d.o.Blocks {
		if !d.s.Has(b) {
			return false
		}
	}
	return true
}

// Progress counts, at this moment.
func (d *Download) Progress() Progress {
	if d.o.Blocks == nil {
		f, l := d.s.feed, d.s.line
		f.mu.RLock()
		defer f.mu.RUnlock()
		length := f.head.length
		if l != nil {
			length = l.head.length
		}
		start, end := d.o.Range.Start, min(d.o.Range.End, length)
		if start >= end {
			return Progress{}
		}
		done := f.bits.Count(start, end)
		if l != nil {
			done = f.bits.Count(start, min(end, l.shared)) + l.bits.Count(max(start, l.shared), end)
		}
		return Progress{Done: done, Total: end - start}
	}
	p := Progress{Total: uint64(len(d.o.Blocks))}
	for _, b := range d.o.Blocks {
		if d.s.Has(b) {
			p.Done++
		}
	}
	return p
}

// Next returns the progress: the first time at once, then when it has changed. At the end it returns the last
// progress once with io.EOF, or with the error of Wait.
func (d *Download) Next(ctx context.Context) (Progress, error) {
	select {
	case d.turn <- struct{}{}:
		defer func() { <-d.turn }()
	case <-ctx.Done():
		return d.Progress(), ctx.Err()
	}
	for {
		ended := false
		select {
		case <-d.done:
			ended = true
		default:
		}
		p := d.Progress()
		if ended && (d.told && p == d.last) {
			if d.err != nil {
				return p, d.err
			}
			return p, io.EOF
		}
		if !d.told || p != d.last {
			d.told, d.last = true, p
			return p, nil
		}
		select {
		case <-d.sub.ready:
			d.sub.Take()
		case <-d.done:
		case <-ctx.Done():
			return p, ctx.Err()
		}
	}
}

// Done is closed when the download has ended.
func (d *Download) Done() <-chan struct{} { return d.done }

// Wait waits for the end. The error is nil when all blocks are stored; ErrClosed after Close, of this or of the
// session; the Source's; or ctx's, and then the download goes on.
func (d *Download) Wait(ctx context.Context) error {
	select {
	case <-d.done:
		return d.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close ends the download; what has come stays. It waits for the end, and may be called twice.
func (d *Download) Close() error {
	d.cancel()
	<-d.done
	return nil
}
