package secretstream

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"net"
	"testing"
)

// shake joins two streams over a pipe without buffers: what is written there waits until it is read.
func shake(t testing.TB, ctx context.Context) (initiator, responder *Stream) {
	t.Helper()
	a, b := net.Pipe()
	t.Cleanup(func() { a.Close(); b.Close() })
	type result struct {
		s   *Stream
		err error
	}
	done := make(chan result, 1)
	go func() {
		s, err := Handshake(ctx, b, Config{Seed: [32]byte{1}})
		done <- result{s, err}
	}()
	initiator, err := Handshake(ctx, a, Config{Initiator: true})
	if err != nil {
		t.Fatal(err)
	}
	header, err := readFrame(a, nil, Headroom, maxHandshake)
	if err != nil {
		t.Fatal(err)
	}
	if m, err := initiator.Open(header); err != nil || len(m) > 0 {
		t.Fatalf("header: %x, %v", m, err)
	}
	r := <-done
	if r.err != nil {
		t.Fatal(r.err)
	}
	return initiator, r.s
}

func TestStreamsCarryMessagesBothWays(t *testing.T) {
	t.Parallel()
	a, b := shake(t, t.Context())
	if a.HandshakeHash() != b.HandshakeHash() {
		t.Error("the two ends have different hashes")
	}
	want := ed25519.NewKeyFromSeed(append([]byte{1}, make([]byte, 31)...)).Public().(ed25519.PublicKey)
	if got := a.RemotePublicKey(); !want.Equal(ed25519.PublicKey(got[:])) {
		t.Errorf("remote's key: got %x, want %x", got, want)
	}
	other, _ := shake(t, t.Context())
	if a.HandshakeHash() == other.HandshakeHash() {
		t.Error("two streams have the same hash")
	}
	batch := [][]byte{[]byte("one"), {}, bytes.Repeat([]byte{2}, 63), bytes.Repeat([]byte{3}, 3*frameStep+5)}
	for _, ends := range [][2]*Stream{{a, b}, {b, a}} {
		for range 3 {
			sent := make(chan error, 1)
			go func() { sent <- ends[0].WriteMessage(batch...) }()
			for _, m := range batch {
				if len(m) == 0 {
					continue
				}
				got, err := ends[1].ReadMessage()
				if err != nil {
					t.Fatal(err)
				}
				equal(t, "message", got, m)
			}
			if err := <-sent; err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.ReadMessage(); err != io.EOF {
		t.Errorf("after the remote has closed: %v, want EOF", err)
	}
}

// counter counts the writes of a stream.
type counter struct {
	*tape
	writes int
}

func (c *counter) Write(b []byte) (int, error) {
	c.writes++
	return c.tape.Write(b)
}

func TestWriteMessageIsOneWriteOfAllOrNothing(t *testing.T) {
	t.Parallel()
	c := &counter{tape: newTape(nil)}
	s := &Stream{rwc: c, send: someState(t)}
	if err := s.WriteMessage([]byte("a"), make([]byte, MaxMessage+1)); !errors.Is(err, ErrTooLarge) || c.writes > 0 {
		t.Errorf("too large: %v after %d writes", err, c.writes)
	}
	if _, err := s.Seal(make([]byte, Headroom+MaxMessage+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("seal: %v", err)
	}
	sizes := []int{1, 0, MaxMessage, 7}
	var messages [][]byte
	for i, n := range sizes {
		messages = append(messages, bytes.Repeat([]byte{byte(i + 1)}, n))
	}
	if err := s.WriteMessage(messages...); err != nil || c.writes != 1 {
		t.Fatalf("%d writes, %v", c.writes, err)
	}
	r := &Stream{rwc: newTape(c.out.Bytes()), receive: someState(t)}
	for i, n := range sizes {
		if n == 0 {
			continue
		}
		got, err := r.ReadMessage()
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "message", got, messages[i])
	}
	if cap(s.out) > maxKept {
		t.Errorf("a buffer of %d bytes is kept", cap(s.out))
	}
}

func TestMessagesCostNoMemory(t *testing.T) {
	s := &Stream{rwc: newTape(nil), send: someState(t)}
	message := make([]byte, 1000)
	pipe := s.rwc.(*tape)
	r := &Stream{rwc: pipe, receive: someState(t)}
	pass := func() {
		if err := s.WriteMessage(message, message); err != nil {
			t.Fatal(err)
		}
		pipe.in.Reset(pipe.out.Bytes())
		for range 2 {
			if _, err := r.ReadMessage(); err != nil {
				t.Fatal(err)
			}
		}
		pipe.out.Reset()
	}
	pass()
	if n := testing.AllocsPerRun(100, pass); n > 0 {
		t.Errorf("two messages there and back allocate %v times", n)
	}
}

// TestEveryFlippedBitEndsTheStream changes one bit of a body after another.
func TestEveryFlippedBitEndsTheStream(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, 15, 16, 70} {
		sender := &Stream{send: someState(t)}
		frame, err := sender.Seal(make([]byte, Headroom+size))
		if err != nil {
			t.Fatal(err)
		}
		body := append(make([]byte, Headroom), frame[lengthSize:]...)
		for bit := range 8 * (len(body) - Headroom) {
			bad := bytes.Clone(body)
			bad[Headroom+bit/8] ^= 1 << (bit % 8)
			s := &Stream{receive: someState(t)}
			if m, err := s.Open(bad); !errors.Is(err, ErrFrame) || m != nil {
				t.Fatalf("%d bytes, bit %d: %x, %v", size, bit, m, err)
			}
			if _, err := s.Open(bytes.Clone(body)); !errors.Is(err, ErrFrame) {
				t.Fatalf("%d bytes, bit %d: the next frame is accepted: %v", size, bit, err)
			}
		}
		for n := Headroom; n < len(body); n++ {
			s := &Stream{receive: someState(t)}
			if _, err := s.Open(bytes.Clone(body[:n])); !errors.Is(err, ErrFrame) {
				t.Fatalf("%d bytes, cut to %d: %v", size, n-Headroom, err)
			}
		}
	}
}

func TestFramesInAnotherOrderEndTheStream(t *testing.T) {
	t.Parallel()
	a, b := shake(t, t.Context())
	frame := func(s *Stream) []byte {
		f, err := s.Seal(append(make([]byte, Headroom), "message"...))
		if err != nil {
			t.Fatal(err)
		}
		return append(make([]byte, Headroom), f[lengthSize:]...)
	}
	one, two, answer := frame(a), frame(a), frame(b)
	for name, order := range map[string][][]byte{
		"one left out":   {two},
		"one repeated":   {one, one},
		"our own":        {answer},
		"not the header": {one, two, make([]byte, Headroom+headerBody)},
	} {
		receive := *b.receive
		s := &Stream{receive: &receive}
		for i, f := range order {
			_, err := s.Open(bytes.Clone(f))
			if last := i == len(order)-1; last != (err != nil) || last && !errors.Is(err, ErrFrame) {
				t.Errorf("%s: frame %d: %v", name, i, err)
			}
		}
	}
}
