package corestore_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	datastore "github.com/ipfs/go-datastore"

	"github.com/p2pcore/p2pcore/corestore"
	"github.com/p2pcore/p2pcore/feed"
)

var errBroken = errors.New("the datastore is broken")

// failing is a datastore whose writes fail, all of them, after the first few, as if the process had
// been killed there. With atomic set a batch is written whole or not at all, else up to the failure.
type failing struct {
	datastore.Batching
	atomic bool

	once bool // only one write fails

	mu     sync.Mutex
	left   int // writes that still succeed; -1: all
	failed bool
}

func (f *failing) AtomicBatch() bool { return f.atomic }

func (f *failing) write() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.left == 0 {
		f.failed = true
		if f.once {
			f.left = -1
		}
		return errBroken
	}
	if f.left > 0 {
		f.left--
	}
	return nil
}

// broken reports whether a write has failed.
func (f *failing) broken() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failed
}

func (f *failing) Put(ctx context.Context, k datastore.Key, v []byte) error {
	if err := f.write(); err != nil {
		return err
	}
	return f.Batching.Put(ctx, k, v)
}

func (f *failing) Delete(ctx context.Context, k datastore.Key) error {
	if err := f.write(); err != nil {
		return err
	}
	return f.Batching.Delete(ctx, k)
}

func (f *failing) Sync(ctx context.Context, k datastore.Key) error {
	if err := f.write(); err != nil {
		return err
	}
	return f.Batching.Sync(ctx, k)
}

func (f *failing) Batch(context.Context) (datastore.Batch, error) { return &failingBatch{ds: f}, nil }

type failingBatch struct {
	ds  *failing
	ops []func(ctx context.Context, ds datastore.Datastore) error
}

func (b *failingBatch) Put(_ context.Context, k datastore.Key, v []byte) error {
	v = append([]byte(nil), v...)
	b.ops = append(b.ops, func(ctx context.Context, ds datastore.Datastore) error { return ds.Put(ctx, k, v) })
	return nil
}

func (b *failingBatch) Delete(_ context.Context, k datastore.Key) error {
	b.ops = append(b.ops, func(ctx context.Context, ds datastore.Datastore) error { return ds.Delete(ctx, k) })
	return nil
}

func (b *failingBatch) Commit(ctx context.Context) error {
	var ds datastore.Datastore = b.ds
	if b.ds.atomic {
		if err := b.ds.write(); err != nil {
			return err
		}
		ds = b.ds.Batching
	}
	for _, op := range b.ops {
		if err := op(ctx, ds); err != nil {
			return err
		}
	}
	return nil
}

// A store is made and a feed of each kind, and every write in turn is the one that fails. What is
// there afterwards opens and is whole, and everything can be made again.
func TestCreationSurvivesEveryFailure(t *testing.T) {
	for _, atomic := range []bool{true, false} {
		for _, once := range []bool{true, false} {
			t.Run(fmt.Sprintf("atomic=%v,once=%v", atomic, once), func(t *testing.T) {
				t.Parallel()
				for n := 0; ; n++ {
					if n > 500 {
						t.Fatal("the writes never end")
					}
					if !failAt(t, n, atomic, once) {
						if n < 10 {
							t.Errorf("only %d writes", n)
						}
						return
					}
				}
			})
		}
	}
}

var (
	foreignKey = feed.DefaultManifest(feed.KeyPairFromSeed([32]byte{7}).Public()).Key()
	ownPair    = feed.KeyPairFromSeed([32]byte{8})
	ownKey     = feed.DefaultManifest(ownPair.Public()).Key()
)

// make4 uses all ways of making feeds, and goes on after errors. It returns the first.
func make4(ctx context.Context, s *corestore.Store) (first error) {
	note := func(session *feed.Session, err error) *feed.Session {
		if first == nil {
			first = err
		}
		return session
	}
	if session := note(s.Named(ctx, "a")); session != nil {
		_, err := session.Append(ctx, []byte("x"))
		note(nil, err)
	}
	note(s.Keyed(ctx, foreignKey))
	if session := note(s.Paired(ctx, ownPair)); session != nil {
		note(nil, s.Alias(ctx, "own", ownKey))
	}
	// A reader's feed that turns out to be ours.
	note(s.Keyed(ctx, feed.DefaultManifest(s.KeyPair("late").Public()).Key()))
	note(s.Named(ctx, "late"))
	return first
}

// failAt returns false if no write failed.
func failAt(t *testing.T, n int, atomic, once bool) bool {
	t.Helper()
	ctx := t.Context()
	primary := [32]byte{5}
	opts := corestore.Options{PrimaryKey: &primary}
	memory := newMemory()
	ds := &failing{Batching: memory, atomic: atomic, left: n, once: once}
	s, err := corestore.Open(ctx, ds, opts)
	if err == nil {
		err = make4(ctx, s)
		if once && ds.broken() {
			// The datastore works again: so does the store.
			if err := make4(ctx, s); err != nil {
				t.Errorf("write %d failed once, then: %v", n, err)
			}
		}
		if err := s.Close(); err != nil && !errors.Is(err, errBroken) {
			t.Errorf("write %d failed, close: %v", n, err)
		}
	}
	if err != nil && !errors.Is(err, errBroken) {
		t.Errorf("write %d failed: %v", n, err)
	}

	s = open(t, &failing{Batching: memory, atomic: atomic, left: -1}, opts)
	checkStore(t, s, n)
	if err := make4(ctx, s); err != nil {
		t.Errorf("write %d failed, made again: %v", n, err)
	}
	checkStore(t, s, n)
	if session := must(t)(s.Named(ctx, "a")); err == nil && session.Info().Length != 2 {
		t.Errorf("write %d: length %d", n, session.Info().Length)
	}
	for _, key := range []feed.Key{ownKey, feed.DefaultManifest(s.KeyPair("late").Public()).Key()} {
		if session := must(t)(s.Keyed(ctx, key)); !session.Info().Writable {
			t.Errorf("write %d failed: the secret is lost", n)
		}
	}
	if err == nil {
		if e, ok, err := s.Find(ctx, ownKey); err != nil || !ok || e.Name != "own" || !e.Writable {
			t.Errorf("own feed: %+v, %v, %v", e, ok, err)
		}
	}
	closeStore(t, s)
	return ds.broken()
}

// checkStore opens and audits all that is listed, and checks that the ways to it agree.
func checkStore(t *testing.T, s *corestore.Store, n int) {
	t.Helper()
	ctx := t.Context()
	seen := make(map[feed.Key]bool)
	for _, e := range list(t, s) {
		if seen[e.Key] {
			t.Errorf("write %d failed: a feed is listed twice", n)
		}
		seen[e.Key] = true
		if stored, err := s.Stored(ctx, e.Key); err != nil || !stored {
			t.Errorf("write %d failed: listed and not stored: %v", n, err)
		}
		f, release, err := s.Resolve(ctx, e.DiscoveryKey)
		if err != nil {
			t.Errorf("write %d failed: a listed feed does not open: %v", n, err)
			continue
		}
		if err := f.Check(ctx); err != nil {
			t.Errorf("write %d failed: %v", n, err)
		}
		release()
		for _, name := range e.Names {
			if key, ok, err := s.LookupName(ctx, name.Name); err != nil || ok && key != e.Key {
				t.Errorf("write %d failed: name %q leads to %v, %v, %v", n, name.Name, key, ok, err)
			}
		}
	}
	for _, name := range []string{"a", "own", "late"} {
		if key, ok, err := s.LookupName(ctx, name); err != nil || ok && !seen[key] {
			t.Errorf("write %d failed: name %q leads to a feed that is not listed: %v", n, name, err)
		}
	}
}
