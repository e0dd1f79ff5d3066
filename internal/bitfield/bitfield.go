// Package bitfield holds sparse sets of block indexes: the blocks that a feed
// has stored, and those that a peer says it has.
//
// The set is cut in pages of 32,768 bits, Hypercore's own page size. Only pages
// that are partly set have memory of their own; pages without a bit cost
// nothing, and any run of full pages is one entry, however long. So the cost is
// that of the borders between what is set and what is not:
//
//	0        1        2        3        4
//	|1111111111111111111111111|11  1  1 |        |   …
//	 run of 3 full pages       page      nothing
//
// A single call of SetRange adds at most two pages and three entries, also for
// a range of 2^53 blocks, and takes time only for what it replaces. A set that
// is written on behalf of a peer is bounded by asking for [Bitfield.Size]
// before each change.
package bitfield

import (
	"iter"
	"slices"
	"sort"
)

// PageBits is the number of bits of a page.
const PageBits = 1 << pageShift

// PageBytes is the number of bytes of a page, as [Bitfield.Page] returns it.
const PageBytes = PageBits / 8

// MaxIndex is the end of the indexes that a set can hold. Larger ones are never
// set, and a change of theirs does nothing. It is far above any block index.
const MaxIndex = 1 << 63

const (
	pageShift = 15
	pageMask  = PageBits - 1
)

// A Bitfield is a set of block indexes. The zero value is empty. It must not be
// copied; see Clone. It is not safe for concurrent use, but methods that change
// nothing may run at the same time.
type Bitfield struct {
	// In order, without overlap. Neighbouring runs of full pages are merged.
	segments []segment
	partial  int // number of segments with a page
}

// A segment is one page that is partly set, or a run of full pages.
type segment struct {
	first uint64 // page number
	n     uint64 // number of pages, at least 1; 1 if page is not nil
	page  *page  // nil: all bits are set
}

func (s *segment) end() uint64 { return s.first + s.n }

// Has reports whether index i is in the set.
func (f *Bitfield) Has(i uint64) bool {
	s := f.at(i >> pageShift)
	return s != nil && (s.page == nil || s.page.has(i&pageMask))
}

// HasRange reports whether all of [start, end) is in the set. It is true for an
// empty range.
func (f *Bitfield) HasRange(start, end uint64) bool {
	return start >= end || f.FirstUnset(start) >= end
}

// Set puts index i in the set or takes it out. It reports whether that changed
// anything.
func (f *Bitfield) Set(i uint64, v bool) bool {
	return i < MaxIndex && f.setWithin(i>>pageShift, i&pageMask, i&pageMask+1, v) > 0
}

// SetRange puts [start, end) in the set or takes it out, and returns how many
// indexes that changed.
func (f *Bitfield) SetRange(start, end uint64, v bool) (changed uint64) {
	end = min(end, MaxIndex)
	if start >= end {
		return 0
	}
	first, last := start>>pageShift, end>>pageShift // last is past the whole pages
	if first == last {
		return f.setWithin(first, start&pageMask, end&pageMask, v)
	}
	if start&pageMask != 0 {
		changed += f.setWithin(first, start&pageMask, PageBits, v)
		first++
	}
	if first < last && v {
		changed += f.fillPages(first, last)
	} else if first < last {
		changed += f.clearPages(first, last)
	}
	if end&pageMask != 0 {
		changed += f.setWithin(last, 0, end&pageMask, v)
	}
	return changed
}

// FirstUnset returns the smallest index at or after from that is not in the
// set.
func (f *Bitfield) FirstUnset(from uint64) uint64 {
	i := f.search(from >> pageShift)
	for ; i < len(f.segments); i++ {
		s := &f.segments[i]
		if from>>pageShift < s.first {
			break
		}
		if s.page != nil {
			if bit := s.page.firstUnset(from & pageMask); bit < PageBits {
				return s.first<<pageShift + bit
			}
		}
		from = s.end() << pageShift
	}
	return from
}

// FirstSet returns the smallest index at or after from that is in the set. ok
// is false if there is none.
func (f *Bitfield) FirstSet(from uint64) (index uint64, ok bool) {
	for i := f.search(from >> pageShift); i < len(f.segments); i++ {
		s := &f.segments[i]
		from = max(from, s.first<<pageShift)
		if s.page == nil {
			return from, true
		}
		if bit := s.page.firstSet(from & pageMask); bit < PageBits {
			return s.first<<pageShift + bit, true
		}
		from = s.end() << pageShift
	}
	return 0, false
}

// Ranges yields the maximal runs [start, end) of indexes in the set, in order,
// clipped to the given range. The set must not change meanwhile.
func (f *Bitfield) Ranges(start, end uint64) iter.Seq2[uint64, uint64] {
	return func(yield func(uint64, uint64) bool) {
		for at := start; at < end; {
			from, ok := f.FirstSet(at)
			if !ok || from >= end {
				return
			}
			at = min(f.FirstUnset(from), end)
			if !yield(from, at) {
				return
			}
		}
	}
}

// Count returns how many indexes of [start, end) are in the set.
func (f *Bitfield) Count(start, end uint64) (n uint64) {
	end = min(end, MaxIndex)
	if start >= end {
		return 0
	}
	for i := f.search(start >> pageShift); i < len(f.segments); i++ {
		s := &f.segments[i]
		from, to := max(start, s.first<<pageShift), min(end, s.end()<<pageShift)
		switch {
		case from >= to:
			return n
		case s.page == nil:
			n += to - from
		default:
			base := s.first << pageShift
			n += s.page.count(from-base, to-base)
		}
	}
	return n
}

// Clone returns a copy that shares nothing with f.
func (f *Bitfield) Clone() *Bitfield {
	c := &Bitfield{segments: slices.Clone(f.segments), partial: f.partial}
	for i := range c.segments {
		if p := c.segments[i].page; p != nil {
			c.segments[i].page = p.clone()
		}
	}
	return c
}

// Size returns the memory that the set takes, in bytes, up to rounding by the
// allocator. One call of SetRange adds at most [MaxGrowth].
func (f *Bitfield) Size() int {
	return len(f.segments)*segmentBytes + f.partial*pageMemory
}

// MaxGrowth is the most that one call of SetRange adds to the size of a set, in
// bytes: two pages and three entries. SetWords adds at most that for every
// started 1,024 words and once more.
const MaxGrowth = 2*pageMemory + 3*segmentBytes

const segmentBytes = 24

// search returns the position of the first segment that ends after page p.
func (f *Bitfield) search(p uint64) int {
	// Appending looks at the end.
	n := len(f.segments)
	if n == 0 || f.segments[n-1].end() <= p {
		return n
	}
	if n == 1 || f.segments[n-2].end() <= p {
		return n - 1
	}
	return sort.Search(n, func(i int) bool { return f.segments[i].end() > p })
}

// at returns the segment that holds page p, or nil if the page is empty.
func (f *Bitfield) at(p uint64) *segment {
	if i := f.search(p); i < len(f.segments) && f.segments[i].first <= p {
		return &f.segments[i]
	}
	return nil
}
