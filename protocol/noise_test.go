package protocol

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/internal/lifecycle"
)

// openNoise shakes hands at both ends of a stream.
func openNoise(t testing.TB, initiator, responder io.ReadWriteCloser) (a, b *Noise) {
	t.Helper()
	var failed error
	group := lifecycle.NewGroup()
	group.Go(func(context.Context) {
		b, failed = OpenNoise(context.Background(), responder, NoiseConfig{Seed: [32]byte{2}})
	})
	a, err := OpenNoise(context.Background(), initiator, NoiseConfig{Initiator: true, Seed: [32]byte{1}})
	group.Close()
	if err := errors.Join(err, failed); err != nil {
		t.Fatal(err)
	}
	return a, b
}

// connectNoise joins two exchanges over a Noise stream in memory.
func (r *runner) connectNoise(initiator, responder *Exchange) (a, b *Conn, ends []<-chan error) {
	r.t.Helper()
	x, y := newPipe(256 << 10)
	n, m := openNoise(r.t, x, y)
	a = NewConn(x, Config{Noise: n, Peer: "responder"})
	b = NewConn(y, Config{Noise: m, Peer: "initiator"})
	if err := errors.Join(a.Attach(initiator), b.Attach(responder)); err != nil {
		r.t.Fatal(err)
	}
	return a, b, []<-chan error{r.run(a), r.run(b)}
}

func TestReplicateOverNoise(t *testing.T) {
	for _, initiator := range []string{"writer", "reader"} {
		t.Run(initiator, func(t *testing.T) {
			t.Parallel()
			blocks := append(numbered(300, 1000), bytes.Repeat([]byte{9}, feed.MaxBlockBytes))
			w := writer(t, 1, blocks...)
			rd := reader(t, w)
			run := newRunner(t)
			from, to := exchange(t, w, true), exchange(t, rd, true)
			var ends []<-chan error
			var a *Conn
			if initiator == "writer" {
				a, _, ends = run.connectNoise(from, to)
			} else {
				a, _, ends = run.connectNoise(to, from)
			}
			if err := to.Fetch(t.Context(), feed.Want{Range: feed.Range{End: uint64(len(blocks))}}); err != nil {
				t.Fatal(err)
			}
			sameBlocks(t, rd, blocks)
			if err := a.Finish(t.Context()); err != nil {
				t.Error(err)
			}
			for _, end := range ends {
				if err := <-end; err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestNoiseNamesAndBinding compares what both ends of a handshake know.
func TestNoiseNamesAndBinding(t *testing.T) {
	x, y := newPipe(1 << 10)
	a, b := openNoise(t, x, y)
	if !bytes.Equal(a.Binding(), b.Binding()) || len(a.Binding()) != 64 {
		t.Errorf("bindings %x and %x", a.Binding(), b.Binding())
	}
	for i, pair := range [][2]any{
		{a.RemoteKey(), feed.KeyPairFromSeed([32]byte{2}).Public()},
		{b.RemoteKey(), feed.KeyPairFromSeed([32]byte{1}).Public()},
	} {
		if pair[0] != pair[1] {
			t.Errorf("side %d: the remote's key is %x, want %x", i, pair[0], pair[1])
		}
	}
}

// TestNoiseStaysOpenWhileIdle lets two hours go by.
func TestNoiseStaysOpenWhileIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := writer(t, 1, numbered(3, 10)...)
		rd := reader(t, w)
		run := newRunner(t)
		to := exchange(t, rd, true)
		_, _, ends := run.connectNoise(exchange(t, w, true), to)
		time.Sleep(2 * time.Hour)
		for _, end := range ends {
			select {
			case err := <-end:
				t.Fatalf("a side has ended: %v", err)
			default:
			}
		}
		if err := to.Fetch(t.Context(), feed.Want{Range: feed.Range{End: 3}}); err != nil {
			t.Error(err)
		}
	})
}

// TestNoiseRefusesOtherBytes flips a bit of what the initiator sends.
func TestNoiseRefusesOtherBytes(t *testing.T) {
	var sent bytes.Buffer
	x, y := newPipe(1 << 20)
	w := writer(t, 1, numbered(3, 10)...)
	run := newRunner(t)
	n, m := openNoise(t, x, y)
	a := NewConn(&tap{ReadWriteCloser: x, sent: &sent, flip: 5}, Config{Noise: n})
	b := NewConn(y, Config{Noise: m})
	if err := a.Attach(exchange(t, w, true)); err != nil {
		t.Fatal(err)
	}
	end := run.run(b)
	run.run(a)
	var v *ViolationError
	if err := <-end; !errors.As(err, &v) || v.Reason != "malformed stream" {
		t.Errorf("got %v, want a violation", err)
	}
}

// tap flips a bit of what is written.
type tap struct {
	io.ReadWriteCloser
	sent *bytes.Buffer
	flip int
}

func (p *tap) Write(b []byte) (int, error) {
	at := p.flip - p.sent.Len()
	p.sent.Write(b)
	if at >= 0 && at < len(b) {
		b = bytes.Clone(b)
		b[at] ^= 1
	}
	return p.ReadWriteCloser.Write(b)
}

func TestNoiseRefusesOtherHandshakes(t *testing.T) {
	for name, first := range map[string][]byte{
		"no point":    append([]byte{32, 0, 0}, bytes.Repeat([]byte{0xff}, 32)...),
		"small order": append([]byte{32, 0, 0}, append([]byte{1}, make([]byte, 31)...)...),
		"too large":   {0xff, 0xff, 0xff},
		"too short":   {1, 0, 0, 7},
		"a request":   []byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
	} {
		t.Run(name, func(t *testing.T) {
			x, y := newPipe(1 << 10)
			if _, err := x.Write(first); err != nil {
				t.Fatal(err)
			}
			_, err := OpenNoise(t.Context(), y, NoiseConfig{})
			var v *ViolationError
			if !errors.As(err, &v) || v.Reason != "handshake" {
				t.Errorf("got %v, want a violation", err)
			}
		})
	}
}
