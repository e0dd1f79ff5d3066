package secretstream

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"testing/iotest"
	"time"
)

// role is one side of the first recorded session.
type role struct {
	heard []byte                        // what the other side has sent
	hear  func([]byte) (*Stream, error) // shakes hands with one that sends something else
}

func roles(t testing.TB) map[string]role {
	t.Helper()
	v := load(t).Sessions[0]
	play := func(initiator bool, us party, other string) role {
		return role{v.sent(other, v.Handshake), func(b []byte) (*Stream, error) {
			s, err := Handshake(context.Background(), newTape(b), Config{
				Initiator: initiator, Seed: [32]byte(us.Static),
				Rand: bytes.NewReader(append(bytes.Clone(us.Ephemeral), us.Header...)),
			})
			if err != nil || !initiator {
				return s, err
			}
			_, err = s.ReadMessage() // the header
			return s, err
		}}
	}
	return map[string]role{"initiator": play(true, v.Initiator, "responder"), "responder": play(false, v.Responder, "initiator")}
}

// TestEveryFlippedBitEndsTheHandshake changes one bit of what a side hears after another, up to the header's
// random, which the first message vouches for.
func TestEveryFlippedBitEndsTheHandshake(t *testing.T) {
	t.Parallel()
	step := 1
	if testing.Short() {
		step = 7 // comes to each place in a byte
	}
	for name, role := range roles(t) {
		if _, err := role.hear(role.heard); err != nil && err != io.EOF {
			t.Fatalf("%s, unchanged: %v", name, err)
		}
		for bit := 0; bit < 8*(len(role.heard)-streamHeader); bit += step {
			bad := bytes.Clone(role.heard)
			bad[bit/8] ^= 1 << (bit % 8)
			if _, err := role.hear(bad); err == nil || err == io.EOF {
				t.Errorf("%s: a handshake with bit %d flipped succeeds", name, bit)
			}
		}
	}
}

func TestHandshakeCutShort(t *testing.T) {
	t.Parallel()
	for name, role := range roles(t) {
		for n := range len(role.heard) {
			_, err := role.hear(role.heard[:n])
			if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%s: after %d bytes: %v", name, n, err)
			}
		}
	}
}

func TestHandshakeRefusesHeaders(t *testing.T) {
	t.Parallel()
	v := load(t).Sessions[0]
	for name, header := range map[string][]byte{
		"of our own role": v.Handshake[3].Frame,
		"of no bytes":     {0, 0, 0},
		"too short":       append([]byte{55, 0, 0}, make([]byte, 55)...),
		"too long":        append([]byte{57, 0, 0}, v.Handshake[4].Frame[3:]...),
	} {
		s, _ := v.begin(t, true)
		if name == "too long" {
			header = append(header, 0)
		}
		s.rwc = newTape(header)
		if _, err := s.ReadMessage(); !errors.Is(err, ErrHandshake) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestHandshakeBoundsFrames(t *testing.T) {
	t.Parallel()
	p := newTape([]byte{0xff, 0xff, 0xff, 1, 2, 3})
	if _, err := Handshake(t.Context(), p, Config{}); !errors.Is(err, ErrFrame) {
		t.Errorf("16 MiB announced: %v", err)
	}
}

func TestHandshakeBlamesWhoFailed(t *testing.T) {
	t.Parallel()
	broken := errors.New("no random today")
	for _, cfg := range []Config{{Initiator: true}, {Initiator: true, Seed: [32]byte{1}}} {
		cfg.Rand = iotest.ErrReader(broken)
		_, err := Handshake(t.Context(), newTape(nil), cfg)
		if !errors.Is(err, broken) || errors.Is(err, ErrHandshake) {
			t.Errorf("%v", err)
		}
	}
}

func TestHandshakeKeepsToTheDeadline(t *testing.T) {
	t.Parallel()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	ctx, cancel := context.WithDeadline(t.Context(), time.Now())
	defer cancel()
	if _, err := Handshake(ctx, a, Config{Initiator: true}); err == nil {
		t.Error("a handshake with nobody succeeds")
	}
	ended, end := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	end(why)
	if _, err := Handshake(ended, newTape(nil), Config{}); !errors.Is(err, why) {
		t.Errorf("ended context: %v", err)
	}
	later, cancel2 := context.WithDeadline(t.Context(), time.Now().Add(time.Hour))
	defer cancel2()
	d := &deadlines{tape: newTape(nil)}
	if _, err := Handshake(later, d, Config{}); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	if len(d.set) != 2 || d.set[0].IsZero() || !d.set[1].IsZero() {
		t.Errorf("deadlines %v, want ctx's and then none", d.set)
	}
}

// deadlines records the deadlines of a stream.
type deadlines struct {
	*tape
	set []time.Time
}

func (d *deadlines) SetDeadline(t time.Time) error {
	d.set = append(d.set, t)
	return nil
}

// FuzzHandshake lets both sides hear anything. With a key that was made for this handshake alone, only what was
// recorded fits.
func FuzzHandshake(f *testing.F) {
	both := roles(f)
	for name, role := range both {
		f.Add(role.heard, name)
	}
	for _, v := range load(f).FirstFrames {
		f.Add([]byte(v.Frame), "responder")
	}
	f.Fuzz(func(t *testing.T, b []byte, name string) {
		role, ok := both[name]
		if !ok {
			return
		}
		s, err := role.hear(b)
		if s != nil && (err == nil || err == io.EOF) && !bytes.HasPrefix(b, role.heard[:len(role.heard)-streamHeader]) {
			t.Errorf("%s: accepted %x", name, b)
		}
	})
}

// FuzzReadMessage reads anything as the frames that follow a handshake. Only the recorded ones are messages.
func FuzzReadMessage(f *testing.F) {
	v := load(f).Sessions[0]
	for _, m := range v.Messages[:8] {
		f.Add([]byte(m.Frame))
	}
	recorded := v.sent("initiator", v.Messages)
	f.Add(recorded[:400])
	f.Add([]byte{0, 0, 0})
	f.Add([]byte{0xff, 0xff, 0xff})
	s, _ := v.begin(f, false)
	begin := *s.receive
	f.Fuzz(func(t *testing.T, b []byte) {
		receive := begin
		s := &Stream{rwc: newTape(b), receive: &receive}
		end := 0
		m, err := s.ReadMessage()
		for ; err == nil; m, err = s.ReadMessage() {
			end += lengthSize + overhead + len(m)
		}
		if end > len(recorded) || !bytes.HasPrefix(b, recorded[:end]) {
			t.Errorf("read %d bytes of messages from %x", end, b)
		}
	})
}
