package feed

import (
	"errors"
	"fmt"
	"sync"
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

// TestReorgWhileTheFeedFreezesAndThaws is for the race detector.
func TestReorgWhileTheFeedFreezesAndThaws(t *testing.T) {
	w, s := writer(t, memoryStore(), 6)
	r := reader(t, memoryStore(), w)
	upgrade(t, w, r)
	if _, err := s.Truncate(t.Context(), 3, TruncateOptions{}); err != nil {
		t.Fatal(err)
	}
	p := prove(t, w, Request{Fork: 1, Upgrade: &UpgradeRequest{Length: 3}})
	one, other := writerOf(t, "one"), writerOf(t, "other")
	c, err := one.Examine(t.Context(), prove(t, other, Request{Upgrade: &UpgradeRequest{Length: 1}}))
	if c == nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for range 50 {
			if err := errors.Join(r.Freeze(t.Context(), c), r.Thaw(t.Context())); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Go(func() {
		for range 500 {
			if _, err := r.Reorg(t.Context(), p); err != nil && !errors.Is(err, ErrFrozen) {
				t.Error(err)
			}
		}
	})
	wg.Wait()
}

// writerOf returns a feed of the same key as all others of its kind, with one block.
func writerOf(t *testing.T, block string) *Feed {
	t.Helper()
	f, s := writer(t, memoryStore(), 0)
	appendBlocks(t, s, []byte(block))
	return f
}

// TestReorgKeepsWhatWasSetMeanwhile applies a reorg that also brings the manifest.
func TestReorgKeepsWhatWasSetMeanwhile(t *testing.T) {
	w, s := writer(t, memoryStore(), 6)
	if _, err := s.Truncate(t.Context(), 3, TruncateOptions{}); err != nil {
		t.Fatal(err)
	}
	r := reader(t, memoryStore(), w)
	reorg, err := r.Reorg(t.Context(), prove(t, w, Request{Fork: 1, Upgrade: &UpgradeRequest{Length: 3}, Manifest: true}))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.SetRecovering(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if err := reorg.Apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	if info := r.Info(); !info.Recovering || !info.HasManifest || info.Length != 3 {
		t.Errorf("%+v, want it to be recovering, with the manifest and 3 blocks", info)
	}
}
