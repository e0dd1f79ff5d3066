package flattree

import "math/bits"

// AppendRoots appends, left to right, the roots of a tree of length blocks to
// dst: the largest full subtrees that together cover blocks 0 to length-1.
// There is one per set bit of length, so at most 64 and none for length 0.
func AppendRoots(dst []Index, length uint64) []Index {
	start := uint64(0)
	for rest := length; rest != 0; {
		d := uint(bits.Len64(rest) - 1)
		dst = append(dst, At(d, start>>d))
		start += 1 << d
		rest &^= 1 << d
	}
	return dst
}

// AppendFutureRoots appends the nodes that are not in a tree of length blocks
// yet, but have a root of it as their left child and another block of it below
// their right one. They are the parents of all roots but the last.
func AppendFutureRoots(dst []Index, length uint64) []Index {
	from := len(dst)
	dst = AppendRoots(dst, length)
	if len(dst) == from {
		return dst
	}
	dst = dst[:len(dst)-1]
	for i := from; i < len(dst); i++ {
		dst[i] = dst[i].Parent()
	}
	return dst
}

// AppendPatch appends the nodes that lead from a tree of from blocks to one of
// to blocks: while the last root grows, each new sibling on its right and the
// parent it makes, then the roots of to that lie further right. It appends
// nothing if from is 0 or not below to.
func AppendPatch(dst []Index, from, to uint64) []Index {
	if from == 0 || from >= to {
		return dst
	}
	// The last root ends at the last block of from and is the lowest set bit.
	d := uint(bits.TrailingZeros64(from))
	node := At(d, (from-1)>>d)
	for {
		parent := node.Parent()
		if _, end := parent.Blocks(); end > to {
			break
		}
		if node.IsLeft() {
			dst = append(dst, node.Sibling())
		}
		dst = append(dst, parent)
		node = parent
	}
	_, start := node.Blocks()
	for start < to {
		root := largestAt(start, to)
		dst = append(dst, root)
		_, start = root.Blocks()
	}
	return dst
}

// largestAt returns the largest full subtree that starts at block start and
// ends at or before block end. start is below end.
func largestAt(start, end uint64) Index {
	d := uint(bits.Len64(end-start) - 1)
	if align := uint(bits.TrailingZeros64(start)); align < d {
		d = align
	}
	return At(d, start>>d)
}
