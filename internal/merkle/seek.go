package merkle

import (
	"context"
	"fmt"

	"github.com/p2pcore/p2pcore/internal/flattree"
)

// Place is where a byte offset lies, or what has to be fetched to find out.
type Place struct {
	// Found: the byte is at Offset of Block. A position at the very end is offset 0 of the block past
	// the end.
	Found         bool
	Block, Offset uint64
	// Beyond: the byte is past the end of the tree; it takes an upgrade to know more.
	Beyond bool
	// Window, if neither: the byte is in one of these blocks. A hash request for the leaf of any of
	// them with this number of Nodes, and the seek, brings what the next step needs.
	Window Range
	Nodes  uint64
}

// Seek finds the block in which byte number bytes of the feed lies (formats.md 11.4). Of each block,
// padding bytes do not count. Blocks without bytes are passed over, except block 0 for byte 0. r is
// called once per level.
//
// The result is only as good as the sizes that r gives; see the package comment. The error is
// ErrInvalidRequest if a node has fewer bytes than its padding, else that of r.
func (t *Tree) Seek(ctx context.Context, r NodeReader, bytes, padding uint64) (Place, error) {
	if bytes == 0 {
		return Place{Found: true}, nil
	}
	s := search{reader: r, tree: t, padding: padding}
	for _, root := range t.roots {
		size, err := s.size(root)
		if err != nil {
			return Place{}, err
		}
		if bytes > size {
			bytes -= size
			continue
		}
		at, rest, known := root.Index, uint64(0), true
		if bytes < size {
			if at, rest, known, err = s.descend(ctx, root.Index, bytes); err != nil {
				return Place{}, err
			}
		}
		start, end := at.Blocks()
		switch {
		case !known:
			return Place{Window: Range{start, end}, Nodes: uint64(at.Depth())}, nil
		case rest == 0:
			return Place{Found: true, Block: end}, nil
		}
		return Place{Found: true, Block: start, Offset: rest}, nil
	}
	return Place{Beyond: true}, nil
}

// search looks for a byte offset in the tree. It reads as it goes.
type search struct {
	reader  NodeReader
	tree    *Tree
	padding uint64
}

// size is the number of bytes below a node that count.
func (s *search) size(n Node) (uint64, error) {
	leaves := n.Index.Leaves()
	if s.padding > 0 && n.Size/leaves < s.padding {
		return 0, fmt.Errorf("%w: padding %d of %d bytes in %d blocks", ErrInvalidRequest, s.padding, n.Size, leaves)
	}
	return n.Size - s.padding*leaves, nil
}

// read returns nodes that must be stored.
func (s *search) read(ctx context.Context, at []flattree.Index) ([]Node, error) {
	nodes := make([]Node, len(at))
	if err := readNodes(ctx, s.reader, at, nodes); err != nil {
		return nil, err
	}
	for i := range nodes {
		if nodes[i].Missing() {
			return nil, fmt.Errorf("%w: %d", ErrMissingNode, at[i])
		}
	}
	return nodes, nil
}

// descend goes down from a node that has more than bytes, which is not 0. It ends, with known set, at
// the largest node on its way that ends where bytes do (rest is 0) or at a leaf (rest of the bytes
// lie in it); else at the node whose children are not stored.
func (s *search) descend(ctx context.Context, from flattree.Index, bytes uint64) (at flattree.Index, rest uint64, known bool, err error) {
	var node [1]Node
	for at = from; ; {
		left, right, ok := at.Children()
		if !ok {
			return at, bytes, true, nil
		}
		ask := [1]flattree.Index{left}
		if err := readNodes(ctx, s.reader, ask[:], node[:]); err != nil {
			return at, 0, false, err
		}
		if node[0].Missing() {
			return at, bytes, false, nil
		}
		size, err := s.size(node[0])
		switch {
		case err != nil:
			return at, 0, false, err
		case size == bytes:
			return left, 0, true, nil
		case size > bytes:
			at = left
		default:
			bytes -= size
			at = right
		}
	}
}

// fromRoots finds the node at which a seek in the tree of the first length blocks ends. There is none
// past its end.
func (s *search) fromRoots(ctx context.Context, length, bytes uint64) (at flattree.Index, ok bool, err error) {
	indexes := flattree.AppendRoots(nil, length)
	roots, err := s.read(ctx, indexes)
	if err != nil {
		return 0, false, err
	}
	for _, root := range roots {
		size, err := s.size(root)
		if err != nil {
			return 0, false, err
		}
		switch {
		case size == bytes, bytes == 0:
			return root.Index, true, nil
		case size > bytes:
			at, _, _, err := s.descend(ctx, root.Index, bytes)
			return at, true, err
		}
		bytes -= size
	}
	return 0, false, nil
}

// below finds the node at which a seek ends that must lie below a node of the tree.
func (s *search) below(ctx context.Context, node flattree.Index, bytes uint64) (flattree.Index, error) {
	// What lies left of the node: the roots before its own, and the left siblings on the way up.
	top := s.tree.rootAbove(node)
	indexes := []flattree.Index{node}
	for _, root := range s.tree.roots {
		if root.Index < top {
			indexes = append(indexes, root.Index)
		}
	}
	for at := node; at != top; at = at.Parent() {
		if !at.IsLeft() {
			indexes = append(indexes, at.Sibling())
		}
	}
	nodes, err := s.read(ctx, indexes)
	if err != nil {
		return 0, err
	}
	for _, n := range nodes[1:] {
		size, err := s.size(n)
		if err != nil {
			return 0, err
		}
		if size > bytes {
			return 0, fmt.Errorf("%w: seek ends before node %d", ErrInvalidRequest, node)
		}
		bytes -= size
	}
	size, err := s.size(nodes[0])
	switch {
	case err != nil:
		return 0, err
	case bytes == 0:
		return node, nil
	case size <= bytes:
		return 0, fmt.Errorf("%w: seek ends past node %d", ErrInvalidRequest, node)
	}
	at, _, _, err := s.descend(ctx, node, bytes)
	return at, err
}

// BytesBefore returns how many bytes lie before a block of the tree, and how many are in it. All nodes
// that this takes are stored where the block is. r is called once. The error is ErrInvalidRequest past
// the end, ErrMissingNode, or that of r.
func (t *Tree) BytesBefore(ctx context.Context, r NodeReader, block uint64) (before, size uint64, err error) {
	if block >= t.head.Length {
		return 0, 0, fmt.Errorf("%w: block %d of %d", ErrInvalidRequest, block, t.head.Length)
	}
	leaf := flattree.Leaf(block)
	top := t.rootAbove(leaf)
	indexes := []flattree.Index{leaf}
	for at := leaf; at != top; at = at.Parent() {
		if !at.IsLeft() {
			indexes = append(indexes, at.Sibling())
		}
	}
	for _, root := range t.roots {
		if root.Index < top {
			before += root.Size
		}
	}
	s := search{reader: r, tree: t}
	nodes, err := s.read(ctx, indexes)
	if err != nil {
		return 0, 0, err
	}
	for _, n := range nodes[1:] {
		before += n.Size
	}
	return before, nodes[0].Size, nil
}
