package replica

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/p2pcore/p2pcore/internal/wire"
)

// TestAVerdictThatIsOutOfDateIsAskedForAgain: a few are asked for at a time, so the length that a
// peer tells meanwhile is looked at when one of them comes.
func TestAVerdictThatIsOutOfDateIsAskedForAgain(t *testing.T) {
	f := &fakeFeed{info: Info{Length: 10}}
	f.bits.SetRange(0, 10, true)
	m := New(f, Limits{}, rand.New(rand.NewPCG(1, 1)))
	now := time.Unix(1, 0)
	m.Step(now, Opened{Peer: 1, Room: 1 << 20})
	step := func(ev Event) (asks []CanUpgrade, syncs []*wire.Sync) {
		for _, a := range m.Step(now, ev) {
			switch a := a.(type) {
			case CanUpgrade:
				asks = append(asks, a)
			case Send:
				if s, ok := a.Message.(*wire.Sync); ok {
					syncs = append(syncs, s)
				}
			}
		}
		return asks, syncs
	}
	var out []CanUpgrade
	for length := uint64(1); length < 10; length++ {
		asks, syncs := step(Received{Peer: 1, Message: &wire.Sync{Length: length, Uploading: true, Downloading: true}})
		if len(syncs) != 0 {
			t.Fatalf("length %d: sent %v while a verdict is out", length, syncs)
		}
		out = append(out, asks...)
	}
	if len(out) != maxVerdicts {
		t.Fatalf("%d verdicts asked for, want %d", len(out), maxVerdicts)
	}
	last, syncs := step(Verdict{Token: out[0].Token, OK: true})
	if len(last) != 1 || last[0].Length != 9 || len(syncs) != 0 {
		t.Fatalf("after a verdict on length 1: asked %v, sent %v, want a question about 9", last, syncs)
	}
	for _, a := range out[1:] {
		if asks, syncs := step(Verdict{Token: a.Token, OK: true}); len(asks) != 0 || len(syncs) != 0 {
			t.Fatalf("after a verdict on length %d: asked %v, sent %v", a.Length, asks, syncs)
		}
	}
	_, syncs = step(Verdict{Token: last[0].Token, OK: true})
	if len(syncs) != 1 || !syncs[0].CanUpgrade || syncs[0].RemoteLength != 9 {
		t.Fatalf("after the verdict on length 9: sent %v", syncs)
	}
	if p := m.peers[1]; p.asks != 0 || len(m.judging) != 0 {
		t.Errorf("%d asks counted, %d out", p.asks, len(m.judging))
	}
}
