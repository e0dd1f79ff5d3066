package feed

import (
	"context"
	"slices"
	"sync/atomic"

	"github.com/p2pcore/p2pcore/internal/bitfield"
	"github.com/p2pcore/p2pcore/internal/flattree"
	"github.com/p2pcore/p2pcore/internal/merkle"
)

// A line is a history that goes its own way beside that of the feed: a snapshot, which stands still; a
// branch, which writes generations of its own; or the feed as an atom is going to make it, in memory.
//
//	feed     0 ─────────── shared ─── a ─── b ───▶
//	line                       └── x ─── y
//
// What lies below shared is the feed's, also what comes into it later; a truncation of the feed lowers
// shared, and what the feed gives up is then the line's own. Nothing that a line can read is deleted.
type line struct {
	// set once
	name   string // of a branch; else empty
	frozen bool   // a snapshot
	mem    *memory

	// under the feed's mu; written only by who has the turn as well
	tree   *merkle.Tree
	head   *headRecord // its contiguous length and signature mean nothing; generations are stored under, below shared too
	shared uint64
	bits   bitfield.Bitfield // from shared on: what is stored. Below: what the feed has cleared and a snapshot still has
	users  int               // open sessions
	gone   bool              // deleted, or overwritten by another branch of its name
}

// view reads nodes as one state of the feed, or of a line, has them. It is a merkle.NodeReader.
type view struct {
	s           *storage
	fork        uint64
	length      uint64
	roots       []Node
	generations generations

	// of a line
	shared uint64      // pages below are read in the generations of the feed
	feed   generations // nil: this is the feed itself
	mem    *memory     // nil: none
}

// generationOf returns under which generation the page is stored.
func (v *view) generationOf(id pageID) uint32 {
	if v.feed != nil {
		if _, end := id.blocks(); end <= v.shared {
			return v.feed.ofPage(id)
		}
	}
	return v.generations.ofPage(id)
}

func (v *view) loadPage(ctx context.Context, id pageID) (*nodePage, error) {
	return v.s.loadPage(ctx, v.generationOf(id), id)
}

// ReadNodes implements merkle.NodeReader.
func (v view) ReadNodes(ctx context.Context, at []flattree.Index, dst []Node) error {
	var last pageID
	var page *nodePage
	for i, index := range at {
		dst[i] = Node{Index: index}
		if uint64(index) >= 2*maxLength {
			continue
		}
		_, end := index.Blocks()
		if end > v.length {
			continue
		}
		if index.IsRoot(v.length) {
			r := slices.IndexFunc(v.roots, func(n Node) bool { return n.Index == index })
			dst[i] = v.roots[r]
			continue
		}
		if v.mem != nil {
			if n, ok := v.mem.node(index); ok {
				dst[i] = n
				continue
			}
		}
		id, slot := locate(index)
		if page == nil || id != last {
			var err error
			if page, err = v.loadPage(ctx, id); err != nil {
				return err
			}
			last = id
		}
		if page.has(slot) {
			dst[i].Size, dst[i].Hash = page.size[slot], page.hash[slot]
			continue
		}
		if v.feed == nil || end > v.shared {
			continue
		}
		// The page reaches across the border, and the node came to the feed after the line had left it.
		p, err := v.s.loadPage(ctx, v.feed.ofPage(id), id)
		if err != nil {
			return err
		}
		if p.has(slot) {
			dst[i].Size, dst[i].Hash = p.size[slot], p.hash[slot]
		}
	}
	return nil
}

// An epoch counts the calls that read a state of the feed. What is garbage since a later state is
// deleted only when nobody reads the earlier ones any more.
type epoch struct{ readers atomic.Int64 }

func (e *epoch) leave() { e.readers.Add(-1) }

// reading is a state of the feed or of a line that stays readable until leave is called.
type reading struct {
	*epoch
	view view
	tree *merkle.Tree
	line *line // nil: the feed itself
}

// read begins the reading of l, or of the feed itself if l is nil.
func (f *Feed) read(l *line) reading {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.readLocked(l)
}

func (f *Feed) readLocked(l *line) reading {
	f.epoch.readers.Add(1)
	if l == nil {
		return reading{f.epoch, f.viewLocked(), f.tree, nil}
	}
	return reading{f.epoch, f.lineViewLocked(l), l.tree, l}
}

func (f *Feed) viewLocked() view {
	return view{s: f.storage, fork: f.head.fork, length: f.head.length, roots: f.head.roots, generations: f.head.generations}
}

func (f *Feed) lineViewLocked(l *line) view {
	return view{
		s: f.storage, fork: l.head.fork, length: l.head.length, roots: l.head.roots, generations: l.head.generations,
		shared: l.shared, feed: f.head.generations, mem: l.mem,
	}
}

// whereLocked returns under which generation block index is stored for l, which may be nil; has is false if it is not.
// A block of an atom is returned itself.
func (f *Feed) whereLocked(l *line, index uint64) (g uint32, has bool, block []byte) {
	switch {
	case l == nil || index < l.shared && f.bits.Has(index):
		return f.head.generations.of(index), f.bits.Has(index), nil
	case !l.bits.Has(index):
		return 0, false, nil
	}
	if l.mem != nil && index >= l.shared {
		if b, ok := l.mem.block(index); ok {
			return 0, true, b
		}
	}
	return l.head.generations.of(index), true, nil
}

// hasRangeLocked reports whether all blocks of r are stored for l, which may be nil.
func (f *Feed) hasRangeLocked(l *line, r Range) bool {
	if l == nil {
		return f.bits.HasRange(r.Start, r.End)
	}
	return f.firstMissingLocked(l, r.Start) >= r.End
}

func (f *Feed) firstMissingLocked(l *line, start uint64) uint64 {
	if l == nil {
		return f.bits.FirstUnset(start)
	}
	for {
		at := start
		if start < l.shared {
			start = min(f.bits.FirstUnset(start), l.shared)
		}
		start = l.bits.FirstUnset(start)
		if start == at {
			return start
		}
	}
}

// leaving returns what l, whose shared part ends past keep, has of its own after a truncation of the feed to keep.
func (f *Feed) leaving(l *line, keep uint64) (bits *bitfield.Bitfield) {
	bits = l.bits.Clone()
	for start, end := range f.bits.Ranges(keep, l.shared) {
		bits.SetRange(start, end, true)
	}
	return bits
}
