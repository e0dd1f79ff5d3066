package feed

import (
	"context"
	"fmt"
	"io"
	"math"
	"sync"
)

// DownloadOptions of Session.NewDownload. Blocks, if not nil, counts instead of Range.
type DownloadOptions struct {
	Range    Range    // End 0: to the feed's length at the beginning; it may lie past the length: then growth is waited for
	Blocks   []uint64 // in order of need
	Linear   bool     // in order; else in any order that suits
	Follow   bool     // without an end: also all that the feed grows by. The newest block comes with its head
	Priority int      // higher first
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

	mu   sync.Mutex
	last Progress // that Next has returned
	told bool
}

// NewDownload begins to download blocks. It goes on while the feed is truncated and grows: what is wanted
// are the blocks of these numbers. ctx bounds nothing but the call.
//
// The error is ErrNotAvailable if some are missing and there is no Source, ErrSnapshotNotAvailable on a snapshot
// whose missing blocks cannot come any more, or ErrClosed.
func (s *Session) NewDownload(ctx context.Context, o DownloadOptions) (*Download, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if o.Blocks == nil && o.Range.End == 0 {
		o.Range.End = s.Info().Length
	}
	if o.Follow {
		o.Range.End = math.MaxUint64
	}
	d := &Download{s: s, o: o, done: make(chan struct{})}
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
		close(d.done)
	}
	if !o.Follow && d.complete() {
		finish(nil)
		return d, nil
	}
	source := s.source()
	switch {
	case source == nil:
		finish(fmt.Errorf("%w: and there is nobody to ask", ErrNotAvailable))
	case s.line != nil && d.end() > s.shared():
		finish(fmt.Errorf("%w: block %d", ErrSnapshotNotAvailable, d.end()-1))
	default:
		// The session's end, also by the feed's Close, ends life.
		if s.feed.ops.Go(func(context.Context) { finish(d.fetch(life, source)) }) {
			return d, nil
		}
		finish(ErrClosed)
	}
	d.sub.Close()
	return nil, d.err
}

// fetch has the Source bring what is wanted, and one that takes its place.
func (d *Download) fetch(ctx context.Context, source Source) error {
	want := Want{Range: d.o.Range, Blocks: d.o.Blocks, Linear: d.o.Linear, Priority: d.o.Priority, Follow: d.o.Follow}
	for {
		err := source.Fetch(ctx, want)
		if err == nil || ctx.Err() != nil {
			return err
		}
		now := d.s.source()
		if now == source || now == nil {
			return err
		}
		source = now
	}
}

func (d *Download) end() uint64 {
	end := d.o.Range.End
	for i, b := range d.o.Blocks {
		if end = max(end, b+1); i == 0 {
			end = b + 1
		}
	}
	return end
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
	d.mu.Lock()
	defer d.mu.Unlock()
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
	d.sub.Close()
	return nil
}
