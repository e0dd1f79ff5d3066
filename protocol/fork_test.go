package protocol

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/p2pcore/p2pcore/feed"
)

func TestReadersFollowAnOnlineTruncation(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		old, new := numbered(40, 10), renamed(40, "new ")
		w := writer(t, 1, old...)
		near, far := reader(t, w), reader(t, w) // far meets near only
		xs := []*Exchange{exchange(t, w, false), exchange(t, near, true), exchange(t, far, true)}
		run := newRunner(t)
		run.connect(xs[:1], xs[1:2])
		run.connect(xs[1:2], xs[2:])
		follow(t, xs[1])
		follow(t, xs[2])
		synctest.Wait()
		sub := far.Subscribe()
		defer sub.Close()
		truncate(t, w, 21)
		synctest.Wait()
		for _, f := range []*feed.Feed{near, far} {
			sameHead(t, f, w)
			sameBlocks(t, f, old[:21])
		}
		if c, ok := sub.Take(); !ok || !c.Forked || c.Ancestors != 21 {
			t.Errorf("the change was told as %+v", c)
		}
		appendBlocks(t, w, new...)
		synctest.Wait()
		for _, f := range []*feed.Feed{near, far} {
			sameBlocks(t, f, append(slices.Clone(old[:21]), new...))
		}
		// To nothing: nobody hears of it before there is a head again.
		truncate(t, w, 0)
		synctest.Wait()
		if got := far.Info(); got.Fork != 1 || got.Length != 61 {
			t.Errorf("an empty fork was followed: %+v", got.Head)
		}
		appendBlocks(t, w, new[:3]...)
		synctest.Wait()
		for _, f := range []*feed.Feed{near, far} {
			sameHead(t, f, w)
			sameBlocks(t, f, new[:3])
		}
		clean(t, xs...)
		if got := xs[2].Stats().Reorgs; got != 2 {
			t.Errorf("%d forks followed, want 2", got)
		}
	})
}

func TestForksAreRefusedOnDemand(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		blocks := numbered(10, 10)
		w := writer(t, 1, blocks...)
		r, empty := reader(t, w), reader(t, w)
		fill(t, w, r, feed.Range{End: 10})
		x := exchange(t, w, false)
		run := newRunner(t)
		for _, f := range []*feed.Feed{r, empty} {
			refusing := NewExchange(f, ExchangeOptions{Downloading: true, RefuseForks: true})
			t.Cleanup(func() { _ = refusing.Close() })
			run.connect([]*Exchange{x}, []*Exchange{refusing})
			if f == r {
				synctest.Wait()
				truncate(t, w, 5)
				appendBlocks(t, w, renamed(20, "new ")...)
			}
			synctest.Wait()
		}
		sameBlocks(t, r, blocks)
		if got := empty.Info(); got.Length != 0 {
			t.Errorf("the empty reader has %+v", got.Head)
		}
		s := session(t, r)
		defer s.Close()
		if grown, err := s.Update(timed(t)); grown || err != nil {
			t.Errorf("update: %v, %v", grown, err)
		}
		clean(t, x)
	})
}

func TestTruncationsWhileDownloading(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := writer(t, 1, numbered(600, 400)...)
		xs := []*Exchange{exchange(t, w, false)}
		readers := []*feed.Feed{reader(t, w), reader(t, w), reader(t, w)}
		run := newRunner(t)
		for _, r := range readers {
			x := exchange(t, r, true)
			for _, peer := range xs {
				run.connect([]*Exchange{peer}, []*Exchange{x})
			}
			xs = append(xs, x)
			follow(t, x)
		}
		changes := readers[0].Subscribe()
		defer changes.Close()
		for i := range 12 {
			// Some of it has come.
			for n := uint64(0); n < 20; {
				c, err := changes.Next(timed(t))
				if err != nil {
					t.Fatal(err)
				}
				for _, r := range c.Added {
					n += r.Len()
				}
			}
			length := w.Info().Length
			truncate(t, w, length-uint64(1+i*7))
			appendBlocks(t, w, renamed(30+i, fmt.Sprint("fork ", i, " "))...)
		}
		synctest.Wait()
		for _, r := range readers {
			sameHead(t, r, w)
			if got := r.Info(); got.LocalBlocks != got.Length {
				t.Errorf("%d blocks of %d", got.LocalBlocks, got.Length)
			}
		}
		for i, x := range xs {
			if s := x.Stats(); s.InvalidProofs+s.InvalidRequests+s.Checks != 0 || s.Peers != len(readers) || len(x.Departed()) != 0 {
				t.Errorf("exchange %d: %+v, departed %+v", i, s, x.Departed())
			}
		}
	})
}

func TestWhoWaitsWhileTheFeedForks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := writer(t, 1, numbered(20, 10)...)
		r := reader(t, w)
		fill(t, w, r, feed.Range{End: 3})
		truncate(t, w, 10)
		appendBlocks(t, w, renamed(5, "new ")...)

		s := session(t, r)
		defer s.Close()
		to := exchange(t, r, true)
		errs := make(map[uint64]chan error)
		get := func(index uint64) {
			errs[index] = make(chan error, 1)
			go func() {
				_, err := s.Get(timed(t), index)
				errs[index] <- err
			}()
		}
		get(12) // was there before
		get(22) // is yet to come
		to.SetFinding(true)
		grown := make(chan error, 1)
		go func() {
			ok, err := s.Update(timed(t))
			if err == nil && !ok {
				err = errors.New("not grown")
			}
			grown <- err
		}()
		synctest.Wait()
		newRunner(t).connect([]*Exchange{exchange(t, w, false)}, []*Exchange{to})
		synctest.Wait()
		sameHead(t, r, w)
		if err := <-grown; err != nil {
			t.Errorf("update: %v", err)
		}
		if err := <-errs[12]; !errors.Is(err, feed.ErrSnapshotNotAvailable) {
			t.Errorf("get of a lost block: %v", err)
		}
		select {
		case err := <-errs[22]:
			t.Errorf("get past the end has ended: %v", err)
		default:
		}
		appendBlocks(t, w, numbered(9, 3)...)
		if err := <-errs[22]; err != nil {
			t.Errorf("get of what came later: %v", err)
		}
	})
}
