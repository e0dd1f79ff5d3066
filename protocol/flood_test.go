package protocol

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/internal/merkle"
	"github.com/p2pcore/p2pcore/internal/wire"
)

// largest notes the most bytes of blocks that one call has read.
type largest struct {
	counting
	most atomic.Int64
}

func (l *largest) Prove(ctx context.Context, reqs []feed.Request) ([]feed.Proved, error) {
	before := l.served.Load()
	out, err := l.counting.Prove(ctx, reqs)
	l.most.Store(max(l.most.Load(), l.served.Load()-before))
	return out, err
}

func TestRareLargeBlocksCostAPeerThatNeverReadsBoundedMemory(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const size, credit, asked = 1 << 20, 256 << 10, 200
		blocks := numbered(4000, 10)
		blocks[17] = make([]byte, size)
		core := &largest{counting: counting{Feed: writer(t, 1, blocks...)}}
		x := exchange(t, core, false)
		_, r, _ := victim(t, Config{Limits: Limits{Credit: credit}}, x)
		_ = r.open(1, core.DiscoveryKey(), Capability(core.Key(), testBinding, true))
		_ = r.send(1, &wire.Sync{Uploading: true, Downloading: true})
		for i := range uint64(asked) {
			q := &wire.Request{ID: i + 1, Request: merkle.Request{Block: &merkle.BlockRequest{Index: 17}}}
			if err := r.send(1, q); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if n := core.most.Load(); n > feed.MaxProveBytes+size {
			t.Errorf("%d bytes of blocks were read at once", n)
		}
		x.turn.Lock()
		waiting := x.machine.Peers(nil)[0].Queued
		x.turn.Unlock()
		// Some are written, some are held; the rest is forgotten.
		if waiting < asked-8 {
			t.Errorf("only %d of %d requests still wait, of a peer that reads nothing", waiting, asked)
		}
		got := r.collect(wire.TypeData)
		synctest.Wait()
		if n := got.Load(); n != asked {
			t.Errorf("%d of %d requests were answered when the peer read at last", n, asked)
		}
	})
}

// collect reads until the stream ends, and counts the messages of a type.
func (r raw) collect(typ uint64) *atomic.Int64 {
	n := new(atomic.Int64)
	go func() {
		for {
			frame, err := ReadFrame(r.stream, maxFrame)
			if err != nil {
				return
			}
			for _, rec := range records(r.t, frame) {
				if rec.channel != 0 && rec.typ == typ {
					n.Add(1)
				}
			}
		}
	}()
	return n
}

// open and close a channel again and again without reading: neither the answers nor what was sent on
// the closed channels may pile up.
func TestChannelsThatComeAndGoCostBoundedMemory(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const size = 256 << 10
		core := &counting{Feed: writer(t, 1, numbered(40, size)...)}
		x := exchange(t, core, false)
		_, r, done := victim(t, Config{Limits: Limits{Credit: 512 << 10}}, x)
		// send reports whether the remote has taken the frames.
		send := func(frames ...func() error) bool {
			taken := new(atomic.Bool)
			go func() {
				for _, f := range frames {
					if f() != nil {
						return
					}
				}
				taken.Store(true)
			}()
			synctest.Wait()
			return taken.Load()
		}
		open := func() error {
			return r.open(1, core.DiscoveryKey(), Capability(core.Key(), testBinding, true))
		}
		ask := func() error {
			for i := range uint64(4) {
				q := &wire.Request{ID: i + 1, Request: merkle.Request{Block: &merkle.BlockRequest{Index: i}}}
				if err := r.send(1, q); err != nil {
					return err
				}
			}
			return nil
		}
		cycles := 0
		for cycles < 1000 && send(open, ask) && send(func() error { return r.frame([]byte{0, 3, 1}) }) {
			cycles++
		}
		if n := core.served.Load(); n == 0 || n > 32<<20 {
			t.Errorf("%d bytes of blocks were read in %d cycles for a peer that reads nothing", n, cycles)
		}
		for {
			select {
			case err := <-done:
				if !errors.Is(err, ErrTimeout) {
					t.Errorf("ended with %v, want ErrTimeout", err)
				}
				return
			case <-time.After(keepAlive):
			}
		}
	})
}
