package feed

import (
	"context"
	"errors"
	"fmt"
	"iter"
)

// Cleared is what Session.Clear has dropped.
type Cleared struct {
	Blocks uint64
	Bytes  uint64 // of the blocks as stored, so encrypted ones with their padding
}

// clear drops stored blocks: those that pick yields. pick is called in the feed's turn and yields stored
// ranges, in order.
func (f *Feed) clear(ctx context.Context, pick func() iter.Seq2[uint64, uint64]) (Cleared, error) {
	giveBack, leave, err := f.begin(ctx)
	if err != nil {
		return Cleared{}, err
	}
	defer leave()
	cleared, dropped, err := f.clearInTurn(ctx, pick())
	dead := f.storage.takeDead()
	giveBack()
	if err != nil || cleared.Blocks == 0 {
		return Cleared{}, err
	}
	f.announce(Change{Head: f.Info().Head, Dropped: dropped})
	return cleared, f.storage.compact(ctx, dead)
}

// stored yields the stored ranges of r.
func (f *Feed) stored(r Range) iter.Seq2[uint64, uint64] {
	return f.bits.Ranges(r.Start, min(r.End, f.head.length))
}

func (f *Feed) clearInTurn(ctx context.Context, ranges iter.Seq2[uint64, uint64]) (Cleared, []Range, error) {
	var dropped []Range
	var cleared Cleared
	c := f.newCommit()
	c.durable = true
	c.after = f.bits.Clone()
	c.garbage = f.storage.garbage.clone()
	ch := &change{commit: c, tree: f.tree, clears: true}
	for start, end := range ranges {
		held := Range{Start: start, End: end}
		size, err := f.bytesOf(ctx, held)
		if err != nil {
			return Cleared{}, nil, err
		}
		cleared.Blocks += end - start
		cleared.Bytes += size
		dropped = mergeRanges(dropped, []Range{held}, MaxChangeRanges)
		c.after.SetRange(start, end, false)
		c.garbage.clear(held)
		ch.cleared = append(ch.cleared, held)
	}
	if cleared.Blocks == 0 {
		return Cleared{}, nil, nil
	}
	head := *f.head
	head.contiguous = c.after.FirstUnset(0)
	c.head = &head
	if err := f.storage.write(ctx, c); err != nil {
		return Cleared{}, nil, err
	}
	f.swap(ch)
	f.storage.deadBytes += cleared.Bytes
	f.sweepIfQuiet(ctx)
	return cleared, dropped, nil
}

// StoredBytes returns the bytes of the blocks of r that are stored, as they are stored: what clearing r, or
// truncating to its start, gives back. It waits for the feed's turn. The error is ErrClosed, ctx's, or the datastore's.
func (f *Feed) StoredBytes(ctx context.Context, r Range) (total uint64, err error) {
	giveBack, leave, err := f.enterTurn(ctx)
	if err != nil {
		return 0, err
	}
	defer leave()
	defer giveBack()
	for start, end := range f.stored(r) {
		size, err := f.bytesOf(ctx, Range{Start: start, End: end})
		if err != nil {
			return 0, err
		}
		total += size
	}
	return total, nil
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
