package protocol

import (
	"testing"
	"testing/synctest"

	"github.com/p2pcore/p2pcore/feed"
)

// While an append's hook runs, no peer has heard of the blocks, however long it takes.
func TestPeersHearAfterAppended(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		blocks := numbered(6, 10)
		w := writer(t, 1, blocks[:3]...)
		r := reader(t, w)
		from, to := exchange(t, w, true), exchange(t, r, true)
		newRunner(t).connect([]*Exchange{from}, []*Exchange{to})
		synctest.Wait()
		s := session(t, w)
		defer s.Close()
		heard := func() uint64 {
			synctest.Wait()
			peers := to.Peers()
			if len(peers) != 1 {
				t.Fatalf("the reader has the peers %+v", peers)
			}
			return max(peers[0].RemoteLength, peers[0].RemoteContiguous, r.Info().Length)
		}
		during := uint64(0)
		o := feed.AppendOptions{Appended: func() { during = heard() }}
		if _, err := s.AppendWith(timed(t), blocks[3:], o); err != nil {
			t.Fatal(err)
		}
		if after := heard(); during != 3 || after != 6 {
			t.Errorf("the reader had heard of %d blocks in the hook, want 3, and of %d after it, want 6", during, after)
		}
	})
}
