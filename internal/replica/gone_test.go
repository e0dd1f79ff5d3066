package replica

import (
	"testing"

	"github.com/p2pcore/p2pcore/internal/merkle"
	"github.com/p2pcore/p2pcore/internal/wire"
)

// Peers that have told all that can be told of a long feed, and pushed a block, go before the block is verified. What is
// kept of them until then is little.
func TestAPeerThatHasGoneCostsLittleWhileItsProofsWait(t *testing.T) {
	r := newRig(t, 10)
	r.hold = true
	r.step(SetPush{Allow: true})
	for p := PeerID(1); p <= 20; p++ {
		r.open(p)
		for i := range uint64(200) {
			r.receive(p, &wire.Bitfield{Start: i * 64 << 10, Words: []uint32{1}})
			r.receive(p, &wire.Want{Start: i * 32, Length: 32})
		}
		before := r.m.peers[p].known.bits.Size()
		if before < 200<<10 {
			t.Fatalf("%d bytes are known of peer %d: it has told too little", before, p)
		}
		push := &wire.Data{}
		push.Proof.Block = &merkle.BlockProof{Index: uint64(p) % 10, Value: []byte{1}}
		r.receive(p, push)
		r.step(Closed{Peer: p})
	}
	if len(r.held) != 20 || len(r.m.pushes) != 20 {
		t.Fatalf("%d proofs wait, want 20", len(r.held))
	}
	for _, q := range r.m.pushes {
		p := q.peer
		if n := p.known.bits.Size() + len(p.pages) + len(p.remoteWants.pages) + len(p.remoteWants.due); n > 0 {
			t.Errorf("peer %d has gone, and %d bytes and entries are kept of it", p.id, n)
		}
	}
	for _, a := range r.held {
		r.step(r.feed.apply(a.Token, a.Proof))
	}
	if got := r.m.Stats(); len(r.m.pushes) != 0 || got.PushesStored != 10 {
		t.Errorf("%d proofs are not done, %d blocks stored of 10", len(r.m.pushes), got.PushesStored)
	}
	checkBounds(t, r.m)
}
