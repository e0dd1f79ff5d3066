package feed

import (
	"context"
	"errors"
	"fmt"

	"github.com/p2pcore/p2pcore/internal/bitfield"
)

// Cleared is what Session.Clear has dropped.
type Cleared struct {
	Blocks uint64
	Bytes  uint64 // of the blocks as stored, so encrypted ones with their padding
}

// clear drops the blocks of r that are stored.
func (f *Feed) clear(ctx context.Context, r Range) (Cleared, error) {
	_, leave, ok := f.ops.Enter()
	defer leave()
	if !ok {
		return Cleared{}, ErrClosed
	}
	giveBack, err := f.takeTurn(ctx)
	if err != nil {
		return Cleared{}, err
	}
	cleared, dropped, err := f.clearInTurn(ctx, r)
	dead := f.storage.takeDead()
	giveBack()
	if err != nil || cleared.Blocks == 0 {
		return Cleared{}, err
	}
	f.announce(Change{Head: f.Info().Head, Dropped: dropped})
	return cleared, f.storage.compact(ctx, dead)
}

func (f *Feed) clearInTurn(ctx context.Context, r Range) (Cleared, []Range, error) {
	r.End = min(r.End, f.head.length)
	if r.Start >= r.End {
		return Cleared{}, nil, nil
	}
	var dropped []Range
	var cleared Cleared
	for start, end := range f.bits.Ranges(r.Start, r.End) {
		held := Range{Start: start, End: end}
		size, err := f.bytesOf(ctx, held)
		if err != nil {
			return Cleared{}, nil, err
		}
		cleared.Blocks += end - start
		cleared.Bytes += size
		dropped = mergeRanges(dropped, []Range{held}, MaxChangeRanges)
	}
	if cleared.Blocks == 0 {
		return Cleared{}, nil, nil
	}
	c := f.newCommit()
	c.durable = true
	c.after = f.bits.Clone()
	c.after.SetRange(r.Start, r.End, false)
	head := *f.head
	head.contiguous = c.after.FirstUnset(0)
	c.head = &head
	c.garbage = f.storage.garbage.clone()
	c.garbage.clear(Range{Start: dropped[0].Start, End: dropped[len(dropped)-1].End})
	ch := &change{commit: c, tree: f.tree, clears: true}
	f.keepForSnapshots(ch, r)
	if err := f.storage.write(ctx, c); err != nil {
		return Cleared{}, nil, err
	}
	f.swap(ch)
	f.storage.deadBytes += cleared.Bytes
	f.sweepIfQuiet(ctx)
	return cleared, dropped, nil
}

// keepForSnapshots notes for each snapshot which blocks of r it still has.
func (f *Feed) keepForSnapshots(c *change, r Range) {
	c.leave = make(map[*line]*bitfield.Bitfield)
	for l := range f.lines {
		if !l.frozen || l.shared <= r.Start {
			continue
		}
		bits := l.bits.Clone()
		for start, end := range f.bits.Ranges(r.Start, min(r.End, l.shared)) {
			bits.SetRange(start, end, true)
		}
		c.leave[l] = bits
	}
}

// bytesOf returns the size of blocks that are all stored. It is 0 if nodes are missing after a crash.
func (f *Feed) bytesOf(ctx context.Context, r Range) (uint64, error) {
	v := f.viewLocked()
	start, _, err := f.tree.BytesBefore(ctx, v, r.Start)
	if err == nil {
		var last, size uint64
		if last, size, err = f.tree.BytesBefore(ctx, v, r.End-1); err == nil {
			return last + size - start, nil
		}
	}
	if errors.Is(err, ErrMissingNode) {
		return 0, nil
	}
	return 0, fmt.Errorf("feed: size of blocks %d to %d: %w", r.Start, r.End, err)
}
