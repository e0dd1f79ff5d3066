package merkle

import (
	"fmt"
	"slices"

	"github.com/p2pcore/p2pcore/internal/flattree"
)

// Batch is a change of a tree in the making: blocks that are appended, or proofs that are verified.
// It remembers the head that it was made from; whoever commits it checks that this head still
// stands. It is not safe for concurrent use.
type Batch struct {
	base   *Tree
	roots  []Node
	raw    uint64 // bit i: roots[i] came from a peer as it is, and nothing has vouched for its size yet
	length uint64
	size   uint64

	nodes     []Node
	unproven  []Node
	signature []byte

	hash   Hash // of roots, if hashed
	hashed bool

	verify scratch
}

// NewBatch returns a batch without changes.
func (t *Tree) NewBatch() *Batch {
	return &Batch{
		base:   t,
		roots:  append(make([]Node, 0, len(t.roots)+4), t.roots...),
		length: t.head.Length,
		size:   t.head.ByteLength,
		hash:   t.head.Hash,
		hashed: true,
	}
}

// Base returns the head that the batch was made from.
func (b *Batch) Base() Head { return b.base.head }

// Head returns the head as it is with the changes so far.
func (b *Batch) Head() Head {
	if !b.hashed {
		b.hash, b.hashed = TreeHash(b.roots), true
	}
	return Head{Fork: b.base.head.Fork, Length: b.length, ByteLength: b.size, Hash: b.hash}
}

// Roots returns the roots with the changes so far. The slice is the batch's.
func (b *Batch) Roots() []Node { return b.roots }

// Nodes returns the nodes that the changes so far brought, to be stored with them. An index may occur
// twice; the later one counts. Their sizes are true (see the package comment). The slice is the batch's.
func (b *Batch) Nodes() []Node { return b.nodes }

// Unproven returns the nodes that proofs brought besides, of which the hash is true and the size what the
// peer says. The slice is the batch's.
func (b *Batch) Unproven() []Node { return b.unproven }

// Upgraded reports whether the tree is longer than the one that the batch was made from.
func (b *Batch) Upgraded() bool { return b.length > b.base.head.Length }

// Signature returns the signature of the last verified upgrade: that of Head, unless blocks have been
// appended after it. It is nil if there was none.
func (b *Batch) Signature() []byte { return b.signature }

// Tree returns the tree with the changes so far, independent of the batch.
func (b *Batch) Tree() *Tree {
	return &Tree{head: b.Head(), roots: slices.Clone(b.roots), prologue: b.base.prologue}
}

// Grow makes room for appending blocks without further allocations.
func (b *Batch) Grow(blocks int) {
	b.nodes = slices.Grow(b.nodes, 2*blocks+len(b.roots))
}

// Append adds a block at the end. The data is hashed, not kept. The error is ErrTooLarge past
// MaxLength or MaxSize; the batch is then as before.
func (b *Batch) Append(block []byte) error {
	return b.AppendLeaf(LeafNode(b.length, block))
}

// AppendLeaf adds a block whose leaf is known. The leaf must be that of the next block; the errors are
// those of Append.
func (b *Batch) AppendLeaf(leaf Node) error {
	if leaf.Index != flattree.Leaf(b.length) {
		panic(fmt.Sprintf("merkle: leaf %d appended at length %d", leaf.Index, b.length))
	}
	return b.push(leaf, false)
}

// push adds a subtree that starts right behind the last block and merges what has become complete. It is
// raw if its node was not computed but came from a peer. All that is checked is checked before the first
// change.
func (b *Batch) push(n Node, raw bool) error {
	leaves := n.Index.Leaves()
	if leaves > MaxLength-b.length || n.Size > MaxSize-b.size {
		return ErrTooLarge
	}
	b.hashed = false
	b.length += leaves
	b.size += n.Size
	b.nodes = append(b.nodes, n)
	// The root on the left is the sibling exactly while the subtree is a right child.
	for !n.Index.IsLeft() {
		last := len(b.roots) - 1
		if raw && b.raw>>last&1 == 1 {
			b.doubt(b.roots[last], n)
		}
		raw = false
		n = ParentNode(b.roots[last], n)
		b.roots = b.roots[:last]
		b.raw &= 1<<last - 1
		b.nodes = append(b.nodes, n)
	}
	if raw {
		b.raw |= 1 << len(b.roots)
	}
	b.roots = append(b.roots, n)
	return nil
}

// doubt takes the children of a node back that both came from a peer: the last node and one before it.
func (b *Batch) doubt(left, right Node) {
	b.nodes = b.nodes[:len(b.nodes)-1]
	for i := len(b.nodes) - 1; i >= 0; i-- {
		if b.nodes[i] == left {
			b.nodes = slices.Delete(b.nodes, i, i+1)
			break
		}
	}
	b.unproven = append(b.unproven, left, right)
}
