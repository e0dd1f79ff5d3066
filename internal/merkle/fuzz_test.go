package merkle_test

import (
	"context"
	"errors"
	"testing"

	"github.com/p2pcore/p2pcore/internal/flattree"
	"github.com/p2pcore/p2pcore/internal/merkle"
	"github.com/p2pcore/p2pcore/internal/wire"
)

// Whatever a peer sends, nothing is accepted but the truth: the signed head, and nodes with the
// hashes of the signed tree.
func FuzzVerify(f *testing.F) {
	const n, known = 21, 11
	m := ruleModel(n, "fuzz")
	truth := m.store(n)
	tree := m.tree(f, n, 0)
	for _, req := range []merkle.Request{
		{Upgrade: &merkle.UpgradeRequest{Length: 21}},
		{Upgrade: &merkle.UpgradeRequest{Length: 6}},
		{Upgrade: &merkle.UpgradeRequest{Start: known, Length: 4}},
		{Upgrade: &merkle.UpgradeRequest{Start: known, Length: 10}, Block: &merkle.BlockRequest{Index: 13}},
		{Upgrade: &merkle.UpgradeRequest{Start: known, Length: 10}, Seek: &merkle.SeekRequest{Bytes: 50}},
		{Block: &merkle.BlockRequest{Index: 2, Nodes: 3}},
		{Block: &merkle.BlockRequest{Index: 2, Nodes: 3}, Seek: &merkle.SeekRequest{Bytes: 12}},
		{Hash: &merkle.HashRequest{Index: 3, Nodes: 1}, Seek: &merkle.SeekRequest{Bytes: 16}},
	} {
		p, err := tree.Prove(context.Background(), truth, req)
		if err != nil {
			f.Fatal(err)
		}
		f.Add((&wire.Data{ID: 1, Proof: *fill(p, m, tree.Head())}).Append(nil))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		msg, err := wire.Parse(wire.TypeData, data)
		if err != nil {
			return
		}
		for _, length := range []uint64{0, known, n} {
			p := &msg.(*wire.Data).Proof
			r := readerOf(t, m, length)
			b := r.tree.NewBatch()
			err := b.Verify(context.Background(), r.nodes, p, seal{})
			if err != nil && (b.Upgraded() || len(b.Nodes()) != 0) {
				t.Fatalf("refused (%v), but changed", err)
			}
			if h := b.Head(); h != r.tree.Head() && h != tree.Head() {
				t.Fatalf("length %d: head %+v", length, h)
			}
			for _, n := range b.Nodes() {
				if truth[n.Index].Hash != n.Hash {
					t.Fatalf("length %d: node %+v, want %+v", length, n, truth[n.Index])
				}
			}
			if err == nil && p.Block != nil && string(p.Block.Value) != string(m.blocks[p.Block.Index]) {
				t.Fatalf("length %d: block %d is %q", length, p.Block.Index, p.Block.Value)
			}
		}
	})
}

// Whatever a peer asks, the answer is a proof that a reader accepts, or a refusal.
func FuzzProve(f *testing.F) {
	const n = 21
	m := ruleModel(n, "fuzz")
	truth := m.store(n)
	tree := m.tree(f, n, 0)
	f.Add(uint8(1), uint64(3), uint64(2), uint64(0), uint64(0), uint64(0), uint64(0))
	f.Add(uint8(2), uint64(9), uint64(1), uint64(0), uint64(0), uint64(0), uint64(0))
	f.Add(uint8(6), uint64(0), uint64(4), uint64(20), uint64(0), uint64(0), uint64(0))
	f.Add(uint8(8), uint64(0), uint64(0), uint64(0), uint64(0), uint64(5), uint64(9))
	f.Add(uint8(9), uint64(7), uint64(0), uint64(0), uint64(0), uint64(5), uint64(16))
	f.Add(uint8(12), uint64(0), uint64(0), uint64(50), uint64(1), uint64(5), uint64(9))
	f.Add(uint8(14), uint64(7), uint64(0), uint64(50), uint64(0), uint64(3), uint64(9))
	f.Fuzz(func(t *testing.T, parts uint8, index, nodes, bytes, padding, start, length uint64) {
		var req merkle.Request
		if parts&1 != 0 {
			req.Block = &merkle.BlockRequest{Index: index, Nodes: nodes}
		}
		if parts&2 != 0 {
			req.Hash = &merkle.HashRequest{Index: flattree.Index(index), Nodes: nodes}
		}
		if parts&4 != 0 {
			req.Seek = &merkle.SeekRequest{Bytes: bytes, Padding: padding}
		}
		if parts&8 != 0 {
			req.Upgrade = &merkle.UpgradeRequest{Start: start, Length: length}
		}
		p, err := tree.Prove(context.Background(), truth, req)
		if err != nil {
			if !errors.Is(err, merkle.ErrInvalidRequest) {
				t.Fatal(err)
			}
			return
		}
		has := uint64(n)
		if p.Upgrade != nil {
			has = p.Upgrade.Start
		}
		r := readerOf(t, m, has)
		r.nodes = m.store(has)
		err = r.apply(fill(p, m, tree.Head()), seal{})
		// A request can name more nodes than the reader has use for; then they lead past its tree.
		if err != nil && !(errors.Is(err, merkle.ErrMissingNode) && parts&8 != 0 && nodes > 0) {
			t.Fatalf("%s: %+v: %v", describe(req), p, err)
		}
		checkTruth(t, r, truth)
	})
}
