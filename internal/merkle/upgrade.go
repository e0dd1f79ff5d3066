package merkle

import (
	"fmt"

	"github.com/p2pcore/p2pcore/internal/flattree"
)

// queue hands out the nodes of one list of a proof in the order in which they are called for. One
// extra node, from another part of the proof, may be called for at any point.
type queue struct {
	nodes []Node
	extra *top
}

// top is the topmost node that a part of a proof leads to. It is raw if that part is this node alone, as
// the peer sent it; else it was computed.
type top struct {
	Node
	raw bool
}

func (q *queue) empty() bool { return len(q.nodes) == 0 && q.extra == nil }

// take returns the node at an index: the extra one if it is that, else the next of the list, which is raw.
func (q *queue) take(at flattree.Index) (top, error) {
	if q.extra != nil && q.extra.Index == at {
		n := *q.extra
		q.extra = nil
		return n, nil
	}
	if len(q.nodes) == 0 {
		return top{}, fmt.Errorf("%w: none is left for %d", ErrInvalidOperation, at)
	}
	n := q.nodes[0]
	if err := checkNode(n, at); err != nil {
		return top{}, err
	}
	q.nodes = q.nodes[1:]
	return top{n, true}, nil
}

// checkNode refuses a node of a peer that is not the one called for, or cannot be one of a tree.
func checkNode(n Node, at flattree.Index) error {
	if n.Index != at || n.Size > MaxSize || n.Missing() {
		return fmt.Errorf("%w: got %d of %d bytes for %d", ErrInvalidOperation, n.Index, n.Size, at)
	}
	return nil
}

// parent is ParentNode for nodes of a peer, whose sizes may add up to too much.
func parent(a, b Node) (Node, error) {
	if a.Size+b.Size > MaxSize { // both are at most MaxSize: no wrap
		return Node{}, fmt.Errorf("%w: %d and %d bytes", ErrInvalidOperation, a.Size, b.Size)
	}
	return ParentNode(a, b), nil
}

// applyUpgrade lengthens the tree by an upgrade of a proof, whose node root was computed from its
// other parts (nil if there are none). It reports whether the upgrade called for root. Nodes that are
// left over in the first list do no harm: what counts is the hash of the result, which the caller
// checks. On an error the batch is half changed.
//
// The upgrade may be from a shorter length than the own one, as that of a block which was sent unasked is, when
// another peer has been faster. What it lists of the own tree is passed over: of that tree
// nothing is given up, so whatever the rest leads to extends it.
func (b *Batch) applyUpgrade(u *UpgradeProof, root *top) (used bool, err error) {
	if u.Length == 0 || u.Start > MaxLength || u.Length > MaxLength-u.Start {
		return false, fmt.Errorf("%w: upgrade %d+%d", ErrInvalidOperation, u.Start, u.Length)
	}
	p := b.base.prologue
	if p != nil && u.Start < p.Length && (u.Start != 0 || u.Length < p.Length) {
		return false, fmt.Errorf("%w: upgrade %d+%d below length %d", ErrPrologue, u.Start, u.Length, p.Length)
	}
	if u.End() <= b.length {
		return false, nil
	}
	q := queue{nodes: b.without(u.Nodes), extra: root}
	if err := b.grow(u.Start+u.Length, q.take); err != nil {
		if u.Start != b.base.head.Length {
			return false, fmt.Errorf("%w: %w", ErrStale, err)
		}
		return false, err
	}
	if p != nil && b.length == p.Length && b.Head().Hash != p.Hash {
		return false, fmt.Errorf("%w: tree hash of length %d", ErrPrologue, p.Length)
	}
	for _, n := range u.Additional {
		if err := b.pushAdditional(n); err != nil {
			return false, err
		}
	}
	return q.extra == nil, nil
}

// without leaves out the nodes at the beginning of a list that lie below the own length.
func (b *Batch) without(nodes []Node) []Node {
	for len(nodes) > 0 && nodes[0].Index <= maxIndex {
		if _, end := nodes[0].Index.Blocks(); end > b.length {
			break
		}
		nodes = nodes[1:]
	}
	return nodes
}

// grow walks over the roots of a tree of length blocks and takes what the own tree lacks for them. If
// the own tree has these roots already, it takes nothing and stays as long as it is.
func (b *Batch) grow(length uint64, take func(flattree.Index) (top, error)) error {
	var buf [MaxDepth + 1]flattree.Index
	own := 0
	climb := len(b.roots) > 0
	for _, at := range flattree.AppendRoots(buf[:0], length) {
		if own < len(b.roots) && b.roots[own].Index == at {
			own++
			continue
		}
		if climb && own < len(b.roots) {
			// The first new root grows out of all own roots that are left over: climb from the last
			// one, taking siblings on the right. Those on the left are own roots.
			if !at.Contains(b.roots[len(b.roots)-1].Index) {
				return fmt.Errorf("%w: length %d does not extend %d", ErrInvalidOperation, length, b.length)
			}
			for last := b.roots[len(b.roots)-1].Index; last != at; last = b.roots[len(b.roots)-1].Index {
				if err := b.takeAndPush(last.Sibling(), take); err != nil {
					return err
				}
			}
			climb = false
			continue
		}
		climb = false
		if err := b.takeAndPush(at, take); err != nil {
			return err
		}
	}
	return nil
}

func (b *Batch) takeAndPush(at flattree.Index, take func(flattree.Index) (top, error)) error {
	n, err := take(at)
	if err != nil {
		return err
	}
	return b.pushProved(n)
}

// pushAdditional adds the next node behind the tree. It must be the sibling of the last root, or lie
// on the left edge of this sibling.
func (b *Batch) pushAdditional(n Node) error {
	if len(b.roots) == 0 {
		return fmt.Errorf("%w: nothing to extend by %d", ErrInvalidOperation, n.Index)
	}
	at := b.roots[len(b.roots)-1].Index.Sibling()
	start, _ := at.Blocks()
	if n.Index > maxIndex || !at.Contains(n.Index) {
		return fmt.Errorf("%w: additional %d", ErrInvalidOperation, n.Index)
	}
	if first, _ := n.Index.Blocks(); first != start {
		return fmt.Errorf("%w: additional %d", ErrInvalidOperation, n.Index)
	}
	if err := checkNode(n, n.Index); err != nil {
		return err
	}
	return b.pushProved(top{n, true})
}

// pushProved is push for nodes of a peer: what is too large is the peer's fault.
func (b *Batch) pushProved(n top) error {
	if err := b.push(n.Node, n.raw); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalidOperation, err)
	}
	return nil
}
