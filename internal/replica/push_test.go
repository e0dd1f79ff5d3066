package replica

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/p2pcore/p2pcore/internal/merkle"
	"github.com/p2pcore/p2pcore/internal/wire"
)

// TestReadersAreFilledByPushes has a writer and a mirror push what is appended to a reader that asks for nothing, at every
// order of events that the seeds give. A reader beside it has not allowed pushes.
func TestReadersAreFilledByPushes(t *testing.T) {
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, seed)
			writer := w.node(3, merkle.Range{End: 3})
			mirror, reader, other := w.node(0), w.node(0), w.node(0)
			reader.feed.info.HasManifest = true
			reader.step(SetPush{Allow: true, Only: true})
			mirror.step(Want{Ticket: 1, Follow: true})
			w.connect(writer, mirror)
			for _, p := range []*simNode{writer, mirror} {
				w.connect(p, reader)
				w.connect(p, other)
			}
			length := uint64(3)
			all := func() {
				for _, p := range []*simNode{writer, mirror} {
					p.step(Push{Range: merkle.Range{End: length}})
				}
			}
			for range 20 {
				writer.feed.store(length)
				length++
				writer.feed.info.Length = length
				if w.rng.IntN(3) == 0 {
					all()
				}
				for range w.rng.IntN(60) {
					w.move()
				}
				if l := reader.links[w.rng.IntN(2)]; w.rng.IntN(8) == 0 {
					from := l.other.node
					w.cut(l)
					w.connect(from, reader)
				}
			}
			// A push that came to nothing, as one in twenty does here, is nobody's to repeat but the pusher's user.
			w.run(100_000)
			for range 30 {
				all()
				w.run(100_000)
				w.wait(pushPatience+time.Second, 100_000)
			}
			if n := reader.feed.bits.Count(0, length); n != length || reader.feed.info.Length != length {
				t.Errorf("the reader has %d of %d blocks, length %d", n, length, reader.feed.info.Length)
			}
			if s := reader.m.Stats(); s.PushesStored != length || s.Unsolicited != 0 || len(reader.m.fetches)+len(reader.m.pushes) != 0 {
				t.Errorf("the reader: %+v, %d fetches, %d pushes left", s, len(reader.m.fetches), len(reader.m.pushes))
			}
			before := w.sent["0>2 *wire.Data"] + w.sent["1>2 *wire.Data"]
			all()
			w.run(1000)
			if n := w.sent["0>2 *wire.Data"] + w.sent["1>2 *wire.Data"] - before; n != 0 {
				t.Errorf("%d blocks were pushed to a reader that is known to have all", n)
			}
			for _, p := range []string{"0", "1"} {
				if n := w.sent["2>"+p+" *wire.Request"]; n != 0 {
					t.Errorf("the reader has sent %d requests to %s", n, p)
				}
				if asked, got := w.sent["3>"+p+" *wire.Request"], w.sent[p+">3 *wire.Data"]; got > asked {
					t.Errorf("%s sent %d answers to who allows no pushes and asked %d times", p, got, asked)
				}
			}
		})
	}
}

// pusher is a machine with blocks, and one peer that allows pushes.
func pusher(t *testing.T, length uint64, room int) (*Machine, *fakeFeed, func(ev Event) []Action) {
	t.Helper()
	f := &fakeFeed{info: Info{Length: length, ByteLength: length * 1000, HasManifest: true}}
	f.bits.SetRange(0, length, true)
	m := New(f, Limits{}, rand.New(rand.NewPCG(1, 1)))
	step := func(ev Event) []Action {
		out := append([]Action(nil), m.Step(time.Unix(1, 0), ev)...)
		checkBounds(t, m)
		return out
	}
	step(Opened{Peer: 1, Room: room})
	step(Received{Peer: 1, Message: &wire.Sync{Length: length, RemoteLength: length, Downloading: true, Uploading: true, AllowPush: true}})
	return m, f, step
}

// What a peer is pushed and does not take is bounded by its credit, which comes back as it is written.
func TestPushesWaitForCredit(t *testing.T) {
	const length, room = 1000, 20_000
	m, f, step := pusher(t, length, room)
	var asks []Prove
	sent, written, most := 0, 0, 0
	take := func(actions []Action) {
		for _, a := range actions {
			switch a := a.(type) {
			case Prove:
				asks = append(asks, a)
			case Send:
				if d, ok := a.Message.(*wire.Data); ok {
					if d.ID != 0 || d.Proof.Block.Index != uint64(sent) {
						t.Fatalf("sent %s, want block %d with the id 0", showMessage(d), sent)
					}
					sent++
				}
				written += a.Message.Size()
			}
		}
		most = max(most, written)
		if len(asks) > room/1000 {
			t.Fatalf("%d pushes are being made with room for %d bytes", len(asks), room)
		}
	}
	take(step(Push{Range: merkle.Range{End: length}}))
	for {
		for len(asks) > 0 {
			ask := asks[0]
			asks = asks[1:]
			take(step(f.prove(ask.Token, ask.Request, 1000)))
		}
		if sent == length {
			break
		}
		if written == 0 {
			t.Fatalf("stopped after %d blocks, with all of the credit", sent)
		}
		give := written
		written = 0
		take(step(Room{Peer: 1, Bytes: give}))
	}
	if most > room+2000 {
		t.Errorf("%d bytes were under way, with credit for %d", most, room)
	}
	if s := m.Stats(); s.BlocksPushed != length || s.BlocksSent != length {
		t.Errorf("%+v", s)
	}
}

// A user that pushes this and that to a slow peer fills no memory: the newest is kept.
func TestPushesThatWaitAreBounded(t *testing.T) {
	m, _, step := pusher(t, 100_000, 1)
	for i := range uint64(1000) {
		step(Push{Range: merkle.Range{Start: i * 10, End: i*10 + 3}})
	}
	q := m.peers[1].push.queue
	if last := q[len(q)-1]; len(q) != maxPendingRanges || last != (merkle.Range{Start: 9990, End: 9993}) {
		t.Errorf("%d ranges wait, the last is %v", len(q), last)
	}
	step(Push{Range: merkle.Range{Start: 9993, End: 9999}})
	if q := m.peers[1].push.queue; len(q) != maxPendingRanges || q[len(q)-1].End != 9999 {
		t.Errorf("a neighbour was not merged: %v", q[len(q)-1])
	}
}

// Requests that wait for an upgrade under way are bounded as all others are, and answered after it.
func TestRequestsThatWaitForAPushAreBounded(t *testing.T) {
	m, f, step := pusher(t, 10, 1<<20)
	request := func(id uint64) []Action {
		r := &wire.Request{ID: id}
		r.Upgrade = &merkle.UpgradeRequest{Start: 5, Length: 5}
		return step(Received{Peer: 1, Message: r})
	}
	first, ok := request(1)[0].(Prove)
	if !ok {
		t.Fatal("the first request is not answered")
	}
	for range 20_000 {
		request(2)
		step(Received{Peer: 1, Message: &wire.Cancel{ID: 2}})
	}
	request(3)
	if n := len(m.peers[1].push.held); n == 0 {
		t.Error("nothing waits")
	}
	actions := step(f.prove(first.Token, first.Request, 0))
	if len(actions) != 2 || showMessage(actions[0].(Send).Message) != "data 1 fork=0 upgrade=5+5" {
		t.Fatalf("after the first answer: %v", actions)
	}
	if p := actions[1].(Prove); p.Request.Upgrade.Start != 5 || m.proofs[p.Token].id != 3 {
		t.Errorf("then %s of request %d is answered", showRequest(&p.Request), m.proofs[p.Token].id)
	}
}

// Pushes where none are allowed are passed over, as Hypercore does, however many there are: the flag that forbids them
// may still be on its way. Answers under other ids that nobody asked for still count.
func TestPushesWhereNoneAreAllowedAreNoOffence(t *testing.T) {
	f := &fakeFeed{info: Info{Length: 1000}}
	m := New(f, Limits{}, rand.New(rand.NewPCG(1, 1)))
	step := func(ev Event) []Action { return m.Step(time.Unix(1, 0), ev) }
	step(Opened{Peer: 1, Room: 1 << 20})
	step(Received{Peer: 1, Message: &wire.Sync{Length: 1000, RemoteLength: 1000, Downloading: true, Uploading: true}})
	data := func(id uint64) *wire.Data {
		d := &wire.Data{ID: id}
		d.Proof.Block = &merkle.BlockProof{Index: 7}
		return d
	}
	for i := range 10 * maxUnsolicited {
		if got := step(Received{Peer: 1, Message: data(0)}); len(got) != 0 {
			t.Fatalf("push %d: %v", i, got)
		}
	}
	for i := range maxUnsolicited + 1 {
		got := step(Received{Peer: 1, Message: data(9)})
		if dropped := len(got) == 1 && got[0] == Action(Drop{Peer: 1, Reason: "unsolicited answers"}); dropped != (i == maxUnsolicited) {
			t.Fatalf("answer %d: %v", i, got)
		}
	}
}

// Malformed pushes end the channel at some point.
func TestMalformedPushesEndTheChannel(t *testing.T) {
	f := &fakeFeed{info: Info{Length: 1000}}
	m := New(f, Limits{}, rand.New(rand.NewPCG(1, 1)))
	step := func(ev Event) []Action { return m.Step(time.Unix(1, 0), ev) }
	step(SetPush{Allow: true})
	step(Opened{Peer: 1, Room: 1 << 20})
	for i := range maxBadPushes + 1 {
		d := &wire.Data{}
		d.Proof.Block = &merkle.BlockProof{Index: uint64(i)}
		apply := step(Received{Peer: 1, Message: d})[0].(Apply)
		got := step(Applied{Token: apply.Token, Fault: FaultInvalid})
		if dropped := len(got) > 0; dropped != (i == maxBadPushes) {
			t.Fatalf("push %d: %v", i, got)
		}
	}
	if s := m.Stats(); s.Peers != 0 || s.InvalidProofs != maxBadPushes+1 {
		t.Errorf("%+v", s)
	}
}
