package feed

import (
	"context"
	"errors"
	"math"
	"testing"
	"testing/synctest"
)

func TestEntriesFollowOneRangeOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, ws := writer(t, memoryStore(), 500)
		f := reader(t, memoryStore(), w)
		source := &countingSource{pipe: &pipe{from: w, to: f}}
		f.SetSource(source)
		n := uint64(0)
		for e, err := range session(t, f).Entries(t.Context(), Range{Start: 490, End: 505}, ReadOptions{Follow: true}) {
			if err != nil || e.Index != 490+n {
				t.Fatalf("entry %d: %v", e.Index, err)
			}
			if n++; n == 10 {
				appendBlocks(t, ws, testBlocks(500, 600)...)
			}
		}
		synctest.Wait()
		if n != 15 || f.Info().LocalBlocks != 15 {
			t.Errorf("%d entries, %d blocks are here", n, f.Info().LocalBlocks)
		}
		// Without an end the Source is told so.
		for range session(t, f).Entries(t.Context(), Range{Start: 490, End: 1 << 60}, ReadOptions{Follow: true}) {
			break
		}
		synctest.Wait()
		if last := source.asked[len(source.asked)-1]; last != (Range{Start: 490, End: math.MaxUint64}) {
			t.Errorf("asked for %v", last)
		}
	})
}

// givingUp is a Source that brings nothing.
type givingUp struct {
	deaf
	err error
	now chan struct{} // then
}

func (f *givingUp) Fetch(ctx context.Context, _ Want) error {
	select {
	case <-f.now:
		return f.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func TestEntriesFollowingEndWithTheSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := writer(t, memoryStore(), 5)
		f := reader(t, memoryStore(), w)
		upgrade(t, w, f)
		fetch(t, w, f, 0)
		for _, end := range []struct {
			source *givingUp
			after  Source
			want   error
		}{
			{source: &givingUp{err: ErrNoSpace}, want: ErrNoSpace},
			{source: &givingUp{err: ErrClosed}, want: ErrNotAvailable}, // nobody brings it any more
		} {
			end.source.now = make(chan struct{})
			f.SetSource(end.source)
			ended := make(chan error, 1)
			go func() {
				for _, err := range session(t, f).Entries(t.Context(), Range{End: 5}, ReadOptions{Follow: true}) {
					if err != nil {
						ended <- err
					}
				}
			}()
			synctest.Wait()
			if end.want == ErrNotAvailable {
				f.SetSource(nil)
			}
			close(end.source.now)
			if err := <-ended; !errors.Is(err, end.want) {
				t.Errorf("%v, want %v", err, end.want)
			}
		}
	})
}
