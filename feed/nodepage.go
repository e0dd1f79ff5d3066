package feed

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"sync"

	"github.com/p2pcore/p2pcore/internal/flattree"
)

// Tree nodes are stored in pages. A page holds the nodes of a subtree of seven levels, 64 + 32 + …
// + 1 = 127 nodes: on level 0 those above 64 blocks, on level 1 those above the tops of 128 pages
// of level 0 taken as 64 pairs, and so on. A path from a leaf to a root touches one page for every
// seven nodes.
//
//	level 1            depth 7…13, page 0
//	level 0   page 0     page 1     …          depth 0…6, 64 blocks each
const (
	pageLevels  = 7
	pageNodes   = 1<<pageLevels - 1
	nodeRecord  = 8 + 32            // size, hash
	presentSize = pageNodes/8 + 1   // one bit for each node
	pageDepth   = 48/pageLevels + 1 // levels of pages of a feed of maxLength blocks
)

// pageID names a page: level<<44 | number. Numbers have 44 bits: maxLength/64 is less.
type pageID uint64

const pageLevelShift = 44

// locate returns the page of a node and its slot there, 0…126 in tree order.
func locate(i flattree.Index) (pageID, uint) {
	depth, offset := i.Depth(), i.Offset()
	level, local := depth/pageLevels, depth%pageLevels
	up := pageLevels - 1 - local // levels between the node and the top of its page
	slot := flattree.At(local, offset&(1<<up-1))
	return pageID(uint64(level)<<pageLevelShift | offset>>up), uint(slot)
}

// pageShift is the binary logarithm of the number of blocks below a page of a level.
func pageShift(level uint) uint { return level*pageLevels + pageLevels - 1 }

func makePageID(level uint, number uint64) pageID {
	return pageID(uint64(level)<<pageLevelShift | number)
}

// blocks returns the blocks below the page, half-open.
func (id pageID) blocks() (start, end uint64) {
	shift := uint(id>>pageLevelShift)*pageLevels + pageLevels - 1
	number := uint64(id) & (1<<pageLevelShift - 1)
	return number << shift, (number + 1) << shift
}

// index is the reverse of locate.
func (id pageID) index(slot uint) flattree.Index {
	local := flattree.Index(slot)
	depth := local.Depth()
	up := pageLevels - 1 - depth
	number := uint64(id) & (1<<pageLevelShift - 1)
	return flattree.At(uint(id>>pageLevelShift)*pageLevels+depth, number<<up|local.Offset())
}

// nodePage is a page in memory. It does not change once it is in a cache.
type nodePage struct {
	present [2]uint64
	size    [pageNodes]uint64
	hash    [pageNodes]Hash
}

func (p *nodePage) has(slot uint) bool { return p.present[slot/64]>>(slot%64)&1 == 1 }

func (p *nodePage) set(slot uint, n *Node) {
	p.present[slot/64] |= 1 << (slot % 64)
	p.size[slot], p.hash[slot] = n.Size, n.Hash
}

func (p *nodePage) empty() bool { return p.present[0]|p.present[1] == 0 }

func (p *nodePage) drop(slot uint) { p.present[slot/64] &^= 1 << (slot % 64) }

// appendRecord appends the stored form: a bit for each slot, then size (8 bytes) and hash (32) of
// each node that is there, all little endian.
func (p *nodePage) appendRecord(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, p.present[0])
	b = binary.LittleEndian.AppendUint64(b, p.present[1])
	for w, word := range p.present {
		for ; word != 0; word &= word - 1 {
			slot := w*64 + bits.TrailingZeros64(word)
			b = binary.LittleEndian.AppendUint64(b, p.size[slot])
			b = append(b, p.hash[slot][:]...)
		}
	}
	return b
}

func (p *nodePage) recordSize() int {
	return presentSize + nodeRecord*(bits.OnesCount64(p.present[0])+bits.OnesCount64(p.present[1]))
}

// parseNodePage reads the stored form.
func parseNodePage(b []byte) (*nodePage, error) {
	p := new(nodePage)
	if len(b) < presentSize {
		return nil, fmt.Errorf("%w: node page of %d bytes", ErrCorrupt, len(b))
	}
	p.present[0] = binary.LittleEndian.Uint64(b)
	p.present[1] = binary.LittleEndian.Uint64(b[8:]) &^ (1 << 63)
	if len(b) != p.recordSize() {
		return nil, fmt.Errorf("%w: node page of %d bytes", ErrCorrupt, len(b))
	}
	b = b[presentSize:]
	for w, word := range p.present {
		for ; word != 0; word &= word - 1 {
			slot := w*64 + bits.TrailingZeros64(word)
			p.size[slot] = binary.LittleEndian.Uint64(b)
			copy(p.hash[slot][:], b[8:nodeRecord])
			b = b[nodeRecord:]
		}
	}
	return p, nil
}

// truncate drops the nodes that are not wholly below length: leftovers of a commit whose head never
// made it.
func (p *nodePage) truncate(id pageID, length uint64) {
	if _, end := id.blocks(); end <= length {
		return
	}
	for slot := range uint(pageNodes) {
		if p.has(slot) {
			if _, end := id.index(slot).Blocks(); end > length {
				p.drop(slot)
			}
		}
	}
}

// pageCache keeps the pages used last. It is safe for concurrent use.
type pageCache struct {
	limit int // set once

	// under mu
	mu      sync.Mutex
	entries []cachedPage
	clock   uint64
	writing bool              // between begin and publish
	epoch   uint64            // counts publications
	lengths map[uint32]uint64 // by generation that is written: of the head that is stored; nodes beyond it are leftovers
}

type cachedPage struct {
	generation uint32
	id         pageID
	used       uint64
	page       *nodePage
}

// get returns a page; or else, for one that is loaded instead, the length to truncate it to and the
// epoch to hand to offer. The length must be the newest, not that of the reader's view: others may
// get the page. Of a generation that nobody writes any more all nodes count, up to a view's length.
func (c *pageCache) get(g uint32, id pageID) (p *nodePage, length, epoch uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.entries {
		if e := &c.entries[i]; e.id == id && e.generation == g {
			c.clock++
			e.used = c.clock
			return e.page, 0, c.epoch
		}
	}
	length, ok := c.lengths[g]
	if !ok {
		length = math.MaxUint64
	}
	return nil, length, c.epoch
}

// offer adds a page that a reader has loaded, unless it may be older than what is being or has been
// written since.
func (c *pageCache) offer(g uint32, id pageID, p *nodePage, epoch uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.writing && c.epoch == epoch {
		c.put(g, id, p)
	}
}

// begin starts the writing of pages, during which nothing is taken from readers.
func (c *pageCache) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writing = true
}

// publish ends the writing of the pages of a head of length blocks, whose newest generation is g.
func (c *pageCache) publish(pages []dirtyPage, g uint32, length uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writing = false
	c.epoch++
	if c.lengths == nil {
		c.lengths = make(map[uint32]uint64)
	}
	c.lengths[g] = length
	for i := range pages {
		c.put(pages[i].generation, pages[i].id, pages[i].page)
	}
}

// abandon ends a writing that has failed.
func (c *pageCache) abandon() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writing = false
	c.epoch++
}

// retire says that a generation is not written any more.
func (c *pageCache) retire(g uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.lengths, g)
}

func (c *pageCache) put(g uint32, id pageID, p *nodePage) {
	c.clock++
	oldest := -1
	for i := range c.entries {
		e := &c.entries[i]
		if e.id == id && e.generation == g {
			e.page, e.used = p, c.clock
			return
		}
		if oldest < 0 || e.used < c.entries[oldest].used {
			oldest = i
		}
	}
	if len(c.entries) < c.limit {
		c.entries = append(c.entries, cachedPage{g, id, c.clock, p})
	} else {
		c.entries[oldest] = cachedPage{g, id, c.clock, p}
	}
}
