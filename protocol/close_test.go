package protocol

import (
	"context"
	"io"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/p2pcore/p2pcore/feed"
)

// watched is a feed and a stream that notice when they are used after they must not be.
type watched struct {
	*feed.Feed
	io.ReadWriteCloser
	over   atomic.Bool
	late   atomic.Int64 // uses of the feed after over
	lateIO atomic.Int64 // uses of the stream after over
}

func (w *watched) look() {
	if w.over.Load() {
		w.late.Add(1)
	}
}

func (w *watched) Prove(ctx context.Context, reqs []feed.Request) ([]feed.Proved, error) {
	w.look()
	return w.Feed.Prove(ctx, reqs)
}

func (w *watched) Apply(ctx context.Context, ps []*feed.Proof) ([]feed.Applied, error) {
	w.look()
	return w.Feed.Apply(ctx, ps)
}

func (w *watched) Plan(ctx context.Context, blocks []uint64) ([]uint64, error) {
	w.look()
	return w.Feed.Plan(ctx, blocks)
}

func (w *watched) CanUpgrade(ctx context.Context, length uint64) (bool, error) {
	w.look()
	return w.Feed.CanUpgrade(ctx, length)
}

func (w *watched) Info() feed.Info {
	w.look()
	return w.Feed.Info()
}

func (w *watched) Read(b []byte) (int, error) {
	if w.over.Load() {
		w.lateIO.Add(1)
	}
	return w.ReadWriteCloser.Read(b)
}

func (w *watched) Write(b []byte) (int, error) {
	if w.over.Load() {
		w.lateIO.Add(1)
	}
	return w.ReadWriteCloser.Write(b)
}

// Close is the stream's.
func (w *watched) Close() error { return w.ReadWriteCloser.Close() }

// interrupt downloads over a watched feed and stream and calls stop in the midst of it, at a
// different moment for each n.
func interrupt(t *testing.T, n int, stop func(*Exchange, *Conn)) *watched {
	t.Helper()
	source := writer(t, 1, numbered(400, 2000)...)
	ours, theirs := newPipe(4 << 10)
	w := &watched{Feed: reader(t, source), ReadWriteCloser: ours}
	x := NewExchange(w, ExchangeOptions{Downloading: true})
	t.Cleanup(func() { _ = x.Close() })
	c := NewConn(w, Config{Initiator: true, Binding: testBinding})
	other := NewConn(theirs, Config{Binding: testBinding})
	if err := c.Attach(x); err != nil {
		t.Fatal(err)
	}
	if err := other.Attach(exchange(t, source, false)); err != nil {
		t.Fatal(err)
	}
	run := newRunner(t)
	run.run(c)
	run.run(other)
	go func() { _ = x.Fetch(context.Background(), feed.Want{Range: feed.Range{End: 400}}) }()
	for w.Feed.Info().LocalBlocks < uint64(n*25) {
		runtime.Gosched()
	}
	stop(x, c)
	w.over.Store(true)
	appendBlocks(t, source, []byte("news"))
	synctest.Wait()
	return w
}

func TestAClosedExchangeUsesItsFeedNoMore(t *testing.T) {
	t.Parallel()
	for n := range 12 {
		synctest.Test(t, func(t *testing.T) {
			w := interrupt(t, n, func(x *Exchange, c *Conn) {
				_ = x.Close()
				_ = c.Close()
			})
			if late := w.late.Load(); late != 0 {
				t.Errorf("after %d blocks: used %d times after Close", n*25, late)
			}
		})
	}
}

func TestAClosedConnUsesItsStreamNoMore(t *testing.T) {
	t.Parallel()
	for n := range 12 {
		synctest.Test(t, func(t *testing.T) {
			w := interrupt(t, n, func(_ *Exchange, c *Conn) { _ = c.Close() })
			if late := w.lateIO.Load(); late != 0 {
				t.Errorf("after %d blocks: used %d times after Close", n*25, late)
			}
		})
	}
}

// chopped is a stream that hands out and takes a few bytes at a time.
type chopped struct {
	*end
	rng *rand.Rand
}

func (c chopped) Read(b []byte) (int, error) {
	return c.end.Read(b[:min(len(b), 1+c.rng.IntN(40))])
}

func TestFramesDoNotDependOnChunks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		blocks := numbered(60, 70)
		w := writer(t, 1, blocks...)
		r := reader(t, w)
		x, y := newPipe(33)
		a := NewConn(chopped{x, rand.New(rand.NewPCG(1, 1))}, Config{Initiator: true, Binding: testBinding})
		b := NewConn(chopped{y, rand.New(rand.NewPCG(1, 2))}, Config{Binding: testBinding})
		if err := a.Attach(exchange(t, w, false)); err != nil {
			t.Fatal(err)
		}
		if err := b.Attach(exchange(t, r, true)); err != nil {
			t.Fatal(err)
		}
		run := newRunner(t)
		run.run(a)
		run.run(b)
		s := session(t, r)
		defer s.Close()
		if err := s.Download(timed(t), feed.Range{End: uint64(len(blocks))}); err != nil {
			t.Fatal(err)
		}
		sameBlocks(t, r, blocks)
	})
}

func TestAnIdleExchangeHasNoGoroutine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := writer(t, 1, numbered(30, 30)...)
		r := reader(t, w)
		rx := exchange(t, r, true)
		newRunner(t).connect([]*Exchange{exchange(t, w, false)}, []*Exchange{rx})
		s := session(t, r)
		defer s.Close()
		if err := s.Download(timed(t), feed.Range{End: 30}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		rx.mu.Lock()
		defer rx.mu.Unlock()
		rx.work.mu.Lock()
		defer rx.work.mu.Unlock()
		if rx.running || rx.work.applying || rx.work.proving || rx.work.asking {
			t.Errorf("loop %v, workers %v %v %v still run", rx.running, rx.work.applying, rx.work.proving, rx.work.asking)
		}
	})
}

func TestAChannelThatNobodyNeedsClosesAndOpensAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := writer(t, 1, numbered(3, 3)...)
		r := reader(t, w)
		wx, rx := exchange(t, w, false), exchange(t, r, true)
		a, b := newRunner(t).connect([]*Exchange{wx}, []*Exchange{rx})
		for range 3 {
			synctest.Wait()
			if n := len(wx.Peers()) + len(rx.Peers()); n != 2 {
				t.Fatalf("%d ends of the channel while one side downloads, want 2", n)
			}
			rx.SetDownloading(false)
			synctest.Wait()
			if n := len(wx.Peers()) + len(rx.Peers()); n != 0 {
				t.Fatalf("%d ends of the channel while nobody downloads, want 0", n)
			}
			rx.SetDownloading(true)
		}
		for _, c := range []*Conn{a, b} {
			if n := c.Stats().Violations; n != 0 {
				t.Errorf("%d violations", n)
			}
		}
	})
}

// TestASlowOnOpenHoldsBackItsChannelOnly has more opens than resolves run at once.
func TestASlowOnOpenHoldsBackItsChannelOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		known := exchange(t, writer(t, 1, numbered(2, 2)...), false)
		gate := make(chan struct{})
		var running, most atomic.Int64
		c, r, done := victim(t, Config{
			Limits: Limits{Resolves: 3},
			OnOpen: func(ctx context.Context, _ feed.DiscoveryKey) (*Exchange, error) {
				most.Store(max(most.Load(), running.Add(1)))
				defer running.Add(-1)
				select {
				case <-gate:
				case <-ctx.Done():
				}
				return nil, nil
			},
		}, known)
		for i := range uint64(20) {
			_ = r.open(i+1, feed.DiscoveryKey{byte(i)}, [32]byte{})
		}
		key := known.Core().Key()
		_ = r.open(21, known.Core().DiscoveryKey(), Capability(key, testBinding, true))
		synctest.Wait()
		if st := c.Stats(); st.Channels != 1 || st.Undecided != 20 || most.Load() != 3 {
			t.Errorf("%+v with %d resolves at once", st, most.Load())
		}
		gate <- struct{}{}
		synctest.Wait()
		if st := c.Stats(); st.Undecided != 19 {
			t.Errorf("%+v after one was decided", st)
		}
		_ = c.Close() // with resolves under way
		<-done
	})
}
