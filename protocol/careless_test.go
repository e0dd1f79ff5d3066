package protocol

import (
	"context"
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/p2pcore/p2pcore/feed"
)

// Numbers of a careless caller, such as length - 1 of an empty feed, neither panic nor spin.
func TestPositionsThatNoFeedHas(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := writer(t, 1, numbered(20, 10)...)
		r := reader(t, w)
		run := newRunner(t)
		rx := exchange(t, r, true)
		run.connect([]*Exchange{exchange(t, w, false)}, []*Exchange{rx})
		s := session(t, r)
		defer s.Close()
		wait := func() context.Context {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			t.Cleanup(cancel)
			return ctx
		}
		for _, index := range []uint64{math.MaxUint64, math.MaxUint64 - 1, 1 << 63, 1 << 62, 1 << 53} {
			if s.Has(index) {
				t.Errorf("block %d is said to be stored", index)
			}
			if b, err := s.Get(wait(), index); b != nil || !errors.Is(err, feed.ErrOutOfRange) {
				t.Errorf("Get(%d): %v, want ErrOutOfRange", index, err)
			}
			if _, _, err := s.Seek(wait(), index); !errors.Is(err, feed.ErrOutOfRange) {
				t.Errorf("Seek(%d): %v, want ErrOutOfRange", index, err)
			}
			if err := s.Download(wait(), feed.Range{Start: 5, End: index}); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Download(5, %d): %v, want to wait", index, err)
			}
			for _, want := range []feed.Want{
				{Blocks: []uint64{3, index}}, {Range: feed.Range{Start: index, End: index + 1}, Priority: 1},
				{Range: feed.Range{Start: index, End: math.MaxUint64}, Follow: true, Linear: true},
			} {
				if err := rx.Fetch(wait(), want); err != nil && !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("Fetch(%+v): %v", want, err)
				}
			}
			seeks := make(chan error, 1)
			ctx := wait()
			go func() { seeks <- rx.Seek(ctx, index, 0) }()
			synctest.Wait()
			appendBlocks(t, w, []byte{byte(index)}) // a seek past the end goes out with the upgrade
			if err := <-seeks; err != nil && !errors.Is(err, feed.ErrOutOfRange) {
				t.Errorf("Source.Seek(%d): %v", index, err)
			}
		}
		if _, err := s.Get(wait(), 24); err != nil {
			t.Errorf("an honest get afterwards: %v", err)
		}
	})
}
