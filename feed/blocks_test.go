package feed

import (
	"bytes"
	"context"
	"errors"
	"math"
	"slices"
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

func TestEntriesInBothDirections(t *testing.T) {
	ctx := t.Context()
	w, _ := writer(t, memoryStore(), 2500)
	f := reader(t, memoryStore(), w)
	f.SetSource(&pipe{from: w, to: f})
	upgrade(t, w, f)
	for _, reverse := range []bool{false, true} {
		var got []uint64
		for e, err := range session(t, f).Entries(ctx, Range{Start: 3, End: 2222}, ReadOptions{Reverse: reverse}) {
			if err != nil || !bytes.Equal(e.Data, testBlock(int(e.Index))) {
				t.Fatalf("entry %d: %q, %v", e.Index, e.Data, err)
			}
			got = append(got, e.Index)
		}
		if reverse {
			slices.Reverse(got)
		}
		if len(got) != 2219 || got[0] != 3 || !slices.IsSorted(got) {
			t.Errorf("reverse %v: %d entries from %d on", reverse, len(got), got[0])
		}
	}
}

func TestBlocksAreThoseOfTheBeginning(t *testing.T) {
	_, s := writer(t, memoryStore(), 20)
	n := 0
	for b, err := range s.Blocks(t.Context(), Range{End: 100}, ReadOptions{}) {
		if err != nil || !bytes.Equal(b, testBlock(n)) {
			t.Fatalf("block %d: %q, %v", n, b, err)
		}
		if n == 3 {
			if _, err := s.Truncate(t.Context(), 2, TruncateOptions{}); err != nil {
				t.Fatal(err)
			}
			appendBlocks(t, s, testBlocks(100, 140)...)
		}
		n++
	}
	if n != 20 {
		t.Errorf("%d blocks", n)
	}
}
