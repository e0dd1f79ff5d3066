package node

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/p2pcore/p2pcore/feed"
)

// What is pushed reaches a node that allows it while it has a session, and asks for nothing if it is told so; all of
// that can be said before the feed is opened.
func TestPushesReachWhoAllowsThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sa, sb := newStore(t), newStore(t)
		a, b := newReplicator(t, sa), newReplicator(t, sb)
		w := named(t, sa, "log")
		defer w.Close()
		appendBlocks(t, w, "a", "b", "c")
		dk := w.DiscoveryKey()
		b.SetPush(dk, PushMode{AllowPush: true, PushOnly: true})
		r, err := sb.Keyed(t.Context(), w.Key())
		if err != nil {
			t.Fatal(err)
		}
		defer pipe(t, a, b)()
		synctest.Wait()
		if got := r.Info().Length; got != 0 {
			t.Fatalf("asked for nothing, and got length %d", got)
		}
		a.Push(dk, feed.Range{Start: 1, End: 3})
		synctest.Wait()
		if i := r.Info(); i.Length != 3 || !r.HasRange(feed.Range{Start: 1, End: 3}) || r.Has(0) {
			t.Errorf("after the push: %+v", i)
		}

		b.SetPush(dk, PushMode{})
		synctest.Wait()
		a.Push(dk, feed.Range{End: 1})
		synctest.Wait()
		if r.Has(0) {
			t.Error("taken although pushes are not allowed any more")
		}
		if len(b.pushes) != 0 {
			t.Errorf("%d modes are kept", len(b.pushes))
		}
		wantBlocks(t, r, "a", "b", "c")
		r.Close()
	})
}

// A feed that nobody has open any more lingers on the wire, and takes no pushes meanwhile.
func TestNothingIsPushedToWhoLingers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sa, sb := newStore(t), newStore(t)
		a, b := newReplicator(t, sa), newReplicator(t, sb)
		w := named(t, sa, "log")
		defer w.Close()
		appendBlocks(t, w, "a", "b", "c")
		dk := w.DiscoveryKey()
		b.SetPush(dk, PushMode{AllowPush: true})
		r, err := sb.Keyed(t.Context(), w.Key())
		if err != nil {
			t.Fatal(err)
		}
		defer pipe(t, a, b)()
		allowed := func() bool {
			t.Helper()
			synctest.Wait()
			peers := a.Exchange(dk).Peers()
			if len(peers) != 1 || !peers[0].Downloading {
				t.Fatalf("the writer has the peers %+v", peers)
			}
			return peers[0].AllowsPush
		}
		if !allowed() {
			t.Error("pushes are not allowed")
		}
		r.Close()
		time.Sleep(5 * time.Second) // less than the least lingering
		if allowed() {
			t.Error("pushes are allowed although nobody has the feed open")
		}
		if r, err = sb.Keyed(t.Context(), w.Key()); err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if !allowed() {
			t.Error("pushes are not allowed again")
		}
	})
}
