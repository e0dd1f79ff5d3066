package node

import (
	"testing"
	"testing/synctest"
)

// A feed can be told to be lazy before it is opened, and while it is open.
func TestLazyFeedsWaitForAnUpdate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sa, sb := newStore(t), newStore(t)
		a, b := newReplicator(t, sa), newReplicator(t, sb)
		w := named(t, sa, "log")
		defer w.Close()
		appendBlocks(t, w, "a", "b", "c")
		dk := w.DiscoveryKey()
		b.SetLazyUpgrade(dk, true)
		r, err := sb.Keyed(t.Context(), w.Key())
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		defer pipe(t, a, b)()
		length := func(when string, want uint64) {
			t.Helper()
			synctest.Wait()
			if got := r.Info().Length; got != want {
				t.Fatalf("%s: length %d, want %d", when, got, want)
			}
		}
		length("connected", 0)
		if grown, err := r.Update(t.Context()); err != nil || !grown {
			t.Fatalf("update: %v, %v", grown, err)
		}
		length("updated", 3)
		appendBlocks(t, w, "d")
		length("appended", 3)
		b.SetLazyUpgrade(dk, false)
		length("eager", 4)
		if len(b.lazy) != 0 {
			t.Errorf("%d feeds are kept", len(b.lazy))
		}
	})
}
