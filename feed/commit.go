package feed

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	datastore "github.com/ipfs/go-datastore"

	"github.com/p2pcore/p2pcore/internal/bitfield"
)

// blockWrite is a block to be stored.
type blockWrite struct {
	index uint64
	data  []byte
}

// dirtyPage is a node page to be stored.
type dirtyPage struct {
	id   pageID
	page *nodePage
}

// commit is one change of what is stored.
type commit struct {
	base    *headRecord // the head that is stored
	head    *headRecord // the head to store
	blocks  []blockWrite
	nodes   []Node
	bits    *bitfield.Bitfield // as they are stored; not changed
	auth    *authRecord        // nil: unchanged
	durable bool               // must survive a crash once write has returned
	also    func(ctx context.Context, b datastore.Batch) error
}

// write stores c by the crash rule: in the atomic mode all in one batch, then one sync. Otherwise
// first blocks and nodes, which nobody looks at yet, and the identity; then bits and head; with a sync
// after each.
//
// On an error the old head is still valid. It may be that the new one is stored nevertheless; then
// write puts the old one back before it stores anything else.
func (s *storage) write(ctx context.Context, c *commit) error {
	if s.unsure {
		if err := s.restore(ctx, c); err != nil {
			return err
		}
	}
	pages, err := s.dirtyPages(ctx, c)
	if err != nil {
		return err
	}
	s.pages.begin()
	bitPages, err := s.store(ctx, c, pages)
	if err != nil {
		s.pages.publish(nil, c.base.length)
		s.unsure = true
		for i := range pages {
			s.suspect = append(s.suspect, pages[i].id)
		}
		return fmt.Errorf("feed: store: %w", err)
	}
	s.pages.publish(pages, c.head.length)
	s.bitPages = bitPages
	return nil
}

// dirtyPages returns the pages of c's nodes with these nodes added.
func (s *storage) dirtyPages(ctx context.Context, c *commit) ([]dirtyPage, error) {
	var pages []dirtyPage
	at := -1
	for i := range c.nodes {
		id, slot := locate(c.nodes[i].Index)
		if at < 0 || pages[at].id != id {
			at = slices.IndexFunc(pages, func(p dirtyPage) bool { return p.id == id })
		}
		if at < 0 {
			p := new(nodePage)
			if start, _ := id.blocks(); start < c.base.length {
				old, err := s.loadPage(ctx, c.base.generations, id)
				if err != nil {
					return nil, err
				}
				*p = *old
			}
			pages = append(pages, dirtyPage{id, p})
			at = len(pages) - 1
		}
		pages[at].page.set(slot, &c.nodes[i])
	}
	return pages, nil
}

func (s *storage) store(ctx context.Context, c *commit, pages []dirtyPage) (bitPages []uint64, err error) {
	batch, err := s.ds.Batch(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.putBlocks(ctx, batch, c); err != nil {
		return nil, err
	}
	for i := range pages {
		p := &pages[i]
		key := s.nodePageKey(generations(c.head.generations).ofPage(p.id), p.id)
		if err := batch.Put(ctx, key, p.page.appendRecord(make([]byte, 0, p.page.recordSize()))); err != nil {
			return nil, err
		}
	}
	if c.auth != nil {
		if err := batch.Put(ctx, s.authKey(), c.auth.append(nil)); err != nil {
			return nil, err
		}
	}
	if !s.atomic && (len(c.blocks)+len(pages) > 0 || c.auth != nil) {
		if err := batch.Commit(ctx); err != nil {
			return nil, err
		}
		// A manifest is true by itself, and a head without its manifest could not be verified.
		if err := s.sync(ctx, c.durable || c.auth != nil); err != nil {
			return nil, err
		}
		if batch, err = s.ds.Batch(ctx); err != nil {
			return nil, err
		}
	}
	if bitPages, err = s.putBits(ctx, batch, c); err != nil {
		return nil, err
	}
	if err := batch.Put(ctx, s.headKey(), c.head.append(nil)); err != nil {
		return nil, err
	}
	if c.also != nil {
		if err := c.also(ctx, batch); err != nil {
			return nil, err
		}
	}
	if err := batch.Commit(ctx); err != nil {
		return nil, err
	}
	return bitPages, s.sync(ctx, c.durable)
}

// putBlocks copies the blocks, unless the batch does: a datastore may keep what it is given, and the
// caller goes on using its own. Keys and values of a batch share one allocation each.
func (s *storage) putBlocks(ctx context.Context, batch datastore.Batch, c *commit) error {
	if len(c.blocks) == 0 {
		return nil
	}
	size := 0
	for i := range c.blocks {
		size += len(c.blocks[i].data)
	}
	keySize := len(s.prefix) + 2 + 20
	keyBytes := make([]byte, 0, keySize*len(c.blocks))
	for i := range c.blocks {
		index := c.blocks[i].index
		keyBytes = s.appendBlockKey(keyBytes, generations(c.head.generations).of(index), index)
	}
	keys := string(keyBytes)
	var values []byte
	copying, copies := batch.(CopyingBatch)
	if copies {
		const records, recordBytes, nodeBytes = 16, 4 << 10, 48 // what follows the blocks, roughly
		copying.Grow(len(c.blocks)+records, size+len(keys)+recordBytes+nodeBytes*len(c.nodes))
	} else {
		values = make([]byte, 0, size)
	}
	for i := range c.blocks {
		value := c.blocks[i].data
		if !copies {
			values = append(values, value...)
			value = values[len(values)-len(value) : len(values) : len(values)]
		}
		key := datastore.RawKey(keys[i*keySize : (i+1)*keySize])
		if err := batch.Put(ctx, key, value); err != nil {
			return err
		}
	}
	return nil
}

// putBits stores the bit pages of c's blocks past the contiguous length and deletes those that the
// contiguous length has passed.
func (s *storage) putBits(ctx context.Context, batch datastore.Batch, c *commit) ([]uint64, error) {
	list := s.bitPages
	passed := c.head.contiguous / bitfield.PageBits // pages below are full
	n, _ := slices.BinarySearch(list, passed)
	for _, p := range list[:n] {
		if err := batch.Delete(ctx, s.bitPageKey(p)); err != nil {
			return nil, err
		}
	}
	changed := n > 0
	list = list[n:]
	var dirty []uint64
	for i := range c.blocks {
		p := c.blocks[i].index / bitfield.PageBits
		if c.blocks[i].index < c.head.contiguous || slices.Contains(dirty, p) {
			continue
		}
		dirty = append(dirty, p)
		if at, found := slices.BinarySearch(list, p); !found {
			list = slices.Insert(slices.Clone(list), at, p)
			changed = true
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
			return nil, err
		}
	}
	if changed {
		if err := batch.Put(ctx, s.bitListKey(), appendPageList(nil, list)); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// restore makes the stored state that of memory again, after a commit whose fate is unknown.
func (s *storage) restore(ctx context.Context, c *commit) error {
	batch, err := s.ds.Batch(ctx)
	if err != nil {
		return fmt.Errorf("feed: store: %w", err)
	}
	list := []uint64(nil)
	for start, end := range c.bits.Ranges(c.base.contiguous, c.base.length) {
		for p := start / bitfield.PageBits; p <= (end-1)/bitfield.PageBits; p++ {
			if n := len(list); n == 0 || list[n-1] != p {
				list = append(list, p)
			}
		}
	}
	for _, p := range list {
		if err := batch.Put(ctx, s.bitPageKey(p), bytes.TrimRight(c.bits.Page(p), "\x00")); err != nil {
			return fmt.Errorf("feed: store: %w", err)
		}
	}
	for _, id := range s.suspect {
		p, err := s.loadPage(ctx, c.base.generations, id)
		if err != nil {
			return err
		}
		key := s.nodePageKey(generations(c.base.generations).ofPage(id), id)
		if err := batch.Put(ctx, key, p.appendRecord(nil)); err != nil {
			return fmt.Errorf("feed: store: %w", err)
		}
	}
	err = batch.Put(ctx, s.bitListKey(), appendPageList(nil, list))
	if err == nil {
		err = batch.Put(ctx, s.headKey(), c.base.append(nil))
	}
	if err == nil {
		err = batch.Commit(ctx)
	}
	if err == nil {
		err = s.sync(ctx, true)
	}
	if err != nil {
		return fmt.Errorf("feed: store: %w", err)
	}
	s.bitPages, s.unsure, s.suspect = list, false, nil
	return nil
}

// sync puts what was committed on stable storage, or notes that this has not been done.
func (s *storage) sync(ctx context.Context, durable bool) error {
	if !durable || s.noSync {
		s.unsynced = true
		return nil
	}
	if err := s.ds.Sync(ctx, datastore.RawKey(s.prefix)); err != nil {
		return err
	}
	s.unsynced = false
	return nil
}
