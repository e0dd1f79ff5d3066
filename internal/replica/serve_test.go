package replica

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/p2pcore/p2pcore/internal/merkle"
	"github.com/p2pcore/p2pcore/internal/wire"
)

// When more is asked than can be sent, what somebody waits for goes first, and of equals the oldest.
func TestWhatSomebodyWaitsForIsServedFirst(t *testing.T) {
	const length = 100
	f := &fakeFeed{info: Info{Length: length, ByteLength: length * 1000}}
	f.bits.SetRange(0, length, true)
	m := New(f, Limits{}, rand.New(rand.NewPCG(1, 1)))
	var served []uint64
	now := time.Unix(1, 0)
	step := func(ev Event) {
		for _, a := range slices.Clone(m.Step(now, ev)) {
			if p, ok := a.(Prove); ok {
				served = append(served, p.Request.Block.Index)
				m.Step(now, f.prove(p.Token, p.Request, 1000))
			}
		}
	}
	step(Opened{Peer: 1, Room: 1})
	step(Received{Peer: 1, Message: &wire.Sync{Length: length, RemoteLength: length, Uploading: true, Downloading: true}})
	for i, urgent := range []uint64{0, 0, 1, 0, 1, 1, 0} {
		r := &wire.Request{ID: uint64(i) + 1, Priority: urgent}
		r.Block = &merkle.BlockRequest{Index: uint64(i)}
		step(Received{Peer: 1, Message: r})
	}
	if len(served) > 0 {
		t.Fatalf("served %v without credit", served)
	}
	step(Received{Peer: 1, Message: &wire.Cancel{ID: 5}})
	step(Room{Peer: 1, Bytes: 1 << 20})
	if want := []uint64{2, 5, 0, 1, 3, 6}; !slices.Equal(served, want) {
		t.Errorf("served %v, want %v", served, want)
	}
}
