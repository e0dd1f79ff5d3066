package feed

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"

	"github.com/p2pcore/p2pcore/internal/bitfield"
	"github.com/p2pcore/p2pcore/internal/compact"
)

// marks tell which blocks are in use, for those who clear what is not: begin marking, read all that is
// to stay (or mark it), and sweep.
//
// They are kept in memory and stored when the feed is closed. While they are on, the stored record says
// that they are not complete; after a crash it still does, and marking is off: a sweep must not take what
// was marked and forgotten.
//
//	uint 1, uint 1 if complete
//	uint n, n times (uint distance from the end of the one before, uint blocks)
type marks struct {
	on atomic.Bool

	mu   sync.Mutex
	bits bitfield.Bitfield
}

func (m *marks) mark(r Range) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.bits.SetRange(r.Start, r.End, true)
}

func (m *marks) append(b []byte, complete bool) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	b = compact.AppendUint(b, recordVersion)
	if !complete {
		return compact.AppendUint(compact.AppendUint(b, 0), 0)
	}
	b = compact.AppendUint(b, 1)
	var runs []Range
	for start, end := range m.bits.Ranges(0, maxLength) {
		runs = append(runs, Range{Start: start, End: end})
	}
	b = compact.AppendUint(b, uint64(len(runs)))
	at := uint64(0)
	for _, r := range runs {
		b = compact.AppendUint(b, r.Start-at)
		b = compact.AppendUint(b, r.End-r.Start)
		at = r.End
	}
	return b
}

// StartMarking begins to mark the blocks that sessions of the feed, its snapshots and branches read from
// now on, besides those given to Mark. Marks of before stay. The error is ErrClosed, or the datastore's.
func (f *Feed) StartMarking(ctx context.Context) error {
	if err := f.putMarks(ctx, f.marks.append(nil, false)); err != nil {
		return err
	}
	f.marks.on.Store(true)
	return nil
}

// Mark marks blocks, stored or not. The error is ErrNotMarking.
func (f *Feed) Mark(r Range) error {
	if !f.marks.on.Load() {
		return ErrNotMarking
	}
	f.marks.mark(Range{Start: r.Start, End: min(r.End, maxLength)})
	return nil
}

// ClearMarks forgets all marks and ends the marking. The error is ErrClosed, or the datastore's.
func (f *Feed) ClearMarks(ctx context.Context) error {
	if err := f.putMarks(ctx, nil); err != nil {
		return err
	}
	f.marks.on.Store(false)
	f.marks.mu.Lock()
	defer f.marks.mu.Unlock()
	f.marks.bits = bitfield.Bitfield{}
	return nil
}

// Sweep clears all blocks that are not marked, as Session.Clear does, and ends the marking. The error is
// ErrNotMarking, or one of Clear.
func (f *Feed) Sweep(ctx context.Context) (Cleared, error) {
	if !f.marks.on.Load() {
		return Cleared{}, ErrNotMarking
	}
	f.marks.mu.Lock()
	kept := f.marks.bits.Clone()
	f.marks.mu.Unlock()
	cleared, err := f.clear(ctx, func() iter.Seq2[uint64, uint64] { return f.unmarked(kept) })
	if err != nil {
		return Cleared{}, err
	}
	return cleared, f.ClearMarks(ctx)
}

// unmarked yields the stored ranges that are not marked.
func (f *Feed) unmarked(kept *bitfield.Bitfield) iter.Seq2[uint64, uint64] {
	return func(yield func(uint64, uint64) bool) {
		for start, end := range f.stored(Range{End: f.head.length}) {
			for start < end {
				start = min(kept.FirstUnset(start), end)
				stop := end
				if next, ok := kept.FirstSet(start); ok {
					stop = min(next, end)
				}
				if start < stop && !yield(start, stop) {
					return
				}
				start = stop
			}
		}
	}
}

// putMarks stores the record, or deletes it.
func (f *Feed) putMarks(ctx context.Context, value []byte) error {
	giveBack, leave, err := f.begin(ctx)
	if err != nil {
		return err
	}
	defer leave()
	defer giveBack()
	s := f.storage
	if value == nil {
		err = s.ds.Delete(ctx, s.marksKey())
	} else {
		err = s.ds.Put(ctx, s.marksKey(), value)
	}
	if err == nil {
		err = s.sync(ctx, true)
	}
	if err != nil {
		return fmt.Errorf("feed: store: %w", err)
	}
	return nil
}

// loadMarks goes on with the marking of before. Where that cannot be written, it does not.
func (f *Feed) loadMarks(ctx context.Context) error {
	s := f.storage
	b, err := s.get(ctx, s.marksKey())
	if b == nil || err != nil {
		return err
	}
	d := compact.NewDecoder(b)
	if v := d.Uint(); d.Err() == nil && v != recordVersion {
		return fmt.Errorf("%w: marks record of version %d", ErrCorrupt, v)
	}
	complete := d.Uint() == 1
	var bits bitfield.Bitfield
	at := uint64(0)
	for range d.Count(2) {
		start := at + d.Uint()
		at = start + d.Uint()
		if at > maxLength {
			return fmt.Errorf("%w: marks record out of bounds", ErrCorrupt)
		}
		bits.SetRange(start, at, true)
	}
	if err := d.Err(); err != nil {
		return fmt.Errorf("%w: marks record: %w", ErrCorrupt, err)
	}
	if !complete {
		f.log.Warn("the marks were lost in a crash")
		return nil
	}
	if err := s.ds.Put(ctx, s.marksKey(), new(marks).append(nil, false)); err != nil {
		f.log.Warn("marking does not go on", "err", err)
		return nil
	}
	if err := s.sync(ctx, true); err != nil {
		return fmt.Errorf("feed: store: %w", err)
	}
	f.marks.bits = bits
	f.marks.on.Store(true)
	return nil
}

// saveMarks stores the marks when the feed is closed. Nothing else runs any more.
func (f *Feed) saveMarks(ctx context.Context) error {
	if !f.marks.on.Load() {
		return nil
	}
	s := f.storage
	if err := s.ds.Put(ctx, s.marksKey(), f.marks.append(nil, true)); err != nil {
		return err
	}
	return s.sync(ctx, true)
}
