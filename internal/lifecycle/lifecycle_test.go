package lifecycle

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// pass lets time go by, which is fake in all tests here that call it.
func pass(d time.Duration) { <-time.After(d) }

func TestCloseCancelsAndWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group
		ended := false
		ok := g.Go(func(ctx context.Context) {
			<-ctx.Done()
			pass(time.Second) // work that cannot be cut short
			ended = true
		})
		if !ok {
			t.Fatal("Go = false, want true")
		}
		start := time.Now()
		g.Close()
		if !ended || time.Since(start) != time.Second {
			t.Errorf("Close returned after %v, ended %v; want 1s, true", time.Since(start), ended)
		}
	})
}

func TestEveryCloseWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGroup()
		release := make(chan struct{})
		g.Go(func(context.Context) { <-release })
		var closed atomic.Int32
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				g.Close()
				closed.Add(1)
			})
		}
		synctest.Wait()
		if n := closed.Load(); n != 0 {
			t.Errorf("%d calls of Close returned before the goroutine ended", n)
		}
		close(release)
		wg.Wait()
		g.Close()
	})
}

func TestClosingGroupRefusesWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group
		release := make(chan struct{})
		g.Go(func(context.Context) { <-release })
		var wg sync.WaitGroup
		wg.Go(g.Close)
		synctest.Wait()

		refused := func(when string) {
			t.Helper()
			if g.Go(func(context.Context) { t.Error("a refused function ran") }) {
				t.Errorf("%s: Go = true, want false", when)
			}
			ctx, leave, ok := g.Enter()
			if ok || ctx.Err() == nil {
				t.Errorf("%s: Enter = %v with context error %v, want false and an ended one", when, ok, ctx.Err())
			}
			leave()
			c := g.Child()
			if c.Go(func(context.Context) { t.Error("a refused function ran") }) {
				t.Errorf("%s: Go of a child = true, want false", when)
			}
			c.Close()
			AfterFunc(&g, 0, func() { t.Errorf("%s: a timer ran", when) })
			if g.Context().Err() == nil {
				t.Errorf("%s: the context has not ended", when)
			}
		}
		refused("closing")
		close(release)
		wg.Wait()
		refused("closed")
		synctest.Wait()
	})
}

func TestEnterCountsTheCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group
		ctx, leave, ok := g.Enter()
		if !ok || ctx.Err() != nil {
			t.Fatalf("Enter = %v, %v; want true, nil", ok, ctx.Err())
		}
		_, other, _ := g.Enter()
		closed := false
		var wg sync.WaitGroup
		wg.Go(func() {
			g.Close()
			closed = true
		})
		<-ctx.Done()
		leave()
		leave() // the second call must not count for the other goroutine
		synctest.Wait()
		if closed {
			t.Error("Close returned while a goroutine was in the group")
		}
		other()
		wg.Wait()
	})
}

func TestChildClosesWithItsParent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group
		c := g.Child().Child()
		var ended atomic.Int32
		work := func(ctx context.Context) {
			<-ctx.Done()
			pass(time.Minute)
			ended.Add(1)
		}
		c.Go(work)
		AfterFunc(c, time.Second, func() { t.Error("the timer of a closed child ran") })
		g.Close()
		if ended.Load() != 1 {
			t.Error("Close returned before the child's goroutine ended")
		}
		if c.Go(work) {
			t.Error("Go of a closed child = true, want false")
		}
		pass(time.Hour)
	})
}

func TestClosedChildLeavesItsParentOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group
		c := g.Child()
		c.Close()
		c.Close()
		if len(g.children) != 0 {
			t.Errorf("the parent holds %d children, want 0", len(g.children))
		}
		ran := false
		if !g.Go(func(ctx context.Context) { ran = ctx.Err() == nil }) {
			t.Error("Go of the parent = false, want true")
		}
		synctest.Wait()
		if !ran {
			t.Error("the parent's function did not run with an open context")
		}
		g.Close()
	})
}

func TestGoexitEndsTheGoroutineOnly(t *testing.T) {
	synctest.Test(t, func(*testing.T) {
		var g Group
		g.Go(func(context.Context) { runtime.Goexit() })
		AfterFunc(&g, 0, runtime.Goexit)
		synctest.Wait()
		g.Close()
	})
}

func TestAfterFuncRunsInTheGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group
		start, ended := time.Now(), false
		stop := AfterFunc(&g, time.Minute, func() {
			if since := time.Since(start); since != time.Minute {
				t.Errorf("ran after %v, want 1m", since)
			}
			<-g.Context().Done()
			pass(time.Second)
			ended = true
		})
		pass(time.Hour)
		if stop() {
			t.Error("stop of a started function = true, want false")
		}
		g.Close()
		if !ended {
			t.Error("Close returned before the timer's function ended")
		}
		if len(g.alarms) != 0 {
			t.Errorf("%d alarms left, want 0", len(g.alarms))
		}
	})
}

func TestAfterFuncStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group
		stop := AfterFunc(&g, time.Minute, func() { t.Error("a stopped timer ran") })
		if !stop() {
			t.Error("first stop = false, want true")
		}
		if stop() {
			t.Error("second stop = true, want false")
		}
		later := AfterFunc(&g, time.Minute, func() { t.Error("a timer ran after Close") })
		g.Close()
		if later() {
			t.Error("stop after Close = true, want false")
		}
		pass(time.Hour)
	})
}

// TestStorm starts work of all kinds while the group closes; the race detector
// and the counters look on.
func TestStorm(t *testing.T) {
	for range 50 {
		var g Group
		var running, accepted, ran atomic.Int64
		work := func(context.Context) {
			running.Add(1)
			runtime.Gosched()
			ran.Add(1)
			running.Add(-1)
		}
		begin := make(chan struct{})
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				<-begin
				for range 40 {
					if g.Go(work) {
						accepted.Add(1)
					}
					c := g.Child()
					if c.Go(work) {
						accepted.Add(1)
					}
					AfterFunc(c, 0, func() { work(nil) })
					if ctx, leave, ok := g.Enter(); ok {
						accepted.Add(1)
						work(ctx)
						leave()
					}
					c.Close()
				}
			})
		}
		for range 3 {
			wg.Go(func() {
				<-begin
				runtime.Gosched()
				g.Close()
				if n := running.Load(); n != 0 {
					t.Errorf("%d functions run after Close", n)
				}
			})
		}
		close(begin)
		wg.Wait()
		if ran.Load() < accepted.Load() {
			t.Errorf("%d functions ran, %d were accepted", ran.Load(), accepted.Load())
		}
	}
}

func BenchmarkGo(b *testing.B) {
	var g Group
	done := make(chan struct{})
	b.ReportAllocs()
	for b.Loop() {
		g.Go(func(context.Context) { done <- struct{}{} })
		<-done
	}
	g.Close()
}

func BenchmarkEnter(b *testing.B) {
	var g Group
	b.ReportAllocs()
	for b.Loop() {
		_, leave, _ := g.Enter()
		leave()
	}
	g.Close()
}
