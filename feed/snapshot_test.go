package feed

import (
	"bytes"
	"errors"
	"testing"

	datastore "github.com/ipfs/go-datastore"
)

func TestSnapshotLocksTheState(t *testing.T) {
	onStores(t, func(t *testing.T, ds datastore.Batching) {
		ctx := t.Context()
		_, s := writer(t, ds, 20)
		snap, err := s.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		head := snap.Info().Head
		appendBlocks(t, s, []byte("more"))
		if _, err := s.Truncate(ctx, 5, TruncateOptions{}); err != nil {
			t.Fatal(err)
		}
		appendBlocks(t, s, testBlocks(100, 130)...)
		if _, err := s.Clear(ctx, Range{Start: 0, End: 3}); err != nil {
			t.Fatal(err)
		}
		if snap.Info().Head != head {
			t.Errorf("head %+v, was %+v", snap.Info().Head, head)
		}
		for i := range 20 {
			if b, err := snap.Get(ctx, uint64(i)); !bytes.Equal(b, testBlock(i)) || err != nil {
				t.Errorf("block %d: %q, %v", i, b, err)
			}
		}
		if _, err := snap.Get(ctx, 20); !errors.Is(err, ErrSnapshotNotAvailable) {
			t.Errorf("past its end: %v", err)
		}
		if _, err := snap.Append(ctx, []byte("x")); !errors.Is(err, ErrNotWritable) {
			t.Errorf("append: %v", err)
		}
		if grown, err := snap.Update(ctx); grown || err != nil {
			t.Errorf("update: %v, %v", grown, err)
		}
		second, err := snap.Snapshot()
		if err != nil || second.Info().Head != head {
			t.Errorf("a snapshot's snapshot: %+v, %v", second.Info(), err)
		}
	})
}

// A snapshot of a sparse feed gets what comes later below all truncations, and nothing else.
func TestSnapshotOfASparseFeedHasACompatibleLength(t *testing.T) {
	ctx := t.Context()
	w, ws := writer(t, memoryStore(), 30)
	r := reader(t, memoryStore(), w)
	upgrade(t, w, r)
	fetch(t, w, r, 2, 25)
	snap, err := session(t, r).Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ws.Truncate(ctx, 10, TruncateOptions{}); err != nil {
		t.Fatal(err)
	}
	appendBlocks(t, ws, testBlocks(200, 230)...)
	follow(t, w, r)
	r.SetSource(&pipe{from: w, to: r})
	for _, i := range []uint64{2, 25} {
		if b, err := snap.Get(ctx, i); !bytes.Equal(b, testBlock(int(i))) || err != nil {
			t.Errorf("block %d, which was stored: %q, %v", i, b, err)
		}
	}
	for _, i := range []uint64{20, 29} {
		if b, err := snap.Get(ctx, i); !errors.Is(err, ErrSnapshotNotAvailable) {
			t.Errorf("block %d, which is of the other fork now: %q, %v", i, b, err)
		}
	}
	common := r.Info().Fork // 1
	if common != 1 {
		t.Fatal("not followed")
	}
	fetch(t, w, r, 1)
	if b, err := snap.GetLocal(ctx, 1); !bytes.Equal(b, testBlock(1)) || err != nil {
		t.Errorf("block 1, which came later: %q, %v", b, err)
	}
}

func TestSignedLengthOfASnapshotFallsWithTruncations(t *testing.T) {
	ctx := t.Context()
	_, s := writer(t, memoryStore(), 20)
	snap, err := s.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []uint64{15, 15, 3} {
		if _, err := s.Truncate(ctx, n, TruncateOptions{}); err != nil {
			t.Fatal(err)
		}
		appendBlocks(t, s, testBlocks(0, 3)...)
		if got := snap.Info().SignedLength; got != n {
			t.Errorf("after a truncation to %d: %d", n, got)
		}
	}
	if got := s.Info(); got.SignedLength != got.Length {
		t.Errorf("of the feed: %d of %d", got.SignedLength, got.Length)
	}
}
