package feed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"

	datastore "github.com/ipfs/go-datastore"

	"github.com/p2pcore/p2pcore/internal/brittle"
	"github.com/p2pcore/p2pcore/internal/flattree"
)

func TestTruncateShortensAndForks(t *testing.T) {
	onStores(t, func(t *testing.T, ds datastore.Batching) {
		f, s := writer(t, ds, 100)
		sub := f.Subscribe()
		info, err := s.Truncate(t.Context(), 60, TruncateOptions{})
		if err != nil || info.Length != 60 || info.Fork != 1 || info.ContiguousLength != 60 || info.LocalBlocks != 60 {
			t.Fatalf("truncate: %+v, %v", info, err)
		}
		c, err := sub.Next(t.Context())
		if err != nil || !c.Forked || c.Ancestors != 60 || len(c.Dropped) != 1 || c.Dropped[0] != (Range{Start: 60, End: 100}) || c.Head != info.Head {
			t.Errorf("told: %+v, %v", c, err)
		}
		if _, err := s.GetLocal(t.Context(), 60); !errors.Is(err, ErrOutOfRange) {
			t.Errorf("block 60: %v", err)
		}
		appendBlocks(t, s, []byte("other"))
		f = reopen(t, f, ds, Options{})
		s = session(t, f)
		if b, err := s.GetLocal(t.Context(), 60); string(b) != "other" || err != nil {
			t.Errorf("block 60: %q, %v", b, err)
		}
		if b, err := s.GetLocal(t.Context(), 59); !bytes.Equal(b, testBlock(59)) || err != nil {
			t.Errorf("block 59: %q, %v", b, err)
		}
	})
}

func TestTruncateRefuses(t *testing.T) {
	w, s := writer(t, memoryStore(), 10)
	ctx := t.Context()
	if _, err := s.Truncate(ctx, 11, TruncateOptions{}); !errors.Is(err, ErrOutOfRange) {
		t.Errorf("past the end: %v", err)
	}
	if _, err := s.Truncate(ctx, 5, TruncateOptions{Fork: 7}); err != nil || s.Info().Fork != 7 {
		t.Errorf("to fork 7: %v", err)
	}
	for _, fork := range []uint64{7, 3} {
		if _, err := s.Truncate(ctx, 5, TruncateOptions{Fork: fork}); !errors.Is(err, ErrStaleFork) {
			t.Errorf("to fork %d: %v", fork, err)
		}
	}
	if _, err := s.Truncate(ctx, 5, TruncateOptions{Fork: 7, Force: true}); err != nil {
		t.Errorf("to fork 7, forced: %v", err)
	}
	r := reader(t, memoryStore(), w)
	follow(t, w, r)
	if _, err := session(t, r).Truncate(ctx, 1, TruncateOptions{}); !errors.Is(err, ErrNotWritable) {
		t.Errorf("a reader: %v", err)
	}
	only, err := w.Session(SessionOptions{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := only.Truncate(ctx, 1, TruncateOptions{}); !errors.Is(err, ErrNotWritable) {
		t.Errorf("a read-only session: %v", err)
	}
}

// follow brings r to the fork and length of w as a replicator does.
func follow(t *testing.T, w, r *Feed) {
	t.Helper()
	req := Request{Fork: w.Info().Fork, Upgrade: &UpgradeRequest{Length: w.Info().Length}, Manifest: !r.Info().HasManifest}
	g, err := r.Reorg(t.Context(), prove(t, w, req))
	if err != nil {
		t.Fatal(err)
	}
	for {
		want, more := g.Want()
		if !more {
			break
		}
		asked := false
		for i := want.Start; i < want.End && !asked; i++ {
			proved, err := w.Prove(t.Context(), []Request{{Fork: w.Info().Fork, Hash: &HashRequest{Index: flattree.Leaf(i), Nodes: want.Nodes}}})
			if err != nil {
				t.Fatal(err)
			}
			if proved[0].Err == nil {
				asked = true
				if err := g.Verify(t.Context(), proved[0].Proof); err != nil {
					t.Fatal(err)
				}
			}
		}
		if !asked {
			t.Fatalf("nothing of %+v can be proven", want)
		}
	}
	if err := g.Apply(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestReorgFollowsTheWriterToItsFork(t *testing.T) {
	for _, sparse := range []bool{false, true} {
		for _, cut := range []int{0, 1, 21, 39, 40} {
			t.Run(fmt.Sprintf("sparse %v, cut %d", sparse, cut), func(t *testing.T) {
				ds := atomicStore{memoryStore()}
				w, s := writer(t, memoryStore(), 40)
				r := reader(t, ds, w)
				upgrade(t, w, r)
				for i := range uint64(40) {
					if !sparse || i%3 == 0 {
						fetch(t, w, r, i)
					}
				}
				if _, err := s.Truncate(t.Context(), uint64(cut), TruncateOptions{}); err != nil {
					t.Fatal(err)
				}
				for i := range 25 {
					appendBlocks(t, s, fmt.Appendf(nil, "new %d", i))
				}
				sub := r.Subscribe()
				before := r.Info()
				follow(t, w, r)
				c, ok := sub.Take()
				if !ok || !c.Forked || c.Ancestors > uint64(cut) || !sparse && c.Ancestors != uint64(cut) {
					t.Errorf("told: %+v", c)
				}
				if r.Info().Head != w.Info().Head || r.Info().Length == before.Length {
					t.Fatalf("head %+v, want %+v", r.Info().Head, w.Info().Head)
				}
				r = reopen(t, r, ds, Options{})
				for i := range uint64(cut + 25) {
					if !r.Has(Range{Start: i, End: i + 1}) {
						fetch(t, w, r, i)
					}
				}
				rs, ws := session(t, r), s
				for i := range uint64(cut + 25) {
					a, err1 := ws.GetLocal(t.Context(), i)
					b, err2 := rs.GetLocal(t.Context(), i)
					if err1 != nil || err2 != nil || !bytes.Equal(a, b) {
						t.Fatalf("block %d: %q, %v; want %q, %v", i, b, err2, a, err1)
					}
				}
				assertNoGarbage(t, r)
			})
		}
	}
}

// Who waits for a block that is truncated away is told; who waits for growth goes on waiting.
func TestTruncationEndsWaitingForWhatItTakesAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		w, ws := writer(t, memoryStore(), 30)
		r := reader(t, memoryStore(), w)
		upgrade(t, w, r)
		never := &deaf{}
		r.SetSource(never)
		s := session(t, r)
		lost, kept, ahead := make(chan error, 1), make(chan error, 1), make(chan error, 1)
		cancelled, cancel := context.WithCancel(ctx)
		get := func(out chan error, i uint64) {
			_, err := s.Get(cancelled, i)
			out <- err
		}
		go get(lost, 20)
		go get(kept, 3)
		go get(ahead, 100)
		synctest.Wait()
		if _, err := ws.Truncate(ctx, 10, TruncateOptions{}); err != nil {
			t.Fatal(err)
		}
		appendBlocks(t, ws, testBlocks(200, 230)...)
		follow(t, w, r)
		synctest.Wait()
		select {
		case err := <-lost:
			if !errors.Is(err, ErrSnapshotNotAvailable) {
				t.Errorf("block 20: %v", err)
			}
		default:
			t.Error("block 20 is still waited for")
		}
		select {
		case err := <-kept:
			if !errors.Is(err, ErrSnapshotNotAvailable) { // a sparse reader may have found an earlier ancestor
				t.Errorf("block 3: %v", err)
			}
		case err := <-ahead:
			t.Errorf("block 100: %v", err)
		default:
		}
		cancel()
		synctest.Wait()
	})
}

// deaf is a Source that never brings anything.
type deaf struct{}

func (*deaf) Fetch(ctx context.Context, _ Want) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

func (*deaf) Seek(ctx context.Context, _, _ uint64) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

func (*deaf) Upgrade(context.Context) (bool, error) { return false, nil }

func TestUserDataIsLocalAndPersists(t *testing.T) {
	onStores(t, func(t *testing.T, ds datastore.Batching) {
		ctx := t.Context()
		f, s := writer(t, ds, 1)
		for _, kv := range [][2]string{{"a", "1"}, {"b/c", ""}, {"ü", "3"}} {
			if err := s.SetUserData(ctx, kv[0], []byte(kv[1])); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.SetUserData(ctx, "a", nil); err != nil {
			t.Fatal(err)
		}
		s = session(t, reopen(t, f, ds, Options{}))
		got := map[string]string{}
		for d, err := range s.AllUserData(ctx) {
			if err != nil {
				t.Fatal(err)
			}
			got[d.Key] = string(d.Value)
		}
		if len(got) != 2 || got["ü"] != "3" {
			t.Errorf("all: %q", got)
		}
		if v, err := s.UserData(ctx, "b/c"); v == nil || len(v) != 0 || err != nil {
			t.Errorf("an empty value: %v, %v", v, err)
		}
		if err := s.SetUserData(ctx, "", nil); !errors.Is(err, ErrName) {
			t.Errorf("no key: %v", err)
		}
		if err := s.SetUserData(ctx, "k", make([]byte, MaxUserDataBytes+1)); !errors.Is(err, ErrBlockTooLarge) {
			t.Errorf("too large: %v", err)
		}
	})
}

// backup is a Source that knows peers: those confirm.
type backup struct {
	deaf
	asked int
}

func (b *backup) Confirm(_ context.Context, peers int) error {
	b.asked = peers
	return nil
}

func TestRecoveryRefusesToAppendUntilConfirmed(t *testing.T) {
	onStores(t, func(t *testing.T, ds datastore.Batching) {
		ctx := t.Context()
		f, _ := writer(t, ds, 10)
		if err := f.SetRecovering(ctx, true); err != nil {
			t.Fatal(err)
		}
		f = reopen(t, f, ds, Options{})
		s := session(t, f)
		if _, err := s.Append(ctx, []byte("x")); !errors.Is(err, ErrRecovering) {
			t.Errorf("append: %v", err)
		}
		if _, err := s.Truncate(ctx, 1, TruncateOptions{}); !errors.Is(err, ErrRecovering) {
			t.Errorf("truncate: %v", err)
		}
		if err := s.Recover(ctx, 1); !errors.Is(err, ErrNotAvailable) {
			t.Errorf("recover without peers: %v", err)
		}
		peers := &backup{}
		f.SetSource(peers)
		if err := s.Recover(ctx, 2); err != nil || peers.asked != 2 {
			t.Errorf("recover: %v", err)
		}
		appendBlocks(t, s, []byte("x"))
	})
}

func TestSetManifestOfAFeedOpenedByKey(t *testing.T) {
	ctx := t.Context()
	ds := atomicStore{memoryStore()}
	w, _ := writer(t, memoryStore(), 1)
	r := reader(t, ds, w)
	other := DefaultManifest(KeyPairFromSeed([32]byte{9}).Public())
	if err := r.SetManifest(ctx, other); !errors.Is(err, ErrKeyMismatch) {
		t.Errorf("a stranger's manifest: %v", err)
	}
	sub := r.Subscribe()
	if err := r.SetManifest(ctx, w.Manifest()); err != nil {
		t.Fatal(err)
	}
	if c, ok := sub.Take(); !ok || !c.Manifest {
		t.Errorf("told: %+v", c)
	}
	if r = reopen(t, r, ds, Options{}); !r.Info().HasManifest {
		t.Error("the manifest was not kept")
	}
}

// TestSetManifestTakesTurns is for the race detector: what writes looks at the manifest and at the tree while it has the turn.
func TestSetManifestTakesTurns(t *testing.T) {
	t.Parallel()
	pair := KeyPairFromSeed([32]byte{7})
	for range 20 {
		w, _ := writer(t, memoryStore(), 1)
		r := reader(t, memoryStore(), w)
		s := session(t, r)
		var group sync.WaitGroup
		for range 4 {
			group.Go(func() {
				for {
					_, err := s.Truncate(t.Context(), 0, TruncateOptions{KeyPair: &pair})
					if err == nil {
						return
					}
					if !errors.Is(err, ErrNotWritable) {
						t.Error(err)
						return
					}
				}
			})
		}
		group.Go(func() {
			if err := r.SetManifest(t.Context(), w.Manifest()); err != nil {
				t.Error(err)
			}
		})
		group.Wait()
		if got := r.Info().Fork; got != 4 {
			t.Errorf("fork %d, want 4", got)
		}
	}
}

func TestDiskUsageByKind(t *testing.T) {
	onStores(t, func(t *testing.T, ds datastore.Batching) {
		ctx := t.Context()
		f, s := writer(t, ds, 0)
		appendBlocks(t, s, make([]byte, 1000), make([]byte, 2000))
		if err := s.SetUserData(ctx, "k", make([]byte, 500)); err != nil {
			t.Fatal(err)
		}
		u, err := f.DiskUsage(ctx)
		if err != nil || u.Blocks < 3000 || u.Blocks > 3200 || u.Tree < 120 || u.Tree > 400 || u.User < 500 || u.User > 600 || u.State < 100 {
			t.Errorf("%+v, %v", u, err)
		}
		if total, err := f.DiskBytes(ctx); err != nil || total != u.Total() {
			t.Errorf("total %d, %v", total, err)
		}
	})
}

// A writer whose storage is older than what a peer has takes the peer's blocks and head, durably.
func TestWriterTakesALongerHead(t *testing.T) {
	ctx := t.Context()
	pair := KeyPairFromSeed([32]byte{7})
	w, ws := writer(t, memoryStore(), 10)
	ds := brittle.New(true, 1)
	old, err := Create(ctx, ds, Options{Prefix: testPrefix, KeyPair: &pair})
	if err != nil {
		t.Fatal(err)
	}
	appendBlocks(t, session(t, old), testBlocks(0, 4)...)
	upgrade(t, w, old)
	if old.Info().Head != w.Info().Head {
		t.Fatalf("head %+v, want %+v", old.Info().Head, w.Info().Head)
	}
	ds.Crash()
	f, err := Open(ctx, ds, Options{Prefix: testPrefix})
	if err != nil {
		t.Fatal(err)
	}
	checkAtEnd(t, f)
	if f.Info().Head != w.Info().Head {
		t.Errorf("after a crash: head %+v, want %+v", f.Info().Head, w.Info().Head)
	}
	appendBlocks(t, session(t, f), []byte("next"))
	appendBlocks(t, ws, []byte("next"))
	if f.Info().Head != w.Info().Head {
		t.Errorf("what it appends then: head %+v, want %+v", f.Info().Head, w.Info().Head)
	}
}
