package feed

import (
	"bytes"
	"testing"
	"testing/synctest"
)

// TestFollowingReadsWhatWasCleared: blocks of the range that are dropped before they are read come again.
func TestFollowingReadsWhatWasCleared(t *testing.T) {
	synctest.Test(t, testFollowingReadsWhatWasCleared)
}

func testFollowingReadsWhatWasCleared(t *testing.T) {
	ctx := t.Context()
	w, _ := writer(t, memoryStore(), 20)
	r := reader(t, memoryStore(), w)
	r.SetSource(&pipe{from: w, to: r})
	s := session(t, r)
	if err := s.Download(ctx, Range{End: 20}); err != nil {
		t.Fatal(err)
	}
	n := 0
	for b, err := range s.Blocks(ctx, Range{End: 20}, ReadOptions{Follow: true}) {
		if err != nil || !bytes.Equal(b, testBlock(n)) {
			t.Fatalf("block %d: %q, %v", n, b, err)
		}
		if n++; n == 5 {
			synctest.Wait() // the source has found that all is here
			if _, err := s.Clear(ctx, Range{Start: 3, End: 15}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n != 20 || r.Has(Range{Start: 3, End: 4}) {
		t.Errorf("%d blocks read; what was read before is fetched again: %v", n, r.Has(Range{Start: 3, End: 4}))
	}
}
