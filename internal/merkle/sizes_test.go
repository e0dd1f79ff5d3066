package merkle_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/p2pcore/p2pcore/internal/flattree"
	"github.com/p2pcore/p2pcore/internal/merkle"
)

// doubting is a reader that keeps what is proven, and apart from it what has only a right hash.
type doubting struct {
	tree  *merkle.Tree
	nodes store
	hints store
}

func (d *doubting) ReadNodes(ctx context.Context, at []flattree.Index, dst []merkle.Node) error {
	_ = d.nodes.ReadNodes(ctx, at, dst)
	for i, index := range at {
		if n, ok := d.hints[index]; ok && dst[i].Missing() {
			n.Size |= merkle.SizeUnproven
			dst[i] = n
		}
	}
	return nil
}

// apply keeps what a proof brings; it is as good as the writer's own nodes say.
func (d *doubting) apply(t *testing.T, what string, p *merkle.Proof, truth store) error {
	t.Helper()
	b := d.tree.NewBatch()
	if err := b.Verify(context.Background(), d, p, seal{}); err != nil {
		return err
	}
	d.tree = b.Tree()
	d.nodes.put(b.Nodes()...)
	d.hints.put(b.Unproven()...)
	for at, n := range d.nodes {
		if n != truth[at] {
			t.Fatalf("%s: node %d of %d bytes is stored, it has %d", what, at, n.Size, truth[at].Size)
		}
		if at.IsRoot(d.tree.Length()) {
			continue
		}
		if d.nodes[at.Sibling()].Missing() || d.nodes[at.Parent()].Missing() {
			t.Fatalf("%s: node %d hangs on nothing", what, at)
		}
	}
	for at, n := range d.hints {
		if n.Hash != truth[at].Hash {
			t.Fatalf("%s: the hash of node %d is wrong", what, at)
		}
	}
	return nil
}

// shift moves bytes from one node of a proof to another one, and reports whether there are enough.
func shift(p *merkle.Proof, from, to int, bytes uint64) bool {
	var all []*merkle.Node
	add := func(nodes []merkle.Node) {
		for i := range nodes {
			all = append(all, &nodes[i])
		}
	}
	switch {
	case p.Block != nil:
		add(p.Block.Nodes)
	case p.Hash != nil:
		add(p.Hash.Nodes)
	}
	if p.Seek != nil {
		add(p.Seek.Nodes)
	}
	if p.Upgrade != nil {
		add(p.Upgrade.Nodes)
		add(p.Upgrade.Additional)
	}
	if from >= len(all) || to >= len(all) || all[from].Size < bytes {
		return false
	}
	all[from].Size -= bytes
	all[to].Size += bytes
	return true
}

// Whatever bytes a peer moves from one node of a proof to another, no wrong size is stored; and what has
// been taken over from a liar does not make an honest peer's proofs fail.
func TestNoSizeIsBelievedThatAPeerCanChoose(t *testing.T) {
	t.Parallel()
	const n = 23
	m := ruleModel(n, "sizes")
	truth := m.store(n)
	rng := rand.New(rand.NewPCG(1, 2))
	tree := m.tree(t, n, 0)
	lies, honest := 0, 0
	for range 4000 {
		d := &doubting{tree: m.tree(t, 0, 0), nodes: store{}, hints: store{}}
		if start := rng.Uint64N(n); start > 0 {
			d.tree = m.tree(t, start, 0)
			d.nodes.put(m.roots(start)...)
		}
		for range 12 {
			req := randomRequest(t, rng, d, n)
			p, err := tree.Prove(context.Background(), truth, req)
			if errors.Is(err, merkle.ErrInvalidRequest) {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			fill(p, m, tree.Head())
			lie := clone(p)
			if shift(lie, rng.IntN(6), rng.IntN(6), rng.Uint64N(4)) && d.apply(t, describe(req), lie, truth) == nil {
				lies++
				continue
			}
			if err := d.apply(t, describe(req), p, truth); err != nil && !errors.Is(err, merkle.ErrMissingNode) {
				t.Fatalf("%s of an honest peer: %v", describe(req), err)
			} else if err == nil {
				honest++
			}
		}
	}
	if lies < 1000 || honest < 1000 {
		t.Errorf("%d lies and %d honest proofs were taken over", lies, honest)
	}
}

// randomRequest asks for something, of what is stored or of what is only hinted at, or for an upgrade that ends
// inside the tree.
func randomRequest(t *testing.T, rng *rand.Rand, d *doubting, n uint64) (req merkle.Request) {
	t.Helper()
	length := d.tree.Length()
	if length < n && (length == 0 || rng.IntN(4) == 0) {
		req.Upgrade = &merkle.UpgradeRequest{Start: length, Length: 1 + rng.Uint64N(n-length)}
		return req
	}
	i := rng.Uint64N(length)
	var source merkle.NodeReader = d.nodes
	if rng.IntN(2) == 0 {
		source = d
	}
	missing, err := d.tree.MissingNodes(context.Background(), source, []flattree.Index{flattree.Leaf(i)})
	if err != nil {
		t.Fatal(err)
	}
	if rng.IntN(3) == 0 {
		req.Block = &merkle.BlockRequest{Index: i, Nodes: missing[0]}
		return req
	}
	req.Hash = &merkle.HashRequest{Index: flattree.Leaf(i), Nodes: missing[0]}
	if rng.IntN(2) == 0 {
		req.Seek = &merkle.SeekRequest{Bytes: rng.Uint64N(d.tree.ByteLength() + 1)}
	}
	return req
}

// What a search for the common blocks of two forks stores is as good, and hangs together with what stays.
func TestReorgBelievesNoSizeThatAPeerCanChoose(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	const n = 19
	old := ruleModel(n, "old")
	lies := 0
	for common := range uint64(n) {
		fork := newModel(old.blocks[:common]...)
		for i := common; i < n; i++ {
			fork.blocks = append(fork.blocks, fmt.Appendf(nil, "new %d", i))
		}
		for length := common + 1; length <= n; length++ {
			for to := max(common, 1); to <= n; to++ {
				nodes, truth, remote := old.store(length), fork.store(to), fork.tree(t, to, 6)
				g := startReorg(t, old.tree(t, length, 4), nodes, fork, remote)
				for want, more := g.Want(); more; want, more = g.Want() {
					p, err := remote.Prove(ctx, truth, merkle.Request{Hash: &merkle.HashRequest{Index: flattree.Leaf(want.Start), Nodes: want.Nodes}})
					if err != nil {
						t.Fatal(err)
					}
					if shift(p, lies%2, 1-lies%2, 2) {
						lies++
					}
					if err := g.Verify(ctx, nodes, p); err != nil {
						t.Fatal(err)
					}
				}
				for at := range nodes {
					if _, end := at.Blocks(); end > g.Ancestors() {
						delete(nodes, at)
					}
				}
				nodes.put(g.Nodes()...)
				for at, n := range nodes {
					if n != truth[at] {
						t.Fatalf("%d to %d, common %d: node %d of %d bytes, it has %d", length, to, common, at, n.Size, truth[at].Size)
					}
					if !at.IsRoot(to) && (nodes[at.Sibling()].Missing() || nodes[at.Parent()].Missing()) {
						t.Fatalf("%d to %d, common %d: node %d hangs on nothing", length, to, common, at)
					}
				}
			}
		}
	}
	if lies < 1000 {
		t.Errorf("%d lies", lies)
	}
}
