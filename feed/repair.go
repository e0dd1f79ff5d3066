package feed

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/p2pcore/p2pcore/internal/bitfield"
	"github.com/p2pcore/p2pcore/internal/flattree"
	"github.com/p2pcore/p2pcore/internal/merkle"
)

// Repaired is what Repair has dropped.
type Repaired struct {
	Blocks  uint64  // of the feed; they count as missing now
	Nodes   uint64  // of the tree
	Dropped []Range // the blocks; sorted, at most MaxChangeRanges (then widened to cover gaps)
}

// Repair drops what does not fit the signed head: nodes that are not below a root by their hashes, and
// blocks that are not what their leaf commits to, or whose leaf is not there. They are fetched again like
// any others that are missing; until then the peers are told. What is left passes Check. It reads
// everything, and nothing else is written meanwhile.
//
// The error is ErrCorrupt if the head itself is not signed: then nothing is changed, and only a Purge and
// a fresh download help. Else it is ErrClosed, ctx's or the datastore's.
func (f *Feed) Repair(ctx context.Context) (Repaired, error) {
	giveBack, leave, err := f.begin(ctx)
	if err != nil {
		return Repaired{}, err
	}
	defer leave()
	result, err := f.repairInTurn(ctx)
	giveBack()
	if err == nil && result.Blocks > 0 {
		f.announce(Change{Head: f.Info().Head, Dropped: result.Dropped})
	}
	return result, err
}

// repair is one run of Repair: a walk down from the roots, which are believed.
type repair struct {
	*Feed
	view    view
	pages   []pageID             // stored, sorted
	trusted map[pageID][2]uint64 // by slot
	after   *bitfield.Bitfield
	result  Repaired
	garbage *garbage
}

func (f *Feed) repairInTurn(ctx context.Context) (Repaired, error) {
	if f.head.length > 0 {
		if f.who == nil {
			return Repaired{}, fmt.Errorf("%w: the manifest is not known", ErrCorrupt)
		}
		if err := f.who.VerifyHead(f.tree.Head(), f.tree.Roots(), f.head.signature); err != nil {
			return Repaired{}, fmt.Errorf("%w: the head is not signed: %w", ErrCorrupt, err)
		}
	}
	r := &repair{Feed: f, view: f.viewLocked(), trusted: make(map[pageID][2]uint64), after: f.bits.Clone(), garbage: f.storage.garbage.clone()}
	err := f.storage.query(ctx, true, func(key string, _ []byte, _ int) error {
		if id, ok := f.storage.parseNodePageKey(key, f.head.generations); ok {
			r.pages = append(r.pages, id)
		}
		return nil
	})
	if err != nil {
		return Repaired{}, err
	}
	slices.Sort(r.pages)
	for _, root := range f.tree.Roots() {
		if err := r.walk(ctx, root); err != nil {
			return Repaired{}, err
		}
	}
	// Blocks first: a block without its leaf would be damage, a leaf without its block is none.
	if contiguous := r.after.FirstUnset(0); r.result.Blocks > 0 || contiguous != f.head.contiguous || f.local != f.bits.Count(0, f.head.length) {
		c := f.newCommit()
		c.after, c.garbage, c.durable = r.after, r.garbage, true
		head := *f.head
		head.contiguous = contiguous
		c.head = &head
		if err := f.storage.write(ctx, c); err != nil {
			return Repaired{}, err
		}
		f.swap(&change{commit: c, tree: f.tree, clears: true})
	}
	if err := r.dropUntrusted(ctx); err != nil {
		return Repaired{}, err
	}
	f.sweepIfQuiet(ctx)
	return r.result, nil
}

// walk goes through what is below n, which is trusted.
func (r *repair) walk(ctx context.Context, n Node) error {
	id, slot := locate(n.Index)
	mask := r.trusted[id]
	mask[slot/64] |= 1 << (slot % 64)
	r.trusted[id] = mask
	left, right, ok := n.Index.Children()
	if !ok {
		return r.block(ctx, n)
	}
	start, end := n.Index.Blocks()
	if !r.anythingBelow(start, end, n.Index) {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	var nodes [2]Node
	if err := r.read(ctx, []flattree.Index{left, right}, nodes[:]); err != nil {
		return err
	}
	if nodes[0].Missing() || nodes[1].Missing() || merkle.ParentNode(nodes[0], nodes[1]) != n {
		r.drop(Range{Start: start, End: end})
		return nil
	}
	if err := r.walk(ctx, nodes[0]); err != nil {
		return err
	}
	return r.walk(ctx, nodes[1])
}

// anythingBelow reports whether a block below a node is stored, or a page with nodes below it.
func (r *repair) anythingBelow(start, end uint64, at flattree.Index) bool {
	if first, ok := r.after.FirstSet(start); ok && first < end {
		return true
	}
	for level := uint(0); level*pageLevels < at.Depth(); level++ {
		shift := pageShift(level)
		i, _ := slices.BinarySearch(r.pages, makePageID(level, start>>shift))
		if i < len(r.pages) && r.pages[i] <= makePageID(level, (end-1)>>shift) {
			return true
		}
	}
	return false
}

// read reads nodes; those of a page that cannot be parsed are missing.
func (r *repair) read(ctx context.Context, at []flattree.Index, dst []Node) error {
	for i := range at {
		err := r.view.ReadNodes(ctx, at[i:i+1], dst[i:i+1])
		if errors.Is(err, ErrCorrupt) {
			dst[i] = Node{Index: at[i]}
		} else if err != nil {
			return err
		}
	}
	return nil
}

// block looks at the block of a trusted leaf.
func (r *repair) block(ctx context.Context, leaf Node) error {
	index := leaf.Index.Offset()
	if !r.after.Has(index) {
		return nil
	}
	b, err := r.storage.block(ctx, r.view.generations.of(index), index)
	if err != nil {
		return err
	}
	if b == nil || merkle.LeafNode(index, b) != leaf {
		r.drop(Range{Start: index, End: index + 1})
	}
	return nil
}

// drop drops the blocks of a range.
func (r *repair) drop(blocks Range) {
	for start, end := range r.after.Ranges(blocks.Start, blocks.End) {
		held := Range{Start: start, End: end}
		r.result.Blocks += end - start
		r.result.Dropped = mergeRanges(r.result.Dropped, []Range{held}, MaxChangeRanges)
		r.garbage.clear(held)
	}
	r.after.SetRange(blocks.Start, blocks.End, false)
}

// dropUntrusted rewrites the pages without the nodes that the walk has not come to. The roots, which the head holds too,
// get a place in their pages again: when the head has grown past them, they are there alone.
func (r *repair) dropUntrusted(ctx context.Context) error {
	for _, root := range r.view.roots {
		id, _ := locate(root.Index)
		if i, stored := slices.BinarySearch(r.pages, id); !stored {
			r.pages = slices.Insert(r.pages, i, id)
		}
	}
	for ids := range slices.Chunk(r.pages, maxDeletes) {
		c := r.newCommit()
		c.durable = true
		for _, id := range ids {
			p, err := r.page(ctx, id)
			if err != nil {
				return err
			}
			if p != nil {
				c.pages = append(c.pages, *p)
			}
		}
		if len(c.pages) == 0 {
			continue
		}
		if err := r.storage.write(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// page returns what a page has to be, nil if it is that.
func (r *repair) page(ctx context.Context, id pageID) (*dirtyPage, error) {
	out := &dirtyPage{generation: r.view.generationOf(id), id: id, page: new(nodePage)}
	switch p, err := r.view.loadPage(ctx, id); {
	case errors.Is(err, ErrCorrupt):
		r.result.Nodes++ // at least
	case err != nil:
		return nil, err
	default:
		out.old = p
		*out.page = *p
	}
	trusted := r.trusted[id]
	for slot := range uint(pageNodes) {
		if out.page.has(slot) && trusted[slot/64]>>(slot%64)&1 == 0 {
			out.page.drop(slot)
			r.result.Nodes++
		}
	}
	for _, root := range r.view.roots {
		if at, slot := locate(root.Index); at == id && (out.page.hash[slot] != root.Hash || out.page.size[slot] != root.Size) {
			out.page.set(slot, &root)
			r.result.Nodes++
		}
	}
	if out.old != nil && *out.page == *out.old {
		return nil, nil
	}
	return out, nil
}
