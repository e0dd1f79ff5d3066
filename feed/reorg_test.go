package feed

import (
	"fmt"
	"testing"

	"github.com/p2pcore/p2pcore/internal/flattree"
)

// TestReorgStopsEarly: a search that nobody helps to finish can be ended. What it has not found to be common is
// given up, nothing else, and can be fetched again.
func TestReorgStopsEarly(t *testing.T) {
	for steps, ancestors := range []uint64{0, 16, 20} {
		t.Run(fmt.Sprint("after ", steps, " steps"), func(t *testing.T) {
			w, s := writer(t, memoryStore(), 40)
			r := reader(t, memoryStore(), w)
			upgrade(t, w, r)
			for i := range uint64(40) {
				fetch(t, w, r, i)
			}
			if _, err := s.Truncate(t.Context(), 21, TruncateOptions{}); err != nil {
				t.Fatal(err)
			}
			appendBlocks(t, s, testBlocks(100, 125)...)
			ask := func(q Request) *Proof {
				q.Fork = 1
				proved, err := w.Prove(t.Context(), []Request{q})
				if err != nil || proved[0].Err != nil {
					t.Fatal(err, proved[0].Err)
				}
				return proved[0].Proof
			}
			reorg, err := r.Reorg(t.Context(), ask(Request{Upgrade: &UpgradeRequest{Length: 46}}))
			if err != nil {
				t.Fatal(err)
			}
			for _, leaf := range []uint64{2, 17}[:steps] { // the answers tell of 16..32, and of 20..24
				want, _ := reorg.Want()
				if err := reorg.Verify(t.Context(), ask(Request{Hash: &HashRequest{Index: flattree.Leaf(leaf), Nodes: want.Nodes}})); err != nil {
					t.Fatal(err)
				}
			}
			reorg.Stop()
			if _, more := reorg.Want(); more || reorg.Ancestors() != ancestors {
				t.Errorf("wants more %v, %d ancestors, want %d", more, reorg.Ancestors(), ancestors)
			}
			if err := reorg.Apply(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := r.Info(); got.Head != w.Info().Head || got.ContiguousLength != ancestors {
				t.Errorf("%+v, want head %+v and %d blocks", got, w.Info().Head, ancestors)
			}
			for i := ancestors; i < 46; i++ {
				fetch(t, w, r, i)
			}
			if err := r.Check(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}
