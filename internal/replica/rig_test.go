package replica

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/p2pcore/p2pcore/internal/merkle"
	"github.com/p2pcore/p2pcore/internal/wire"
)

// rig is a machine of a fake feed under the hands of peers that a test plays. Plans are answered at once, what is sent is
// noted and counts as written.
type rig struct {
	t    *testing.T
	feed *fakeFeed
	m    *Machine
	now  time.Time
	sent map[PeerID][]wire.Message

	hold bool    // proofs are kept in held, and not applied
	held []Apply // oldest first

	ended []Resolve
}

func newRig(t *testing.T, length uint64) *rig {
	f := &fakeFeed{info: Info{Length: length, ByteLength: length}}
	return &rig{
		t: t, feed: f, m: New(f, Limits{}, rand.New(rand.NewPCG(1, 1))), now: time.Unix(1000, 0),
		sent: map[PeerID][]wire.Message{},
	}
}

func (r *rig) step(ev Event) {
	r.t.Helper()
	for _, a := range append([]Action(nil), r.m.Step(r.now, ev)...) {
		switch a := a.(type) {
		case Send:
			r.sent[a.Peer] = append(r.sent[a.Peer], a.Message)
			r.step(Room{Peer: a.Peer, Bytes: a.Message.Size()})
		case Plan:
			r.step(Planned{Token: a.Token, Nodes: make([]uint64, len(a.Blocks))})
		case Apply:
			if r.hold {
				r.held = append(r.held, a)
				continue
			}
			r.step(r.feed.apply(a.Token, a.Proof))
		case Resolve:
			r.ended = append(r.ended, a)
		case Drop:
			r.t.Errorf("peer %d was dropped: %s", a.Peer, a.Reason)
		}
	}
}

// open opens a channel to a peer that is as long as the feed.
func (r *rig) open(p PeerID) {
	r.t.Helper()
	n := r.feed.info.Length
	r.step(Opened{Peer: p, Room: 1 << 20})
	r.step(Received{Peer: p, Message: &wire.Sync{Length: n, RemoteLength: n, Uploading: true, Downloading: true}})
}

// receive has a peer send a message.
func (r *rig) receive(p PeerID, msg wire.Message) {
	r.t.Helper()
	r.step(Received{Peer: p, Message: msg})
}

// answerOnce has peer 1 answer all requests for blocks, until there are none. Each must be for one of want, which is taken
// out of it.
func (r *rig) answerOnce(want map[uint64]bool) {
	r.t.Helper()
	for len(r.sent[1]) > 0 {
		sent := r.sent[1]
		r.sent[1] = nil
		for _, msg := range sent {
			q, ok := msg.(*wire.Request)
			if !ok || q.Block == nil {
				continue
			}
			if !want[q.Block.Index] {
				r.t.Fatalf("block %d was asked for again, or is not wanted", q.Block.Index)
			}
			delete(want, q.Block.Index)
			data := &wire.Data{ID: q.ID}
			data.Proof.Block = &merkle.BlockProof{Index: q.Block.Index, Value: []byte{1}}
			r.receive(1, data)
		}
	}
}
