package replica

import (
	"testing"

	"github.com/p2pcore/p2pcore/internal/merkle"
	"github.com/p2pcore/p2pcore/internal/wire"
)

func blockData(id, block uint64) *wire.Data {
	d := &wire.Data{ID: id}
	d.Proof.Block = &merkle.BlockProof{Index: block, Value: []byte{1}}
	return d
}

// asks has peer 1 and peer 2 asked for one block each, and returns the requests.
func (r *rig) asks() (one, two *wire.Request) {
	r.t.Helper()
	for p := PeerID(1); p <= 2; p++ {
		r.open(p)
		r.receive(p, &wire.Range{Start: uint64(p), Length: 1}) // each has another block
	}
	r.sent = map[PeerID][]wire.Message{}
	r.step(Want{Ticket: 1, Range: merkle.Range{Start: 1, End: 3}})
	for p, to := range map[PeerID]**wire.Request{1: &one, 2: &two} {
		for _, msg := range r.sent[p] {
			if q, ok := msg.(*wire.Request); ok && q.Block != nil {
				*to = q
			}
		}
		if *to == nil {
			r.t.Fatalf("peer %d was asked for nothing: %v", p, r.sent[p])
		}
	}
	return one, two
}

// Answers that nobody asked for bring nothing and cost nothing, up to a bound that is each channel's own; one more ends the
// channel.
func TestAnswersThatNobodyAskedForEndTheChannel(t *testing.T) {
	for name, next := range map[string]func(i int, one, two *wire.Request) wire.Message{
		"data of no request": func(i int, _, _ *wire.Request) wire.Message { return blockData(uint64(1000+i), 5) },
		"data of a huge id":  func(i int, _, _ *wire.Request) wire.Message { return blockData(1<<63+uint64(i), 5) },
		"refusals of no request": func(i int, _, _ *wire.Request) wire.Message {
			return &wire.NoData{ID: uint64(1000 + i), Reason: wire.ReasonNotAvailable}
		},
		"refusals of nothing at all": func(int, *wire.Request, *wire.Request) wire.Message { return &wire.NoData{} },
		"the same answer again": func(_ int, one, _ *wire.Request) wire.Message {
			return blockData(one.ID, one.Block.Index)
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 10)
			one, two := r.asks()
			r.receive(1, blockData(one.ID, one.Block.Index)) // the answer that was asked for
			for i := range maxUnsolicited {
				r.receive(1, next(i, one, two))
			}
			s := r.m.Stats()
			if s.Unsolicited != maxUnsolicited || s.BlocksReceived != 1 || s.Peers != 2 || s.Inflight != 1 || s.Refused+s.InvalidProofs != 0 {
				t.Fatalf("after as many as are borne: %+v", s)
			}
			got := r.m.Step(r.now, Received{Peer: 1, Message: next(maxUnsolicited, one, two)})
			if len(got) != 1 || got[0] != Action(Drop{Peer: 1, Reason: "unsolicited answers"}) {
				t.Fatalf("one more leads to %v", got)
			}
			// Others are not blamed, and a new channel begins anew.
			r.open(3)
			for i := range maxUnsolicited {
				r.receive(3, next(i, one, two))
			}
			r.receive(2, blockData(two.ID, two.Block.Index))
			if s := r.m.Stats(); s.Peers != 2 || s.BlocksReceived != 2 || len(r.ended) != 1 {
				t.Errorf("in the end: %+v, %v", s, r.ended)
			}
		})
	}
}

// The id of a request to one peer is of no use to another, which has not been asked for it.
func TestAnAnswerToAnotherPeersRequestIsUnsolicited(t *testing.T) {
	r := newRig(t, 10)
	one, two := r.asks()
	r.receive(1, blockData(one.ID, one.Block.Index))
	for range 10 {
		r.receive(1, blockData(two.ID, two.Block.Index))
		r.receive(1, &wire.NoData{ID: two.ID})
	}
	if s := r.m.Stats(); s.Unsolicited != 20 || s.BlocksReceived != 1 || s.Inflight != 1 {
		t.Fatalf("%+v", s)
	}
	r.receive(2, blockData(two.ID, two.Block.Index))
	if s := r.m.Stats(); s.BlocksReceived != 2 || s.Inflight != 0 {
		t.Errorf("%+v", s)
	}
}

// Answers that cross our cancels are no offence, however many there are, and neither bring anything.
func TestAnswersThatCrossCancelsAreNotCounted(t *testing.T) {
	r := newRig(t, 1000)
	r.open(1)
	r.receive(1, &wire.Range{Length: 1000})
	late := 0
	for round := range Ticket(8) {
		r.sent = map[PeerID][]wire.Message{}
		r.step(Want{Ticket: round + 1, Range: merkle.Range{End: 1000}})
		sent := r.sent[1]
		r.step(Forget{Ticket: round + 1})
		for _, msg := range sent {
			if q, ok := msg.(*wire.Request); ok && q.Block != nil {
				r.receive(1, blockData(q.ID, q.Block.Index))
				late++
			}
		}
	}
	if late <= 2*maxUnsolicited {
		t.Fatalf("only %d answers have crossed a cancel", late)
	}
	if s := r.m.Stats(); s.Unsolicited != 0 || s.BlocksReceived != 0 || s.Peers != 1 || s.Inflight != 0 {
		t.Errorf("%+v", s)
	}
}
