package merkle_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/p2pcore/p2pcore/internal/flattree"
	"github.com/p2pcore/p2pcore/internal/merkle"
)

// Every pair of lengths and every point where two forks part: the search finds that point.
func TestReorgFindsTheCommonBlocks(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	const n = 19
	old := newModel()
	for i := range n {
		old.blocks = append(old.blocks, fmt.Appendf(nil, "old %d", i))
	}
	for common := range uint64(n + 1) {
		fork := newModel()
		for i := range uint64(n) {
			if i < common {
				fork.blocks = append(fork.blocks, old.blocks[i])
			} else {
				fork.blocks = append(fork.blocks, fmt.Appendf(nil, "new %d", i))
			}
		}
		for length := max(common, 1); length <= n; length++ {
			for to := max(common, 1); to <= n; to++ {
				nodes := old.store(length)
				tree, remote := old.tree(t, length, 4), fork.tree(t, to, 6)
				g := startReorg(t, tree, nodes, fork, remote)
				steps := 0
				for want, more := g.Want(); more; want, more = g.Want() {
					steps++
					i := want.Start + uint64(steps)%want.Len()
					p, err := remote.Prove(ctx, fork.store(to), merkle.Request{Hash: &merkle.HashRequest{Index: flattree.Leaf(i), Nodes: want.Nodes}})
					if err != nil {
						t.Fatal(err)
					}
					if err := g.Verify(ctx, nodes, p); err != nil {
						t.Fatal(err)
					}
					if steps > 6 {
						t.Fatalf("%d to %d, common %d: no end at %+v", length, to, common, want)
					}
				}
				if got := g.Ancestors(); got != common {
					t.Fatalf("%d to %d: %d blocks in common, want %d", length, to, got, common)
				}
				truth := fork.store(to)
				for _, n := range g.Nodes() {
					if truth[n.Index] != n {
						t.Fatalf("node %+v", n)
					}
				}
				if g.Tree().Head() != fork.head(to, 6) || g.Base() != tree.Head() || g.Signature() == nil {
					t.Fatalf("head %+v, base %+v", g.Tree().Head(), g.Base())
				}
			}
		}
	}
}

func startReorg(t *testing.T, tree *merkle.Tree, nodes store, fork *model, remote *merkle.Tree) *merkle.Reorg {
	t.Helper()
	p, err := remote.Prove(context.Background(), fork.store(remote.Length()), merkle.Request{Upgrade: &merkle.UpgradeRequest{Length: remote.Length()}})
	if err != nil {
		t.Fatal(err)
	}
	g, err := tree.NewReorg(context.Background(), nodes, fill(p, fork, remote.Head()), seal{})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestReorgRefuses(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	old, fork := ruleModel(12, "old"), ruleModel(20, "new")
	nodes, tree, remote := old.store(12), old.tree(t, 12, 4), fork.tree(t, 20, 6)
	good, err := remote.Prove(ctx, fork.store(20), merkle.Request{Upgrade: &merkle.UpgradeRequest{Length: 20}})
	if err != nil {
		t.Fatal(err)
	}
	fill(good, fork, remote.Head())
	for name, c := range map[string]struct {
		change func(p *merkle.Proof)
		want   error
	}{
		"own fork":   {func(p *merkle.Proof) { p.Fork = 4 }, merkle.ErrStaleFork},
		"other fork": {func(p *merkle.Proof) { p.Fork = 7 }, merkle.ErrInvalidSignature},
		"signature":  {func(p *merkle.Proof) { p.Upgrade.Signature[3] ^= 4 }, merkle.ErrInvalidSignature},
		"hash":       {func(p *merkle.Proof) { p.Upgrade.Nodes[0].Hash[3] ^= 4 }, merkle.ErrInvalidSignature},
		"no upgrade": {func(p *merkle.Proof) { p.Upgrade = nil }, merkle.ErrInvalidOperation},
		"start":      {func(p *merkle.Proof) { p.Upgrade.Start = 4 }, merkle.ErrInvalidOperation},
		"length":     {func(p *merkle.Proof) { p.Upgrade.Length = 24 }, merkle.ErrInvalidOperation},
		"loose hash": {func(p *merkle.Proof) { p.Hash = &merkle.HashProof{Nodes: []merkle.Node{fork.node(0, 1)}} }, merkle.ErrMissingNode},
	} {
		p := clone(good)
		c.change(p)
		if _, err := tree.NewReorg(ctx, nodes, p, seal{}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if _, err := tree.NewReorg(ctx, broken{}, good, seal{}); !errors.Is(err, errDisk) {
		t.Errorf("broken reader: %v", err)
	}

	g := startReorg(t, tree, nodes, fork, remote)
	want, _ := g.Want()
	step, err := remote.Prove(ctx, fork.store(20), merkle.Request{Hash: &merkle.HashRequest{Index: flattree.Leaf(want.Start), Nodes: want.Nodes}})
	if err != nil {
		t.Fatal(err)
	}
	step.Fork = 6
	tampered(step, func(what string, bad *merkle.Proof) {
		if err := g.Verify(ctx, nodes, bad); err == nil {
			t.Errorf("%s: accepted", what)
		}
	})
	if err := g.Verify(ctx, broken{}, step); !errors.Is(err, errDisk) {
		t.Errorf("broken reader: %v", err)
	}
	if again, ok := g.Want(); !ok || again != want {
		t.Errorf("after refusals: want %+v, before %+v", again, want)
	}
	if err := g.Verify(ctx, nodes, step); err != nil {
		t.Errorf("the right answer: %v", err)
	}
	size := len(g.Nodes())
	late, err := remote.Prove(ctx, fork.store(20), merkle.Request{Hash: &merkle.HashRequest{Index: flattree.Leaf(want.End - 1), Nodes: want.Nodes}})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Verify(ctx, nodes, late); err != nil || len(g.Nodes()) != size {
		t.Errorf("another right answer, late: %v, %d nodes more", err, len(g.Nodes())-size)
	}
	if err := g.Verify(ctx, nodes, step); err != nil || len(g.Nodes()) != size {
		t.Errorf("the right answer, late: %v, %d nodes more", err, len(g.Nodes())-size)
	}
}
