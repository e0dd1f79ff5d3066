package replica

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/p2pcore/p2pcore/internal/merkle"
	"github.com/p2pcore/p2pcore/internal/wire"
)

// TestAnswersThatTurnOutLargeAreNotKept: how large an answer is shows when it is made. What a peer
// without credit cannot take is forgotten, but for a little, and made again when there is credit.
func TestAnswersThatTurnOutLargeAreNotKept(t *testing.T) {
	const size = 1 << 20
	f := &fakeFeed{info: Info{Length: 1000, ByteLength: 1000}} // one large block among small ones
	f.bits.SetRange(0, 1000, true)
	m := New(f, Limits{}, rand.New(rand.NewPCG(1, 1)))
	now := time.Unix(1, 0)
	var proves []Prove
	got := map[uint64]int{}
	debt := 0
	step := func(ev Event) {
		for _, a := range m.Step(now, ev) {
			switch a := a.(type) {
			case Prove:
				proves = append(proves, a)
			case Send:
				debt += a.Message.Size()
				if d, ok := a.Message.(*wire.Data); ok {
					got[d.ID]++
				}
			}
		}
	}
	step(Opened{Peer: 1, Room: 256 << 10})
	const asked = 100
	for id := uint64(1); id <= asked; id++ {
		r := &wire.Request{ID: id}
		r.Block = &merkle.BlockRequest{Index: 7}
		step(Received{Peer: 1, Message: r})
	}
	settle := func() {
		for len(proves) > 0 {
			a := proves[0]
			proves = proves[1:]
			step(f.prove(a.Token, a.Request, size))
			held := 0
			for _, w := range m.peers[1].answers {
				held += w.msg.Size()
			}
			if held > maxHeldBytes+size+1024 {
				t.Fatalf("%d bytes of answers wait for credit", held)
			}
		}
	}
	settle()
	for range 3 * asked {
		if debt == 0 {
			break
		}
		back := debt
		debt = 0
		step(Room{Peer: 1, Bytes: back})
		settle()
	}
	for id := uint64(1); id <= asked; id++ {
		if got[id] != 1 {
			t.Fatalf("request %d was answered %d times", id, got[id])
		}
	}
	if p := m.peers[1]; p.reserved != 0 || len(p.answers) != 0 || p.heldBytes != 0 {
		t.Errorf("left: %d bytes reserved, %d answers, %d bytes held", p.reserved, len(p.answers), p.heldBytes)
	}
}

// TestAnAnswerThatFitsNoFrameIsRefused: it could not be sent, and its credit would never come back.
func TestAnAnswerThatFitsNoFrameIsRefused(t *testing.T) {
	f := &fakeFeed{info: Info{Length: 10}}
	f.bits.SetRange(0, 10, true)
	m := New(f, Limits{}, rand.New(rand.NewPCG(1, 1)))
	now := time.Unix(1, 0)
	m.Step(now, Opened{Peer: 1, Room: 1 << 20})
	r := &wire.Request{ID: 1}
	r.Block = &merkle.BlockRequest{Index: 7}
	a, ok := m.Step(now, Received{Peer: 1, Message: r})[0].(Prove)
	if !ok {
		t.Fatal("nothing is proved")
	}
	out := m.Step(now, f.prove(a.Token, a.Request, wire.MaxMessage-100))
	if len(out) != 1 {
		t.Fatalf("%v, want one refusal", out)
	}
	if s, ok := out[0].(Send); !ok || s.Message.Type() != wire.TypeNoData {
		t.Fatalf("%v, want a refusal", out)
	}
}
