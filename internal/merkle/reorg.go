package merkle

import (
	"context"
	"fmt"
	"slices"

	"github.com/p2pcore/p2pcore/internal/flattree"
)

// Reorg searches for the last block that two forks of a feed have in common: the stored one, and a
// newer one that is known by a signed head and, step by step, by its nodes (formats.md 11.5). It
// writes nothing. Every step compares nodes of the new fork with the stored ones, which must not change
// in between. It is not safe for concurrent use.
type Reorg struct {
	base      Head
	tree      *Tree
	signature []byte
	nodes     []Node
	proven    []bool                 // of nodes: the size is true, too
	index     map[flattree.Index]int // position in nodes

	ancestors uint64
	diff      flattree.Index // the smallest node known to differ, if not same
	hash      Hash           // of diff in the new fork
	same      bool
	stopped   bool
}

// Want is the next step of a Reorg: a hash request for the leaf of any block of the range that the
// remote has, with this number of Nodes.
type Want struct {
	Range
	Nodes uint64
}

// NewReorg verifies the proof of another fork's head, an upgrade from length 0, and compares the roots.
// The fork must be greater than the own one, else the error is ErrStaleFork; the other errors are those
// of Batch.Verify, where the signature is always checked. The prologue of t counts for the new fork.
// r reads the nodes stored for t.
func (t *Tree) NewReorg(ctx context.Context, r NodeReader, p *Proof, s SigVerifier) (*Reorg, error) {
	if p.Fork <= t.head.Fork {
		return nil, fmt.Errorf("%w: %d, not past %d", ErrStaleFork, p.Fork, t.head.Fork)
	}
	if p.Upgrade == nil || p.Upgrade.Start != 0 {
		return nil, fmt.Errorf("%w: no upgrade from length 0", ErrInvalidOperation)
	}
	b := newTree(p.Fork, nil, 0, 0, t.prologue).NewBatch()
	if err := b.Verify(ctx, noNodes{}, p, s); err != nil {
		return nil, err
	}
	g := &Reorg{
		base:      t.head,
		tree:      b.Tree(),
		signature: b.Signature(),
		index:     make(map[flattree.Index]int),
	}
	g.add(b.Nodes(), true)
	if err := g.addUnproven(ctx, r, b.Unproven()); err != nil {
		return nil, err
	}
	return g, g.compareRoots(ctx, r)
}

// noNodes is the store of a reader that knows nothing.
type noNodes struct{}

func (noNodes) ReadNodes(_ context.Context, _ []flattree.Index, dst []Node) error {
	clear(dst)
	return nil
}

// Base returns the head that the stored nodes belong to. When it has changed, the search starts over.
func (g *Reorg) Base() Head { return g.base }

// Tree returns the tree of the new fork. Its head is verified.
func (g *Reorg) Tree() *Tree { return g.tree }

// Signature returns the signature of the new head.
func (g *Reorg) Signature() []byte { return g.signature }

// Nodes returns the verified nodes of the new fork, to be stored with it: those with a true size.
func (g *Reorg) Nodes() []Node { return g.those(true) }

// Unproven returns the others, see Batch.Unproven.
func (g *Reorg) Unproven() []Node { return g.those(false) }

func (g *Reorg) those(proven bool) []Node {
	var nodes []Node
	for i, n := range g.nodes {
		if g.proven[i] == proven {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

// Ancestors returns how many blocks both forks are known to have in common, for now. It never
// exceeds the length of either.
func (g *Reorg) Ancestors() uint64 { return min(g.ancestors, g.base.Length) }

// Diff returns the smallest node that is known to differ. There is none if all roots are stored.
func (g *Reorg) Diff() (at flattree.Index, ok bool) { return g.diff, !g.same }

// Want returns the next request. There is none when the search has finished: Ancestors is final.
func (g *Reorg) Want() (w Want, ok bool) {
	if g.same || g.stopped || g.diff.Depth() == 0 {
		return Want{}, false
	}
	start, end := g.diff.Blocks()
	if end = min(end, g.base.Length); start >= end {
		return Want{}, false
	}
	return Want{Range: Range{start, end}, Nodes: uint64(g.diff.Depth())}, true
}

// Stop ends the search where it is: Ancestors is final, and may be too low.
func (g *Reorg) Stop() { g.stopped = true }

// Verify takes the answer to Want, or any proof with a block or hash part of the new fork, and goes on
// with the search. A proof that leads to another known node is right, but of no use, as when it was
// asked for before the search went on; it changes nothing.
//
// The errors are ErrStaleFork, ErrInvalidOperation, ErrMissingNode if the proof leads to no known node,
// ErrInvalidChecksum if that has another hash; any other comes from r. The Reorg is then as before.
func (g *Reorg) Verify(ctx context.Context, r NodeReader, p *Proof) error {
	if p.Fork != g.tree.head.Fork {
		return fmt.Errorf("%w: %d, not %d", ErrStaleFork, p.Fork, g.tree.head.Fork)
	}
	var found climbed
	root, ok, err := found.recompute(p)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("%w: neither block nor hash nor seek", ErrInvalidOperation)
	}
	i, known := g.index[root.Index]
	switch {
	case !known:
		return fmt.Errorf("%w: %d, to compare a proof with", ErrMissingNode, root.Index)
	case g.nodes[i].Hash != root.Hash, root.raw && g.proven[i] && g.nodes[i].Size != root.Size:
		return fmt.Errorf("%w: node %d", ErrInvalidChecksum, root.Index)
	case g.same || root.Index != g.diff:
		return nil
	}
	nodes := len(g.nodes)
	g.add(found.proven[:len(found.proven)-1], true)
	if !root.raw && !g.proven[i] {
		g.prove(root.Node)
	}
	err = g.addUnproven(ctx, r, found.unproven)
	diff, hash := g.diff, g.hash
	if err == nil {
		diff, hash, err = g.descend(ctx, r, diff, hash)
	}
	if err != nil {
		for _, n := range g.nodes[nodes:] {
			delete(g.index, n.Index)
		}
		g.nodes, g.proven = g.nodes[:nodes], g.proven[:nodes]
		return err
	}
	g.setDiff(diff, hash)
	return nil
}

// add keeps nodes of the new fork, each once, and as it is proven.
func (g *Reorg) add(nodes []Node, proven bool) {
	for _, n := range nodes {
		i, ok := g.index[n.Index]
		switch {
		case !ok:
			g.index[n.Index] = len(g.nodes)
			g.nodes, g.proven = append(g.nodes, n), append(g.proven, proven)
		case proven && !g.proven[i]:
			g.nodes[i], g.proven[i] = n, true
		}
	}
}

// addUnproven keeps pairs of siblings, of which only the sum of the sizes is true, unless one is stored: that
// is a common one, and tells both.
func (g *Reorg) addUnproven(ctx context.Context, r NodeReader, nodes []Node) error {
	for pair := range slices.Chunk(nodes, 2) {
		at, stored := [2]flattree.Index{pair[0].Index, pair[1].Index}, [2]Node{}
		if err := readNodes(ctx, r, at[:], stored[:]); err != nil {
			return err
		}
		sum := pair[0].Size + pair[1].Size
		proven := false
		for i := range pair {
			if g.stands(stored[i], pair[i]) && stored[i].Size <= sum {
				pair[i].Size, pair[1-i].Size = stored[i].Size, sum-stored[i].Size
				proven = true
			}
		}
		g.add(pair, proven)
	}
	return nil
}

// prove makes the size of a known node true, and with it that of its sibling.
func (g *Reorg) prove(n Node) {
	g.add([]Node{n}, true)
	i, ok := g.index[n.Index.Sibling()]
	if above, known := g.index[n.Index.Parent()]; ok && known && !g.proven[i] && g.nodes[above].Size >= n.Size {
		g.nodes[i].Size, g.proven[i] = g.nodes[above].Size-n.Size, true
	}
}

func (g *Reorg) compareRoots(ctx context.Context, r NodeReader) error {
	roots := g.tree.roots
	at := make([]flattree.Index, len(roots))
	for i := range roots {
		at[i] = roots[i].Index
	}
	stored := make([]Node, len(roots))
	if err := readNodes(ctx, r, at, stored); err != nil {
		return err
	}
	for i, root := range roots {
		if g.stands(stored[i], root) {
			continue
		}
		diff, hash, err := g.descend(ctx, r, root.Index, root.Hash)
		if err != nil {
			return err
		}
		g.setDiff(diff, hash)
		return nil
	}
	g.same, g.ancestors = true, g.tree.head.Length
	return nil
}

// stands reports whether a node of the new fork is the stored one.
func (g *Reorg) stands(stored, n Node) bool { return !stored.Missing() && stored.Hash == n.Hash }

// descend goes down from a node that differs, as far as the nodes of the new fork are known.
func (g *Reorg) descend(ctx context.Context, r NodeReader, at flattree.Index, hash Hash) (flattree.Index, Hash, error) {
	for {
		leftAt, rightAt, ok := at.Children()
		if !ok {
			return at, hash, nil
		}
		left, okLeft := g.index[leftAt]
		right, okRight := g.index[rightAt]
		if !okLeft || !okRight {
			return at, hash, nil
		}
		ask, stored := [1]flattree.Index{leftAt}, [1]Node{}
		if err := readNodes(ctx, r, ask[:], stored[:]); err != nil {
			return at, hash, err
		}
		next := right
		if !g.stands(stored[0], g.nodes[left]) {
			next = left
		}
		at, hash = g.nodes[next].Index, g.nodes[next].Hash
	}
}

func (g *Reorg) setDiff(at flattree.Index, hash Hash) {
	g.diff, g.hash = at, hash
	g.ancestors, _ = at.Blocks()
}
