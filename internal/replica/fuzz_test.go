package replica

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/p2pcore/p2pcore/internal/flattree"
	"github.com/p2pcore/p2pcore/internal/merkle"
	"github.com/p2pcore/p2pcore/internal/wire"
)

// hostile turns bytes into events: three peers that say anything, a user, and a driver that answers
// what it is asked, sometimes wrongly and sometimes what it was not.
type hostile struct {
	data []byte
	feed *fakeFeed
	asks []Action
	msgs []wire.Message // requests of the machine, to be answered
}

func (h *hostile) byte() byte {
	if len(h.data) == 0 {
		return 0
	}
	b := h.data[0]
	h.data = h.data[1:]
	return b
}

// number is mostly small, near a bound, or huge.
func (h *hostile) number() uint64 {
	b := h.byte()
	switch b >> 5 {
	case 0, 1, 2, 3:
		return uint64(b)
	case 4:
		return uint64(b&31) * 32
	case 5:
		return uint64(b&31) * wantPage
	case 6:
		return 1<<(b&31+32) - 1
	}
	var x [8]byte
	for i := range x {
		x[i] = h.byte()
	}
	return binary.LittleEndian.Uint64(x[:]) >> (b & 31)
}

func (h *hostile) event() Event {
	b := h.byte()
	p := PeerID(b>>4&3 + 1)
	switch b & 15 {
	case 0:
		return Opened{Peer: p, Seeks: b&128 == 0, Room: int(h.byte()) * 64, Window: int(h.byte())}
	case 1:
		return Closed{Peer: p}
	case 2:
		return Room{Peer: p, Bytes: int(h.byte()) * 64}
	case 3:
		w := Want{Ticket: Ticket(h.byte()%8 + 1), Priority: int(b>>6) & 1, Linear: b&128 != 0, Follow: b == 0xf3}
		w.Range.Start = h.number() >> 1
		w.Range.End = w.Range.Start + uint64(h.byte())*8
		if b&32 != 0 {
			w.Blocks = []uint64{h.number(), h.number(), h.number()}
		}
		return w
	case 4:
		return WantUpgrade{Ticket: Ticket(h.byte()%4 + 100)}
	case 5:
		n := uint64(1) << (h.byte() % 16)
		return WantSeek{Ticket: Ticket(h.byte()%4 + 200), Bytes: h.number(),
			Span: merkle.Range{Start: h.number() % 1024 * n, End: h.number()%1024*n + n}}
	case 6:
		return Forget{Ticket: Ticket(h.byte())}
	case 7:
		return h.change()
	case 8:
		return h.user(b)
	case 9, 10, 11:
		return h.answer()
	}
	return Received{Peer: p, Message: h.message()}
}

// user is what the local user does beside wishing.
func (h *hostile) user(b byte) Event {
	switch {
	case b&32 == 0:
		return SetDownloading{On: b&16 == 0}
	case b&192 == 192:
		return SetLazy{On: b&16 == 0}
	case b&64 == 0:
		return SetPush{Allow: b&16 == 0, Only: b&128 == 0}
	}
	start := h.number() >> 1
	return Push{Peer: PeerID(b >> 4 & 1), Range: merkle.Range{Start: start, End: start + uint64(h.byte())}}
}

func (h *hostile) change() Event {
	switch b := h.byte(); b & 3 {
	case 0:
		h.feed.forkFrom(h.feed.info.Length / 2)
		h.feed.info.Fork++
		h.feed.info.Length /= 2
		h.feed.drop(merkle.Range{Start: h.feed.info.Length, End: 1 << 40})
	case 1:
		h.feed.drop(merkle.Range{Start: uint64(b), End: uint64(b) + uint64(h.byte())})
	case 2:
		h.feed.info.Frozen = b >= 0xf0
	default:
		for range b >> 2 {
			h.feed.store(h.feed.info.Length)
			h.feed.info.Length++
		}
	}
	return h.feed.changed()
}

func (h *hostile) answer() Event {
	if len(h.asks) == 0 {
		return Tick{}
	}
	i := int(h.byte()) % len(h.asks)
	a := h.asks[i]
	h.asks = append(h.asks[:i:i], h.asks[i+1:]...)
	fault := Fault(0)
	if b := h.byte(); b > 200 {
		fault = Fault(b % 6)
	}
	switch a := a.(type) {
	case Plan:
		return Planned{Token: a.Token, Nodes: make([]uint64, len(a.Blocks))}
	case CanUpgrade:
		return Verdict{Token: a.Token, OK: fault == 0}
	case Prove:
		if fault != 0 {
			return Proved{Token: a.Token, Fault: fault}
		}
		return h.feed.prove(a.Token, a.Request, int(h.byte())*100)
	case StartReorg:
		return h.reorged(a.Token, fault, nil)
	case StepReorg:
		return h.reorged(a.Token, fault, a.Search)
	case ApplyReorg:
		if fault == 0 && h.byte()%4 > 0 {
			fork := a.Search.(uint64)
			h.feed.forkFrom(h.feed.info.Length / 2)
			h.feed.info.Fork = max(h.feed.info.Fork+1, fork)
			h.feed.drop(merkle.Range{Start: h.feed.info.Length / 2, End: h.feed.info.Length})
		}
		return Reorged{Token: a.Token, Fault: fault}
	case Examine:
		e := Examined{Token: a.Token, Fault: fault, Conflict: fault == 0 && h.byte() == 7}
		h.feed.info.Frozen = h.feed.info.Frozen || e.Conflict
		return e
	case Apply:
		if u := a.Proof.Upgrade; fault != 0 || u != nil && u.Length > 1<<40 {
			return Applied{Token: a.Token, Fault: fault}
		}
		return h.feed.apply(a.Token, a.Proof)
	}
	return Tick{}
}

// reorged answers an ask about a fork with some search or its next step.
func (h *hostile) reorged(token Token, fault Fault, search Search) Event {
	e := Reorged{Token: token, Fault: fault, Search: search, Length: h.number() % (1 << 40)}
	if search == nil {
		e.Search = h.feed.info.Fork + 1
	}
	if length := h.feed.info.Length; length > 1 && h.byte()%3 > 0 {
		e.More = true
		e.Want.Start = uint64(h.byte()) % (length - 1)
		e.Want.End, e.Want.Nodes = e.Want.Start+1+uint64(h.byte())%(length-e.Want.Start-1), 3
	}
	return e
}

func (h *hostile) message() wire.Message {
	b := h.byte()
	switch b & 15 {
	case 0:
		return &wire.Sync{Fork: h.number() % 4, Length: h.number(), RemoteLength: h.number(), CanUpgrade: b&16 == 0,
			Uploading: b&32 == 0, Downloading: b&64 == 0, HasManifest: b&128 == 0}
	case 1:
		return &wire.Sync{Length: h.feed.info.Length + uint64(h.byte()), RemoteLength: h.feed.info.Length,
			Fork: h.feed.info.Fork, CanUpgrade: true, Uploading: true, Downloading: true, AllowPush: b&16 == 0}
	case 2:
		m := &wire.Request{ID: uint64(h.byte()), Priority: uint64(b >> 7)}
		m.Fork = h.feed.info.Fork + uint64(b>>6&1)
		m.Manifest = b&16 != 0
		if b&32 == 0 {
			m.Block = &merkle.BlockRequest{Index: h.number(), Nodes: h.number()}
		} else {
			m.Upgrade = &merkle.UpgradeRequest{Start: h.number(), Length: h.number()}
		}
		return m
	case 3:
		return &wire.Cancel{ID: uint64(h.byte())}
	case 4, 5, 6:
		return h.reply(b)
	case 7:
		return &wire.NoData{ID: uint64(h.byte() % 64), Reason: uint64(b >> 6)}
	case 8:
		return &wire.Want{Start: h.number(), Length: h.number(), Any: b&16 != 0}
	case 9:
		return &wire.Want{Start: h.number() * 32, Length: 32 << (b >> 4)}
	case 10:
		return &wire.Unwant{Start: h.number(), Length: h.number(), Any: b&16 != 0}
	case 11:
		m := &wire.Bitfield{Start: h.number(), Words: make([]uint32, h.byte())}
		for i := range m.Words {
			m.Words[i] = uint32(i) * uint32(b) * 2654435761
		}
		return m
	case 12:
		return &wire.Extension{Name: string(rune('a' + b>>4)), Message: []byte{b}}
	}
	return &wire.Range{Drop: b&16 != 0, Start: h.number() * uint64(b>>5&1), Length: h.number()}
}

// reply answers a request of the machine, mostly as it was asked.
func (h *hostile) reply(b byte) wire.Message {
	m := &wire.Data{ID: uint64(h.byte() % 64)}
	m.Proof.Fork = h.feed.info.Fork
	if len(h.msgs) > 0 && b&64 == 0 {
		req := h.msgs[int(b)%len(h.msgs)].(*wire.Request)
		m.ID, m.Proof.Fork = req.ID, req.Fork
		if req.Block != nil {
			m.Proof.Block = &merkle.BlockProof{Index: req.Block.Index, Value: make([]byte, h.byte())}
		}
		if req.Upgrade != nil {
			m.Proof.Upgrade = &merkle.UpgradeProof{Start: req.Upgrade.Start, Length: req.Upgrade.Length}
		}
		if req.Hash != nil {
			m.Proof.Hash = &merkle.HashProof{Index: req.Hash.Index}
		}
		if req.Manifest {
			m.Proof.Manifest = []byte{1}
		}
		return m
	}
	if b&16 == 0 {
		m.ID, m.Proof.Block = 0, &merkle.BlockProof{Index: h.number(), Value: make([]byte, b)}
		if b&32 == 0 {
			m.Proof.Upgrade = &merkle.UpgradeProof{Start: h.number() >> 1, Length: uint64(b)}
		}
		return m
	}
	m.Proof.Hash = &merkle.HashProof{Index: flattree.Index(h.number())}
	return m
}

// play feeds all of the data to a machine, and checks its bounds after each step.
func (h *hostile) play(t testing.TB) {
	h.feed = &fakeFeed{info: Info{Length: uint64(h.byte()) * 8}}
	for b := range h.feed.info.Length {
		if b%5 != 0 || b < 40 {
			h.feed.bits.Set(b, true)
		}
	}
	m := New(h.feed, Limits{QueuedRequests: 32, Proving: 16}, rand.New(rand.NewPCG(1, 1)))
	now := time.Unix(1000, 0)
	open := map[PeerID]bool{}
	used := map[Token]bool{}
	for len(h.data) > 0 {
		now = now.Add(time.Duration(h.byte()) * 20 * time.Millisecond)
		ev := h.event()
		switch ev := ev.(type) {
		case Opened:
			open[ev.Peer] = true
		case Closed:
			delete(open, ev.Peer)
		}
		for _, a := range m.Step(now, ev) {
			switch a := a.(type) {
			case Send:
				if !open[a.Peer] {
					t.Fatalf("%s for closed peer %d after %T", showMessage(a.Message), a.Peer, ev)
				}
				if r, ok := a.Message.(*wire.Request); ok {
					if r.ID == 0 && (r.Block != nil || r.Upgrade == nil || r.Upgrade.Start != 0) {
						t.Fatal("request with id 0 that is no conflict check")
					}
					h.msgs = append(h.msgs[max(0, len(h.msgs)-50):], r)
				}
			case CloseChannel:
				delete(open, a.Peer)
			case Drop:
				if m.peers[a.Peer] == nil { // else it is for the one that had the number before
					delete(open, a.Peer)
				}
			case Plan:
				h.ask(t, used, a.Token, a)
			case CanUpgrade:
				h.ask(t, used, a.Token, a)
			case Prove:
				h.ask(t, used, a.Token, a)
			case Apply:
				h.ask(t, used, a.Token, a)
			case StartReorg:
				h.ask(t, used, a.Token, a)
			case StepReorg:
				h.ask(t, used, a.Token, a)
			case ApplyReorg:
				h.ask(t, used, a.Token, a)
			case Examine:
				h.ask(t, used, a.Token, a)
			}
		}
		checkBounds(t, m)
	}
}

func (h *hostile) ask(t testing.TB, used map[Token]bool, token Token, a Action) {
	if token == 0 || used[token] {
		t.Fatalf("token %d is not new", token)
	}
	used[token] = true
	h.asks = append(h.asks, a)
}

func FuzzHostile(f *testing.F) {
	f.Add([]byte("\x10\x00\x00\xff\x30\x00\x0f\x01\x10\x00\x03\x01\x00\x10"))
	f.Fuzz(func(t *testing.T, data []byte) { (&hostile{data: data}).play(t) })
}

// TestHostileEvents plays random bytes, more of them than a fuzzer starts with.
func TestHostileEvents(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 9))
		data := make([]byte, 6000)
		for i := range data {
			data[i] = byte(rng.Uint32())
		}
		(&hostile{data: data}).play(t)
	}
}
