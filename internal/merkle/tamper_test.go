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
)

// clone copies a proof deeply enough to change anything in it.
func clone(p *merkle.Proof) *merkle.Proof {
	c := *p
	if p.Block != nil {
		b := *p.Block
		b.Value, b.Nodes = slices.Clone(b.Value), slices.Clone(b.Nodes)
		c.Block = &b
	}
	if p.Hash != nil {
		h := *p.Hash
		h.Nodes = slices.Clone(h.Nodes)
		c.Hash = &h
	}
	if p.Seek != nil {
		s := *p.Seek
		s.Nodes = slices.Clone(s.Nodes)
		c.Seek = &s
	}
	if p.Upgrade != nil {
		u := *p.Upgrade
		u.Nodes, u.Additional, u.Signature = slices.Clone(u.Nodes), slices.Clone(u.Additional), slices.Clone(u.Signature)
		c.Upgrade = &u
	}
	return &c
}

// lists returns the node lists of a proof, to be changed in place.
func lists(p *merkle.Proof) map[string]*[]merkle.Node {
	l := make(map[string]*[]merkle.Node)
	if p.Block != nil {
		l["block"] = &p.Block.Nodes
	}
	if p.Hash != nil {
		l["hash"] = &p.Hash.Nodes
	}
	if p.Seek != nil {
		l["seek"] = &p.Seek.Nodes
	}
	if p.Upgrade != nil {
		l["upgrade"], l["additional"] = &p.Upgrade.Nodes, &p.Upgrade.Additional
	}
	return l
}

// tampered yields every change of one value of a proof that must not go unnoticed.
func tampered(p *merkle.Proof, yield func(what string, p *merkle.Proof)) {
	for name, list := range lists(p) {
		for i := range *list {
			change := func(what string, f func(nodes []merkle.Node) []merkle.Node) {
				c := clone(p)
				l := lists(c)[name]
				*l = f(*l)
				yield(fmt.Sprintf("%s node %d: %s", name, i, what), c)
			}
			for bit := range 256 {
				change(fmt.Sprintf("hash bit %d", bit), func(n []merkle.Node) []merkle.Node {
					n[i].Hash[bit/8] ^= 1 << (bit % 8)
					return n
				})
			}
			for bit := range 64 {
				change(fmt.Sprintf("size bit %d", bit), func(n []merkle.Node) []merkle.Node {
					n[i].Size ^= 1 << bit
					return n
				})
				change(fmt.Sprintf("index bit %d", bit), func(n []merkle.Node) []merkle.Node {
					n[i].Index ^= 1 << bit
					return n
				})
			}
			change("removed", func(n []merkle.Node) []merkle.Node { return slices.Delete(n, i, i+1) })
			change("zero", func(n []merkle.Node) []merkle.Node { n[i].Hash = merkle.Hash{}; return n })
			if name != "upgrade" || i+1 < len(*list) {
				// A copy behind the last node of an upgrade is left over, which does no harm.
				change("doubled", func(n []merkle.Node) []merkle.Node { return slices.Insert(n, i, n[i]) })
			}
			if i > 1 || i == 1 && name != "seek" {
				// The first two nodes of a seek are a pair of siblings, in either order.
				change("swapped", func(n []merkle.Node) []merkle.Node { n[i], n[i-1] = n[i-1], n[i]; return n })
			}
		}
	}
	if b := p.Block; b != nil {
		for bit := range 8 * len(b.Value) {
			c := clone(p)
			c.Block.Value[bit/8] ^= 1 << (bit % 8)
			yield(fmt.Sprintf("value bit %d", bit), c)
		}
		c := clone(p)
		c.Block.Value = append(c.Block.Value, 0)
		yield("value longer", c)
		for bit := range 64 {
			c := clone(p)
			c.Block.Index ^= 1 << bit
			yield(fmt.Sprintf("block index bit %d", bit), c)
		}
	}
	if p.Hash != nil {
		for bit := range 64 {
			c := clone(p)
			c.Hash.Index ^= 1 << bit
			yield(fmt.Sprintf("hash index bit %d", bit), c)
		}
	}
	if u := p.Upgrade; u != nil {
		for bit := range 8 * len(u.Signature) {
			c := clone(p)
			c.Upgrade.Signature[bit/8] ^= 1 << (bit % 8)
			yield(fmt.Sprintf("signature bit %d", bit), c)
		}
	}
	c := clone(p)
	c.Fork++
	yield("fork", c)
}

// Whatever single value of a proof is changed, it is refused and nothing has changed.
func TestVerifyRejectsTamperedProofs(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	const n = 21
	m := ruleModel(n, "tamper")
	truth := m.store(n)
	tree := m.tree(t, n, 0)
	block := func(i uint64) *merkle.BlockRequest { return &merkle.BlockRequest{Index: i} }
	up := func(start, length uint64) *merkle.UpgradeRequest {
		return &merkle.UpgradeRequest{Start: start, Length: length}
	}
	for _, c := range []struct {
		name  string
		start uint64
		req   merkle.Request
	}{
		{"upgrade from nothing", 0, merkle.Request{Upgrade: up(0, 21)}},
		{"upgrade with additional nodes", 0, merkle.Request{Upgrade: up(0, 6)}},
		{"upgrade", 5, merkle.Request{Upgrade: up(5, 14)}},
		{"block", 21, merkle.Request{Block: &merkle.BlockRequest{Index: 9, Nodes: 4}}},
		{"last block", 21, merkle.Request{Block: block(20)}},
		{"hash", 21, merkle.Request{Hash: &merkle.HashRequest{Index: 9, Nodes: 3}}},
		{"known hash", 21, merkle.Request{Hash: &merkle.HashRequest{Index: 15}}},
		{"hash and seek", 21, merkle.Request{
			Hash: &merkle.HashRequest{Index: 0, Nodes: 4}, Seek: &merkle.SeekRequest{Bytes: m.head(11, 0).ByteLength + 1},
		}},
		{"block and seek", 21, merkle.Request{
			Block: &merkle.BlockRequest{Index: 2, Nodes: 4}, Seek: &merkle.SeekRequest{Bytes: m.head(11, 0).ByteLength + 1},
		}},
		{"new block and upgrade", 11, merkle.Request{Block: block(14), Upgrade: up(11, 10)}},
		{"new block and partial upgrade", 3, merkle.Request{Block: block(7), Upgrade: up(3, 7)}},
		{"old block and upgrade", 16, merkle.Request{Block: &merkle.BlockRequest{Index: 3, Nodes: 4}, Upgrade: up(16, 5)}},
		{"seek and upgrade", 3, merkle.Request{Seek: &merkle.SeekRequest{Bytes: m.head(13, 0).ByteLength + 1}, Upgrade: up(3, 18)}},
	} {
		before := readerOf(t, m, c.start)
		p, err := tree.Prove(ctx, truth, c.req)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		fill(p, m, tree.Head())
		good := &reader{tree: before.tree, nodes: maps.Clone(before.nodes), blocks: map[uint64][]byte{}}
		if err := good.apply(p, seal{}); err != nil {
			t.Fatalf("%s: untouched: %v", c.name, err)
		}
		tries := 0
		tampered(p, func(what string, bad *merkle.Proof) {
			tries++
			b := before.tree.NewBatch()
			err := b.Verify(ctx, before.nodes, bad, seal{})
			switch {
			case err == nil:
				t.Errorf("%s: %s: accepted", c.name, what)
			case !errors.Is(err, merkle.ErrInvalidProof) && !errors.Is(err, merkle.ErrInvalidChecksum) &&
				!errors.Is(err, merkle.ErrInvalidSignature) && !errors.Is(err, merkle.ErrMissingNode) &&
				!errors.Is(err, merkle.ErrStaleFork):
				t.Errorf("%s: %s: %v is no error of a proof", c.name, what, err)
			}
			if len(b.Nodes()) != 0 || b.Upgraded() || b.Head() != before.tree.Head() || !slices.Equal(b.Roots(), before.tree.Roots()) {
				t.Errorf("%s: %s: refused, but %d nodes, head %+v", c.name, what, len(b.Nodes()), b.Head())
			}
		})
		if tries < 60 {
			t.Errorf("%s: only %d changes tried", c.name, tries)
		}
	}
}

// The numbers that select what is asked for are not secured by a hash, but cannot make an upgrade
// reach another head than the signed one.
func TestVerifyUpgradeBounds(t *testing.T) {
	t.Parallel()
	const n = 21
	m := ruleModel(n, "bounds")
	tree := m.tree(t, n, 0)
	p, err := tree.Prove(context.Background(), m.store(n), merkle.Request{Upgrade: &merkle.UpgradeRequest{Start: 5, Length: 8}})
	if err != nil {
		t.Fatal(err)
	}
	fill(p, m, tree.Head())
	values := []uint64{0, 1, 4, 5, 6, 8, 13, 16, 21, 1 << 32, merkle.MaxLength, merkle.MaxLength + 1, 1<<53 - 1, 1 << 63, 1<<64 - 1}
	for _, start := range values {
		for _, length := range values {
			c := clone(p)
			c.Upgrade.Start, c.Upgrade.Length = start, length
			b := m.tree(t, 5, 0).NewBatch()
			err := b.Verify(context.Background(), m.store(5), c, seal{})
			switch {
			case err == nil && b.Upgraded() && b.Head() != tree.Head():
				t.Errorf("%d+%d: head %+v", start, length, b.Head())
			case err != nil && b.Head() != m.head(5, 0):
				t.Errorf("%d+%d: refused, but head %+v", start, length, b.Head())
			case errors.Is(err, merkle.ErrStale) && start == 5:
				t.Errorf("%d+%d: called stale", start, length)
			case err != nil && !errors.Is(err, merkle.ErrInvalidProof) && !errors.Is(err, merkle.ErrInvalidSignature):
				t.Errorf("%d+%d: %v", start, length, err)
			}
		}
	}
}

// A proof that was right when it was asked for is told from a lie.
func TestVerifyTellsStaleUpgrades(t *testing.T) {
	t.Parallel()
	const n = 21
	m := ruleModel(n, "stale")
	tree := m.tree(t, n, 0)
	p, err := tree.Prove(context.Background(), m.store(n), merkle.Request{Upgrade: &merkle.UpgradeRequest{Start: 5, Length: 16}})
	if err != nil {
		t.Fatal(err)
	}
	fill(p, m, tree.Head())
	b := m.tree(t, 7, 0).NewBatch()
	if err := b.Verify(context.Background(), m.store(7), p, seal{}); !errors.Is(err, merkle.ErrStale) || !errors.Is(err, merkle.ErrInvalidOperation) {
		t.Errorf("upgrade from 5 at length 7: %v", err)
	}
	// What is known already is dropped, with a broken signature too; a block beside it still counts.
	p.Upgrade.Signature = nil
	p.Block = &merkle.BlockProof{Index: 20, Value: m.blocks[20]}
	b = tree.NewBatch()
	if err := b.Verify(context.Background(), m.store(n), p, seal{}); err != nil || b.Upgraded() {
		t.Errorf("known upgrade: %v, upgraded %v", err, b.Upgraded())
	}
	p.Block.Value = []byte("else")
	if err := b.Verify(context.Background(), m.store(n), p, seal{}); !errors.Is(err, merkle.ErrInvalidChecksum) {
		t.Errorf("known upgrade, wrong block: %v", err)
	}
}

// Sizes that add up past MaxSize, paths past the largest tree, trees past MaxLength.
func TestVerifyRefusesOverflow(t *testing.T) {
	t.Parallel()
	const n = 21
	m := ruleModel(n, "overflow")
	tree := m.tree(t, n, 0)
	node := func(at flattree.Index, size uint64) merkle.Node {
		return merkle.Node{Index: at, Size: size, Hash: merkle.Hash{1}}
	}
	deep := []merkle.Node{}
	for at := flattree.Index(0); len(deep) < 200; at = at.Parent() {
		deep = append(deep, node(at.Sibling(), 0))
	}
	wide := []merkle.Node{}
	for at := flattree.Index(42); len(wide) < 200; at = at.Sibling().Parent() {
		wide = append(wide, node(at, 0))
	}
	for name, p := range map[string]*merkle.Proof{
		"sizes":       {Block: &merkle.BlockProof{Index: 0, Value: []byte("x"), Nodes: []merkle.Node{node(2, merkle.MaxSize)}}},
		"size":        {Block: &merkle.BlockProof{Index: 0, Value: []byte("xy"), Nodes: []merkle.Node{node(2, 1<<64-1)}}},
		"no hash":     {Block: &merkle.BlockProof{Index: 0, Nodes: []merkle.Node{{Index: 2}}}},
		"deep block":  {Block: &merkle.BlockProof{Index: 0, Nodes: deep}},
		"deep hash":   {Hash: &merkle.HashProof{Index: 0, Nodes: append([]merkle.Node{node(0, 0)}, deep...)}},
		"deep seek":   {Seek: &merkle.SeekProof{Nodes: append([]merkle.Node{node(0, 0)}, deep...)}},
		"far block":   {Block: &merkle.BlockProof{Index: 1<<64 - 1}},
		"far hash":    {Hash: &merkle.HashProof{Index: 1<<64 - 1, Nodes: []merkle.Node{node(1<<64-1, 1)}}},
		"far seek":    {Seek: &merkle.SeekProof{Nodes: []merkle.Node{node(1<<64-1, 1), node(1<<63, 1)}}},
		"empty hash":  {Hash: &merkle.HashProof{}},
		"upgrade sum": {Upgrade: &merkle.UpgradeProof{Start: 21, Length: 1, Nodes: []merkle.Node{node(42, merkle.MaxSize)}}},
		"additional": {Upgrade: &merkle.UpgradeProof{
			Start: 0, Length: 21, Additional: []merkle.Node{node(42, 0), node(1<<64-1, 0)},
		}},
		"long": {Upgrade: &merkle.UpgradeProof{Start: 0, Length: 21, Additional: wide}},
	} {
		b := tree.NewBatch()
		if err := b.Verify(context.Background(), m.store(n), p, seal{}); !errors.Is(err, merkle.ErrInvalidOperation) {
			t.Errorf("%s: %v, want ErrInvalidOperation", name, err)
		}
		if b.Upgraded() || len(b.Nodes()) != 0 {
			t.Errorf("%s: the batch has changed", name)
		}
	}
}

func TestNewTreeRefusesBadRoots(t *testing.T) {
	t.Parallel()
	m := ruleModel(21, "roots")
	good := m.roots(21)
	change := func(f func(r []merkle.Node) []merkle.Node) []merkle.Node { return f(slices.Clone(good)) }
	for name, roots := range map[string][]merkle.Node{
		"gap":      change(func(r []merkle.Node) []merkle.Node { return r[1:] }),
		"order":    change(func(r []merkle.Node) []merkle.Node { slices.Reverse(r); return r }),
		"unmerged": {m.node(0, 2), m.node(2, 2)},
		"growing":  {m.node(0, 1), m.node(2, 2)},
		"no hash":  change(func(r []merkle.Node) []merkle.Node { r[1].Hash = merkle.Hash{}; return r }),
		"far":      {{Index: 1<<64 - 1, Hash: merkle.Hash{1}}},
	} {
		if _, err := merkle.NewTree(0, roots); !errors.Is(err, merkle.ErrInvalidRoots) {
			t.Errorf("%s: %v", name, err)
		}
	}
	big := change(func(r []merkle.Node) []merkle.Node { r[0].Size = merkle.MaxSize; return r })
	if _, err := merkle.NewTree(0, big); !errors.Is(err, merkle.ErrTooLarge) {
		t.Errorf("size: %v", err)
	}
	full, err := merkle.NewTree(0, []merkle.Node{{Index: merkle.Index52, Size: 1, Hash: merkle.Hash{1}}})
	if err != nil {
		t.Fatal(err)
	}
	b := full.NewBatch()
	if err := b.Append(nil); !errors.Is(err, merkle.ErrTooLarge) || b.Upgraded() {
		t.Errorf("append past MaxLength: %v", err)
	}
}

// Requests of a peer with absurd numbers end at once, without a proof.
func TestProveRefusesAbsurdRequests(t *testing.T) {
	t.Parallel()
	const n = 21
	m := ruleModel(n, "absurd")
	tree, nodes := m.tree(t, n, 0), m.store(n)
	const big = 1<<53 - 1
	for _, req := range []merkle.Request{
		{Block: &merkle.BlockRequest{Index: big}},
		{Block: &merkle.BlockRequest{Index: 1 << 63}},
		{Block: &merkle.BlockRequest{Index: 0, Nodes: big}},
		{Hash: &merkle.HashRequest{Index: big}},
		{Hash: &merkle.HashRequest{Index: 1<<64 - 1, Nodes: 1}},
		{Hash: &merkle.HashRequest{Index: 39, Nodes: 0}},
		{Hash: &merkle.HashRequest{Index: 0, Nodes: big}},
		{Upgrade: &merkle.UpgradeRequest{Start: big, Length: big}},
		{Upgrade: &merkle.UpgradeRequest{Start: 1, Length: 1<<64 - 1}},
		{Upgrade: &merkle.UpgradeRequest{Start: 21, Length: 0}},
		{Upgrade: &merkle.UpgradeRequest{Start: 20, Length: 2}},
		{Upgrade: &merkle.UpgradeRequest{Start: 20, Length: 1}, Seek: &merkle.SeekRequest{Bytes: 1, Padding: big}},
		{Block: &merkle.BlockRequest{Index: 3, Nodes: 2}, Seek: &merkle.SeekRequest{Bytes: big}},
		{Block: &merkle.BlockRequest{Index: 3, Nodes: 2}, Seek: &merkle.SeekRequest{Bytes: m.head(4, 0).ByteLength}},
		{Block: &merkle.BlockRequest{Index: 5, Nodes: 1}, Seek: &merkle.SeekRequest{Bytes: m.head(4, 0).ByteLength - 1}},
		{Block: &merkle.BlockRequest{Index: 3, Nodes: 2}, Seek: &merkle.SeekRequest{Bytes: big, Padding: big}},
	} {
		if p, err := tree.Prove(context.Background(), nodes, req); !errors.Is(err, merkle.ErrInvalidRequest) {
			t.Errorf("%s: %+v, %v", describe(req), p, err)
		}
	}
	// One bad request leaves the others alone.
	delete(nodes, 0)
	proved, err := tree.ProveMany(context.Background(), nodes, []merkle.Request{
		{Block: &merkle.BlockRequest{Index: 1, Nodes: 1}},
		{Block: &merkle.BlockRequest{Index: 99}},
		{Block: &merkle.BlockRequest{Index: 9, Nodes: 2}},
	})
	if err != nil || !errors.Is(proved[0].Err, merkle.ErrMissingNode) || !errors.Is(proved[1].Err, merkle.ErrInvalidRequest) ||
		proved[2].Err != nil || !slices.Equal(indexes(proved[2].Proof.Block.Nodes), []flattree.Index{16, 21}) {
		t.Errorf("ProveMany = %+v, %v", proved, err)
	}
	if p, err := newReader(t, 4).tree.Prove(context.Background(), nodes, merkle.Request{Block: &merkle.BlockRequest{}}); err != nil || p.Fork != 4 || p.Block != nil {
		t.Errorf("empty tree: %+v, %v", p, err)
	}
}

// A hash that was computed ahead counts for the bytes that it is of, and for no others.
func TestPrehashIsOfItsValueOnly(t *testing.T) {
	t.Parallel()
	const n = 21
	m := ruleModel(n, "prehash")
	tree := m.tree(t, n, 0)
	at := slices.IndexFunc(m.blocks, func(b []byte) bool { return len(b) > 1 })
	right := m.blocks[at]
	wrong := slices.Clone(right)
	wrong[len(wrong)-1] ^= 1
	for _, c := range []struct {
		name          string
		hashed, value []byte
		want          error
	}{
		{"the block", right, right, nil},
		{"another block", wrong, wrong, merkle.ErrInvalidChecksum},
		{"the block, then another", right, wrong, merkle.ErrInvalidChecksum},
		{"another block, then the block", wrong, right, nil},
		{"the block, then its beginning", right, right[:len(right)-1], merkle.ErrInvalidChecksum},
		{"the block, then nothing", right, nil, merkle.ErrInvalidChecksum},
		{"nothing, then the block", nil, right, nil},
	} {
		p := &merkle.Proof{Block: &merkle.BlockProof{Index: uint64(at), Value: c.hashed}}
		p.Block.Prehash()
		p.Block.Value = c.value
		if err := tree.NewBatch().Verify(context.Background(), m.store(n), p, seal{}); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
	}
}
