package corestore_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	datastore "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"

	"github.com/p2pcore/p2pcore/corestore"
	"github.com/p2pcore/p2pcore/feed"
)

// everything returns all records of a datastore.
func everything(t *testing.T, ds datastore.Batching) map[string][]byte {
	t.Helper()
	results, err := ds.Query(t.Context(), query.Query{})
	if err != nil {
		t.Fatal(err)
	}
	entries, err := results.Rest()
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string][]byte)
	for _, e := range entries {
		all[e.Key] = e.Value
	}
	return all
}

func TestDeleteLeavesATombstoneAndNothingElse(t *testing.T) {
	onEach(t, func(t *testing.T, ds datastore.Batching) {
		ctx := t.Context()
		s := open(t, ds, corestore.Options{})
		kept := must(t)(s.Named(ctx, "kept"))
		appendText(t, kept, "stays")
		if err := kept.Close(); err != nil {
			t.Fatal(err)
		}
		closeStore(t, s)
		before := everything(t, ds)

		s = open(t, ds, corestore.Options{})
		f := must(t)(s.Named(ctx, "gone"))
		key := f.Key()
		appendText(t, f, "one", "two", "three")
		if _, err := f.Truncate(ctx, 1, feed.TruncateOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := s.Alias(ctx, "other name", key); err != nil {
			t.Fatal(err)
		}
		k := s.DeriveEncryptionKey(key)
		if err := s.SetEncryptionKey(ctx, key, &k); err != nil {
			t.Fatal(err)
		}
		if err := s.Delete(ctx, key, corestore.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Get(ctx, 0); !errors.Is(err, feed.ErrClosed) {
			t.Errorf("the session after it: %v", err)
		}
		if ok, err := s.Stored(ctx, key); ok || err != nil {
			t.Errorf("stored: %v, %v", ok, err)
		}
		if err := s.Delete(ctx, key, corestore.DeleteOptions{}); !errors.Is(err, corestore.ErrUnknownFeed) {
			t.Errorf("again: %v", err)
		}
		closeStore(t, s)
		dk := key.DiscoveryKey()
		for k, v := range everything(t, ds) {
			if _, ok := before[k]; ok || strings.HasPrefix(k, "/store/tomb/") {
				continue
			}
			t.Errorf("record %s = %x is left", k, v)
		}
		for k, v := range everything(t, ds) {
			if bytes.Contains(v, key[:]) || bytes.Contains(v, dk[:]) || strings.Contains(k, hex.EncodeToString(dk[:])) {
				t.Errorf("record %s tells of the feed", k)
			}
		}

		s = open(t, ds, corestore.Options{})
		again := must(t)(s.Named(ctx, "gone"))
		if info := again.Info(); info.Key != key || info.Fork != 2 || info.Length != 0 {
			t.Errorf("made again: %+v", info)
		}
		appendText(t, again, "new")
		wantBlocks(t, again, "new")
		if err := s.Delete(ctx, key, corestore.DeleteOptions{Forget: true}); err != nil {
			t.Fatal(err)
		}
		if info := must(t)(s.Named(ctx, "gone")).Info(); info.Fork != 0 {
			t.Errorf("made again after it was forgotten: fork %d", info.Fork)
		}
	})
}

// TestTombstoneOutlivesAnOpeningByKey: whatever the feed was between two lives as a writer's, it goes on past all of
// them, and a reader's follows the writer from the beginning.
func TestTombstoneOutlivesAnOpeningByKey(t *testing.T) {
	onEach(t, func(t *testing.T, ds datastore.Batching) {
		ctx := t.Context()
		s := open(t, ds, corestore.Options{})
		f := must(t)(s.Named(ctx, "x"))
		key := f.Key()
		appendText(t, f, "one", "two")
		proved, err := f.Feed().Prove(ctx, []feed.Request{{Upgrade: &feed.UpgradeRequest{Length: 2}, Manifest: true}})
		if err != nil || proved[0].Err != nil {
			t.Fatal(err, proved[0].Err)
		}
		remove := func() {
			t.Helper()
			if err := s.Delete(ctx, key, corestore.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		remove()

		r := must(t)(s.Keyed(ctx, key))
		applied, err := r.Feed().Apply(ctx, []*feed.Proof{proved[0].Proof})
		if err != nil || applied[0].Err != nil || r.Info().Length != 2 {
			t.Fatalf("a reader takes the head that the feed had: %v, %v, %+v", err, applied, r.Info())
		}
		// The name makes it a writer's again, with what it has.
		f = must(t)(s.Named(ctx, "x"))
		if info := f.Info(); info.Key != key || info.Fork != 1 || info.Length != 2 {
			t.Errorf("a writer's again: %+v, want fork 1 and 2 blocks", info)
		}
		appendText(t, f, "three")
		remove()

		must(t)(s.Keyed(ctx, key))
		remove()
		if info := must(t)(s.Named(ctx, "x")).Info(); info.Key != key || info.Fork != 2 {
			t.Errorf("made again: %+v, want fork 2", info)
		}
	})
}

func TestDeleteOfAReadersFeedLeavesNoTombstone(t *testing.T) {
	onEach(t, func(t *testing.T, ds datastore.Batching) {
		ctx := t.Context()
		s := open(t, ds, corestore.Options{})
		if err := must(t)(s.Keyed(ctx, foreignKey)).Close(); err != nil {
			t.Fatal(err)
		}
		if err := s.Delete(ctx, foreignKey, corestore.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		for k := range everything(t, ds) {
			if k != "/store/primary" && k != "/store/next" && k != "/store/default" {
				t.Errorf("record %s is left", k)
			}
		}
	})
}

// Every write of a deletion is in turn the last one. Afterwards the feed is there, whole, or it is not, and
// the next opening has deleted the rest.
func TestDeleteIsNeverHalf(t *testing.T) {
	for _, atomic := range []bool{true, false} {
		t.Run(fmt.Sprintf("atomic=%v", atomic), func(t *testing.T) {
			t.Parallel()
			for n := 0; ; n++ {
				if !deleteFailing(t, n, atomic) {
					if n < 4 {
						t.Errorf("only %d writes", n)
					}
					return
				}
			}
		})
	}
}

func deleteFailing(t *testing.T, n int, atomic bool) bool {
	t.Helper()
	ctx := t.Context()
	memory := newMemory()
	primary := [32]byte{5}
	opts := corestore.Options{PrimaryKey: &primary}
	ds := &failing{Batching: memory, atomic: atomic, left: -1}
	s := open(t, ds, opts)
	f := must(t)(s.Named(ctx, "a"))
	key := f.Key()
	appendText(t, f, "one", "two")
	ds.mu.Lock()
	ds.left = n
	ds.mu.Unlock()
	deleted := s.Delete(ctx, key, corestore.DeleteOptions{})
	broken := ds.broken()
	_ = s.Close()

	s = open(t, &failing{Batching: memory, atomic: atomic, left: -1}, opts)
	stored, err := s.Stored(ctx, key)
	if err != nil {
		t.Fatal(err)
	}
	if !broken && (deleted != nil || stored) {
		t.Fatalf("deleted: %v, stored: %v", deleted, stored)
	}
	f = must(t)(s.Named(ctx, "a"))
	if stored {
		wantBlocks(t, f, "one", "two")
		if err := f.Feed().Check(ctx); err != nil {
			t.Errorf("write %d: %v", n, err)
		}
	} else {
		if info := f.Info(); info.Length != 0 || info.Fork != 1 {
			t.Errorf("write %d: made again: %+v", n, info)
		}
		for k := range everything(t, memory) {
			if strings.HasPrefix(k, "/store/purge/") || strings.HasPrefix(k, "/00000000/") {
				t.Errorf("write %d: record %s is left", n, k)
			}
		}
	}
	closeStore(t, s)
	return broken
}

// A feed is deleted while others append to it, read it, and open it again and again.
func TestDeleteWhileInUse(t *testing.T) {
	for name, get := range map[string]func(ctx context.Context, s *corestore.Store) (*feed.Session, error){
		"named":   func(ctx context.Context, s *corestore.Store) (*feed.Session, error) { return s.Named(ctx, "a") },
		"default": func(ctx context.Context, s *corestore.Store) (*feed.Session, error) { return s.Default(ctx) },
	} {
		t.Run(name, func(t *testing.T) {
			onEach(t, func(t *testing.T, ds datastore.Batching) { deleteWhileInUse(t, ds, get) })
		})
	}
}

func deleteWhileInUse(t *testing.T, ds datastore.Batching, get func(ctx context.Context, s *corestore.Store) (*feed.Session, error)) {
	ctx := t.Context()
	s := open(t, ds, corestore.Options{})
	first := must(t)(get(ctx, s))
	key := first.Key()
	_ = first.Close()
	var wg sync.WaitGroup
	stop := make(chan struct{})
	use := func(work func(f *feed.Session) error) {
		for {
			select {
			case <-stop:
				return
			default:
			}
			f, err := get(ctx, s)
			if err != nil {
				t.Error(err)
				return
			}
			if err := work(f); err != nil && !errors.Is(err, feed.ErrClosed) && !errors.Is(err, feed.ErrNotAvailable) && !errors.Is(err, feed.ErrOutOfRange) {
				t.Error(err)
			}
			_ = f.Close()
		}
	}
	wg.Go(func() {
		use(func(f *feed.Session) error { _, err := f.Append(ctx, []byte("x")); return err })
	})
	wg.Go(func() {
		use(func(f *feed.Session) error {
			b, err := f.GetLocal(ctx, 0)
			if err == nil && string(b) != "x" {
				err = fmt.Errorf("block 0 is %q", b)
			}
			return err
		})
	})
	wg.Go(func() {
		use(func(*feed.Session) error {
			f, release, err := s.Resolve(ctx, key.DiscoveryKey())
			if errors.Is(err, corestore.ErrUnknownFeed) {
				return nil
			}
			if err != nil {
				return err
			}
			defer release()
			_, err = f.CanUpgrade(ctx, 1)
			return err
		})
	})
	fork := uint64(0)
	for range 20 {
		err := s.Delete(ctx, key, corestore.DeleteOptions{})
		if err != nil && !errors.Is(err, corestore.ErrUnknownFeed) {
			t.Error(err)
		}
	}
	close(stop)
	wg.Wait()
	f := must(t)(get(ctx, s))
	if fork = f.Info().Fork; fork == 0 {
		t.Error("fork 0 after 20 deletions")
	}
	if err := f.Feed().Check(ctx); err != nil {
		t.Error(err)
	}
}

func TestEncryptionKeyIsOfTheStore(t *testing.T) {
	onEach(t, func(t *testing.T, ds datastore.Batching) {
		ctx := t.Context()
		s := open(t, ds, corestore.Options{})
		f := must(t)(s.Named(ctx, "secret"))
		key := f.Key()
		_ = f.Close()
		if _, ok, err := s.EncryptionKey(ctx, key); ok || err != nil {
			t.Errorf("before: %v, %v", ok, err)
		}
		k := s.DeriveEncryptionKey(key)
		if err := s.SetEncryptionKey(ctx, key, &k); err != nil {
			t.Fatal(err)
		}
		f = must(t)(s.Named(ctx, "secret"))
		appendText(t, f, "hello", "world")
		if info := f.Info(); info.ByteLength != 10 || info.Padding != 8 || f.Feed().Info().ByteLength != 26 {
			t.Errorf("info %+v", info)
		}
		closeStore(t, s)

		s = open(t, ds, corestore.Options{})
		wantBlocks(t, must(t)(s.Named(ctx, "secret")), "hello", "world")
		if got, ok, err := s.EncryptionKey(ctx, key); !ok || got != k || err != nil {
			t.Errorf("stored: %v, %v", ok, err)
		}
		raw, err := f.Feed().Session(feed.SessionOptions{Encryption: feed.Plain})
		if !errors.Is(err, feed.ErrClosed) {
			t.Errorf("%v, %v", raw, err)
		}
		for key, value := range everything(t, ds) {
			if bytes.Contains(value, []byte("hello")) {
				t.Errorf("record %s has the plain text", key)
			}
		}
		if err := s.SetEncryptionKey(ctx, foreignKey, &k); !errors.Is(err, corestore.ErrUnknownFeed) {
			t.Errorf("of a feed that is not here: %v", err)
		}
	})
}

func TestForgetDropsTheTombstoneOfAFeedDeletedBefore(t *testing.T) {
	onEach(t, func(t *testing.T, ds datastore.Batching) {
		ctx := t.Context()
		s := open(t, ds, corestore.Options{})
		f := must(t)(s.Named(ctx, "x"))
		key := f.Key()
		appendText(t, f, "one")
		forget := corestore.DeleteOptions{Forget: true}
		if err := s.Delete(ctx, key, corestore.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := s.Delete(ctx, key, corestore.DeleteOptions{}); !errors.Is(err, corestore.ErrUnknownFeed) {
			t.Errorf("deleted again: %v", err)
		}
		if err := s.Delete(ctx, key, forget); err != nil {
			t.Errorf("forget it: %v", err)
		}
		if err := s.Delete(ctx, key, forget); !errors.Is(err, corestore.ErrUnknownFeed) {
			t.Errorf("forget it again: %v", err)
		}
		for k := range everything(t, ds) {
			if strings.HasPrefix(k, "/store/tomb/") {
				t.Errorf("record %s is left", k)
			}
		}
		if info := must(t)(s.Named(ctx, "x")).Info(); info.Key != key || info.Fork != 0 {
			t.Errorf("made again: %+v, want fork 0", info)
		}
	})
}

// TestDeleteOfADamagedFeedKeepsItUnlessItIsForgotten: without its last fork there is no tombstone to leave.
func TestDeleteOfADamagedFeedKeepsItUnlessItIsForgotten(t *testing.T) {
	onEach(t, func(t *testing.T, ds datastore.Batching) {
		ctx := t.Context()
		s := open(t, ds, corestore.Options{})
		f := must(t)(s.Named(ctx, "x"))
		key := f.Key()
		appendText(t, f, "one")
		closeStore(t, s)
		for k := range everything(t, ds) {
			if strings.HasSuffix(k, "/h000000000000") {
				if err := ds.Put(ctx, datastore.RawKey(k), []byte("noise")); err != nil {
					t.Fatal(err)
				}
			}
		}
		s = open(t, ds, corestore.Options{})
		if err := s.Delete(ctx, key, corestore.DeleteOptions{}); !errors.Is(err, feed.ErrCorrupt) {
			t.Errorf("a damaged feed: %v, want %v", err, feed.ErrCorrupt)
		}
		if ok, err := s.Stored(ctx, key); !ok || err != nil {
			t.Errorf("it is stored still: %v, %v", ok, err)
		}
		if err := s.Delete(ctx, key, corestore.DeleteOptions{Forget: true}); err != nil {
			t.Error(err)
		}
		if ok, err := s.Stored(ctx, key); ok || err != nil {
			t.Errorf("forgotten, and stored: %v, %v", ok, err)
		}
	})
}
