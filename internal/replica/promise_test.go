package replica

import (
	"math/rand/v2"
	"testing"

	"github.com/p2pcore/p2pcore/internal/flattree"
)

// TestShortenedRequestsHangTogether answers shortened requests in order and checks that each path
// ends at a node that is known by then.
func TestShortenedRequestsHangTogether(t *testing.T) {
	const depth = 10 // a tree of 1024 blocks of which the root is known
	root := flattree.At(depth, 0)
	rng := rand.New(rand.NewPCG(5, 5))
	random := make([]uint64, 300)
	linear := make([]uint64, 300)
	for i, b := range rng.Perm(1 << depth)[:len(random)] {
		random[i], linear[i] = uint64(b), uint64(i)
	}
	for _, c := range []struct {
		name   string
		blocks []uint64
		most   uint64 // nodes in all
	}{{"linear", linear, 310}, {"random", random, 1200}} {
		t.Run(c.name, func(t *testing.T) {
			m := New(&fakeFeed{info: Info{Length: 1 << depth}}, Limits{}, rng)
			p := &peer{}
			known := map[flattree.Index]bool{root: true}
			total := uint64(0)
			for _, b := range c.blocks {
				r := &request{peer: p, hasBlock: true, block: b, nodes: depth, planned: depth}
				m.shorten(r)
				total += r.nodes
				at := flattree.Leaf(b)
				path := []flattree.Index{at}
				for range r.nodes {
					path = append(path, at.Sibling(), at.Parent())
					at = at.Parent()
				}
				if !known[at] {
					t.Fatalf("block %d with %d nodes ends at node %d, which is not known", b, r.nodes, at)
				}
				for _, i := range path {
					known[i] = true
				}
			}
			if total > c.most {
				t.Errorf("%d nodes for %d blocks, want at most %d", total, len(c.blocks), c.most)
			}
		})
	}
}
