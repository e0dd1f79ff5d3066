package merkle_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/p2pcore/p2pcore/internal/flattree"
	"github.com/p2pcore/p2pcore/internal/merkle"
)

// denseStore is a NodeReader over a slice, so that benchmarks do not measure a map.
type denseStore []merkle.Node

func (d denseStore) ReadNodes(_ context.Context, at []flattree.Index, dst []merkle.Node) error {
	for i, index := range at {
		dst[i] = d[index]
	}
	return nil
}

func benchTree(b *testing.B, blocks, size int) (*merkle.Tree, denseStore, []byte) {
	b.Helper()
	block := make([]byte, size)
	tree, err := merkle.NewTree(0, nil)
	if err != nil {
		b.Fatal(err)
	}
	batch := tree.NewBatch()
	for range blocks {
		if err := batch.Append(block); err != nil {
			b.Fatal(err)
		}
	}
	nodes := make(denseStore, 2*blocks)
	for _, n := range batch.Nodes() {
		nodes[n.Index] = n
	}
	return batch.Tree(), nodes, block
}

func BenchmarkLeaf(b *testing.B) {
	for _, size := range []int{64, 1024, 2048, 4096, 65536} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			data := make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				merkle.LeafNode(1, data)
			}
		})
	}
}

func BenchmarkParent(b *testing.B) {
	l, r := merkle.LeafNode(0, nil), merkle.LeafNode(1, nil)
	b.ReportAllocs()
	for b.Loop() {
		merkle.ParentNode(l, r)
	}
}

// One op is a batch of 100 blocks.
func BenchmarkAppend100(b *testing.B) {
	tree, _, block := benchTree(b, 12345, 1024)
	b.SetBytes(100 * 1024)
	b.ReportAllocs()
	for b.Loop() {
		batch := tree.NewBatch()
		batch.Grow(100)
		for range 100 {
			if err := batch.Append(block); err != nil {
				b.Fatal(err)
			}
		}
		batch.Tree()
	}
}

// proofs of 64 blocks of a tree of 1<<16, with that many nodes each.
func benchRequests(nodes func(i uint64) uint64) []merkle.Request {
	reqs := make([]merkle.Request, 64)
	for i := range reqs {
		block := uint64(4096 + i)
		reqs[i].Block = &merkle.BlockRequest{Index: block, Nodes: nodes(block)}
	}
	return reqs
}

var benchNodes = []struct {
	name  string
	nodes func(i uint64) uint64
}{
	// What a reader asks for that goes through the blocks in order: nothing for every second block.
	{"sequential", func(i uint64) uint64 {
		n := uint64(0)
		for i%2 == 0 && n < 6 {
			i, n = i/2, n+1
		}
		return n
	}},
	{"whole path", func(uint64) uint64 { return 16 }},
}

// One op is 64 proofs.
func BenchmarkProve64(b *testing.B) {
	tree, nodes, _ := benchTree(b, 1<<16, 16)
	for _, c := range benchNodes {
		b.Run(c.name, func(b *testing.B) {
			reqs := benchRequests(c.nodes)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := tree.ProveMany(context.Background(), nodes, reqs); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// One op is 64 proofs of 1 KiB blocks.
func BenchmarkVerify64(b *testing.B) {
	tree, nodes, block := benchTree(b, 1<<16, 1024)
	for _, c := range benchNodes {
		b.Run(c.name, func(b *testing.B) {
			proved, err := tree.ProveMany(context.Background(), nodes, benchRequests(c.nodes))
			if err != nil {
				b.Fatal(err)
			}
			proofs, errs := make([]*merkle.Proof, len(proved)), make([]error, len(proved))
			for i := range proved {
				proofs[i] = proved[i].Proof
				proofs[i].Block.Value = block
			}
			b.SetBytes(64 * 1024)
			b.ReportAllocs()
			for b.Loop() {
				batch := tree.NewBatch()
				if err := batch.VerifyMany(context.Background(), nodes, proofs, seal{}, errs); err != nil {
					b.Fatal(err)
				}
				for _, err := range errs {
					if err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

func BenchmarkMissingNodes64(b *testing.B) {
	tree, nodes, _ := benchTree(b, 1<<16, 16)
	at := make([]flattree.Index, 64)
	for i := range at {
		at[i] = flattree.Leaf(uint64(4096 + i))
		nodes[at[i]] = merkle.Node{}
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := tree.MissingNodes(context.Background(), nodes, at); err != nil {
			b.Fatal(err)
		}
	}
}
