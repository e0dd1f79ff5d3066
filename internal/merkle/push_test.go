package merkle_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/p2pcore/p2pcore/internal/flattree"
	"github.com/p2pcore/p2pcore/internal/merkle"
	"github.com/p2pcore/p2pcore/internal/vectors"
)

// ruleBlocks is the feed of pushes.json.
func ruleBlocks(n uint64) *model {
	m := newModel()
	for i := range n {
		m.blocks = append(m.blocks, ruleBlock(i))
	}
	return m
}

// push is what a peer of length to sends of a block to a reader that it takes to be at length from.
func push(t *testing.T, m *model, from, to, index uint64) *merkle.Proof {
	t.Helper()
	req := merkle.Request{Block: &merkle.BlockRequest{Index: index, Nodes: merkle.MaxMissingNodes(flattree.Leaf(index), from)}}
	if index >= from {
		req.Upgrade = &merkle.UpgradeRequest{Start: from, Length: to - from}
	}
	tree := m.tree(t, to, 0)
	p, err := tree.Prove(context.Background(), m.store(to), req)
	if err != nil {
		t.Fatalf("push of %d from %d to %d: %v", index, from, to, err)
	}
	return fill(p, m, tree.Head())
}

// TestVectorsPushes holds what is taken of pushed blocks against Hypercore, which judges them by the nodes that they list
// and not by the length that they say they start at.
func TestVectorsPushes(t *testing.T) {
	t.Parallel()
	var v struct {
		Cases []struct {
			From, To, Index uint64
			After           []*uint64
		}
	}
	vectors.Load(t, "pushes.json", &v)
	m := ruleBlocks(9)
	taken, more := 0, 0
	for _, c := range v.Cases {
		p := push(t, m, c.From, c.To, c.Index)
		for have, after := range c.After {
			name := fmt.Sprintf("block %d from %d to %d at length %d", c.Index, c.From, c.To, have)
			r := readerOf(t, m, uint64(have))
			err := r.apply(p, seal{})
			switch length := r.tree.Length(); {
			case after != nil && (err != nil || length != *after):
				t.Errorf("%s: length %d, %v, want %d", name, length, err, *after)
			case after != nil:
				taken++
			case err == nil && length != max(uint64(have), c.To):
				t.Errorf("%s: length %d", name, length)
			case err == nil:
				more++
			case !errors.Is(err, merkle.ErrStale) && !errors.Is(err, merkle.ErrMissingNode) && c.From != uint64(have):
				t.Errorf("%s: %v, which is not the pusher's fault", name, err)
			}
			if err != nil {
				continue
			}
			checkHonest(t, name, m, r)
		}
	}
	if taken < 500 || more < 50 {
		t.Errorf("%d pushes taken as by Hypercore, %d more", taken, more)
	}
}

// checkHonest fails unless everything that a reader holds is of the feed.
func checkHonest(t *testing.T, name string, m *model, r *reader) {
	t.Helper()
	if got, want := r.tree.Head(), m.head(r.tree.Length(), 0); got != want {
		t.Errorf("%s: head %+v, want %+v", name, got, want)
	}
	truth := m.store(m.length())
	for at, n := range r.nodes {
		if n != truth[at] {
			t.Errorf("%s: node %d is %+v, want %+v", name, at, n, truth[at])
		}
	}
	for i, b := range r.blocks {
		if !slices.Equal(b, m.blocks[i]) {
			t.Errorf("%s: block %d is %q", name, i, b)
		}
	}
}

// Whatever is changed in a pushed block, and whatever length the reader is at: what it stores is of the feed. Sizes that
// only the peer vouches for are not meant to be stored, so Unproven nodes count by their hash.
func TestForgedPushesBringNothing(t *testing.T) {
	t.Parallel()
	const n = 13
	ctx := context.Background()
	m := ruleModel(n, "push")
	truth := m.store(n)
	tries, taken := 0, 0
	for _, c := range []struct{ from, index, have uint64 }{
		{0, 0, 0}, {0, 12, 0}, {0, 6, 8}, {0, 12, 12}, {4, 4, 6}, {4, 9, 8}, {5, 12, 8}, {5, 6, 6}, {5, 9, 12}, {8, 3, 8}, {5, 5, 13}, {12, 12, 13},
	} {
		p := push(t, m, c.from, n, c.index)
		before := readerOf(t, m, c.have)
		before.nodes = m.store(c.have)
		try := func(what string, bad *merkle.Proof) {
			tries++
			b := before.tree.NewBatch()
			if err := b.Verify(ctx, before.nodes, bad, seal{}); err != nil {
				if len(b.Nodes()) != 0 || b.Head() != before.tree.Head() || !slices.Equal(b.Roots(), before.tree.Roots()) {
					t.Errorf("%+v: %s: refused, but the batch has changed", c, what)
				}
				return
			}
			taken++
			r := &reader{tree: b.Tree(), nodes: maps.Clone(before.nodes), blocks: map[uint64][]byte{bad.Block.Index: bad.Block.Value}}
			r.nodes.put(b.Nodes()...)
			checkHonest(t, fmt.Sprintf("%+v: %s", c, what), m, r)
			for _, u := range b.Unproven() {
				if u.Hash != truth[u.Index].Hash {
					t.Errorf("%+v: %s: unproven node %d has another hash", c, what, u.Index)
				}
			}
		}
		tampered(p, try)
		forgedLists(p, before.tree.Length(), m, try)
	}
	if tries < 20_000 || taken < 100 {
		t.Errorf("%d changes tried, %d of them without harm", tries, taken)
	}
}

// forgedLists yields upgrades that begin with any number of nodes below the reader's length, right and wrong ones, and
// say that they start and end anywhere.
func forgedLists(p *merkle.Proof, have uint64, m *model, yield func(what string, p *merkle.Proof)) {
	if p.Upgrade == nil {
		return
	}
	wrong := merkle.Node{Index: 0, Size: 1, Hash: merkle.Hash{1}}
	for _, front := range [][]merkle.Node{nil, m.roots(have), {wrong}, append(m.roots(have), wrong)} {
		for _, start := range []uint64{0, have / 2, have, have + 1} {
			for length := range m.length() + 2 {
				c := clone(p)
				c.Upgrade.Start, c.Upgrade.Length = start, length
				c.Upgrade.Nodes = slices.Concat(front, c.Upgrade.Nodes)
				yield(fmt.Sprintf("%d nodes in front, upgrade %d+%d", len(front), start, length), c)
			}
		}
	}
}

// A stranger's tree that begins with other blocks is refused by a reader of any length, though it is signed: what
// passes over nodes of the own tree must not lead into another one.
func TestPushOfAnotherTreeIsRefused(t *testing.T) {
	t.Parallel()
	const n = 11
	m := ruleModel(n, "ours")
	other := ruleModel(n, "ours")
	for _, differs := range []uint64{0, 3, 5, 7} {
		other.blocks = slices.Clone(m.blocks)
		other.blocks[differs] = []byte("theirs")
		other.cache = make(map[[2]uint64]merkle.Node)
		for from := range uint64(n) {
			for index := from; index < n; index++ {
				p := push(t, other, from, n, index)
				for have := differs + 1; have < n; have++ {
					r := readerOf(t, m, have)
					r.nodes = m.store(have)
					if err := r.apply(p, seal{}); err == nil && (r.tree.Length() != have || !slices.Equal(r.blocks[index], m.blocks[index])) {
						t.Errorf("block %d of the tree that differs in %d, from %d at length %d: taken, length %d", index, differs, from, have, r.tree.Length())
					}
				}
			}
		}
	}
}

func TestUpgradeEnd(t *testing.T) {
	t.Parallel()
	node := func(at flattree.Index) merkle.Node { return merkle.Node{Index: at} }
	for _, c := range []struct {
		u    merkle.UpgradeProof
		want uint64
	}{
		{merkle.UpgradeProof{Start: 3, Length: 2}, 5},
		{merkle.UpgradeProof{Start: 3, Length: 1, Additional: []merkle.Node{node(9), node(12)}}, 7},
		{merkle.UpgradeProof{Start: 1<<64 - 1, Length: 1<<64 - 1}, merkle.MaxLength},
		{merkle.UpgradeProof{Start: 1, Length: 1, Additional: []merkle.Node{node(1<<64 - 1)}}, merkle.MaxLength},
		{merkle.UpgradeProof{Start: 1, Length: 1, Additional: slices.Repeat([]merkle.Node{node(1<<52 - 1)}, 5000)}, merkle.MaxLength},
	} {
		if got := c.u.End(); got != c.want {
			t.Errorf("End of %d+%d with %d more = %d, want %d", c.u.Start, c.u.Length, len(c.u.Additional), got, c.want)
		}
	}
}
