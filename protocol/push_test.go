package protocol

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/p2pcore/p2pcore/feed"
)

// pushed returns an exchange that allows pushes and asks for nothing.
func pushed(t testing.TB, core Core) *Exchange {
	t.Helper()
	x := NewExchange(core, ExchangeOptions{Downloading: true, AllowPush: true, PushOnly: true})
	t.Cleanup(func() { _ = x.Close() })
	return x
}

func TestAReaderIsFilledByPushesAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		blocks := numbered(40, 1000)
		w := writer(t, 1, blocks...)
		r := reader(t, w)
		from, to := exchange(t, w, true), pushed(t, r)
		newRunner(t).connect([]*Exchange{from}, []*Exchange{to})
		synctest.Wait()
		if peers := from.Peers(); len(peers) != 1 || !peers[0].AllowsPush {
			t.Fatalf("the writer knows of %+v", peers)
		}
		if got := r.Info().Length; got != 0 {
			t.Fatalf("a reader that asks for nothing has length %d", got)
		}
		from.Push(feed.Range{Start: 10, End: 40})
		synctest.Wait()
		if i := r.Info(); i.Length != 40 || r.Manifest() == nil {
			t.Fatalf("after the push: %+v", i)
		}
		from.Open()[0].Push(feed.Range{End: 10})
		synctest.Wait()
		sameBlocks(t, r, blocks)
		for i := range 20 {
			block := []byte(fmt.Sprint("live ", i))
			blocks = append(blocks, block)
			appendBlocks(t, w, block)
			from.Push(feed.Range{Start: uint64(len(blocks) - 1), End: uint64(len(blocks))})
			if i%3 == 0 {
				synctest.Wait()
			}
		}
		synctest.Wait()
		sameBlocks(t, r, blocks)
		before := from.Stats().BlocksPushed
		from.Push(feed.Range{End: 60})
		synctest.Wait()
		if s := from.Stats(); s.BlocksPushed != before || before != 60 || s.BlocksSent != 60 {
			t.Errorf("the writer: %+v, %d pushed before", s, before)
		}
		if s := to.Stats(); s.Requests != 0 || s.PushesStored != 60 || s.InvalidProofs+s.Unsolicited != 0 {
			t.Errorf("the reader: %+v", s)
		}
	})
}

func TestPushesAreNotTakenWhereTheyAreNotAllowed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := writer(t, 1, numbered(10, 100)...)
		r := reader(t, w)
		from, to := exchange(t, w, true), exchange(t, r, true)
		newRunner(t).connect([]*Exchange{from}, []*Exchange{to})
		push := func(allow, downloading bool, want uint64) {
			t.Helper()
			to.SetAllowPush(allow)
			to.SetDownloading(downloading)
			synctest.Wait()
			from.Push(feed.Range{End: 10})
			synctest.Wait()
			if got := from.Stats().BlocksPushed; got != want {
				t.Errorf("allowed %v, downloading %v: %d blocks pushed, want %d", allow, downloading, got, want)
			}
		}
		push(false, true, 0)
		push(true, false, 0)
		push(false, false, 0)
		push(true, true, 10)
		sameBlocks(t, r, numbered(10, 100))
	})
}

// A get with Force asks, another waits for a push; and pushes go on when asking is allowed again.
func TestForcedGetsOfAFeedThatIsPushed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		blocks := numbered(10, 100)
		w := writer(t, 1, blocks...)
		r := reader(t, w)
		from, to := exchange(t, w, true), pushed(t, r)
		newRunner(t).connect([]*Exchange{from}, []*Exchange{to})
		forced, err := r.Session(feed.SessionOptions{Force: true})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := forced.Get(timed(t), 7); err != nil || string(got) != string(blocks[7]) {
			t.Fatalf("%q, %v", got, err)
		}
		s := session(t, r)
		ctx, cancel := context.WithTimeout(timed(t), time.Minute)
		defer cancel()
		if _, err := s.Get(ctx, 3); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("a get of a feed that asks for nothing: %v", err)
		}
		if grown, err := s.Update(timed(t)); grown || err != nil {
			t.Fatalf("update: %v, %v", grown, err)
		}
		done := make(chan error, 1)
		go func() {
			_, err := s.Get(timed(t), 3)
			done <- err
		}()
		synctest.Wait()
		from.Push(feed.Range{Start: 3, End: 4})
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		to.SetPushOnly(false)
		if err := s.Download(timed(t), feed.Range{End: 10}); err != nil {
			t.Fatal(err)
		}
		sameBlocks(t, r, blocks)
	})
}

// Two writers' mirrors push the same and other blocks at the same time, while the feed grows and is truncated.
func TestPushesOfSeveralPeersAndForks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := writer(t, 1, numbered(6, 100)...)
		mirror, r := reader(t, w), reader(t, w)
		from, between, to := exchange(t, w, true), exchange(t, mirror, true), exchange(t, r, true)
		to.SetAllowPush(true)
		run := newRunner(t)
		run.connect([]*Exchange{from}, []*Exchange{between})
		run.connect([]*Exchange{to}, []*Exchange{from})
		run.connect([]*Exchange{to}, []*Exchange{between})
		m := session(t, mirror)
		d, err := m.NewDownload(timed(t), feed.DownloadOptions{Follow: true})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		push := func() {
			from.Push(feed.Range{End: 1000})
			between.Push(feed.Range{End: 1000})
		}
		for round := range 30 {
			if round%10 == 9 {
				truncate(t, w, w.Info().Length-4)
			}
			appendBlocks(t, w, numbered(1+round%3, 50)...)
			push()
			if round%2 == 0 {
				synctest.Wait()
			}
		}
		synctest.Wait()
		push()
		synctest.Wait()
		if got, want := r.Info(), w.Info(); got.Length != want.Length || got.Fork != want.Fork || got.ContiguousLength != want.Length {
			t.Errorf("the reader is at %+v, the writer at %+v", got, want)
		}
		for _, x := range []*Exchange{from, between, to} {
			if s := x.Stats(); s.InvalidProofs+s.InvalidRequests+s.Checks+s.Stalls != 0 {
				t.Errorf("%+v", s)
			}
		}
		if s := to.Stats(); s.PushesStored == 0 {
			t.Errorf("nothing was pushed: %+v", s)
		}
	})
}

// What a liar pushes is not stored, and it is not believed for long.
func TestForgedPushesAreNotStored(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		blocks := numbered(20, 100)
		w := writer(t, 1, blocks...)
		r := reader(t, w)
		to := pushed(t, r)
		from := exchange(t, &liar{Feed: w, spoil: func(p *feed.Proof) bool {
			if p.Block == nil {
				return false
			}
			p.Block.Value[0] ^= 1
			return true
		}}, true)
		honest := exchange(t, w, true)
		run := newRunner(t)
		run.connect([]*Exchange{to}, []*Exchange{honest})
		synctest.Wait()
		honest.Push(feed.Range{Start: 19, End: 20})
		synctest.Wait()
		run.connect([]*Exchange{from}, []*Exchange{to})
		synctest.Wait()
		for range 10 {
			from.Push(feed.Range{End: 19})
			synctest.Wait()
		}
		if s := to.Stats(); s.PushesStored != 1 || s.InvalidProofs == 0 {
			t.Errorf("%+v", s)
		}
		honest.Push(feed.Range{End: 20})
		synctest.Wait()
		sameBlocks(t, r, blocks)
	})
}
