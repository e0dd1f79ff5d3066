package feed

import (
	"bytes"
	"context"
	"slices"

	datastore "github.com/ipfs/go-datastore"

	"github.com/p2pcore/p2pcore/internal/bitfield"
)

// putNewBits stores the bit pages of c's blocks past the contiguous length. They may come before the head: bits
// past its length do not count.
func (s *storage) putNewBits(ctx context.Context, batch datastore.Batch, c *commit) error {
	c.bitPages = s.bitPages
	var dirty []uint64
	for i := range c.blocks {
		p := c.blocks[i].index / bitfield.PageBits
		if c.blocks[i].index < c.head.contiguous || slices.Contains(dirty, p) {
			continue
		}
		dirty = append(dirty, p)
		if at, found := slices.BinarySearch(c.bitPages, p); !found {
			c.bitPages = slices.Insert(slices.Clone(c.bitPages), at, p)
		}
	}
	for _, p := range dirty {
		page := c.bits.Page(p)
		if page == nil {
			page = make([]byte, bitfield.PageBytes)
		}
		for i := range c.blocks {
			if index := c.blocks[i].index; index/bitfield.PageBits == p {
				page[index%bitfield.PageBits/8] |= 1 << (index % 8)
			}
		}
		if err := batch.Put(ctx, s.bitPageKey(p), bytes.TrimRight(page, "\x00")); err != nil {
			return err
		}
	}
	if len(c.bitPages) == len(s.bitPages) {
		return nil
	}
	return batch.Put(ctx, s.bitListKey(), appendPageList(nil, c.bitPages))
}

// dropPassedBits deletes the bit pages that the contiguous length has passed: pages below it are full.
func (s *storage) dropPassedBits(ctx context.Context, batch datastore.Batch, c *commit) error {
	n, _ := slices.BinarySearch(c.bitPages, c.head.contiguous/bitfield.PageBits)
	if n == 0 {
		return nil
	}
	for _, p := range c.bitPages[:n] {
		if err := batch.Delete(ctx, s.bitPageKey(p)); err != nil {
			return err
		}
	}
	c.bitPages = c.bitPages[n:]
	return batch.Put(ctx, s.bitListKey(), appendPageList(nil, c.bitPages))
}

// putEarlyBits stores, past what the contiguous length is going to be, the bits of before and after: the
// contiguous length may fall with the head, and then they must be there. A bit too many does no harm where
// batches are not atomic, since it does not promise a block.
func (s *storage) putEarlyBits(ctx context.Context, batch datastore.Batch, c *commit) error {
	both := c.after.Clone()
	for start, end := range c.bits.Ranges(c.head.contiguous, c.feed.length) {
		both.SetRange(start, end, true)
	}
	list := pagesOf(both, c.head.contiguous, max(c.head.length, c.feed.length))
	for _, p := range list {
		if err := batch.Put(ctx, s.bitPageKey(p), bytes.TrimRight(both.Page(p), "\x00")); err != nil {
			return err
		}
	}
	c.before = slices.Concat(s.bitPages, list)
	slices.Sort(c.before)
	c.before = slices.Compact(c.before)
	return batch.Put(ctx, s.bitListKey(), appendPageList(nil, c.before))
}

// putAllBits stores all bit pages past the contiguous length as they are afterwards, but for those
// that stay as they are stored.
func (s *storage) putAllBits(ctx context.Context, batch datastore.Batch, c *commit) error {
	c.bitPages = pagesOf(c.after, c.head.contiguous, c.head.length)
	for _, p := range c.before {
		if _, found := slices.BinarySearch(c.bitPages, p); !found {
			if err := batch.Delete(ctx, s.bitPageKey(p)); err != nil {
				return err
			}
		}
	}
	for _, p := range c.bitPages {
		page := bytes.TrimRight(c.after.Page(p), "\x00")
		// Of a page that the contiguous length has reached, what is stored may be old.
		_, stored := slices.BinarySearch(s.bitPages, p)
		if s.atomic && stored && p*bitfield.PageBits >= c.feed.contiguous && bytes.Equal(page, bytes.TrimRight(c.bits.Page(p), "\x00")) {
			continue
		}
		if err := batch.Put(ctx, s.bitPageKey(p), page); err != nil {
			return err
		}
	}
	return batch.Put(ctx, s.bitListKey(), appendPageList(nil, c.bitPages))
}

// pagesOf returns the numbers of the bit pages that hold a bit of [start, end).
func pagesOf(bits *bitfield.Bitfield, start, end uint64) (list []uint64) {
	for from, to := range bits.Ranges(start, end) {
		for p := from / bitfield.PageBits; p <= (to-1)/bitfield.PageBits; p++ {
			if n := len(list); n == 0 || list[n-1] != p {
				list = append(list, p)
			}
		}
	}
	return list
}
