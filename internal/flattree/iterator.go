package flattree

// Iterator walks over the nodes of a tree. The zero value stands on leaf 0.
// The tree has no right end; at the left end the iterator stays where it is.
type Iterator struct {
	at Index
}

// NewIterator returns an iterator that stands on i.
func NewIterator(i Index) Iterator { return Iterator{at: i} }

// Index returns the node on which the iterator stands.
func (it *Iterator) Index() Index { return it.at }

// Factor returns the distance to the next node of the same depth: twice the
// number of blocks below the current one.
func (it *Iterator) Factor() uint64 { return 2 << it.at.Depth() }

// Seek moves to i.
func (it *Iterator) Seek(i Index) Index { return it.move(i) }

// Parent moves one level up.
func (it *Iterator) Parent() Index { return it.move(it.at.Parent()) }

// Sibling moves to the other child of the parent.
func (it *Iterator) Sibling() Index { return it.move(it.at.Sibling()) }

// LeftChild moves one level down to the left; a leaf stays.
func (it *Iterator) LeftChild() Index {
	if left, _, ok := it.at.Children(); ok {
		it.at = left
	}
	return it.at
}

// RightChild moves one level down to the right; a leaf stays.
func (it *Iterator) RightChild() Index {
	if _, right, ok := it.at.Children(); ok {
		it.at = right
	}
	return it.at
}

// LeftSpan moves to the first leaf below the current node.
func (it *Iterator) LeftSpan() Index {
	first, _ := it.at.Span()
	return it.move(first)
}

// RightSpan moves to the last leaf below the current node.
func (it *Iterator) RightSpan() Index {
	_, last := it.at.Span()
	return it.move(last)
}

// Next moves one node to the right at the same depth.
func (it *Iterator) Next() Index { return it.move(it.at + Index(it.Factor())) }

// Prev moves one node to the left at the same depth; the first one stays.
func (it *Iterator) Prev() Index {
	if it.at.Offset() == 0 {
		return it.at
	}
	return it.move(it.at - Index(it.Factor()))
}

// NextTree moves to the leaf right after the subtree of the current node.
func (it *Iterator) NextTree() Index { return it.move(it.at.NextLeaf()) }

// PrevTree moves to the leaf right before the subtree of the current node, or
// to leaf 0 if there is none.
func (it *Iterator) PrevTree() Index {
	first, _ := it.at.Span()
	if first == 0 {
		return it.move(0)
	}
	return it.move(first - 2)
}

// FullRoot climbs from a leaf to the largest subtree that starts with it and
// lies within a tree of length blocks. It returns false and stays if the
// current node is no leaf or lies past the end. Calling FullRoot and NextTree
// in turn, from leaf 0, visits the roots of the tree.
func (it *Iterator) FullRoot(length uint64) bool {
	start, _ := it.at.Blocks()
	if it.at.Depth() != 0 || start >= length {
		return false
	}
	it.at = largestAt(start, length)
	return true
}

func (it *Iterator) move(to Index) Index {
	it.at = to
	return to
}
