package corestore_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	datastore "github.com/ipfs/go-datastore"

	"github.com/p2pcore/p2pcore/corestore"
	"github.com/p2pcore/p2pcore/feed"
)

// TestSeveralHypercoresInOneGroup: feeds share one datastore, and what happens to one of them happens to no other.
func TestSeveralHypercoresInOneGroup(t *testing.T) {
	onEach(t, func(t *testing.T, ds datastore.Batching) {
		ctx := t.Context()
		s := open(t, ds, corestore.Options{})
		feeds := []*feed.Session{must(t)(s.Default(ctx)), must(t)(s.Fresh(ctx)), must(t)(s.Paired(ctx, ownPair))}
		for i := range 5 {
			feeds = append(feeds, must(t)(s.Named(ctx, fmt.Sprint(i))))
		}
		for round := range 3 {
			for i, f := range feeds {
				appendText(t, f, fmt.Sprint(i, " ", round))
			}
		}
		truncated, removed, deleted := feeds[0], feeds[1], feeds[2]
		if _, err := truncated.Truncate(ctx, 1, feed.TruncateOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(s.Remove(ctx, removed.Key()), s.Delete(ctx, deleted.Key(), corestore.DeleteOptions{})); err != nil {
			t.Fatal(err)
		}
		closeStore(t, s)

		s = open(t, ds, corestore.Options{})
		if n := len(list(t, s)); n != len(feeds)-2 {
			t.Errorf("%d feeds in the group, want %d", n, len(feeds)-2)
		}
		wantBlocks(t, must(t)(s.Default(ctx)), "0 0")
		for i, f := range feeds[3:] {
			i += 3
			wantBlocks(t, must(t)(s.Keyed(ctx, f.Key())), fmt.Sprint(i, " 0"), fmt.Sprint(i, " 1"), fmt.Sprint(i, " 2"))
		}
		wantBlocks(t, must(t)(s.Keyed(ctx, removed.Key())), "1 0", "1 1", "1 2")
	})
}

// TestPurgingStorageForAGivenKeyThatIsNotLoaded: nothing opens the feed for it, and nothing of it is left; also of one that
// was removed before.
func TestPurgingStorageForAGivenKeyThatIsNotLoaded(t *testing.T) {
	for _, remove := range []bool{false, true} {
		onEach(t, func(t *testing.T, ds datastore.Batching) {
			ctx := t.Context()
			s := open(t, ds, corestore.Options{})
			before := everything(t, ds)
			f := must(t)(s.Fresh(ctx))
			appendText(t, f, "one", "two")
			key := f.Key()
			if remove {
				if err := s.Remove(ctx, key); err != nil {
					t.Fatal(err)
				}
			}
			closeStore(t, s)

			s = open(t, ds, corestore.Options{})
			s.OnOpen(func(f *feed.Feed) { t.Errorf("%s was opened", f.DiscoveryKey().Short()) })
			s.OnRemove(func(dk feed.DiscoveryKey, open *feed.Feed) {
				if dk != key.DiscoveryKey() || open != nil {
					t.Errorf("told that %s left, open %v", dk, open)
				}
			})
			if err := s.Delete(ctx, key, corestore.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			for k := range everything(t, ds) {
				if _, ok := before[k]; !ok && !strings.HasPrefix(k, "/store/next") {
					t.Errorf("record %s is left", k)
				}
			}
		})
	}
}
