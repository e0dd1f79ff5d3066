package merkle_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/p2pcore/p2pcore/internal/flattree"
	"github.com/p2pcore/p2pcore/internal/merkle"
)

func TestBatchAppendMatchesModel(t *testing.T) {
	t.Parallel()
	const n = 70
	m := ruleModel(n, "append")
	for length := range uint64(n + 1) {
		b := m.tree(t, length, 3).NewBatch()
		for i := length; i < n; i++ {
			appendBlock(t, b, m.blocks[i])
		}
		if got, want := b.Head(), m.head(n, 3); got != want {
			t.Fatalf("from %d: head %+v, want %+v", length, got, want)
		}
		if b.Upgraded() != (length < n) || b.Base() != m.head(length, 3) || b.Tree().Head() != b.Head() {
			t.Errorf("from %d: upgraded %v, base %+v", length, b.Upgraded(), b.Base())
		}
		all := m.store(length)
		all.put(b.Nodes()...)
		for at, want := range m.store(n) {
			if all[at] != want {
				t.Fatalf("from %d: node %d is %+v, want %+v", length, at, all[at], want)
			}
		}
		tree, err := merkle.ReadTree(context.Background(), all, 3, length)
		if err != nil || tree.Head() != m.head(length, 3) {
			t.Errorf("ReadTree(%d) = %+v, %v", length, tree, err)
		}
	}
}

// Every block, for every number of nodes, at every length.
func TestProveBlockMatchesModel(t *testing.T) {
	t.Parallel()
	const n = 66
	m := ruleModel(n, "block")
	for length := uint64(1); length <= n; length++ {
		tree, nodes := m.tree(t, length, 0), m.store(length)
		for i := range length {
			root := topRoot(m, length, i)
			start, end := root.Index.Blocks()
			path := m.path(start, end-start, [2]uint64{i, i + 1})
			for levels := range len(path) + 2 {
				req := merkle.Request{Block: &merkle.BlockRequest{Index: i, Nodes: uint64(levels)}}
				p, err := tree.Prove(context.Background(), nodes, req)
				if levels > len(path) {
					if !errors.Is(err, merkle.ErrInvalidRequest) {
						t.Fatalf("length %d block %d nodes %d: %v", length, i, levels, err)
					}
					continue
				}
				if err != nil || !slices.Equal(p.Block.Nodes, path[:levels]) {
					t.Fatalf("length %d block %d nodes %d: %+v, %v", length, i, levels, p, err)
				}
				// A reader that knows the node above, and no other, takes it.
				r := readerOf(t, m, length)
				at := flattree.Leaf(i)
				for range levels {
					at = at.Parent()
				}
				s, e := at.Blocks()
				r.nodes.put(m.node(s, e-s))
				if err := r.apply(fill(p, m, tree.Head()), seal{}); err != nil {
					t.Fatalf("length %d block %d nodes %d: %v", length, i, levels, err)
				}
				checkTruth(t, r, nodes)
			}
		}
	}
}

// Every upgrade, alone and with every block, read and verified.
func TestProveUpgradeMatchesModel(t *testing.T) {
	t.Parallel()
	const n = 34
	m := ruleModel(n, "upgrade")
	truth := m.store(n)
	for length := uint64(1); length <= n; length++ {
		if testing.Short() && length < n-2 {
			continue
		}
		tree := m.tree(t, length, 0)
		for start := range length {
			before := readerOf(t, m, start)
			before.nodes = m.store(start)
			for to := start + 1; to <= length; to++ {
				for i := int64(-1); i < int64(length); i++ {
					req := merkle.Request{Upgrade: &merkle.UpgradeRequest{Start: start, Length: to - start}}
					if i >= 0 {
						req.Block = &merkle.BlockRequest{Index: uint64(i)}
					}
					p, err := tree.Prove(context.Background(), truth, req)
					if i >= int64(to) {
						if !errors.Is(err, merkle.ErrInvalidRequest) {
							t.Fatalf("%d of %d..%d of %d: %v", i, start, to, length, err)
						}
						continue
					}
					if err != nil {
						t.Fatalf("%d of %d..%d of %d: %v", i, start, to, length, err)
					}
					skip := int64(-1)
					if i >= int64(start) {
						skip = i
					}
					grow, skipped := m.upgrade(start, to, skip)
					additional, _ := m.upgrade(to, length, -1)
					if !slices.Equal(p.Upgrade.Nodes, grow) || !slices.Equal(p.Upgrade.Additional, additional) {
						t.Fatalf("%d of %d..%d of %d: %+v, want %v %v", i, start, to, length, p.Upgrade, grow, additional)
					}
					if skipped != nil {
						path := m.path(skipped[0], skipped[1], [2]uint64{uint64(i), uint64(i) + 1})
						if !slices.Equal(p.Block.Nodes, path) {
							t.Fatalf("%d of %d..%d of %d: path %v, want %v", i, start, to, length, p.Block.Nodes, path)
						}
					}
					r := &reader{tree: before.tree, nodes: before.nodes, blocks: map[uint64][]byte{}}
					b := r.tree.NewBatch()
					if err := b.Verify(context.Background(), r.nodes, fill(p, m, tree.Head()), seal{}); err != nil {
						t.Fatalf("%d of %d..%d of %d: %v", i, start, to, length, err)
					}
					if b.Head() != tree.Head() || !slices.Equal(b.Roots(), tree.Roots()) {
						t.Fatalf("%d of %d..%d of %d: head %+v", i, start, to, length, b.Head())
					}
					for _, n := range b.Nodes() {
						if truth[n.Index] != n {
							t.Fatalf("%d of %d..%d of %d: node %+v", i, start, to, length, n)
						}
					}
				}
			}
		}
	}
}

// Readers that fetch blocks in any order ask for what they lack, and end with the whole tree.
func TestSparseReadersFillUp(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for _, length := range []uint64{1, 2, 3, 5, 8, 13, 21, 31, 32, 33, 47, 64, 70} {
		m := ruleModel(length, "fill")
		tree, nodes := m.tree(t, length, 0), m.store(length)
		for step := uint64(1); step < length+1; step++ {
			if gcd(step, length) != 1 {
				continue
			}
			r := readerOf(t, m, length)
			for k := range length {
				i := k * step % length
				counter := &counted{NodeReader: r.nodes}
				missing, err := r.tree.MissingNodes(ctx, counter, []flattree.Index{flattree.Leaf(i)})
				if err != nil {
					t.Fatal(err)
				}
				if want := missingByModel(r, length, i); missing[0] != want || uint64(counter.calls) > want+1 {
					t.Fatalf("length %d: block %d lacks %d (%d reads), want %d", length, i, missing[0], counter.calls, want)
				}
				p, err := tree.Prove(ctx, nodes, merkle.Request{Block: &merkle.BlockRequest{Index: i, Nodes: missing[0]}})
				if err != nil {
					t.Fatal(err)
				}
				if err := r.apply(fill(p, m, tree.Head()), seal{}); err != nil {
					t.Fatalf("length %d: block %d: %v", length, i, err)
				}
			}
			checkTruth(t, r, nodes)
			if len(r.nodes) != len(nodes) {
				t.Fatalf("length %d: %d nodes, want %d", length, len(r.nodes), len(nodes))
			}
		}
	}
}

// MissingNodes of many at once is that of each by itself.
func TestMissingNodesOfMany(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	const length = 45
	m := ruleModel(length, "many")
	tree, nodes := m.tree(t, length, 0), m.store(length)
	r := readerOf(t, m, length)
	for _, i := range []uint64{3, 17, 40} {
		p, err := tree.Prove(ctx, nodes, merkle.Request{Block: &merkle.BlockRequest{Index: i, Nodes: missingByModel(r, length, i)}})
		if err != nil {
			t.Fatal(err)
		}
		if err := r.apply(fill(p, m, tree.Head()), seal{}); err != nil {
			t.Fatal(err)
		}
	}
	var at []flattree.Index
	for i := range flattree.Index(2*length + 9) {
		at = append(at, i)
	}
	at = append(at, 1<<60, 0, 0, flattree.Leaf(44))
	got, err := tree.MissingNodes(ctx, r.nodes, at)
	if err != nil {
		t.Fatal(err)
	}
	// Roots are known without a read.
	if roots, err := tree.MissingNodes(ctx, broken{}, []flattree.Index{31, 71, 83, 88}); err != nil || slices.Max(roots) != 0 {
		t.Errorf("roots: %v, %v", roots, err)
	}
	for k, index := range at {
		one, err := tree.MissingNodes(ctx, r.nodes, []flattree.Index{index})
		if err != nil || one[0] != got[k] {
			t.Errorf("MissingNodes(%d) = %v, %v; among many %d", index, one, err, got[k])
		}
		if index%2 == 0 && index < 2*length && got[k] != missingByModel(r, length, uint64(index)/2) {
			t.Errorf("MissingNodes(%d) = %d", index, got[k])
		}
	}
}

// missingByModel goes down from the root to the block and remembers where knowledge ends.
func missingByModel(r *reader, length, block uint64) uint64 {
	var root flattree.Index
	for _, n := range r.tree.Roots() {
		if n.Index.Contains(flattree.Leaf(block)) {
			root = n.Index
		}
	}
	lowest := root.Depth()
	for at := root; at.Depth() > 0; {
		left, right, _ := at.Children()
		at = right
		if left.Contains(flattree.Leaf(block)) {
			at = left
		}
		if _, ok := r.nodes[at]; ok {
			lowest = at.Depth()
		}
	}
	return uint64(lowest)
}

func topRoot(m *model, length, block uint64) merkle.Node {
	for _, n := range m.roots(length) {
		if n.Index.Contains(flattree.Leaf(block)) {
			return n
		}
	}
	panic("no root")
}

func checkTruth(t *testing.T, r *reader, truth store) {
	t.Helper()
	for at, n := range r.nodes {
		if truth[at] != n {
			t.Fatalf("stored %+v, want %+v", n, truth[at])
		}
	}
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
