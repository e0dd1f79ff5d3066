package replica

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/p2pcore/p2pcore/internal/merkle"
	"github.com/p2pcore/p2pcore/internal/wire"
)

// swapTrial is a reader of a feed that all its peers hold. The test says which peer answers what.
type swapTrial struct {
	t        *testing.T
	w, f     *fakeFeed
	m        *Machine
	now      time.Time
	asked    map[PeerID][]*wire.Request // and not answered or cancelled
	ids      map[PeerID]map[uint64]bool // in use, cancelled ones included
	resolved bool
}

func newSwapTrial(t *testing.T, length uint64, peers ...PeerID) *swapTrial {
	s := &swapTrial{
		t: t, now: time.Unix(1000, 0), asked: map[PeerID][]*wire.Request{}, ids: map[PeerID]map[uint64]bool{},
		w: &fakeFeed{info: Info{Length: length, ByteLength: length * 1000}},
		f: &fakeFeed{info: Info{Length: length, ByteLength: length * 1000}},
	}
	s.w.bits.SetRange(0, length, true)
	s.m = New(s.f, Limits{}, rand.New(rand.NewPCG(1, 1)))
	for _, p := range peers {
		s.join(p)
	}
	return s
}

func (s *swapTrial) join(p PeerID) {
	s.ids[p] = map[uint64]bool{}
	s.step(Opened{Peer: p, Room: 1 << 30})
	s.step(Received{Peer: p, Message: &wire.Sync{Length: s.f.info.Length, RemoteLength: s.f.info.Length, Uploading: true, Downloading: true}})
	s.step(Received{Peer: p, Message: &wire.Range{Length: s.f.info.Length}})
}

func (s *swapTrial) step(ev Event) {
	s.t.Helper()
	for _, a := range slices.Clone(s.m.Step(s.now, ev)) {
		switch a := a.(type) {
		case Send:
			switch msg := a.Message.(type) {
			case *wire.Request:
				if s.ids[a.Peer][msg.ID] {
					s.t.Fatalf("id %d is used again although its answer may still come", msg.ID)
				}
				s.ids[a.Peer][msg.ID] = true
				s.asked[a.Peer] = append(s.asked[a.Peer], msg)
			case *wire.Cancel:
				s.asked[a.Peer] = slices.DeleteFunc(s.asked[a.Peer], func(r *wire.Request) bool { return r.ID == msg.ID })
			}
		case Plan:
			s.step(Planned{Token: a.Token, Nodes: make([]uint64, len(a.Blocks))})
		case Apply:
			s.step(s.f.apply(a.Token, a.Proof))
		case Resolve:
			s.resolved = true
		case Drop:
			s.t.Fatalf("peer %d was dropped: %s", a.Peer, a.Reason)
		}
	}
	checkBounds(s.t, s.m)
}

// pass lets time pass.
func (s *swapTrial) pass(d time.Duration) {
	s.t.Helper()
	for end := s.now.Add(d); ; {
		at, ok := s.m.Deadline()
		if !ok || at.After(end) {
			s.now = end
			return
		}
		s.now = later(s.now, at)
		s.step(Tick{})
	}
}

// answer has p answer its oldest request.
func (s *swapTrial) answer(p PeerID) bool {
	s.t.Helper()
	if len(s.asked[p]) == 0 {
		return false
	}
	r := s.asked[p][0]
	s.asked[p] = s.asked[p][1:]
	// The remote has passed the cancels that came before this request.
	s.ids[p] = map[uint64]bool{}
	for _, r := range s.asked[p] {
		s.ids[p][r.ID] = true
	}
	proved := s.w.prove(1, r.Request, 1000)
	s.step(Received{Peer: p, Message: &wire.Data{ID: r.ID, Proof: *proved.Proof}})
	return true
}

// askedFor says which peers are asked for block b.
func (s *swapTrial) askedFor(b uint64) (peers []PeerID) {
	for _, p := range s.m.order {
		if slices.ContainsFunc(s.asked[p.id], func(r *wire.Request) bool { return r.Block != nil && r.Block.Index == b }) {
			peers = append(peers, p.id)
		}
	}
	return peers
}

// Nothing is asked twice while there are other blocks to ask for, and at the end what a silent peer owes is asked
// of another one.
func TestSwapsAtTheEndOnly(t *testing.T) {
	s := newSwapTrial(t, 1000, 1, 2)
	s.step(Want{Ticket: 1, Range: merkle.Range{End: 1000}})
	for !s.resolved {
		s.pass(10 * time.Millisecond)
		for range 8 {
			s.answer(1)
		}
		if left := 1000 - s.f.bits.Count(0, 1000); left > 200 && s.m.Stats().Duplicates > 0 {
			t.Fatalf("blocks are asked twice while %d are missing", left)
		}
		if s.now.Sub(time.Unix(1000, 0)) > 5*time.Second {
			t.Fatalf("still not done; peer 2 owes %d blocks", len(s.asked[2]))
		}
	}
	if n := s.m.Stats().Duplicates; n == 0 || n > 200 {
		t.Errorf("%d blocks were asked twice", n)
	}
	if len(s.asked[2]) != 0 {
		t.Errorf("%d requests to the silent peer are not cancelled", len(s.asked[2]))
	}
}

// A peer that does not answer gets no part of what others owe, and one block is asked of three at most. When all
// are silent they take turns.
func TestSwapsAskThreePeersAtMost(t *testing.T) {
	s := newSwapTrial(t, 1, 1, 2, 3, 4, 5, 6)
	s.step(Want{Ticket: 1, Range: merkle.Range{End: 1}, Priority: 1})
	seen := map[PeerID]bool{}
	for range 2000 {
		peers := s.askedFor(0)
		if len(peers) == 0 || len(peers) > maxRivals {
			t.Fatalf("the block is asked of %v", peers)
		}
		for _, p := range peers {
			seen[p] = true
		}
		s.pass(20 * time.Millisecond)
	}
	if len(seen) != 6 {
		t.Errorf("only %d of 6 peers were asked in 40 s", len(seen))
	}
	s.answer(s.askedFor(0)[0])
	if !s.resolved || len(s.askedFor(0)) > 0 {
		t.Errorf("resolved %v, %v are still asked", s.resolved, s.askedFor(0))
	}
}

// Of two peers that are as fast, none is asked for what the other owes.
func TestNoSwapsBetweenEqualPeers(t *testing.T) {
	for _, n := range []uint64{20, 100, 1000} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			s := newSwapTrial(t, n, 1, 2, 3)
			s.step(Want{Ticket: 1, Range: merkle.Range{End: n}})
			for !s.resolved {
				s.pass(100 * time.Millisecond)
				for p := range PeerID(3) {
					for range len(s.asked[p+1]) {
						s.answer(p + 1)
					}
				}
			}
			if d := s.m.Stats().Duplicates; d > 0 {
				t.Errorf("%d blocks were asked twice", d)
			}
		})
	}
}

// Blocks that nobody else was asked for come before those of which two peers have been asked.
func TestSwapsPreferTheFewest(t *testing.T) {
	s := newSwapTrial(t, 40, 1)
	s.step(Want{Ticket: 1, Range: merkle.Range{End: 40}})
	s.pass(time.Second) // peer 1 is late
	s.join(2)           // takes some of its blocks
	s.pass(10 * time.Millisecond)
	second := map[uint64]bool{}
	for _, r := range s.asked[2] {
		second[r.Block.Index] = true
	}
	if len(second) == 0 || len(second) == 40 {
		t.Fatalf("%d blocks are asked of peer 2", len(second))
	}
	s.pass(time.Second) // and is late too
	s.join(3)
	s.pass(10 * time.Millisecond)
	for i, r := range s.asked[3] {
		if second[r.Block.Index] && i < 40-len(second) {
			t.Errorf("block %d, which two peers owe, is asked before others", r.Block.Index)
		}
	}
	if len(s.asked[3]) == 0 {
		t.Error("nothing is asked of peer 3")
	}
}
