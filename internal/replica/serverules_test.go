package replica

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/p2pcore/p2pcore/internal/merkle"
	"github.com/p2pcore/p2pcore/internal/wire"
)

// The refusal of a malformed request is held back for longer the more there were, and the 64th ends the channel, as in
// Hypercore.
func TestMalformedRequestsAreRefusedLaterAndLater(t *testing.T) {
	t.Parallel()
	f := &fakeFeed{info: Info{Length: 9, ByteLength: 9}}
	m := New(f, Limits{}, rand.New(rand.NewPCG(1, 1)))
	now := time.Unix(1000, 0)
	var refused []uint64
	drops := 0
	var step func(ev Event)
	step = func(ev Event) {
		for _, a := range append([]Action(nil), m.Step(now, ev)...) {
			switch a := a.(type) {
			case Prove:
				step(f.prove(a.Token, a.Request, 1))
			case Drop:
				drops++
			case Send:
				if n, ok := a.Message.(*wire.NoData); ok && n.Reason == wire.ReasonInvalidRequest {
					refused = append(refused, n.ID)
				}
			}
		}
	}
	step(Opened{Peer: 1, Room: 1 << 20})
	step(Received{Peer: 1, Message: &wire.Sync{Length: 9, RemoteLength: 9, Uploading: true, Downloading: true}})
	for n := uint64(1); n <= 64; n++ {
		q := &wire.Request{ID: n}
		q.Upgrade = &merkle.UpgradeRequest{Start: 3, Length: 100} // past the head
		step(Received{Peer: 1, Message: q})
		if n == 64 {
			break
		}
		delay := 5 * time.Second
		switch {
		case n < 2:
			delay = 200 * time.Millisecond
		case n < 5:
			delay = 500 * time.Millisecond
		case n < 40:
			delay = time.Second
		}
		now = now.Add(delay - time.Nanosecond)
		step(Tick{})
		early := len(refused)
		now = now.Add(time.Nanosecond)
		step(Tick{})
		if early != 0 || len(refused) != 1 || refused[0] != n {
			t.Fatalf("request %d: %d refusals before %v, and %v then", n, early, delay, refused)
		}
		refused = nil
		if drops > 0 {
			t.Fatalf("request %d has ended the channel", n)
		}
	}
	if drops != 1 {
		t.Errorf("the 64th has not ended the channel")
	}
}

// announces says whether the machine tells peer 1 of block b when that is stored.
func (r *rig) announces(b uint64) bool {
	r.t.Helper()
	r.sent[1] = nil
	r.feed.store(b)
	r.step(r.feed.changed())
	for _, msg := range r.sent[1] {
		if g, ok := msg.(*wire.Range); ok && !g.Drop && g.Start <= b && b < g.Start+g.Length {
			return true
		}
	}
	return false
}

// Of what nobody wants the last 256 blocks are announced, and a want is one of up to 512 pages of four sizes; whoever wants
// more, or in another way, wants everything. These are Hypercore's bounds.
func TestWhatIsAnnouncedToWhom(t *testing.T) {
	t.Parallel()
	const length, page = 100_000, 64
	wants := func(r *rig, lengths ...uint64) {
		for _, n := range lengths {
			r.receive(1, &wire.Want{Start: 0, Length: n})
		}
	}
	for name, c := range map[string]struct {
		want       func(r *rig)
		everything bool
	}{
		"nothing":                {func(*rig) {}, false},
		"four sizes":             {func(r *rig) { wants(r, 32, 64, 128, 256) }, false},
		"five sizes":             {func(r *rig) { wants(r, 32, 64, 128, 256, 512) }, true},
		"too short":              {func(r *rig) { wants(r, 16) }, true},
		"of no power of two":     {func(r *rig) { wants(r, 48) }, true},
		"not aligned":            {func(r *rig) { r.receive(1, &wire.Want{Start: 32, Length: 64}) }, true},
		"the longest that count": {func(r *rig) { r.receive(1, &wire.Want{Start: 2 << 20, Length: 2 << 20}) }, false},
		"too long":               {func(r *rig) { wants(r, 4<<20) }, false},
		"512 pages": {func(r *rig) {
			for i := range uint64(512) {
				r.receive(1, &wire.Want{Start: i * page, Length: page})
			}
		}, false},
		"513 pages": {func(r *rig) {
			for i := range uint64(513) {
				r.receive(1, &wire.Want{Start: i * page, Length: page})
			}
		}, true},
		"513 pages, one of them taken back": {func(r *rig) {
			for i := range uint64(512) {
				r.receive(1, &wire.Want{Start: i * page, Length: page})
			}
			r.receive(1, &wire.Unwant{Start: 0, Length: page})
			r.receive(1, &wire.Want{Start: 512 * page, Length: page})
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, length)
			r.open(1)
			c.want(r)
			for b, tail := range map[uint64]bool{length - 1: true, length - 256: true, length - 257: false, length / 2: false} {
				if got, want := r.announces(b), tail || c.everything; got != want {
					t.Errorf("block %d is announced: %v, want %v", b, got, want)
				}
			}
		})
	}
}
