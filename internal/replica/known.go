package replica

import (
	"github.com/p2pcore/p2pcore/internal/bitfield"
	"github.com/p2pcore/p2pcore/internal/merkle"
)

// known is what a remote is known to hold: the blocks below contig, and those in bits. The two are
// kept apart: range(0, n) moves contig and sets no bit, so that a drop inside the contiguous part
// forgets all of it from there on. The sender counts on exactly that.
type known struct {
	contig uint64
	bits   bitfield.Bitfield
}

func (k *known) has(i uint64) bool { return i < k.contig || k.bits.Has(i) }

func (k *known) hasRange(start, end uint64) bool {
	return k.bits.HasRange(max(start, k.contig), end)
}

// first returns the first block in [start, end) that the remote holds.
func (k *known) first(start, end uint64) (uint64, bool) {
	if start < k.contig {
		return start, start < end
	}
	i, ok := k.bits.FirstSet(start)
	return i, ok && i < end
}

// end returns the end of the run of blocks from i on that the remote holds; i if it does not hold that.
func (k *known) end(i uint64) uint64 { return k.bits.FirstUnset(max(i, k.contig)) }

// add notes a range, and returns the part that may be news.
func (k *known) add(r merkle.Range) merkle.Range {
	if r.Start > 0 {
		k.makeRoom(bitfield.MaxGrowth)
		k.bits.SetRange(r.Start, r.End, true)
		return r
	}
	old := k.contig
	k.contig = max(old, r.End)
	return merkle.Range{Start: old, End: k.contig}
}

// drop notes a drop, and returns what was known through contig alone and is forgotten.
func (k *known) drop(r merkle.Range) merkle.Range {
	k.makeRoom(bitfield.MaxGrowth) // a hole in a run that cost nothing is a page
	k.bits.SetRange(r.Start, r.End, false)
	return k.lower(r.Start)
}

// overwrite notes a bitfield from start on, a multiple of 32, and returns what is forgotten.
func (k *known) overwrite(start uint64, words []uint32) merkle.Range {
	k.makeRoom((len(words)/1024 + 2) * bitfield.MaxGrowth)
	k.bits.SetWords(start, words)
	return k.lower(start)
}

func (k *known) lower(to uint64) (lost merkle.Range) {
	if to >= k.contig {
		return merkle.Range{}
	}
	lost = merkle.Range{Start: to, End: k.contig}
	k.contig = to
	return lost
}

// makeRoom forgets all bits rather than grow past the bound. An honest remote, asked for
// maxWantPages pages, stays below it.
func (k *known) makeRoom(n int) {
	if k.bits.Size()+n > maxKnownBytes {
		k.bits = bitfield.Bitfield{}
	}
}

// clip forgets everything from length on.
func (k *known) clip(length uint64) {
	k.contig = min(k.contig, length)
	k.bits.SetRange(length, bitfield.MaxIndex, false)
}

// words returns the bits of [start, end), start a multiple of 32, in the form of
// bitfield.AppendWords.
func (k *known) words(dst []uint32, start, end uint64) []uint32 {
	dst = k.bits.AppendWords(dst[:0], start, end)
	if k.contig <= start {
		return dst
	}
	n := min(k.contig, end) - start
	for i := range dst[:n/32] {
		dst[i] = ^uint32(0)
	}
	if n%32 != 0 {
		dst[n/32] |= 1<<(n%32) - 1
	}
	return dst
}
