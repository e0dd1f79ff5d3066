package corestore_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/p2pcore/p2pcore/corestore"
	"github.com/p2pcore/p2pcore/internal/brittle"
)

// TestWhatIsAppendedAfterADeletionFailedIsNotDeleted: every operation of a deletion fails in turn, and the store goes on:
// the feed is as it was, or made anew. What is appended then is there after a crash, and nothing is left of what was deleted.
func TestWhatIsAppendedAfterADeletionFailedIsNotDeleted(t *testing.T) {
	const leastOps = 6 // of a deletion; less means that nothing was tried
	for _, atomic := range []bool{true, false} {
		for _, again := range []bool{true, false} {
			t.Run(fmt.Sprintf("atomic=%v,again=%v", atomic, again), func(t *testing.T) {
				t.Parallel()
				for n := 1; ; n++ {
					for seed := range uint64(4) {
						if goOn(t, brittle.New(atomic, seed), n, again) {
							continue
						}
						if n <= leastOps {
							t.Errorf("only %d operations", n-1)
						}
						return
					}
				}
			})
		}
	}
}

// goOn fails the n-th operation of a deletion, and goes on; with again the deletion is called for again first. It
// reports whether an operation has failed.
func goOn(t *testing.T, ds *brittle.Store, n int, again bool) (broken bool) {
	t.Helper()
	ctx := t.Context()
	opts := corestore.Options{PrimaryKey: &[32]byte{5}}
	s := open(t, ds, opts)
	f := must(t)(s.Named(ctx, "a"))
	key := f.Key()
	appendText(t, f, "one", "two")

	ds.Fail(n, true)
	err := s.Delete(ctx, key, corestore.DeleteOptions{})
	broken = ds.Broken()
	ds.Heal()
	if broken && !errors.Is(err, brittle.Err) || !broken && err != nil {
		t.Fatalf("operation %d: %v", n, err)
	}
	if again {
		if err := s.Delete(ctx, key, corestore.DeleteOptions{}); err != nil && !errors.Is(err, corestore.ErrUnknownFeed) {
			t.Fatalf("operation %d: deleted again: %v", n, err)
		}
	}
	stored, err := s.Stored(ctx, key)
	if err != nil {
		t.Fatal(err)
	}
	if listed := len(list(t, s)); (listed == 1) != stored || stored && again {
		t.Errorf("operation %d: stored: %v, listed: %d", n, stored, listed)
	}
	want := []string{"three"}
	if stored {
		want = []string{"one", "two", "three"}
	}
	f = must(t)(s.Named(ctx, "a"))
	appendText(t, f, "three")
	wantBlocks(t, f, want...)
	fork := f.Info().Fork
	_ = s.Close()
	ds.Crash()

	s = open(t, ds, opts)
	f = must(t)(s.Named(ctx, "a"))
	if info := f.Info(); info.Key != key || info.Fork != fork || !stored && fork != 1 {
		t.Errorf("operation %d: %+v, want fork %d", n, info, fork)
	}
	wantBlocks(t, f, want...)
	if err := f.Feed().Check(ctx); err != nil {
		t.Errorf("operation %d: %v", n, err)
	}
	for _, k := range ds.Keys() {
		if strings.HasPrefix(k, "/store/purge/") || !stored && strings.HasPrefix(k, "/00000000/") {
			t.Errorf("operation %d: record %s is left", n, k)
		}
	}
	closeStore(t, s)
	return broken
}
