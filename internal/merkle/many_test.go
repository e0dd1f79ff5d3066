package merkle_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/p2pcore/p2pcore/internal/flattree"
	"github.com/p2pcore/p2pcore/internal/merkle"
)

var errDisk = errors.New("disk")

// broken is a NodeReader of a machine that fails.
type broken struct{}

func (broken) ReadNodes(context.Context, []flattree.Index, []merkle.Node) error { return errDisk }

// Many proofs against one tree: one read, and each verdict as if it stood alone.
func TestVerifyMany(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	const n = 64
	m := ruleModel(n, "many")
	tree, truth := m.tree(t, n, 0), m.store(n)
	r := readerOf(t, m, 40)
	b := r.tree.NewBatch()

	reqs := []merkle.Request{{Upgrade: &merkle.UpgradeRequest{Start: 40, Length: 24}}}
	for i := range uint64(40) {
		reqs = append(reqs, merkle.Request{Block: &merkle.BlockRequest{Index: i, Nodes: missingByModel(r, 40, i)}})
	}
	// Planned for the tree of 64 blocks: the node to compare with comes with the upgrade above.
	for i := uint64(40); i < n; i++ {
		grown := &reader{tree: tree, nodes: store{}}
		grown.nodes.put(m.roots(40)...)
		grown.nodes.put(m.node(40, 8), m.node(48, 16))
		reqs = append(reqs, merkle.Request{Block: &merkle.BlockRequest{Index: i, Nodes: missingByModel(grown, n, i)}})
	}
	counter := &counted{NodeReader: truth}
	proved, err := tree.ProveMany(ctx, counter, reqs)
	if err != nil || counter.calls != 1 {
		t.Fatalf("ProveMany: %d reads, %v", counter.calls, err)
	}
	proofs := make([]*merkle.Proof, len(proved))
	for i := range proved {
		if proved[i].Err != nil {
			t.Fatal(proved[i].Err)
		}
		proofs[i] = fill(proved[i].Proof, m, tree.Head())
	}
	bad := map[int]error{7: merkle.ErrInvalidChecksum, 9: merkle.ErrStaleFork, 50: merkle.ErrInvalidChecksum, 60: merkle.ErrInvalidOperation}
	proofs[7], proofs[9] = clone(proofs[7]), clone(proofs[9])
	proofs[50], proofs[60] = clone(proofs[50]), clone(proofs[60])
	proofs[7].Block.Value = append(proofs[7].Block.Value, 1)
	proofs[9].Fork = 1
	proofs[50].Block.Value = append(proofs[50].Block.Value, 1)
	proofs[60].Block.Nodes = append(proofs[60].Block.Nodes, merkle.Node{Index: 1, Hash: merkle.Hash{1}})

	errs := make([]error, len(proofs))
	if err := b.VerifyMany(ctx, broken{}, proofs, seal{}, errs); !errors.Is(err, errDisk) || len(b.Nodes()) != 0 {
		t.Fatalf("broken reader: %v, %d nodes", err, len(b.Nodes()))
	}
	counter = &counted{NodeReader: r.nodes}
	if err := b.VerifyMany(ctx, counter, proofs, seal{}, errs); err != nil || counter.calls != 1 {
		t.Fatalf("VerifyMany: %d reads, %v", counter.calls, err)
	}
	for i, err := range errs {
		if want := bad[i]; want == nil && err != nil || want != nil && !errors.Is(err, want) {
			t.Errorf("proof %d: %v, want %v", i, err, want)
		}
	}
	if b.Head() != tree.Head() || string(b.Signature()) != string(seal{}.sign(tree.Head())) {
		t.Errorf("head %+v", b.Head())
	}
	r.nodes.put(b.Nodes()...)
	checkTruth(t, r, truth)
	for i := range uint64(n) {
		_, refused := bad[int(i)+1]
		if got := !r.nodes[flattree.Leaf(i)].Missing(); !got && !refused {
			t.Errorf("leaf %d is not stored", i)
		}
	}
	// The batch goes on where it stands, also by appending.
	appendBlock(t, b, []byte("more"))
	m.blocks = append(m.blocks, []byte("more"))
	if b.Head() != m.head(n+1, 0) {
		t.Errorf("after an append: head %+v", b.Head())
	}
}

// A forged proof in front of good ones must not lend them its nodes.
func TestVerifyManyTrustsVerifiedNodesOnly(t *testing.T) {
	t.Parallel()
	const n = 16
	m, other := ruleModel(n, "good"), ruleModel(n, "evil")
	r := readerOf(t, m, n)
	forged := func(i uint64, nodes uint64) *merkle.Proof {
		p, err := other.tree(t, n, 0).Prove(context.Background(), other.store(n), merkle.Request{Block: &merkle.BlockRequest{Index: i, Nodes: nodes}})
		if err != nil {
			t.Fatal(err)
		}
		return fill(p, other, merkle.Head{})
	}
	up, err := other.tree(t, n, 0).Prove(context.Background(), other.store(n), merkle.Request{Upgrade: &merkle.UpgradeRequest{Length: n}})
	if err != nil {
		t.Fatal(err)
	}
	fill(up, other, m.head(n, 0))
	for _, from := range []uint64{0, n} {
		if from == 0 {
			r = newReader(t, 0)
		}
		b := r.tree.NewBatch()
		proofs := []*merkle.Proof{forged(2, 4), forged(3, 1), forged(2, 0), up, forged(5, 2), forged(5, 4)}
		errs := make([]error, len(proofs))
		if err := b.VerifyMany(context.Background(), r.nodes, proofs, seal{}, errs); err != nil {
			t.Fatal(err)
		}
		for i, err := range errs {
			if err == nil && proofs[i].Upgrade == nil {
				t.Errorf("from %d: forged proof %d accepted", from, i)
			}
		}
		if len(b.Nodes()) != 0 || b.Head() != r.tree.Head() {
			t.Errorf("from %d: %d nodes, head %+v", from, len(b.Nodes()), b.Head())
		}
		r = readerOf(t, m, n)
	}
}

// A stored node that lies past the tree is a leftover and proves nothing.
func TestVerifyIgnoresNodesPastTheTree(t *testing.T) {
	t.Parallel()
	m := ruleModel(16, "past")
	r := readerOf(t, m, 8)
	r.nodes = m.store(16)
	p := &merkle.Proof{Block: &merkle.BlockProof{Index: 9, Value: m.blocks[9]}}
	if err := r.apply(p, seal{}); !errors.Is(err, merkle.ErrMissingNode) {
		t.Errorf("block past the tree: %v", err)
	}
}

// A block below an additional node has nothing that it could be compared with: no prover sends it.
func TestVerifyComparesWithEarlierNodesOnly(t *testing.T) {
	t.Parallel()
	const n = 21
	m := ruleModel(n, "earlier")
	tree := m.tree(t, n, 0)
	p, err := tree.Prove(context.Background(), m.store(n), merkle.Request{Upgrade: &merkle.UpgradeRequest{Length: 8}})
	if err != nil {
		t.Fatal(err)
	}
	fill(p, m, tree.Head())
	p.Block = &merkle.BlockProof{Index: 20, Value: m.blocks[20]} // a root of its own, in Additional
	b := newReader(t, 0).tree.NewBatch()
	if err := b.Verify(context.Background(), store{}, p, seal{}); !errors.Is(err, merkle.ErrMissingNode) || b.Upgraded() {
		t.Errorf("block below an additional node: %v, upgraded %v", err, b.Upgraded())
	}
	p.Block = nil
	if err := b.Verify(context.Background(), store{}, p, seal{}); err != nil || b.Head() != tree.Head() {
		t.Errorf("without the block: %v", err)
	}
}

// Extend gives the longer tree from its nodes, and fails for each one that is missing.
func TestExtend(t *testing.T) {
	t.Parallel()
	const n = 40
	m := ruleModel(n, "extend")
	for length := range uint64(n) {
		for to := length + 1; to <= n; to++ {
			var asked []flattree.Index
			nodes := m.store(to)
			find := func(at flattree.Index) (merkle.Node, bool) {
				asked = append(asked, at)
				node, ok := nodes[at]
				return node, ok
			}
			got, err := m.tree(t, length, 2).Extend(to-length, find)
			if err != nil || got.Head() != m.head(to, 2) {
				t.Fatalf("%d to %d: %+v, %v", length, to, got, err)
			}
			want, _ := m.upgrade(length, to, -1)
			if !slices.Equal(asked, indexes(want)) {
				t.Fatalf("%d to %d: asked for %v, want %v", length, to, asked, indexes(want))
			}
			for _, at := range asked {
				held := nodes[at]
				delete(nodes, at)
				if _, err := m.tree(t, length, 2).Extend(to-length, find); !errors.Is(err, merkle.ErrMissingNode) {
					t.Fatalf("%d to %d without %d: %v", length, to, at, err)
				}
				nodes[at] = held
			}
		}
	}
	tree := m.tree(t, 5, 0)
	any := func(at flattree.Index) (merkle.Node, bool) {
		return merkle.Node{Index: at, Size: 1, Hash: merkle.Hash{1}}, true
	}
	for _, blocks := range []uint64{0, merkle.MaxLength, 1 << 53, 1<<64 - 1} {
		if _, err := tree.Extend(blocks, any); !errors.Is(err, merkle.ErrInvalidOperation) {
			t.Errorf("extend by %d: %v", blocks, err)
		}
	}
	calls := 0
	if _, err := tree.Extend(merkle.MaxLength-5, func(at flattree.Index) (merkle.Node, bool) { calls++; return any(at) }); err != nil || calls > 2*merkle.MaxDepth {
		t.Errorf("extend to MaxLength: %d calls, %v", calls, err)
	}
}

// Growth gives what Extend asks for, with a prologue or without.
func TestGrowth(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	const n = 40
	m := ruleModel(n, "growth")
	rule := &merkle.Prologue{Length: 6, Hash: m.head(6, 0).Hash}
	for to := range uint64(n + 1) {
		tree, nodes := m.tree(t, to, 2).WithPrologue(rule), m.store(to)
		for start := range to {
			got, err := tree.Growth(ctx, nodes, start)
			want, _ := m.upgrade(start, to, -1)
			if err != nil || !slices.Equal(got, want) {
				t.Fatalf("from %d to %d: %v, %v, want %v", start, to, indexes(got), err, indexes(want))
			}
			i := 0
			longer, err := m.tree(t, start, 2).Extend(to-start, func(flattree.Index) (merkle.Node, bool) { i++; return got[i-1], true })
			if err != nil || longer.Head() != tree.Head() || i != len(got) {
				t.Fatalf("from %d to %d: %d of %d nodes used, %v", start, to, i, len(got), err)
			}
		}
		for _, start := range []uint64{to, to + 1, 1<<64 - 1} {
			if _, err := tree.Growth(ctx, nodes, start); !errors.Is(err, merkle.ErrInvalidRequest) {
				t.Errorf("from %d to %d: %v", start, to, err)
			}
		}
	}
	nodes := m.store(12)
	delete(nodes, 9) // blocks 4 and 5
	if _, err := m.tree(t, 12, 0).Growth(ctx, nodes, 2); err != nil {
		t.Errorf("from 2 to 12 without node 9: %v", err) // it takes 5, 11 and 19
	}
	delete(nodes, 11)
	if _, err := m.tree(t, 12, 0).Growth(ctx, nodes, 2); !errors.Is(err, merkle.ErrMissingNode) {
		t.Errorf("from 2 to 12 without node 11: %v", err)
	}
}

// What CanUpgrade says is what Prove and the roots of that length say, whichever node is gone; with one read.
func TestCanUpgrade(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	const n = 21
	m := ruleModel(n, "can")
	for gone := range flattree.Index(2 * n) {
		for _, rule := range []*merkle.Prologue{nil, {Length: 6, Hash: m.head(6, 0).Hash}} {
			tree, nodes := m.tree(t, n, 0).WithPrologue(rule), m.store(n)
			delete(nodes, gone)
			for start := uint64(1); start < n; start++ {
				_, err := tree.Prove(ctx, nodes, merkle.Request{Upgrade: &merkle.UpgradeRequest{Start: start, Length: n - start}})
				want := err == nil && !slices.Contains(flattree.AppendRoots(nil, start), gone)
				counter := &counted{NodeReader: nodes}
				if can, err := tree.CanUpgrade(ctx, counter, start); can != want || err != nil || counter.calls > 1 {
					t.Errorf("without node %d: CanUpgrade(%d) = %v, %v in %d reads, want %v", gone, start, can, err, counter.calls, want)
				}
			}
		}
	}
	tree := m.tree(t, n, 0)
	for start, want := range map[uint64]bool{0: true, n: false, n + 1: false, 1<<64 - 1: false} {
		if can, err := tree.CanUpgrade(ctx, broken{}, start); can != want || err != nil {
			t.Errorf("CanUpgrade(%d) = %v, %v, want %v", start, can, err, want)
		}
	}
	if _, err := tree.CanUpgrade(ctx, broken{}, 5); !errors.Is(err, errDisk) {
		t.Errorf("a broken disk: %v", err)
	}
	inside := m.tree(t, 4, 0).WithPrologue(&merkle.Prologue{Length: 6, Hash: m.head(6, 0).Hash})
	if can, err := inside.CanUpgrade(ctx, m.store(4), 2); can || err != nil {
		t.Errorf("inside the prologue: %v, %v", can, err)
	}
}

// The rules of a prologue, for both sides.
func TestPrologue(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	const n, pinned = 21, 6
	m := ruleModel(n, "prologue")
	other := ruleModel(n, "other")
	rule := &merkle.Prologue{Length: pinned, Hash: m.head(pinned, 0).Hash}
	prove := func(m *model, tree *merkle.Tree, start, length uint64) *merkle.Proof {
		p, err := tree.Prove(ctx, m.store(n), merkle.Request{Upgrade: &merkle.UpgradeRequest{Start: start, Length: length}})
		if err != nil {
			t.Fatal(err)
		}
		return fill(p, m, tree.Head())
	}
	bound := m.tree(t, n, 0).WithPrologue(rule)
	for start := range uint64(n) {
		p := prove(m, bound, start, 1)
		if start < pinned && (p.Upgrade.Start != 0 || p.Upgrade.Length != pinned) || start >= pinned && p.Upgrade.Start != start {
			t.Errorf("upgrade from %d is answered from %d+%d", start, p.Upgrade.Start, p.Upgrade.Length)
		}
	}
	empty := newReader(t, 0)
	empty.tree = empty.tree.WithPrologue(rule)
	for name, p := range map[string]*merkle.Proof{
		"short":       prove(m, m.tree(t, n, 0), 0, pinned-1),
		"other start": prove(m, m.tree(t, n, 0), 3, 5),
		"other hash":  prove(other, other.tree(t, n, 0), 0, pinned),
	} {
		b := empty.tree.NewBatch()
		if err := b.Verify(ctx, empty.nodes, p, seal{}); !errors.Is(err, merkle.ErrPrologue) || !errors.Is(err, merkle.ErrInvalidProof) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := empty.apply(prove(m, bound, 0, n), seal{}); err != nil || empty.tree.Head() != bound.Head() {
		t.Errorf("the right prologue: %v", err)
	}
}
