package replica

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/p2pcore/p2pcore/internal/merkle"
	"github.com/p2pcore/p2pcore/internal/wire"
)

// TestFloodsAreBounded repeats each message that costs memory for ever, without giving credit.
func TestFloodsAreBounded(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	for name, next := range map[string]func(i uint64) wire.Message{
		"wants":        func(i uint64) wire.Message { return &wire.Want{Start: i * 32, Length: 32} },
		"odd wants":    func(i uint64) wire.Message { return &wire.Want{Start: i, Length: 33} },
		"wants of any": func(i uint64) wire.Message { return &wire.Want{Start: i, Length: 1 << 50, Any: true} },
		"any, taken back": func(i uint64) wire.Message {
			if i%2 == 1 {
				return &wire.Unwant{Start: i / 2, Length: 1 << 50, Any: true}
			}
			return &wire.Want{Start: i / 2, Length: 1 << 50, Any: true}
		},
		"sizes of want": func(i uint64) wire.Message { return &wire.Want{Length: 32 << (i % 17)} },
		"want, unwant": func(i uint64) wire.Message {
			if i%2 == 1 {
				return &wire.Unwant{Start: i / 2 * 32, Length: 32}
			}
			return &wire.Want{Start: i / 2 * 32, Length: 32}
		},
		"request, cancel": func(i uint64) wire.Message {
			if i%2 == 1 {
				return &wire.Cancel{ID: 5}
			}
			r := &wire.Request{ID: 5}
			r.Block = &merkle.BlockRequest{Index: 1}
			return r
		},
		"ranges":    func(i uint64) wire.Message { return &wire.Range{Start: i * 70000, Length: 2} },
		"bitfields": func(i uint64) wire.Message { return &wire.Bitfield{Start: i * 32768 * 2, Words: []uint32{1}} },
		"range, drop": func(i uint64) wire.Message {
			return &wire.Range{Drop: i%2 == 1, Start: i % 2, Length: 1 << 60}
		},
		"holes in a range": func(i uint64) wire.Message {
			if i == 0 {
				return &wire.Range{Start: 1, Length: 1 << 52}
			}
			return &wire.Range{Drop: true, Start: i * 32768, Length: 1}
		},
		"rising forks": func(i uint64) wire.Message {
			return &wire.Sync{Fork: i, Length: 1 + i%5, Uploading: true, Downloading: true}
		},
		"falling forks": func(i uint64) wire.Message {
			return &wire.Sync{Fork: i % 2, Length: 1000, RemoteLength: 1000, Uploading: true, Downloading: true}
		},
		"proofs of heads": func(uint64) wire.Message {
			d := &wire.Data{}
			d.Proof.Upgrade = &merkle.UpgradeProof{Length: 5}
			return d
		},
		"pushes": func(i uint64) wire.Message {
			d := &wire.Data{}
			d.Proof.Block = &merkle.BlockProof{Index: 500 + i%500}
			return d
		},
		"conflict checks": func(uint64) wire.Message {
			r := &wire.Request{}
			r.Upgrade = &merkle.UpgradeRequest{Length: 5}
			return r
		},
		"syncs": func(i uint64) wire.Message {
			return &wire.Sync{Length: rng.Uint64N(1000), RemoteLength: 200, Uploading: true, Downloading: true}
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fakeFeed{info: Info{Length: 1000}}
			f.bits.SetRange(0, 500, true)
			m := New(f, Limits{}, rand.New(rand.NewPCG(1, 1)))
			m.Step(time.Unix(1, 0), SetPush{Allow: true})
			m.Step(time.Unix(1, 0), Opened{Peer: 1, Room: 30})
			asks := 0
			for i := range uint64(20_000) {
				for _, a := range m.Step(time.Unix(1, 0), Received{Peer: 1, Message: next(i)}) {
					if _, ok := a.(CanUpgrade); ok {
						asks++
					}
				}
				if i%500 == 0 {
					checkBounds(t, m)
				}
			}
			checkBounds(t, m)
			if n := len(m.verdicts); n > 1 {
				t.Errorf("%d verdicts awaited for one peer", n)
			}
			if asks > maxVerdicts {
				t.Errorf("%d verdicts asked for and none given, for one peer", asks)
			}
		})
	}
}

// TestRequestsPastTheQueueAreAViolation pins the bound on a peer's queue.
func TestRequestsPastTheQueueAreAViolation(t *testing.T) {
	f := &fakeFeed{info: Info{Length: 10}}
	f.bits.SetRange(0, 10, true)
	m := New(f, Limits{QueuedRequests: 3}, rand.New(rand.NewPCG(1, 1)))
	now := time.Unix(1, 0)
	m.Step(now, Opened{Peer: 1, Room: 1})
	for id := uint64(1); id <= 4; id++ {
		r := &wire.Request{ID: id}
		r.Block = &merkle.BlockRequest{Index: id}
		actions := m.Step(now, Received{Peer: 1, Message: r})
		drops := len(actions) == 1 && actions[0] == Action(Drop{Peer: 1, Reason: "too many requests"})
		if drops != (id == 4) {
			t.Fatalf("request %d: %v", id, actions)
		}
	}
}
