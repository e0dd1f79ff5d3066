package merkle

import (
	"context"
	"fmt"
	"slices"

	"github.com/p2pcore/p2pcore/internal/flattree"
)

// Tree is one state of a feed: its roots, its fork, and the head that follows from them. It never
// changes; it is safe for concurrent use. A changed tree comes from a Batch.
type Tree struct {
	head     Head
	roots    []Node
	prologue *Prologue
}

// NewTree returns the tree with these roots, left to right; none is the empty tree. The slice is
// copied. The error is ErrInvalidRoots if they are not the full roots of one tree or a hash is
// missing, ErrTooLarge past MaxLength or MaxSize.
func NewTree(fork uint64, roots []Node) (*Tree, error) {
	var length, size uint64
	for i, n := range roots {
		if n.Index > maxIndex || n.Missing() {
			return nil, fmt.Errorf("%w: root %d", ErrInvalidRoots, n.Index)
		}
		start, end := n.Index.Blocks()
		if start != length || i > 0 && roots[i-1].Index.Depth() <= n.Index.Depth() {
			return nil, fmt.Errorf("%w: root %d after %d blocks", ErrInvalidRoots, n.Index, length)
		}
		if n.Size > MaxSize-size || end > MaxLength {
			return nil, ErrTooLarge
		}
		length = end
		size += n.Size
	}
	return newTree(fork, slices.Clone(roots), length, size, nil), nil
}

// maxIndex is the largest index of a node in a tree of MaxLength blocks.
const maxIndex = flattree.Index(2*MaxLength - 2)

func newTree(fork uint64, roots []Node, length, size uint64, p *Prologue) *Tree {
	return &Tree{
		head:     Head{Fork: fork, Length: length, ByteLength: size, Hash: TreeHash(roots)},
		roots:    roots,
		prologue: p,
	}
}

// ReadTree returns the tree of length blocks whose roots are stored, with one call of r. The error is
// ErrMissingNode if one of them is not stored, ErrInvalidRequest if length is past MaxLength, else
// that of NewTree or r.
func ReadTree(ctx context.Context, r NodeReader, fork, length uint64) (*Tree, error) {
	if length > MaxLength {
		return nil, fmt.Errorf("%w: length %d", ErrInvalidRequest, length)
	}
	at := flattree.AppendRoots(nil, length)
	roots := make([]Node, len(at))
	if err := readNodes(ctx, r, at, roots); err != nil {
		return nil, err
	}
	for i := range roots {
		if roots[i].Missing() {
			return nil, fmt.Errorf("%w: root %d", ErrMissingNode, at[i])
		}
	}
	return NewTree(fork, roots)
}

// WithPrologue returns the same tree under the rules of a prologue: Prove widens upgrades that start
// below it, Verify refuses upgrades that contradict it. nil takes the rules away.
func (t *Tree) WithPrologue(p *Prologue) *Tree {
	c := *t
	c.prologue = p
	return &c
}

// Head returns fork, length, byte length and tree hash.
func (t *Tree) Head() Head { return t.head }

// Fork returns the number that counts the rewrites of the feed.
func (t *Tree) Fork() uint64 { return t.head.Fork }

// Length returns the number of blocks.
func (t *Tree) Length() uint64 { return t.head.Length }

// ByteLength returns the number of bytes of all blocks.
func (t *Tree) ByteLength() uint64 { return t.head.ByteLength }

// Roots returns the roots, left to right. The slice is the tree's: it must not be changed.
func (t *Tree) Roots() []Node { return t.roots }

// Extend returns the tree that is longer by blocks, whose missing nodes come from find. They are
// looked up in the order in which an upgrade proof lists them. This is how a signature over a longer
// tree than the feed's is checked (formats.md 4.5), so the nodes may come from a peer: at most two
// per level are asked for, whatever blocks is.
//
// The error is ErrMissingNode if find does not have one, ErrInvalidProof if one of them is not usable
// or the tree gets too large, ErrInvalidOperation if blocks is 0.
func (t *Tree) Extend(blocks uint64, find func(flattree.Index) (Node, bool)) (*Tree, error) {
	if blocks == 0 || blocks > MaxLength-t.head.Length {
		return nil, fmt.Errorf("%w: extension by %d blocks", ErrInvalidOperation, blocks)
	}
	b := t.NewBatch()
	take := func(at flattree.Index) (top, error) {
		n, ok := find(at)
		if !ok {
			return top{}, fmt.Errorf("%w: %d", ErrMissingNode, at)
		}
		return top{n, true}, checkNode(n, at)
	}
	if err := b.grow(t.head.Length+blocks, take); err != nil {
		return nil, err
	}
	return b.Tree(), nil
}

// rootAbove returns the root that holds the node at i, which must be inside the tree.
func (t *Tree) rootAbove(i flattree.Index) flattree.Index {
	for j := range t.roots {
		if at := t.roots[j].Index; at.Contains(i) {
			return at
		}
	}
	panic(fmt.Sprintf("merkle: node %d is not below a root of length %d", i, t.head.Length))
}

// contains reports whether the whole subtree of i lies inside the tree.
func (t *Tree) contains(i flattree.Index) bool {
	if i > maxIndex {
		return false
	}
	_, end := i.Blocks()
	return end <= t.head.Length
}

func readNodes(ctx context.Context, r NodeReader, at []flattree.Index, dst []Node) error {
	if len(at) == 0 {
		return nil
	}
	if err := r.ReadNodes(ctx, at, dst); err != nil {
		return fmt.Errorf("read %d nodes: %w", len(at), err)
	}
	return nil
}
