package feed

import (
	"context"
	"fmt"
	"slices"

	datastore "github.com/ipfs/go-datastore"
)

// sweepIfQuiet deletes what nobody can read any more, if there is such and no call is reading an
// earlier state. It is tried after each change, when a snapshot closes and when the feed is opened;
// what it leaves, or fails at, is for the next time. The caller has the turn.
func (f *Feed) sweepIfQuiet(ctx context.Context) {
	if g := &f.storage.garbage; len(g.suspects)+len(g.cleared) == 0 || !f.sweepDue.Load() && !f.storage.leaked || f.storage.unsure {
		return
	}
	f.stale = slices.DeleteFunc(f.stale, func(e *epoch) bool { return e.readers.Load() == 0 })
	if len(f.stale) > 0 {
		return
	}
	f.sweepDue.Store(false)
	f.storage.leaked = false
	if err := f.sweep(ctx); err != nil {
		f.sweepDue.Store(true)
		f.log.Warn("deleting unreadable records failed, it will be tried again", "err", err)
	}
}

// sweep deletes the records of the suspected generations that neither the feed nor a line reads, then
// what was cleared. It is idempotent: what is garbage is found by looking at who reads what.
func (f *Feed) sweep(ctx context.Context) error {
	s := f.storage
	left := s.garbage.clone()
	left.suspects, left.cleared = nil, nil
	for _, number := range s.garbage.suspects {
		blocks, pages, others := f.readersOf(number)
		if others {
			left.suspect(number) // until they have gone
		}
		if err := s.deleteGeneration(ctx, number, unread(blocks), unread(pages)); err != nil {
			return err
		}
	}
	for _, r := range s.garbage.cleared {
		if err := f.sweepCleared(ctx, r, left); err != nil {
			return err
		}
	}
	if slices.Equal(left.suspects, s.garbage.suspects) && slices.Equal(left.cleared, s.garbage.cleared) {
		return nil
	}
	// Deletions first: the list must not forget what is still there.
	if err := s.sync(ctx, !s.atomic); err != nil {
		return err
	}
	if err := s.ds.Put(ctx, s.garbageKey(), left.append(nil)); err != nil {
		return err
	}
	if len(left.suspects) < len(s.garbage.suspects) || len(left.cleared) < len(s.garbage.cleared) {
		s.deadBytes, s.keptBytes = s.deadBytes+s.keptBytes, 0
	}
	s.garbage = *left
	return s.sync(ctx, false)
}

// readersOf returns the blocks of a generation that somebody reads, and those at which the node pages
// end that somebody reads; others says that this is not the feed alone.
func (f *Feed) readersOf(number uint32) (blocks, pages []Range, others bool) {
	for n, r := range f.head.generations.parts() {
		if n == number {
			blocks, pages = append(blocks, r), append(pages, r)
		}
	}
	f.mu.RLock()
	defer f.mu.RUnlock()
	for l := range f.lines {
		for n, r := range l.head.generations.parts() {
			if n != number {
				continue
			}
			others = true
			pages = append(pages, r)
			if l.frozen {
				r.End = min(r.End, l.head.length)
			}
			blocks = append(blocks, r)
		}
	}
	return mergeRanges(nil, blocks, len(blocks)), mergeRanges(nil, pages, len(pages)), others
}

// unread returns what of all blocks is not in a sorted list.
func unread(read []Range) []Range {
	return subtractRanges([]Range{{Start: 0, End: maxLength}}, read)
}

// deleteGeneration deletes the blocks of a generation in the first ranges, and the node pages whose last
// block is in the second.
func (s *storage) deleteGeneration(ctx context.Context, number uint32, blocks, pages []Range) error {
	if _, ok := s.ds.(RangeDeleter); !ok {
		return s.deleteListed(ctx, number, blocks, pages)
	}
	for _, r := range blocks {
		end := s.blockKey(number, r.End)
		if r.End >= maxLength {
			end = s.blocksEnd(number) // the number would need a digit more
		}
		if err := s.deleteRange(ctx, s.blockKey(number, r.Start), end); err != nil {
			return err
		}
	}
	for _, r := range pages {
		for level := range uint(pageDepth) {
			// Page n ends with block (n+1) << shift - 1.
			shift := pageShift(level)
			start, end := makePageID(level, r.Start>>shift), makePageID(level, r.End>>shift)
			if r.End >= maxLength {
				end = makePageID(level+1, 0)
			}
			if err := s.deleteRange(ctx, s.nodePageKey(number, start), s.nodePageKey(number, end)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *storage) deleteRange(ctx context.Context, start, end datastore.Key) error {
	if start.String() >= end.String() {
		return nil
	}
	s.died(start.String(), end.String())
	return s.ds.(RangeDeleter).DeleteRange(ctx, start.String(), end.String())
}

// deleteListed does the same where the datastore can only be asked which records it has.
func (s *storage) deleteListed(ctx context.Context, number uint32, blocks, pages []Range) error {
	var keys []datastore.Key
	err := s.query(ctx, true, func(key string, _ []byte, _ int) error {
		kind, n, id, ok := s.parseRecordKey(key)
		if !ok || n != number {
			return nil
		}
		in, block := blocks, id
		if kind == 'n' {
			_, end := pageID(id).blocks()
			in, block = pages, min(end, maxLength)-1
		}
		if slices.ContainsFunc(in, func(r Range) bool { return r.Start <= block && block < r.End }) {
			keys = append(keys, datastore.RawKey(key))
		}
		return nil
	})
	if err != nil {
		return err
	}
	return s.deleteKeys(ctx, keys)
}

// keyRange is a range of keys that were deleted.
type keyRange struct{ start, end string }

// died notes keys that were deleted, for compact.
func (s *storage) died(start, end string) {
	if n := len(s.dead); n == maxDeadRanges {
		s.dead[n-1] = keyRange{min(s.dead[n-1].start, start), max(s.dead[n-1].end, end)}
		return
	}
	s.dead = append(s.dead, keyRange{start, end})
}

// takeDead returns the deleted keys if it is worth while to get their space back now. The caller has
// the turn, and calls compact without it.
func (s *storage) takeDead() []keyRange {
	if s.deadBytes < compactBytes || len(s.dead) == 0 {
		return nil
	}
	dead := s.dead
	if len(s.garbage.suspects)+len(s.garbage.cleared) > 0 {
		s.keptBytes += s.deadBytes // some of it, which snapshots and branches still have
	}
	s.dead, s.deadBytes = nil, 0
	return dead
}

// compact gives the space of deleted keys back, if the datastore knows how to. It takes as long as that takes.
func (s *storage) compact(ctx context.Context, dead []keyRange) error {
	c, ok := s.ds.(Compacter)
	if !ok {
		return nil
	}
	for _, r := range dead {
		if err := c.Compact(ctx, r.start, r.end); err != nil {
			return fmt.Errorf("feed: compact: %w", err)
		}
	}
	return nil
}

func (s *storage) deleteKeys(ctx context.Context, keys []datastore.Key) error {
	for chunk := range slices.Chunk(keys, maxDeletes) {
		batch, err := s.ds.Batch(ctx)
		if err != nil {
			return err
		}
		for _, k := range chunk {
			if err := batch.Delete(ctx, k); err != nil {
				return err
			}
		}
		if err := batch.Commit(ctx); err != nil {
			return err
		}
	}
	return nil
}

// sweepCleared deletes the blocks of r that are not stored any more, as far as no snapshot has kept
// them, and, unless the feed is written here, the nodes that nothing held needs.
func (f *Feed) sweepCleared(ctx context.Context, r Range, left *garbage) error {
	d := deleting{storage: f.storage}
	for at := r.Start; at < r.End; {
		start := f.bits.FirstUnset(at)
		end, ok := f.bits.FirstSet(start)
		if !ok || end > r.End {
			end = r.End
		}
		if start >= r.End {
			break
		}
		if f.keptBySnapshots(Range{Start: start, End: end}) {
			left.clear(Range{Start: start, End: end})
		} else if err := f.deleteBlocks(ctx, &d, Range{Start: start, End: end}); err != nil {
			return err
		}
		at = end
	}
	if err := d.flush(ctx); err != nil {
		return err
	}
	return f.dropNodes(ctx, r)
}

// keptBySnapshots reports whether a snapshot still has a block of r that the feed has cleared.
func (f *Feed) keptBySnapshots(r Range) bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	for l := range f.lines {
		if !l.frozen {
			continue
		}
		if start, ok := l.bits.FirstSet(r.Start); ok && start < min(r.End, l.shared) {
			return true
		}
	}
	return false
}

// deleting collects the keys of single records to be deleted.
type deleting struct {
	*storage
	keys []datastore.Key
}

func (d *deleting) flush(ctx context.Context) error {
	keys := d.keys
	d.keys = keys[:0]
	if len(keys) == 0 {
		return nil
	}
	d.died(keys[0].String(), keys[len(keys)-1].String()+"0") // they are in order
	return d.deleteKeys(ctx, keys)
}

// deleteBlocks deletes blocks of the feed itself that are not stored any more: long runs as ranges, which cost a
// datastore as much as many single deletions, others one by one.
func (f *Feed) deleteBlocks(ctx context.Context, d *deleting, r Range) error {
	s := f.storage
	_, ranges := s.ds.(RangeDeleter)
	for number, part := range f.head.generations.parts() {
		start, end := max(part.Start, r.Start), min(part.End, r.End)
		if start >= end {
			continue
		}
		if ranges && end-start >= minDeleteRange {
			if err := s.deleteRange(ctx, s.blockKey(number, start), s.blockKey(number, end)); err != nil {
				return err
			}
			continue
		}
		for i := start; i < end; i++ {
			if d.keys = append(d.keys, s.blockKey(number, i)); len(d.keys) == maxDeletes {
				if err := d.flush(ctx); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// dropNodes deletes the nodes below the tops of the lowest pages in which no block is stored any more.
// The tops and all levels above stay: they are what proves the blocks that are stored, and the length.
// What goes is needed by nobody but readers whose length lies inside such a page, and CanUpgrade tells
// them the truth. A feed that is written here keeps all nodes: any length below its own is claimed,
// and there may be nobody else who could bring an old reader up to date.
func (f *Feed) dropNodes(ctx context.Context, r Range) error {
	if f.writableLocked(f.pair) {
		return nil
	}
	s := f.storage
	var pages []dirtyPage
	flush := func() error {
		if len(pages) == 0 {
			return nil
		}
		c := f.newCommit()
		c.pages, pages = pages, nil
		return s.write(ctx, c)
	}
	const pageBlocks = 1 << (pageLevels - 1)
	for n := r.Start / pageBlocks; n*pageBlocks < r.End; n++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		start, end := n*pageBlocks, (n+1)*pageBlocks
		if end > f.head.length {
			break // roots of today's length are in it
		}
		if f.bits.Count(start, end) > 0 || f.keptBySnapshots(Range{Start: start, End: end}) {
			continue
		}
		id := makePageID(0, n)
		old, err := s.loadPage(ctx, f.head.generations.ofPage(id), id)
		if err != nil {
			return fmt.Errorf("feed: clear: %w", err)
		}
		const topSlot = pageNodes / 2
		top := new(nodePage)
		if old.has(topSlot) {
			top.set(topSlot, &Node{Size: old.size[topSlot], Hash: old.hash[topSlot]})
		}
		if top.present == old.present {
			continue
		}
		pages = append(pages, dirtyPage{generation: f.head.generations.ofPage(id), id: id, page: top, old: old})
		if len(pages) == maxDeletes {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}
