package protocol

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/p2pcore/p2pcore/feed"
)

// A disk that fills up in the middle of a download ends it with ErrNoSpace, whoever waits; when there
// is room again, the same calls go on over the same connection.
func TestAFullDiskEndsADownloadThatCanGoOnLater(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		blocks := numbered(3000, 100)
		w := writer(t, 1, blocks...)
		key := w.Key()
		var full atomic.Bool
		var stored atomic.Int64
		r := createFeed(t, feed.Options{Key: &key, Space: func() error {
			if stored.Add(1) == 5 {
				full.Store(true)
			}
			if full.Load() {
				return feed.ErrNoSpace
			}
			return nil
		}})
		rx := exchange(t, r, true)
		newRunner(t).connect([]*Exchange{exchange(t, w, false)}, []*Exchange{rx})
		s := session(t, r)
		defer s.Close()
		following := make(chan error, 1)
		seen := 0
		follow := func(start int) {
			for _, err := range s.Blocks(t.Context(), feed.Range{Start: uint64(start), End: uint64(len(blocks))}, feed.ReadOptions{Follow: true}) {
				if err != nil {
					following <- err
					return
				}
				seen++
			}
			following <- nil
		}
		go follow(0)
		if err := s.Download(timed(t), feed.Range{End: uint64(len(blocks))}); !errors.Is(err, feed.ErrNoSpace) {
			t.Fatalf("download: %v, want ErrNoSpace", err)
		}
		synctest.Wait()
		select {
		case err := <-following:
			if !errors.Is(err, feed.ErrNoSpace) {
				t.Fatalf("following: %v, want ErrNoSpace", err)
			}
		default:
			t.Fatal("following waits for blocks that nobody brings")
		}
		if _, err := s.Get(timed(t), r.FirstMissing(0)); !errors.Is(err, feed.ErrNoSpace) {
			t.Errorf("get: %v, want ErrNoSpace", err)
		}
		full.Store(false)
		go follow(seen)
		if err := s.Download(timed(t), feed.Range{End: uint64(len(blocks))}); err != nil {
			t.Fatalf("download when there is room again: %v", err)
		}
		if err := <-following; err != nil || seen != len(blocks) {
			t.Errorf("following when there is room again: %d blocks, %v", seen, err)
		}
		sameBlocks(t, r, blocks)
	})
}

// Following goes on without a source: what was stored by then is read, and growth from elsewhere is
// waited for.
func TestFollowingOutlivesTheExchange(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := writer(t, 1, numbered(5, 10)...)
		x := NewExchange(w, ExchangeOptions{})
		s := session(t, w)
		defer s.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		got := make(chan error, 10)
		go func() {
			for _, err := range s.Blocks(ctx, feed.Range{End: 6}, feed.ReadOptions{Follow: true}) {
				got <- err
			}
		}()
		synctest.Wait()
		if len(got) != 5 {
			t.Fatalf("%d blocks, want 5", len(got))
		}
		_ = x.Close()
		synctest.Wait()
		appendBlocks(t, w, []byte("six"))
		synctest.Wait()
		if len(got) != 6 {
			t.Fatalf("%d blocks, want 6", len(got))
		}
		for range 6 {
			if err := <-got; err != nil {
				t.Fatal(err)
			}
		}
	})
}

// An exchange that closes late does not take the feed from the one that has replaced it.
func TestClosingAnExchangeLeavesItsSuccessorTheSource(t *testing.T) {
	t.Parallel()
	w := writer(t, 1)
	old := NewExchange(w, ExchangeOptions{})
	next := exchange(t, w, false)
	_ = old.Close()
	if w.Source() != feed.Source(next) {
		t.Error("the feed has no source")
	}
	_ = next.Close()
	if w.Source() != nil {
		t.Error("the feed has a closed source")
	}
}
