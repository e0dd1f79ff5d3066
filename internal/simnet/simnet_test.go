package simnet

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"
)

// drain reads n bytes from e.
func drain(t *testing.T, e *End, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(e, b); err != nil {
		t.Fatalf("reading %d bytes: %v", n, err)
	}
	return b
}

func write(t *testing.T, e *End, b []byte) {
	t.Helper()
	if n, err := e.Write(b); n != len(b) || err != nil {
		t.Fatalf("Write of %d bytes = %d, %v", len(b), n, err)
	}
}

// pattern is n bytes of which no two neighbouring pieces are alike.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * 7 / 3)
	}
	return b
}

func TestDelayAndBandwidthAreExact(t *testing.T) {
	for _, c := range []struct {
		name string
		path Path
		n    int
		want time.Duration
	}{
		{"delay alone", Path{Delay: 50 * time.Millisecond}, 10, 50 * time.Millisecond},
		{"both", Path{Delay: 50 * time.Millisecond, Bandwidth: 1000}, 500, 550 * time.Millisecond},
		{"more than the buffer", Path{Delay: time.Second, Bandwidth: 1 << 20, Buffer: 64 << 10}, 4 << 20, 5 * time.Second},
		{"a buffer smaller than a segment", Path{Bandwidth: 1000, Buffer: 100}, 2000, 2 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := New(c.path, Path{})
				sent := pattern(c.n)
				start := time.Now()
				go func() {
					l.A.Write(sent)
					l.A.Close()
				}()
				got, err := io.ReadAll(l.B)
				if err != nil || !bytes.Equal(got, sent) {
					t.Fatalf("read %d bytes, %v; sent %d", len(got), err, len(sent))
				}
				if d := time.Since(start); (d - c.want).Abs() > time.Microsecond { // pieces round down
					t.Errorf("took %v, want %v", d, c.want)
				}
				if l.A.Sent() != uint64(c.n) || l.B.Received() != uint64(c.n) || l.B.Sent() != 0 || l.A.Received() != 0 {
					t.Errorf("counters %d, %d, %d, %d", l.A.Sent(), l.B.Received(), l.B.Sent(), l.A.Received())
				}
			})
		})
	}
}

func TestDirectionsAreIndependent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Path{Delay: time.Second}, Path{Delay: time.Millisecond})
		start := time.Now()
		write(t, l.A, []byte("there"))
		write(t, l.B, []byte("back"))
		drain(t, l.A, 4)
		if d := time.Since(start); d != time.Millisecond {
			t.Errorf("B to A took %v", d)
		}
		drain(t, l.B, 5)
		if d := time.Since(start); d != time.Second {
			t.Errorf("A to B took %v", d)
		}
	})
}

// A reader that does not read stops the writer after the buffer and what fits on the way.
func TestBackPressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Path{Delay: time.Second, Bandwidth: 100 << 10, Buffer: 10 << 10}, Path{})
		go l.A.Write(pattern(1 << 20))
		time.Sleep(time.Minute)
		synctest.Wait()
		stuck := l.A.Sent()
		if most := uint64(10<<10 + 100<<10 + segment); stuck > most || stuck < 10<<10 {
			t.Errorf("%d bytes were accepted, want 10 KiB and at most what travels, %d", stuck, most)
		}
		drain(t, l.B, int(stuck)) // what travelled waits here too
		time.Sleep(time.Minute)
		synctest.Wait()
		if l.A.Sent() <= stuck {
			t.Error("the writer did not go on after a read")
		}
		l.Cut()
	})
}

func TestPauseHoldsWhatTravels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Path{Delay: time.Second}, Path{})
		start := time.Now()
		write(t, l.A, []byte("x"))
		time.Sleep(400 * time.Millisecond)
		l.Pause()
		go func() {
			time.Sleep(time.Hour)
			l.Resume()
		}()
		drain(t, l.B, 1)
		if d, want := time.Since(start), time.Hour+time.Second; d != want {
			t.Errorf("took %v, want %v", d, want)
		}
	})
}

func TestEnds(t *testing.T) {
	for _, c := range []struct {
		name                         string
		end                          func(l *Link)
		readA, readB, writeA, writeB error
	}{
		{"close", func(l *Link) { l.A.Close() }, io.ErrClosedPipe, io.EOF, io.ErrClosedPipe, io.ErrClosedPipe},
		{"reset", func(l *Link) { l.A.Reset() }, io.ErrClosedPipe, ErrReset, io.ErrClosedPipe, ErrReset},
		{"cut", (*Link).Cut, ErrCut, ErrCut, ErrCut, ErrCut},
		{"close, then cut", func(l *Link) { l.A.Close(); l.Cut() }, io.ErrClosedPipe, ErrCut, io.ErrClosedPipe, io.ErrClosedPipe},
		{"both close", func(l *Link) { l.A.Close(); l.B.Close() }, io.ErrClosedPipe, io.ErrClosedPipe, io.ErrClosedPipe, io.ErrClosedPipe},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := New(Path{Delay: time.Second, Buffer: 1}, Path{Delay: time.Second, Buffer: 1})
				// Those who wait learn of the end, and so do those who come later.
				read := func(e *End) error { _, err := e.Read(make([]byte, 1)); return err }
				waiting := make(chan error, 2)
				go func() { waiting <- read(l.A) }()
				synctest.Wait()
				go func() { waiting <- read(l.B) }()
				synctest.Wait()
				c.end(l)
				for range 2 {
					if err := <-waiting; !errors.Is(err, c.readA) && !errors.Is(err, c.readB) {
						t.Errorf("a waiting read returned %v", err)
					}
				}
				write := func(e *End) error { _, err := e.Write([]byte("x")); return err }
				for i, got := range []error{read(l.A), read(l.B), write(l.A), write(l.B)} {
					if want := []error{c.readA, c.readB, c.writeA, c.writeB}[i]; !errors.Is(got, want) {
						t.Errorf("call %d returned %v, want %v", i, got, want)
					}
				}
			})
		})
	}
}

// After CloseWrite the other direction lives on.
func TestCloseWriteIsHalf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Path{Delay: time.Second}, Path{})
		start := time.Now()
		write(t, l.A, []byte("last"))
		l.A.CloseWrite()
		if b, err := io.ReadAll(l.B); string(b) != "last" || err != nil {
			t.Errorf("read %q, %v", b, err)
		}
		if d := time.Since(start); d != time.Second {
			t.Errorf("the end came after %v", d)
		}
		write(t, l.B, []byte("more"))
		drain(t, l.A, 4)
		if _, err := l.A.Write([]byte("x")); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("Write after CloseWrite: %v", err)
		}
	})
}
