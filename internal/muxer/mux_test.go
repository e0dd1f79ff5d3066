package muxer

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/p2pcore/p2pcore/internal/compact"
)

// drain returns all events of a frame.
func drain(t testing.TB, m *Mux, frame []byte) []Event {
	t.Helper()
	m.Receive(frame)
	var events []Event
	for {
		ev, err := m.Next()
		if err != nil {
			t.Fatalf("frame of %d bytes, %.64x: %v", len(frame), frame, err)
		}
		if ev.Kind == None {
			return events
		}
		events = append(events, ev)
	}
}

// transfer moves all that a has queued to b.
func transfer(t testing.TB, a, b *Mux) []Event {
	t.Helper()
	var events []Event
	for {
		f, ok := a.Take()
		if !ok {
			return events
		}
		events = append(events, drain(t, b, bytes.Clone(f.Bytes))...)
		a.Recycle(f)
	}
}

func mustOpen(t testing.TB, m *Mux, id string) *Channel {
	t.Helper()
	c, err := m.Open("p", id, []byte("hs "+id))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestMuxAgainstItself lets two sides open, talk and close at random, with frames that cross, and
// checks that every message arrives once, in order, on the right channel.
func TestMuxAgainstItself(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		type peer struct {
			mux      *Mux
			channels map[string]*Channel
			sent     map[string]int // messages since the channel was opened
			seen     map[string]int
			wire     [][]byte // on the way to the other one
		}
		peers := [2]*peer{}
		for i := range peers {
			peers[i] = &peer{mux: New(0), channels: map[string]*Channel{}, sent: map[string]int{}, seen: map[string]int{}}
			if seed%2 == 0 {
				peers[i].mux.Cork()
			}
		}
		on := func(p *peer, ev Event) {
			switch ev.Kind {
			case Opened:
				if want := "hs " + ev.Channel.ID(); string(ev.Handshake) != want {
					t.Fatalf("handshake %q, want %q", ev.Handshake, want)
				}
				p.seen[ev.Channel.ID()] = 0
			case Message:
				id := ev.Channel.ID()
				if want := fmt.Sprintf("%s %d", id, p.seen[id]); string(ev.Payload) != want {
					t.Fatalf("seed %d: got %q, want %q", seed, ev.Payload, want)
				}
				p.seen[id]++
			case Closed:
				delete(p.channels, ev.Channel.ID())
			case Pending:
				if r.IntN(4) == 0 {
					p.mux.Reject(ev.Remote)
				}
			}
		}
		for range 400 {
			p := peers[r.IntN(2)]
			id := fmt.Sprint(r.IntN(5))
			switch c := p.channels[id]; {
			case r.IntN(3) == 0: // a frame arrives at the other side
				other := peers[0]
				if p == other {
					other = peers[1]
				}
				if f, ok := p.mux.Take(); ok {
					p.wire = append(p.wire, bytes.Clone(f.Bytes))
				}
				if len(p.wire) > 0 && r.IntN(2) == 0 {
					for _, ev := range drain(t, other.mux, p.wire[0]) {
						on(other, ev)
					}
					p.wire = p.wire[1:]
				}
			case c == nil:
				c = mustOpen(t, p.mux, id)
				p.channels[id], p.sent[id] = c, 0
				for ev, ok := p.mux.Queued(); ok; ev, ok = p.mux.Queued() {
					on(p, ev)
				}
			case r.IntN(6) == 0:
				p.mux.Close(c)
				delete(p.channels, id)
			default:
				if err := p.mux.Send(c, 0, raw(fmt.Sprintf("%s %d", id, p.sent[id]))); err != nil {
					t.Fatal(err)
				}
				p.sent[id]++
			}
		}
	}
}

func TestBufferedMessagesComeAfterOpened(t *testing.T) {
	t.Parallel()
	a, b := New(0), New(0)
	c := mustOpen(t, a, "x")
	for i := range 3 {
		if err := a.Send(c, uint64(i), raw("early")); err != nil {
			t.Fatal(err)
		}
	}
	if ev := transfer(t, a, b); len(ev) != 1 || ev[0].Kind != Pending {
		t.Fatalf("got %v, want one pending open", ev)
	}
	mustOpen(t, b, "x")
	for i, want := range []Kind{Opened, Message, Message, Message} {
		if ev, ok := b.Queued(); !ok || ev.Kind != want {
			t.Errorf("event %d: %v, want kind %d", i, ev, want)
		}
	}
	if b.buffered != 0 || b.Pending() != 0 {
		t.Errorf("%d bytes and %d opens still held", b.buffered, b.Pending())
	}
}

func TestCongestedWhilePendingOpensHoldTooMuch(t *testing.T) {
	t.Parallel()
	a, b := New(0), New(0)
	c := mustOpen(t, a, "x")
	for range maxBuffered/bufferedCost + 1 {
		_ = a.Send(c, 0, raw(""))
	}
	ev := transfer(t, a, b)
	if !b.Congested() {
		t.Fatalf("not congested with %d bytes kept", b.buffered)
	}
	b.Reject(ev[0].Remote)
	if b.Congested() {
		t.Fatalf("still congested after the reject, with %d bytes kept", b.buffered)
	}
}

func TestWithdrawnOpenIsAnswered(t *testing.T) {
	t.Parallel()
	a, b := New(0), New(0)
	c := mustOpen(t, a, "x")
	a.Close(c)
	ev := transfer(t, a, b)
	if len(ev) != 2 || ev[1].Kind != Withdrawn {
		t.Fatalf("got %v, want Pending and Withdrawn", ev)
	}
	if ev := transfer(t, b, a); len(ev) != 0 {
		t.Fatalf("got %v for a channel that was closed", ev)
	}
	if c = mustOpen(t, a, "x"); c.localID != 1 {
		t.Errorf("id %d, want 1 again", c.localID)
	}
}

func TestRejectsOfOpensBeyondTheBounds(t *testing.T) {
	t.Parallel()
	a, b := New(0), New(0)
	for i := range maxPending + 1 {
		mustOpen(t, a, fmt.Sprint(i))
	}
	if n := len(transfer(t, a, b)); n != maxPending {
		t.Errorf("%d opens held, want %d", n, maxPending)
	}
	if !b.Congested() {
		t.Error("not congested with as many opens as are held")
	}
	ev := transfer(t, b, a)
	if len(ev) != 1 || !ev[0].Rejected {
		t.Errorf("got %v, want one reject", ev)
	}

	a, b = New(0), New(0)
	if _, err := a.Open("p", "", make([]byte, maxHandshake+1)); err != nil {
		t.Fatal(err)
	}
	if ev := transfer(t, a, b); len(ev) != 0 {
		t.Errorf("an oversized handshake is held: %v", ev)
	}
}

func TestControlAnswersOfARemoteThatDoesNotReadAreBounded(t *testing.T) {
	t.Parallel()
	m := New(0)
	m.Cork()
	sent := 0
	for ; !m.Congested() && sent < 1<<20; sent++ {
		for _, ev := range drain(t, m, openFrame(1, "p", "x")) {
			m.Reject(ev.Remote)
		}
	}
	if sent == 1<<20 {
		t.Fatal("never congested")
	}
	for m.Congested() {
		if _, ok := m.Take(); !ok {
			t.Fatal("congested with nothing to write")
		}
	}
}

func openFrame(id uint64, protocol, key string) []byte {
	b := compact.AppendUint([]byte{0, byte(controlOpen)}, id)
	return compact.AppendString(compact.AppendString(b, protocol), key)
}

func TestErrorsThatEndTheStream(t *testing.T) {
	t.Parallel()
	nested := []byte{0, 0, 0}
	for range maxDepth {
		nested = append([]byte{0, 0, 0}, append(compact.AppendUint(nil, uint64(len(nested)-1)), nested[1:]...)...)
	}
	for _, c := range []struct {
		name  string
		frame []byte
		want  error
	}{
		{"truncated", []byte{0xfd}, ErrMalformed},
		{"open without an id", []byte{0, 1}, ErrMalformed},
		{"open of id 0", openFrame(0, "p", ""), ErrInvalidOpen},
		{"open skips an id", openFrame(2, "p", ""), ErrInvalidOpen},
		{"reject of nothing", []byte{0, 2, 1}, ErrInvalidReject},
		{"nested too deeply", nested, ErrNesting},
		{"number above 2^53-1", []byte{0, 3, 0xff, 255, 255, 255, 255, 255, 255, 255, 255}, ErrMalformed},
	} {
		m := New(0)
		m.Receive(c.frame)
		ev, err := m.Next()
		if !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, %v, want %v", c.name, ev, err, c.want)
		}
	}
}

// A remote that opens, is answered, closes, and never reads is made to wait: for the answers, and for
// what was sent to it on channels that are gone.
func TestCongestedByChannelsThatComeAndGo(t *testing.T) {
	t.Parallel()
	for name, message := range map[string]int{"answers": 0, "messages": 100 << 10} {
		m := New(0)
		m.Cork()
		cycles := 0
		for ; !m.Congested() && cycles < 1<<16; cycles++ {
			m.Receive(openFrame(1, "p", "x"))
			if ev, err := m.Next(); ev.Kind != Pending || err != nil {
				t.Fatalf("%s: %v, %v", name, ev, err)
			}
			c, err := m.Open("p", "x", nil)
			if err != nil {
				t.Fatal(err)
			}
			if message > 0 {
				_ = m.Send(c, 1, raw(make([]byte, message)))
			}
			if ev, _ := m.Next(); ev.Kind != Opened {
				t.Fatalf("%s: %v", name, ev)
			}
			m.Receive([]byte{0, 3, 1})
			if ev, _ := m.Next(); ev.Kind != Closed {
				t.Fatalf("%s: %v", name, ev)
			}
		}
		if !m.Congested() || cycles*message > maxOrphaned+message {
			t.Errorf("%s: congested %v after %d cycles", name, m.Congested(), cycles)
		}
		for f, ok := m.Take(); ok; f, ok = m.Take() {
			m.Recycle(f)
		}
		if m.Congested() || m.out.control != 0 || m.out.orphaned != 0 {
			t.Errorf("%s: %d and %d bytes are counted after all was taken", name, m.out.control, m.out.orphaned)
		}
	}
}

func TestFramesTellWhoseBytesTheyCarry(t *testing.T) {
	t.Parallel()
	m := New(3)
	m.Cork()
	x, y := mustOpen(t, m, "x"), mustOpen(t, m, "y")
	for range 10 {
		_ = m.Send(x, 3, raw(make([]byte, 20<<10)))
		_ = m.Send(y, 3, raw("1"))
	}
	sum := map[*Channel]int{}
	unwritten := m.Unwritten()
	for f, ok := m.Take(); ok; f, ok = m.Take() {
		if unwritten -= len(f.Bytes); m.Unwritten() != unwritten {
			t.Errorf("%d bytes are unwritten, want %d", m.Unwritten(), unwritten)
		}
		if len(f.Bytes) > 2*maxBatch {
			t.Errorf("frame of %d bytes", len(f.Bytes))
		}
		for _, c := range f.Credits {
			sum[c.Channel] += c.Bytes
		}
		m.Recycle(f)
	}
	if sum[x] < 10*20<<10 || sum[x] > 10*(20<<10+20) || sum[y] < 10 || sum[y] > 100 {
		t.Errorf("credits are %d and %d bytes", sum[x], sum[y])
	}
	if err := m.Send(x, 0, raw(make([]byte, maxFrame))); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a message that fits no frame: %v", err)
	}
	m.Close(x)
	if err := m.Send(x, 0, raw("")); !errors.Is(err, ErrClosed) {
		t.Errorf("send on a closed channel: %v", err)
	}
}

func FuzzReceive(f *testing.F) {
	f.Add(openFrame(1, "p", "x"), []byte{0, 3, 1})
	f.Add([]byte{0, 0, 0, 8, 1, 1, 1, 'p', 1, 'y', 2, 0, 1, 3, 0, 1, 'a'}, []byte{1, 0, 1})
	f.Fuzz(func(t *testing.T, one, two []byte) {
		m := New(0)
		m.Cork()
		mustOpen(t, m, "y")
		for _, frame := range [][]byte{one, two, one} {
			m.Receive(frame)
			for {
				ev, err := m.Next()
				if err != nil {
					return
				}
				if ev.Kind == None {
					break
				}
				if ev.Kind == Pending && len(ev.Remote.ID())%2 == 0 {
					m.Reject(ev.Remote)
				}
			}
		}
		// One byte of a batch opens nothing, so what is kept stays near what was sent.
		if kept := m.buffered; kept > (bufferedCost+1)*(2*len(one)+len(two)) {
			t.Fatalf("%d bytes kept", kept)
		}
		for f, ok := m.Take(); ok; f, ok = m.Take() {
			m.Recycle(f)
		}
		if m.out.control != 0 {
			t.Fatalf("%d control bytes left after all was taken", m.out.control)
		}
		if m.out.orphaned != 0 {
			t.Fatalf("%d bytes of closed channels left after all was taken", m.out.orphaned)
		}
	})
}

func BenchmarkSendAndReceive(b *testing.B) {
	a, z := New(3), New(3)
	a.Cork()
	c := mustOpen(b, a, "x")
	mustOpen(b, z, "x")
	payload := raw(make([]byte, 1024))
	b.SetBytes(64 * 1024)
	b.ReportAllocs()
	for b.Loop() {
		for range 64 {
			_ = a.Send(c, 3, payload)
		}
		f, _ := a.Take()
		z.Receive(f.Bytes[3:])
		for {
			if ev, err := z.Next(); err != nil || ev.Kind == None {
				break
			}
		}
		a.Recycle(f)
	}
}
