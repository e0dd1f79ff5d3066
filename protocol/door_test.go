package protocol

import (
	"bytes"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/internal/muxer"
	"github.com/p2pcore/p2pcore/internal/wire"
)

// doorStep is one side of a connection with a door.
type doorStep struct {
	door  *Exchange
	knock bool
	feeds []*Exchange
}

// connectAt joins two sides, of which each may have a door. sent counts what b writes.
func (r *runner) connectAt(a, b doorStep) (ends [2]<-chan error, sent *atomic.Int64) {
	r.t.Helper()
	x, y := newPipe(256 << 10)
	counted := &counter{end: y}
	for i, side := range []doorStep{a, b} {
		cfg := Config{Initiator: i == 0, Binding: testBinding}
		if side.door != nil {
			cfg.Door = &Door{Exchange: side.door, Knock: side.knock}
		}
		var c *Conn
		if i == 0 {
			c = NewConn(x, cfg)
		} else {
			c = NewConn(counted, cfg)
		}
		for _, e := range side.feeds {
			if err := c.Attach(e); err != nil {
				r.t.Fatal(err)
			}
		}
		ends[i] = r.run(c)
	}
	return ends, &counted.sent
}

// counter counts what is written to an end.
type counter struct {
	*end
	sent atomic.Int64
}

func (c *counter) Write(b []byte) (int, error) {
	c.sent.Add(int64(len(b)))
	return c.end.Write(b)
}

func TestDoorIsPassedWithItsKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		door := writer(t, 9)
		w := writer(t, 1, numbered(20, 10)...)
		rd := reader(t, w)
		run := newRunner(t)
		theirs, ours := exchange(t, reader(t, door), true), exchange(t, door, true)
		to := exchange(t, rd, true)
		// The reader dials for the door. Its other feeds are offered when it is passed.
		ends, _ := run.connectAt(doorStep{theirs, true, []*Exchange{to}}, doorStep{ours, false, []*Exchange{exchange(t, w, true)}})
		if err := to.Fetch(t.Context(), feed.Want{Range: feed.Range{End: 20}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour) // it holds for the life of the stream
		for _, end := range ends {
			select {
			case err := <-end:
				t.Errorf("ended: %v", err)
			default:
			}
		}
	})
}

// TestDoorIsPassedByWhoOpensItLast is what JavaScript peers do: all opens in one batch, and no door of their own.
func TestDoorIsPassedByWhoOpensItLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		door := writer(t, 9)
		run := newRunner(t)
		var here, there []*Exchange
		var feeds []*feed.Feed
		for i := range 30 {
			w := writer(t, byte(i+10), numbered(3, 10)...)
			rd := reader(t, w)
			feeds = append(feeds, rd)
			here, there = append(here, exchange(t, w, true)), append(there, exchange(t, rd, true))
		}
		there = append(there, exchange(t, reader(t, door), true))
		run.connectAt(doorStep{feeds: there}, doorStep{door: exchange(t, door, true), feeds: here})
		for i := range feeds {
			if err := there[i].Fetch(t.Context(), feed.Want{Range: feed.Range{End: 3}}); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestStrangersLearnNothingAtTheDoor lets several kinds of strangers dial.
func TestStrangersLearnNothingAtTheDoor(t *testing.T) {
	door := writer(t, 9)
	w := writer(t, 1, numbered(3, 10)...)
	dk := door.DiscoveryKey()
	open := func(m *muxer.Mux, dk feed.DiscoveryKey, capability [32]byte) {
		if _, err := m.Open(channelProtocol, string(dk[:]), wire.Handshake{Seeks: true, Capability: capability}.Append(nil)); err != nil {
			t.Fatal(err)
		}
	}
	for name, tc := range map[string]struct {
		say  func(m *muxer.Mux)
		soon bool // it is cut off before the time is over
	}{
		"silent": {say: func(*muxer.Mux) {}},
		"knows another feed": {say: func(m *muxer.Mux) {
			open(m, w.DiscoveryKey(), Capability(w.Key(), testBinding, true))
		}},
		"no such feed":     {say: func(m *muxer.Mux) { open(m, feed.DiscoveryKey{1}, [32]byte{}) }},
		"wrong capability": {say: func(m *muxer.Mux) { open(m, dk, [32]byte{1}) }},
		"reflected capability": {say: func(m *muxer.Mux) {
			open(m, dk, Capability(door.Key(), testBinding, false))
		}},
		"no handshake": {say: func(m *muxer.Mux) {
			if _, err := m.Open(channelProtocol, string(dk[:]), nil); err != nil {
				t.Fatal(err)
			}
		}},
		"opens and closes": {say: func(m *muxer.Mux) {
			c, err := m.Open("other", "x", nil)
			if err != nil {
				t.Fatal(err)
			}
			m.Close(c)
		}},
		"too many": {soon: true, say: func(m *muxer.Mux) {
			for i := range maxHeldOpens + 1 {
				open(m, feed.DiscoveryKey{1, byte(i), byte(i >> 8)}, [32]byte{})
			}
		}},
		"too much": {soon: true, say: func(m *muxer.Mux) {
			for i := range maxHeldBytes/1000 + 1 {
				if _, err := m.Open("other", fmt.Sprint(i), make([]byte, 1000)); err != nil {
					t.Fatal(err)
				}
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				door := writer(t, 9)
				w := writer(t, 1, numbered(3, 10)...)
				run := newRunner(t)
				x, y := newPipe(1 << 20)
				c := NewConn(y, Config{Binding: testBinding, Door: &Door{Exchange: exchange(t, door, true)}})
				if err := c.Attach(exchange(t, w, true)); err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				end := run.run(c)
				m := muxer.New(frameHeader)
				m.Cork()
				tc.say(m)
				for f, ok := m.Take(); ok; f, ok = m.Take() {
					putFrameLength(f.Bytes, len(f.Bytes)-frameHeader)
					if _, err := x.Write(f.Bytes); err != nil {
						t.Fatal(err)
					}
				}
				if err := <-end; !errors.Is(err, ErrDoor) {
					t.Errorf("ended with %v, want ErrDoor", err)
				}
				if took := time.Since(began); (took < doorTimeout) != tc.soon {
					t.Errorf("ended after %v", took)
				}
				var got bytes.Buffer
				b := make([]byte, 1024)
				for {
					n, err := x.Read(b)
					got.Write(b[:n])
					if err != nil {
						break
					}
				}
				if told := bytes.Trim(got.Bytes(), "\x00"); len(told) > 0 { // keep-alives are zeros
					t.Errorf("a stranger was told %x", got.Bytes())
				}
			})
		})
	}
}

// TestNobodyKnocks: of two sides with a door one must have dialled for it.
func TestNobodyKnocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		door := writer(t, 9)
		run := newRunner(t)
		ends, sent := run.connectAt(doorStep{door: exchange(t, reader(t, door), true)}, doorStep{door: exchange(t, door, true)})
		// Both give up at the same moment, and one may see the other's end first.
		if a, b := <-ends[0], <-ends[1]; !errors.Is(a, ErrDoor) && !errors.Is(b, ErrDoor) {
			t.Errorf("ended with %v and %v, want ErrDoor at one end", a, b)
		}
		if n := sent.Load(); n > 2*frameHeader {
			t.Errorf("%d bytes were sent, want two keep-alives at most", n)
		}
	})
}

// TestKnockTellsTheDoorAlone dials a stranger for the door: it learns one discovery key, which it may have from the DHT.
func TestKnockTellsTheDoorAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		door := writer(t, 9)
		w := writer(t, 1, numbered(3, 10)...)
		run := newRunner(t)
		x, y := newPipe(1 << 20)
		c := NewConn(y, Config{Binding: testBinding, Door: &Door{Exchange: exchange(t, door, true), Knock: true}})
		if err := c.Attach(exchange(t, w, true)); err != nil {
			t.Fatal(err)
		}
		end := run.run(c)
		frame, err := ReadFrame(x, maxFrame)
		if err != nil {
			t.Fatal(err)
		}
		doorKey, other := door.DiscoveryKey(), w.DiscoveryKey()
		if !bytes.Contains(frame, doorKey[:]) || bytes.Contains(frame, other[:]) {
			t.Errorf("sent %x", frame)
		}
		if err := <-end; !errors.Is(err, ErrDoor) {
			t.Errorf("ended with %v, want ErrDoor", err)
		}
	})
}
