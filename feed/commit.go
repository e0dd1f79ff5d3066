package feed

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"slices"

	datastore "github.com/ipfs/go-datastore"

	"github.com/p2pcore/p2pcore/internal/bitfield"
)

// blockWrite is a block to be stored.
type blockWrite struct {
	index uint64
	data  []byte
}

// put is any other record to be stored, or deleted if value is nil; old is what is stored now. An early one is true before the change as
// well, and must be stored before it.
type put struct {
	key        datastore.Key
	value, old []byte
	early      bool
}

// dirtyPage is a node page to be stored. It is deleted if it has no nodes.
type dirtyPage struct {
	generation uint32
	id         pageID
	page       *nodePage
	old        *nodePage // what is stored under this key; nil: nothing that counts
}

// commit is one change of what is stored, of the feed itself or of a branch.
type commit struct {
	// set by newCommit
	feed *headRecord        // the feed's own head that is stored
	bits *bitfield.Bitfield // of the feed, as they are stored; not changed

	base   *headRecord // what changes: the feed's head, or that of the branch
	view   view        // of base
	head   *headRecord // what it becomes
	branch bool        // base and head are a branch's: its record is among puts

	keep   uint64 // blocks and nodes of base past it do not count any more
	moved  bool   // head has a new generation
	blocks []blockWrite
	nodes  []Node
	after  *bitfield.Bitfield // of the feed afterwards; nil: bits and blocks
	pages  []dirtyPage        // filled in by prepare; further ones may be there already

	puts    []put
	auth    *authRecord // nil: unchanged
	garbage *garbage    // nil: unchanged; its record is written too
	durable bool        // must survive a crash once write has returned
	also    func(ctx context.Context, b datastore.Batch) error

	bitPages []uint64 // the list afterwards; set by store
	before   []uint64 // the list that is stored; with the pages of putEarlyBits
}

// newCommit begins a commit of the feed itself that keeps all it has. The caller has the turn.
func (f *Feed) newCommit() *commit {
	return &commit{
		feed: f.head, bits: &f.bits, base: f.head, head: f.head, view: f.viewLocked(), keep: f.head.length,
		auth: f.dirtyAuth(),
	}
}

// write stores c by the crash rule: in the atomic mode all in one batch, then one sync. Otherwise
// first blocks and nodes, which nobody looks at yet, and the identity; then bits, head and the rest;
// with a sync after each.
//
// On an error the old head is still valid. It may be that the new one is stored nevertheless; then
// write puts the old one back before it stores anything else.
func (s *storage) write(ctx context.Context, c *commit) error {
	if err := s.prepare(ctx, c); err != nil {
		return err
	}
	err := s.commit(ctx, c)
	s.finish(c, err)
	if err != nil {
		return fmt.Errorf("feed: store: %w", err)
	}
	return nil
}

// prepare mends what a failed commit left and collects the node pages of c.
func (s *storage) prepare(ctx context.Context, c *commit) error {
	if s.readOnly != nil {
		return s.readOnly
	}
	if s.unsure {
		if err := s.restore(ctx, c); err != nil {
			return err
		}
	}
	if err := s.dirtyPages(ctx, c); err != nil {
		return err
	}
	if c.garbage != nil { // what may become garbage must be on the list before it does
		c.puts = append(c.puts, put{key: s.garbageKey(), value: c.garbage.append(nil), early: true})
	}
	return nil
}

func (s *storage) commit(ctx context.Context, c *commit) error {
	batch, err := s.ds.Batch(ctx)
	if err != nil {
		return err
	}
	s.pages.begin()
	if err := s.putFirst(ctx, batch, c); err != nil {
		return err
	}
	if !s.atomic && c.after != nil && !c.branch {
		if err := s.putEarlyBits(ctx, batch, c); err != nil {
			return err
		}
	}
	early := slices.ContainsFunc(c.puts, func(p put) bool { return p.early })
	if !s.atomic && (len(c.blocks)+len(c.pages) > 0 || c.auth != nil || c.after != nil || early) {
		if err := batch.Commit(ctx); err != nil {
			return err
		}
		// A manifest is true by itself, and a head without its manifest could not be verified. A new
		// generation must be complete before a head says that it counts.
		if err := s.sync(ctx, c.durable || c.auth != nil || c.moved || c.after != nil || early); err != nil {
			return err
		}
		if batch, err = s.ds.Batch(ctx); err != nil {
			return err
		}
	}
	if err := s.putSecond(ctx, batch, c); err != nil {
		return err
	}
	if !s.atomic && c.after != nil && !c.branch {
		// Bits go when the head has: until then they tell what the old one has.
		if err := batch.Commit(ctx); err != nil {
			return err
		}
		if err := s.sync(ctx, true); err != nil {
			return err
		}
		if batch, err = s.ds.Batch(ctx); err != nil {
			return err
		}
		if err := s.putAllBits(ctx, batch, c); err != nil {
			return err
		}
	}
	if err := batch.Commit(ctx); err != nil {
		return err
	}
	return s.sync(ctx, c.durable)
}

// finish takes note of what has been stored, or not.
func (s *storage) finish(c *commit, err error) {
	if err != nil {
		s.pages.abandon()
		s.undoMu.Lock()
		defer s.undoMu.Unlock()
		s.unsure, s.undoBits = true, min(s.undoBits, c.head.contiguous)
		for _, p := range c.pages {
			u := put{key: s.nodePageKey(p.generation, p.id)}
			if p.old != nil {
				u.value = p.old.appendRecord(nil)
			}
			s.undoPages = append(s.undoPages, u)
		}
		for _, p := range c.puts {
			if p.key != s.garbageKey() { // of which that in memory counts
				s.undo = append(s.undo, put{key: p.key, value: p.old})
			}
		}
		if !c.branch {
			for i := range c.blocks {
				s.undoHeld.Set(c.blocks[i].index, true)
			}
			if c.after != nil {
				for start, end := range c.after.Ranges(0, c.head.length) {
					s.undoHeld.SetRange(start, end, true)
				}
			}
		}
		if c.garbage != nil { // it may have been stored, and as long as it may count it must stay so
			s.garbage.suspect(c.garbage.suspects...)
			s.garbage.cleared = mergeRanges(s.garbage.cleared, c.garbage.cleared, maxCleared)
		}
		switch {
		case c.moved:
			s.garbage.suspect(c.head.generations.newest()) // which nothing refers to now
			s.leaked = true
		case !c.branch && len(c.blocks) > 0:
			s.garbage.cleared = mergeRanges(s.garbage.cleared, rangesOf(c.blocks), maxCleared)
			s.leaked = true
		}
		return
	}
	s.pages.publish(c.pages, c.head.generations.newest(), c.head.length)
	if c.moved {
		s.pages.retire(c.base.generations.newest())
	}
	s.bitPages = c.bitPages
	if c.garbage != nil {
		s.garbage = *c.garbage
	}
}

// dirtyPages adds the pages of c's nodes with these nodes added, and those that the new generation
// begins with.
func (s *storage) dirtyPages(ctx context.Context, c *commit) error {
	at := -1
	for i := range c.nodes {
		id, slot := locate(c.nodes[i].Index)
		if at < 0 || c.pages[at].id != id {
			at = slices.IndexFunc(c.pages, func(p dirtyPage) bool { return p.id == id })
		}
		if at < 0 {
			if err := s.dirtyPage(ctx, c, id); err != nil {
				return err
			}
			at = len(c.pages) - 1
		}
		c.pages[at].page.set(slot, &c.nodes[i])
	}
	if !c.moved {
		return nil
	}
	start := c.head.generations[len(c.head.generations)-1].start
	for level := uint(0); c.keep >= 1<<(level*pageLevels); level++ { // others have no nodes yet
		shift := pageShift(level)
		for n := start >> shift; n<<shift < c.keep; n++ {
			id := makePageID(level, n)
			if slices.ContainsFunc(c.pages, func(p dirtyPage) bool { return p.id == id }) {
				continue
			}
			if err := s.dirtyPage(ctx, c, id); err != nil {
				return err
			}
			if last := len(c.pages) - 1; c.pages[last].page.empty() {
				c.pages = c.pages[:last]
			}
		}
	}
	return nil
}

// dirtyPage adds a page as it is in base, without what does not count any more.
func (s *storage) dirtyPage(ctx context.Context, c *commit, id pageID) error {
	p := dirtyPage{generation: c.head.generations.ofPage(id), id: id, page: new(nodePage)}
	if start, _ := id.blocks(); start < c.keep {
		old, err := c.view.loadPage(ctx, id)
		if err != nil {
			return err
		}
		*p.page = *old
		p.page.truncate(id, c.keep)
		if c.view.generationOf(id) == p.generation {
			p.old = old
		}
	}
	c.pages = append(c.pages, p)
	return nil
}

// putFirst puts what may be there before its time.
func (s *storage) putFirst(ctx context.Context, batch datastore.Batch, c *commit) error {
	if err := s.putBlocks(ctx, batch, c); err != nil {
		return err
	}
	for i := range c.pages {
		p := &c.pages[i]
		key := s.nodePageKey(p.generation, p.id)
		var err error
		if p.page.empty() {
			err = batch.Delete(ctx, key)
		} else {
			err = batch.Put(ctx, key, p.page.appendRecord(make([]byte, 0, p.page.recordSize())))
		}
		if err != nil {
			return err
		}
	}
	if err := putAll(ctx, batch, c.puts, true); err != nil {
		return err
	}
	c.bitPages, c.before = s.bitPages, s.bitPages
	if c.after == nil && !c.branch {
		if err := s.putNewBits(ctx, batch, c); err != nil {
			return err
		}
	}
	if c.auth != nil {
		return batch.Put(ctx, s.authKey(), c.auth.append(nil))
	}
	return nil
}

// putSecond puts what makes the change count.
func (s *storage) putSecond(ctx context.Context, batch datastore.Batch, c *commit) error {
	if !c.branch {
		var err error
		switch {
		case c.after == nil:
			err = s.dropPassedBits(ctx, batch, c)
		case s.atomic:
			err = s.putAllBits(ctx, batch, c)
		}
		if err != nil {
			return err
		}
		if err := batch.Put(ctx, s.headKey(), c.head.append(nil)); err != nil {
			return err
		}
	}
	if err := putAll(ctx, batch, c.puts, false); err != nil {
		return err
	}
	if c.also != nil {
		return c.also(ctx, batch)
	}
	return nil
}

func putAll(ctx context.Context, batch datastore.Batch, puts []put, early bool) (err error) {
	for _, p := range puts {
		if p.early != early {
			continue
		}
		if p.value == nil {
			err = batch.Delete(ctx, p.key)
		} else {
			err = batch.Put(ctx, p.key, p.value)
		}
		if err != nil {
			return err
		}
	}
	return nil
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
		keyBytes = s.appendBlockKey(keyBytes, c.head.generations.of(index), index)
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

// restore makes the stored state that of memory again, after a commit whose fate is unknown. What was stored
// in steps is taken back in steps, the other way round: bits of before and after, so that whichever head is
// stored has those it counts on; head; records; the pages that these do not name any more, and the bits of before.
func (s *storage) restore(ctx context.Context, c *commit) error {
	steps, list := s.restoring(c)
	if s.joint != nil {
		if err := s.joint.restore(ctx, s); err != nil {
			return fmt.Errorf("feed: store: %w", err)
		}
		steps = nil
	}
	if s.atomic && len(steps) > 0 {
		steps = [][]put{slices.Concat(steps...)}
	}
	for _, step := range steps {
		if err := s.putDurably(ctx, step); err != nil {
			return fmt.Errorf("feed: store: %w", err)
		}
	}
	s.undoMu.Lock()
	defer s.undoMu.Unlock()
	s.bitPages, s.unsure, s.joint = list, false, nil
	s.undo, s.undoPages, s.undoBits, s.undoHeld = nil, nil, math.MaxUint64, bitfield.Bitfield{}
	return nil
}

// restoring returns the steps of restore, and the bit pages that are stored after them.
func (s *storage) restoring(c *commit) (steps [][]put, list []uint64) {
	list = pagesOf(c.bits, c.feed.contiguous, c.feed.length)
	exact := s.bitPuts(c.bits, list)
	head := []put{{key: s.headKey(), value: c.feed.append(nil)}}
	records := append(slices.Clone(s.undo), put{key: s.garbageKey(), value: s.garbage.append(nil)})
	if s.atomic {
		return [][]put{exact, head, records, s.undoPages}, list
	}
	both := c.bits.Clone()
	for start, end := range s.undoHeld.Ranges(0, bitfield.MaxIndex) {
		both.SetRange(start, end, true)
	}
	wide := pagesOf(both, min(c.feed.contiguous, s.undoBits), bitfield.MaxIndex)
	for _, p := range wide {
		if _, found := slices.BinarySearch(list, p); !found {
			exact = append(exact, put{key: s.bitPageKey(p)})
		}
	}
	return [][]put{s.bitPuts(both, wide), head, records, slices.Concat(exact, s.undoPages)}, list
}

// bitPuts stores some pages of bits, and that these are stored.
func (s *storage) bitPuts(bits *bitfield.Bitfield, list []uint64) []put {
	puts := make([]put, 0, len(list)+1)
	for _, p := range list {
		puts = append(puts, put{key: s.bitPageKey(p), value: bytes.TrimRight(bits.Page(p), "\x00")})
	}
	return append(puts, put{key: s.bitListKey(), value: appendPageList(nil, list)})
}

func (s *storage) putDurably(ctx context.Context, puts []put) error {
	batch, err := s.ds.Batch(ctx)
	if err != nil {
		return err
	}
	if err := putAll(ctx, batch, puts, false); err != nil {
		return err
	}
	if err := batch.Commit(ctx); err != nil {
		return err
	}
	return s.sync(ctx, true)
}

// undone returns what a record holds that a failed commit may have changed.
func (s *storage) undone(key datastore.Key) (value []byte, ok bool) {
	s.undoMu.Lock()
	defer s.undoMu.Unlock()
	for _, u := range s.undo {
		if u.key == key {
			return u.value, true
		}
	}
	return nil, false
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
