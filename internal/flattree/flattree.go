// Package flattree numbers the nodes of a binary tree in one list: block i is
// the leaf 2i, and a parent stands between its children.
//
//	3         7
//	2    3         11
//	1  1   5     9    13
//	0 0 2 4 6   8 10 12 14
//
// A node of depth d covers 2^d blocks; its number ends in a zero bit followed
// by d one bits, so every function is a few bit operations. The numbering is
// the bin numbering of the PPSPP protocol (RFC 7574, section 4.2), which
// Hypercore uses under the name flat tree.
//
// Block indexes and tree indexes differ by a factor of two and are not
// interchangeable, which is why [Index] is a type. Functions are exact for
// block indexes and lengths up to 2^62; past that results wrap around, and no
// argument makes them panic.
package flattree

import "math/bits"

// Index is the position of a node in the flat list. Leaves are even.
type Index uint64

// Leaf returns the tree index of a block.
func Leaf(block uint64) Index { return Index(block * 2) }

// At returns the node at the given depth and offset; the opposite of
// [Index.Depth] and [Index.Offset].
func At(depth uint, offset uint64) Index {
	return Index((2*offset+1)<<depth - 1)
}

// Depth returns the distance from the leaves: 0 for a leaf.
func (i Index) Depth() uint { return uint(bits.TrailingZeros64(^uint64(i))) }

// Offset returns the position among the nodes of the same depth, from 0.
func (i Index) Offset() uint64 { return uint64(i) >> (i.Depth() + 1) }

// Parent returns the node one level up whose subtree holds i.
func (i Index) Parent() Index {
	d := i.Depth()
	return (i | 1<<d) &^ (1 << (d + 1))
}

// Sibling returns the other child of the parent of i.
func (i Index) Sibling() Index { return i ^ 2<<i.Depth() }

// IsLeft reports whether i is the left child of its parent.
func (i Index) IsLeft() bool { return i&(2<<i.Depth()) == 0 }

// Children returns the two nodes below i. ok is false for a leaf, which has
// none.
func (i Index) Children() (left, right Index, ok bool) {
	d := i.Depth()
	if d == 0 {
		return 0, 0, false
	}
	return i &^ (1 << (d - 1)), i ^ 3<<(d-1), true
}

// Span returns the outermost leaves below i, both included. A leaf spans
// itself.
func (i Index) Span() (first, last Index) {
	reach := Index(1)<<i.Depth() - 1
	return i - reach, i + reach
}

// Blocks returns the block indexes below i as a half-open range [start, end).
func (i Index) Blocks() (start, end uint64) {
	first, last := i.Span()
	return uint64(first) / 2, uint64(last)/2 + 1
}

// Leaves returns how many blocks are below i, at least 1.
func (i Index) Leaves() uint64 { return 1 << i.Depth() }

// Count returns how many nodes the subtree of i has, i included.
func (i Index) Count() uint64 { return 2<<i.Depth() - 1 }

// NextLeaf returns the first leaf to the right of the whole subtree of i.
func (i Index) NextLeaf() Index {
	_, last := i.Span()
	return last + 2
}

// Contains reports whether j is i or a node below it.
func (i Index) Contains(j Index) bool {
	first, last := i.Span()
	return first <= j && j <= last
}

// IsRoot reports whether i is one of the roots of a tree of length blocks, as
// listed by [AppendRoots].
func (i Index) IsRoot(length uint64) bool {
	// The roots are the set bits of the length, largest first: the root of
	// depth d starts where the bits above d end.
	d := i.Depth()
	start, _ := i.Blocks()
	return length>>d&1 == 1 && start == length>>d&^1<<d
}
