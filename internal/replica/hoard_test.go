package replica

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/p2pcore/p2pcore/internal/merkle"
	"github.com/p2pcore/p2pcore/internal/wire"
)

// TestAPeerThatAnswersJustOftenEnoughDoesNotHoldUpADownload: it never counts as silent, but what it was
// asked long ago is asked of others. Without others it keeps what it has: it may be slow.
func TestAPeerThatAnswersJustOftenEnoughDoesNotHoldUpADownload(t *testing.T) {
	for _, alone := range []bool{false, true} {
		const length = 400
		w := &fakeFeed{info: Info{Length: length, ByteLength: length * 10}}
		w.bits.SetRange(0, length, true)
		f := &fakeFeed{info: Info{Length: length, ByteLength: length * 10}}
		m := New(f, Limits{}, rand.New(rand.NewPCG(1, 1)))
		now := time.Unix(1000, 0)
		resolved := false
		asked := map[PeerID][]*wire.Request{}
		var step func(ev Event)
		step = func(ev Event) {
			for _, a := range append([]Action(nil), m.Step(now, ev)...) {
				switch a := a.(type) {
				case Send:
					if r, ok := a.Message.(*wire.Request); ok {
						asked[a.Peer] = append(asked[a.Peer], r)
					}
					step(Room{Peer: a.Peer, Bytes: a.Message.Size()})
				case Plan:
					step(Planned{Token: a.Token, Nodes: make([]uint64, len(a.Blocks))})
				case Apply:
					step(f.apply(a.Token, a.Proof))
				case Resolve:
					resolved = true
				case Drop:
					t.Fatalf("peer %d was dropped: %s", a.Peer, a.Reason)
				}
			}
		}
		answer := func(p PeerID) bool {
			if len(asked[p]) == 0 {
				return false
			}
			r := asked[p][0]
			asked[p] = asked[p][1:]
			proved := w.prove(1, r.Request, 10)
			step(Received{Peer: p, Message: &wire.Data{ID: r.ID, Proof: *proved.Proof}})
			return true
		}
		peers := []PeerID{1, 2}
		if alone {
			peers = peers[:1]
		}
		for _, p := range peers {
			step(Opened{Peer: p, Room: 1 << 20})
			step(Received{Peer: p, Message: &wire.Sync{Length: length, RemoteLength: length, Uploading: true, Downloading: true}})
			step(Received{Peer: p, Message: &wire.Range{Length: length}})
		}
		step(Want{Ticket: 1, Range: merkle.Range{End: length}})
		start := now
		for !resolved && now.Sub(start) < 5*time.Minute {
			for answer(2) { // at once
			}
			now = now.Add(StallTimeout - time.Second)
			step(Tick{})
			answer(1)
		}
		if resolved == alone {
			t.Errorf("alone %v: resolved %v after %v, %d blocks stored", alone, resolved, now.Sub(start), f.bits.Count(0, length))
		}
		if n := m.Stats().Stalls; alone && n != 0 {
			t.Errorf("a slow peer was given up %d times, and there is no other", n)
		}
		checkBounds(t, m)
	}
}
