package protocol

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/p2pcore/p2pcore/feed"
)

// timed bounds what a test waits for; the clock is the bubble's.
func timed(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestReplicatesAWholeFeed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		blocks := numbered(500, 100)
		w := writer(t, 1, blocks...)
		r := reader(t, w)
		newRunner(t).connect(
			[]*Exchange{exchange(t, w, false)}, []*Exchange{exchange(t, r, true)})
		s := session(t, r)
		defer s.Close()
		if _, err := s.Get(timed(t), uint64(len(blocks)-1)); err != nil {
			t.Fatal(err)
		}
		if err := s.Download(timed(t), feed.Range{End: uint64(len(blocks))}); err != nil {
			t.Fatal(err)
		}
		sameBlocks(t, r, blocks)
		if r.Manifest() == nil {
			t.Error("the reader has no manifest")
		}
	})
}

func TestFollowsALiveFeed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := writer(t, 1)
		r := reader(t, w)
		newRunner(t).connect([]*Exchange{exchange(t, r, true)}, []*Exchange{exchange(t, w, false)})
		s := session(t, r)
		defer s.Close()
		want := numbered(50, 10)
		for i, b := range want {
			appendBlocks(t, w, b)
			got, err := s.Get(timed(t), uint64(i))
			if err != nil || !bytes.Equal(got, b) {
				t.Fatalf("block %d: %q, %v, want %q", i, got, err, b)
			}
		}
		sameBlocks(t, r, want)
	})
}

func TestManyFeedsOnOneStream(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const feeds = 10
		var writers, readers []*Exchange
		for i := range feeds {
			w := writer(t, byte(i+1), numbered(40+i, 50)...)
			writers = append(writers, exchange(t, w, false))
			readers = append(readers, exchange(t, reader(t, w), true))
		}
		a, _ := newRunner(t).connect(writers, readers)
		for i, x := range readers {
			s := session(t, x.Core().(*feed.Feed))
			if err := s.Download(timed(t), feed.Range{End: uint64(40 + i)}); err != nil {
				t.Fatal(err)
			}
			sameBlocks(t, x.Core().(*feed.Feed), numbered(40+i, 50))
			s.Close()
		}
		if n := a.Stats().Channels; n != feeds {
			t.Errorf("%d channels, want %d", n, feeds)
		}
	})
}

func TestOpensAFeedOnDemand(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := writer(t, 1, numbered(5, 5)...)
		other := writer(t, 2)
		r, unknown := reader(t, w), reader(t, other)
		served := exchange(t, w, false)
		var asked []feed.DiscoveryKey
		x, y := newPipe(1 << 16)
		a := NewConn(x, Config{Initiator: true, Binding: testBinding})
		b := NewConn(y, Config{Binding: testBinding, OnOpen: func(_ context.Context, dk feed.DiscoveryKey) (*Exchange, error) {
			asked = append(asked, dk)
			if dk == w.DiscoveryKey() {
				return served, nil
			}
			return nil, nil
		}})
		run := newRunner(t)
		run.run(a)
		run.run(b)
		for _, f := range []*feed.Feed{unknown, r} {
			if err := a.Attach(exchange(t, f, true)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		s := session(t, r)
		defer s.Close()
		if _, err := s.Get(timed(t), 4); err != nil {
			t.Fatal(err)
		}
		if len(asked) != 2 || asked[0] != other.DiscoveryKey() || asked[1] != w.DiscoveryKey() {
			t.Errorf("asked for %v", asked)
		}
		if n := b.Stats(); n.Channels != 1 || n.Undecided != 0 || n.Violations != 0 {
			t.Errorf("%+v", n)
		}
	})
}

func TestAttachTwice(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := writer(t, 1)
		x, _ := newPipe(1)
		c := NewConn(x, Config{Binding: testBinding})
		one := exchange(t, w, false)
		two := exchange(t, w, false)
		for range 2 {
			if err := c.Attach(one); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.Attach(two); !errors.Is(err, ErrAttached) {
			t.Errorf("got %v, want ErrAttached", err)
		}
		c.Detach(two) // not attached: nothing happens
		c.Detach(one)
		if err := c.Attach(two); err != nil {
			t.Errorf("after Detach: %v", err)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		if err := c.Attach(one); !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
		if err := c.Run(context.Background()); !errors.Is(err, ErrClosed) {
			t.Errorf("Run after Close: %v", err)
		}
	})
}

func TestDetachAndAttachWhileRunning(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := writer(t, 1, numbered(3, 3)...)
		r := reader(t, w)
		wx, rx := exchange(t, w, false), exchange(t, r, true)
		a, b := newRunner(t).connect([]*Exchange{wx}, []*Exchange{rx})
		s := session(t, r)
		defer s.Close()
		for i := range 3 {
			if _, err := s.Get(timed(t), uint64(i)); err != nil {
				t.Fatal(err)
			}
			a.Detach(wx)
			b.Detach(rx)
			synctest.Wait()
			if n := len(rx.Peers()) + len(wx.Peers()); n != 0 {
				t.Fatalf("%d peers after Detach", n)
			}
			if err := errors.Join(b.Attach(rx), a.Attach(wx)); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestReopensWhenTheRemoteClosesTooEarly has the remote close the channel while we download.
func TestReopensWhenTheRemoteClosesTooEarly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := writer(t, 1, numbered(3, 3)...)
		r := reader(t, w)
		wx, rx := exchange(t, w, false), exchange(t, r, true)
		x, y := newPipe(1 << 16)
		a := NewConn(x, Config{Initiator: true, Binding: testBinding, OnOpen: func(context.Context, feed.DiscoveryKey) (*Exchange, error) {
			return wx, nil
		}})
		b := NewConn(y, Config{Binding: testBinding})
		if err := b.Attach(rx); err != nil {
			t.Fatal(err)
		}
		run := newRunner(t)
		run.run(a)
		run.run(b)
		for range 4 {
			time.Sleep(2 * time.Minute)
			if len(rx.Peers()) != 1 {
				t.Fatal("no channel")
			}
			a.Detach(wx)
			synctest.Wait()
		}
	})
}

func TestKeepsASilentStreamAlive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x, y := newPipe(1 << 10)
		run := newRunner(t)
		a := run.run(NewConn(x, Config{Initiator: true, Binding: testBinding}))
		b := run.run(NewConn(y, Config{Binding: testBinding}))
		time.Sleep(time.Hour)
		select {
		case err := <-a:
			t.Fatalf("ended with %v", err)
		case err := <-b:
			t.Fatalf("ended with %v", err)
		default:
		}
	})
}

func TestEndsWhenTheRemoteIsSilent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x, _ := newPipe(1 << 10)
		start := time.Now()
		err := NewConn(x, Config{Binding: testBinding}).Run(context.Background())
		if !errors.Is(err, ErrTimeout) {
			t.Errorf("got %v, want ErrTimeout", err)
		}
		if d := time.Since(start); d < silence || d > silence+silence/3 {
			t.Errorf("after %v", d)
		}
	})
}

func TestRunEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x, _ := newPipe(1 << 10)
		ctx, cancel := context.WithCancelCause(context.Background())
		cause := errors.New("enough")
		go func() { time.Sleep(time.Second); cancel(cause) }()
		if err := NewConn(x, Config{Binding: testBinding}).Run(ctx); !errors.Is(err, cause) {
			t.Errorf("got %v, want %v", err, cause)
		}
	})
}

func TestCloseIsACleanEndOnBothSides(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := writer(t, 1, numbered(3, 3)...)
		r := reader(t, w)
		wx, rx := exchange(t, w, false), exchange(t, r, true)
		x, y := newPipe(1 << 16)
		a := NewConn(x, Config{Initiator: true, Binding: testBinding})
		b := NewConn(y, Config{Binding: testBinding})
		if err := errors.Join(a.Attach(wx), b.Attach(rx)); err != nil {
			t.Fatal(err)
		}
		run := newRunner(t)
		doneA, doneB := run.run(a), run.run(b)
		synctest.Wait()
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-doneA; err != nil {
			t.Errorf("the closing side: %v", err)
		}
		if err := <-doneB; err != nil {
			t.Errorf("the other side: %v", err)
		}
		synctest.Wait()
		if n := len(wx.Peers()) + len(rx.Peers()); n != 0 {
			t.Errorf("%d peers left", n)
		}
	})
}

func TestCloseOfAnExchangeEndsItsCalls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := writer(t, 1)
		r := reader(t, w)
		x := NewExchange(r, ExchangeOptions{})
		done := make(chan error, 2)
		ctx := timed(t)
		go func() { done <- x.Fetch(ctx, feed.Want{Range: feed.Range{End: 1}}) }()
		go func() { done <- x.Fetch(ctx, feed.Want{Follow: true}) }()
		synctest.Wait()
		if err := x.Close(); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := <-done; !errors.Is(err, ErrClosed) {
				t.Errorf("got %v, want ErrClosed", err)
			}
		}
		if err := x.Fetch(ctx, feed.Want{}); !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
		if r.Source() != nil {
			t.Error("the closed exchange is still the feed's source")
		}
		_ = x.Close()
	})
}

func TestUpgradeWithoutPeersIsNoGrowth(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := writer(t, 1)
		x := exchange(t, reader(t, w), true)
		if grown, err := x.Upgrade(timed(t)); grown || err != nil {
			t.Errorf("got %v, %v", grown, err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		x.SetFinding(true)
		if _, err := x.Upgrade(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("while somebody looks for peers: %v", err)
		}
	})
}

func TestOnIdleIsCalledAfterTheLastChannel(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := writer(t, 1, numbered(2, 2)...)
		idle := make(chan struct{}, 10)
		wx := NewExchange(w, ExchangeOptions{OnIdle: func() { idle <- struct{}{} }})
		t.Cleanup(func() { wx.Close() })
		run := newRunner(t)
		a, _ := run.connect([]*Exchange{wx}, []*Exchange{exchange(t, reader(t, w), true)})
		c, _ := run.connect([]*Exchange{wx}, []*Exchange{exchange(t, reader(t, w), true)})
		synctest.Wait()
		if n := len(wx.Peers()); n != 2 {
			t.Fatalf("%d peers, want 2", n)
		}
		a.Close()
		synctest.Wait()
		if len(idle) != 0 {
			t.Error("idle with a channel open")
		}
		c.Close()
		synctest.Wait()
		if len(idle) != 1 {
			t.Errorf("told %d times, want once", len(idle))
		}
	})
}

func TestSeekOverTheNetwork(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := writer(t, 1, numbered(64, 10)...)
		r := reader(t, w)
		newRunner(t).connect([]*Exchange{exchange(t, w, false)}, []*Exchange{exchange(t, r, true)})
		ws, rs := session(t, w), session(t, r)
		defer ws.Close()
		defer rs.Close()
		if _, err := rs.Update(timed(t)); err != nil {
			t.Fatal(err)
		}
		for _, at := range []uint64{0, 1, 100, 500, w.Info().ByteLength - 1} {
			wi, wo, err := ws.Seek(timed(t), at)
			if err != nil {
				t.Fatal(err)
			}
			ri, ro, err := rs.Seek(timed(t), at)
			if err != nil || ri != wi || ro != wo {
				t.Errorf("byte %d: block %d offset %d, %v, want %d, %d", at, ri, ro, err, wi, wo)
			}
		}
	})
}

// TestDownloadsFromSeveralPeers has two peers that hold a half each.
func TestDownloadsFromSeveralPeers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		blocks := numbered(300, 20)
		w := writer(t, 1, blocks...)
		run := newRunner(t)
		rx := exchange(t, reader(t, w), true)
		for _, part := range []feed.Range{{End: 150}, {Start: 150, End: 300}} {
			half := reader(t, w)
			hx := exchange(t, half, true)
			c, _ := run.connect([]*Exchange{exchange(t, w, false)}, []*Exchange{hx})
			s := session(t, half)
			if err := s.Download(timed(t), part); err != nil {
				t.Fatal(err)
			}
			_ = s.Close()
			_ = c.Close()
			run.connect([]*Exchange{hx}, []*Exchange{rx})
		}
		r := rx.Core().(*feed.Feed)
		s := session(t, r)
		defer s.Close()
		if err := s.Download(timed(t), feed.Range{End: 300}); err != nil {
			t.Fatal(err)
		}
		sameBlocks(t, r, blocks)
		synctest.Wait() // the feed has the blocks a moment before the exchange counts them
		for _, p := range rx.Peers() {
			if p.BlocksReceived == 0 {
				t.Errorf("nothing came from %+v", p)
			}
		}
	})
}
