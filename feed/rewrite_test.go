package feed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"

	datastore "github.com/ipfs/go-datastore"

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

func TestSessionTimeoutAndLocal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := writer(t, memoryStore(), 3)
		r := reader(t, memoryStore(), w)
		upgrade(t, w, r)
		r.SetSource(&deaf{})
		s, err := r.Session(SessionOptions{Timeout: 5e9})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Get(t.Context(), 1); !errors.Is(err, ErrTimeout) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("get: %v", err)
		}
		if _, _, err := s.Seek(t.Context(), 1); !errors.Is(err, ErrTimeout) {
			t.Errorf("seek: %v", err)
		}
		local, err := r.Session(SessionOptions{Local: true})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := local.Get(t.Context(), 1); !errors.Is(err, ErrNotAvailable) {
			t.Errorf("local get: %v", err)
		}
		if _, err := local.Get(t.Context(), 9); !errors.Is(err, ErrOutOfRange) {
			t.Errorf("local get past the end: %v", err)
		}
	})
}

func TestBranchIsPrivateAndIsCommitted(t *testing.T) {
	onStores(t, func(t *testing.T, ds datastore.Batching) {
		ctx := t.Context()
		f, s := writer(t, ds, 10)
		b, err := s.Branch(ctx, "draft", BranchOptions{})
		if err != nil {
			t.Fatal(err)
		}
		appendBlocks(t, b, []byte("one"), []byte("two"), []byte("three"))
		if f.Info().Length != 10 || b.Info().Length != 13 || !b.Info().Writable {
			t.Fatalf("feed %d, branch %d", f.Info().Length, b.Info().Length)
		}
		f = reopen(t, f, ds, Options{})
		s = session(t, f)
		if got := f.Branches(); len(got) != 1 || got[0] != "draft" {
			t.Fatalf("branches %q", got)
		}
		if b, err = s.Branch(ctx, "draft", BranchOptions{}); err != nil || b.Info().Length != 13 {
			t.Fatalf("reopened: %+v, %v", b.Info(), err)
		}
		// A part, then the rest.
		if info, err := s.Commit(ctx, b, CommitOptions{Length: 11}); err != nil || info.Length != 11 {
			t.Fatalf("commit of a part: %+v, %v", info, err)
		}
		if info, err := s.Commit(ctx, b, CommitOptions{}); err != nil || info.Length != 13 {
			t.Fatalf("commit: %+v, %v", info, err)
		}
		for i, want := range []string{"one", "two", "three"} {
			if got, err := s.GetLocal(ctx, uint64(10+i)); string(got) != want || err != nil {
				t.Errorf("block %d: %q, %v", 10+i, got, err)
			}
		}
		// Another length of the feed is no conflict as long as the blocks are the same.
		appendBlocks(t, b, []byte("four"))
		appendBlocks(t, s, []byte("four"), []byte("five"))
		if _, err := s.Commit(ctx, b, CommitOptions{}); !errors.Is(err, ErrDiverged) {
			t.Errorf("commit of a shorter branch: %v", err)
		}
		appendBlocks(t, b, []byte("5"), []byte("6"))
		if _, err := s.Commit(ctx, b, CommitOptions{}); !errors.Is(err, ErrDiverged) || f.Info().Length != 15 {
			t.Errorf("commit of a branch that differs: %v", err)
		}
		if _, err := s.Branch(ctx, "draft", BranchOptions{Checkout: new(uint64)}); !errors.Is(err, ErrExists) {
			t.Errorf("checkout of a branch that exists: %v", err)
		}
	})
}

func TestBranchOfAReaderNeedsNoKey(t *testing.T) {
	ctx := t.Context()
	w, _ := writer(t, memoryStore(), 5)
	r := reader(t, memoryStore(), w)
	upgrade(t, w, r)
	s := session(t, r)
	b, err := s.Branch(ctx, "mine", BranchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	appendBlocks(t, b, []byte("x"))
	r.SetSource(&pipe{from: w, to: r})
	if got, err := b.Get(ctx, 2); !bytes.Equal(got, testBlock(2)) || err != nil {
		t.Errorf("block 2 through the branch: %q, %v", got, err)
	}
	if _, err := s.Commit(ctx, b, CommitOptions{}); !errors.Is(err, ErrNotWritable) {
		t.Errorf("commit: %v", err)
	}
}

func TestAtomChangesSeveralFeedsAtOnce(t *testing.T) {
	ctx := t.Context()
	ds := atomicStore{memoryStore()}
	var feeds []*Feed
	for i := range 3 {
		pair := KeyPairFromSeed([32]byte{byte(i)})
		f, err := Create(ctx, ds, Options{Prefix: fmt.Sprintf("/%08x", i+1), KeyPair: &pair})
		if err != nil {
			t.Fatal(err)
		}
		checkAtEnd(t, f)
		feeds = append(feeds, f)
		appendBlocks(t, session(t, f), testBlocks(0, 10)...)
	}
	a := NewAtom()
	for i, f := range feeds {
		s, err := a.Session(f, SessionOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if i == 1 {
			if _, err := s.Truncate(ctx, 4, TruncateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		appendBlocks(t, s, []byte("new"))
		if err := s.SetUserData(ctx, "k", []byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
		if f.Info().Length != 10 {
			t.Fatal("seen before the flush")
		}
	}
	sub := feeds[1].Subscribe()
	if err := a.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if c, ok := sub.Take(); !ok || !c.Forked || c.Ancestors != 4 || c.Head.Length != 5 {
		t.Errorf("told: %+v", c)
	}
	for i, f := range feeds {
		want := uint64(11)
		if i == 1 {
			want = 5
		}
		s := session(t, f)
		if f.Info().Length != want {
			t.Errorf("feed %d: length %d", i, f.Info().Length)
		}
		if v, err := s.UserData(ctx, "k"); err != nil || len(v) != 1 || v[0] != byte(i) {
			t.Errorf("feed %d: user data %q, %v", i, v, err)
		}
	}
	if err := a.Flush(ctx); !errors.Is(err, ErrClosed) {
		t.Errorf("second flush: %v", err)
	}
}

func TestAtomFailsWhole(t *testing.T) {
	ctx := t.Context()
	ds := atomicStore{memoryStore()}
	w, ws := writer(t, ds, 5)
	pair := KeyPairFromSeed([32]byte{1})
	other, err := Create(ctx, ds, Options{Prefix: "/00000002", KeyPair: &pair})
	if err != nil {
		t.Fatal(err)
	}
	checkAtEnd(t, other)
	a := NewAtom()
	defer a.Discard()
	for _, f := range []*Feed{w, other} {
		s, err := a.Session(f, SessionOptions{})
		if err != nil {
			t.Fatal(err)
		}
		appendBlocks(t, s, []byte("x"))
	}
	appendBlocks(t, ws, []byte("between"))
	if err := a.Flush(ctx); !errors.Is(err, ErrDiverged) {
		t.Errorf("flush: %v", err)
	}
	if w.Info().Length != 6 || other.Info().Length != 0 {
		t.Errorf("lengths %d and %d after a failed flush", w.Info().Length, other.Info().Length)
	}
	_, s := writer(t, memoryStore(), 1)
	b := NewAtom()
	defer b.Discard()
	bs, err := b.Session(s.Feed(), SessionOptions{})
	if err != nil {
		t.Fatal(err)
	}
	appendBlocks(t, bs, []byte("x"))
	if err := b.Flush(ctx); !errors.Is(err, ErrNotAtomic) {
		t.Errorf("flush where batches are not atomic: %v", err)
	}
}

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

// H1 of replication.md: JavaScript's clear deletes nodes that other blocks need. Any block that is left must
// be provable, and so must the length to readers that the writer claims to serve, whatever is cleared.
func TestClearKeepsWhatProvesTheRest(t *testing.T) {
	ctx := t.Context()
	for _, writable := range []bool{true, false} {
		for length := 1; length <= 70; length += 3 {
			w, _ := writer(t, memoryStore(), length)
			f := w
			if !writable {
				f = reader(t, memoryStore(), w)
				upgrade(t, w, f)
				for i := range uint64(length) {
					fetch(t, w, f, i)
				}
			}
			s := session(t, f)
			for start := 0; start < length; start += 1 + length/5 {
				end := start + 1 + (start*7)%5
				if _, err := s.Clear(ctx, Range{Start: uint64(start), End: uint64(end)}); err != nil {
					t.Fatal(err)
				}
			}
			for n := range uint64(length) {
				can, err := f.CanUpgrade(ctx, n)
				if err != nil || writable && !can {
					t.Fatalf("length %d: cannot upgrade a reader of length %d: %v", length, n, err)
				}
				if !can {
					continue
				}
				if p := prove(t, f, Request{Upgrade: &UpgradeRequest{Start: n, Length: uint64(length) - n}}); p.Upgrade == nil {
					t.Fatalf("length %d: no upgrade from %d", length, n)
				}
			}
			fresh := reader(t, memoryStore(), w)
			upgrade(t, f, fresh)
			for i := range uint64(length) {
				if f.Has(Range{Start: i, End: i + 1}) {
					fetch(t, f, fresh, i)
				}
			}
		}
	}
}

// A mirror that clears everything keeps the tops of the pages only, can have it all again, and serve it.
func TestClearedMirrorFetchesAgain(t *testing.T) {
	ctx := t.Context()
	const length = 1000
	ds := atomicStore{memoryStore()}
	w, _ := writer(t, memoryStore(), length)
	r := reader(t, ds, w)
	upgrade(t, w, r)
	for i := range uint64(length) {
		fetch(t, w, r, i)
	}
	s := session(t, r)
	before, err := r.DiskBytes(ctx)
	if err != nil {
		t.Fatal(err)
	}
	cleared, err := s.Clear(ctx, Range{Start: 0, End: length})
	if err != nil || cleared.Blocks != length {
		t.Fatalf("clear: %+v, %v", cleared, err)
	}
	after, err := r.DiskBytes(ctx)
	if err != nil || after > before/5 {
		t.Errorf("%d bytes are stored, were %d; %v", after, before, err)
	}
	if info := s.Info(); info.Length != length || info.LocalBlocks != 0 || info.ContiguousLength != 0 {
		t.Errorf("info %+v", info)
	}
	r = reopen(t, r, ds, Options{})
	p := &pipe{from: w, to: r}
	r.SetSource(p)
	s = session(t, r)
	for i := range uint64(length) {
		if b, err := s.Get(ctx, i); !bytes.Equal(b, testBlock(int(i))) || err != nil {
			t.Fatalf("block %d: %q, %v", i, b, err)
		}
	}
	again := reader(t, memoryStore(), w)
	upgrade(t, r, again)
	for i := range uint64(length) {
		fetch(t, r, again, i)
	}
}

func TestMarkAndSweep(t *testing.T) {
	onStores(t, func(t *testing.T, ds datastore.Batching) {
		ctx := t.Context()
		f, s := writer(t, ds, 100)
		if _, err := f.Sweep(ctx); !errors.Is(err, ErrNotMarking) {
			t.Errorf("sweep before marking: %v", err)
		}
		if err := f.StartMarking(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Get(ctx, 7); err != nil {
			t.Fatal(err)
		}
		if err := f.Mark(Range{Start: 20, End: 30}); err != nil {
			t.Fatal(err)
		}
		f = reopen(t, f, ds, Options{})
		s = session(t, f)
		if _, err := s.Get(ctx, 99); err != nil {
			t.Fatal(err)
		}
		cleared, err := f.Sweep(ctx)
		if err != nil || cleared.Blocks != 88 {
			t.Errorf("swept %+v, %v", cleared, err)
		}
		for i := range uint64(100) {
			if want := i == 7 || i >= 20 && i < 30 || i == 99; s.Has(i) != want {
				t.Errorf("block %d is stored: %v", i, !want)
			}
		}
		if err := f.Mark(Range{Start: 0, End: 1}); !errors.Is(err, ErrNotMarking) {
			t.Errorf("mark after the sweep: %v", err)
		}
	})
}

// A crash loses the marks; nothing may be swept by what is left of them.
func TestMarksDoNotOutliveACrash(t *testing.T) {
	ds := newBrittleStore(true, 1)
	f, _ := writer(t, ds, 10)
	if err := f.StartMarking(t.Context()); err != nil {
		t.Fatal(err)
	}
	ds.crash()
	again, err := Open(t.Context(), ds, Options{Prefix: testPrefix})
	if err != nil {
		t.Fatal(err)
	}
	checkAtEnd(t, again)
	if _, err := again.Sweep(t.Context()); !errors.Is(err, ErrNotMarking) {
		t.Errorf("sweep: %v", err)
	}
}

func TestPurgeLeavesNothing(t *testing.T) {
	onStores(t, func(t *testing.T, ds datastore.Batching) {
		ctx := t.Context()
		f, s := writer(t, ds, 200)
		if _, err := s.Branch(ctx, "b", BranchOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := s.SetUserData(ctx, "k", []byte("v")); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Truncate(ctx, 100, TruncateOptions{}); err != nil {
			t.Fatal(err)
		}
		pair := KeyPairFromSeed([32]byte{7})
		fork := f.Info().Fork
		if err := f.Purge(ctx); err != nil {
			t.Fatal(err)
		}
		results, err := ds.Query(ctx, allKeys)
		if err != nil {
			t.Fatal(err)
		}
		if rest, err := results.Rest(); err != nil || len(rest) > 0 {
			t.Errorf("%d records are left, such as %v; %v", len(rest), rest, err)
		}
		if _, err := Open(ctx, ds, Options{Prefix: testPrefix}); !errors.Is(err, ErrNotFound) {
			t.Errorf("open: %v", err)
		}
		if err := Purge(ctx, ds, testPrefix); err != nil {
			t.Errorf("purge of nothing: %v", err)
		}
		again := create(t, ds, Options{KeyPair: &pair, Fork: fork + 1})
		appendBlocks(t, session(t, again), []byte("x"))
		if again.Info().Fork != fork+1 {
			t.Errorf("fork %d", again.Info().Fork)
		}
	})
}

// A purge that is interrupted anywhere leaves nothing that opens, or all.
func TestPurgeIsNeverHalf(t *testing.T) {
	for _, atomic := range []bool{true, false} {
		for at := 1; ; at++ {
			ds := newBrittleStore(atomic, uint64(at))
			f, _ := writer(t, ds, 20)
			ds.failAt, ds.dead = ds.ops+at, true
			err := f.Purge(t.Context())
			done := ds.ops < ds.failAt
			ds.failAt = -1
			ds.crash()
			again, openErr := Open(t.Context(), ds, Options{Prefix: testPrefix})
			switch {
			case openErr == nil:
				if err := again.Check(t.Context()); err != nil || again.Info().Length != 20 {
					t.Errorf("operation %d: half a feed: %v", at, err)
				}
				again.Close()
			case !errors.Is(openErr, ErrNotFound):
				t.Errorf("operation %d: open: %v", at, openErr)
			}
			if err := Purge(t.Context(), ds, testPrefix); err != nil {
				t.Fatal(err)
			}
			if len(ds.live) > 0 {
				t.Errorf("operation %d: %d records are left", at, len(ds.live))
			}
			if done {
				if err != nil {
					t.Errorf("purge: %v", err)
				}
				break
			}
		}
	}
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

func TestSessionHasItsOwnKeyPair(t *testing.T) {
	ctx := t.Context()
	pair := KeyPairFromSeed([32]byte{7})
	w, _ := writer(t, memoryStore(), 3)
	r := reader(t, memoryStore(), w)
	upgrade(t, w, r)
	own, err := r.Session(SessionOptions{KeyPair: &pair})
	if err != nil || !own.Info().Writable {
		t.Fatalf("session with a key pair: %v", err)
	}
	appendBlocks(t, own, []byte("x"))
	if _, err := session(t, r).Append(ctx, []byte("y")); !errors.Is(err, ErrNotWritable) {
		t.Errorf("session without: %v", err)
	}
	stranger := KeyPairFromSeed([32]byte{8})
	if _, err := r.Session(SessionOptions{KeyPair: &stranger}); !errors.Is(err, ErrNotWritable) {
		t.Errorf("a stranger's: %v", err)
	}
	if _, err := session(t, r).AppendWith(ctx, [][]byte{[]byte("z")}, AppendOptions{KeyPair: &pair}); err != nil {
		t.Errorf("append with a key pair: %v", err)
	}
}

func TestAppendWithConditions(t *testing.T) {
	ctx := t.Context()
	f, s := writer(t, memoryStore(), 3)
	head := f.Info().Head
	if info, err := s.AppendWith(ctx, testBlocks(0, 3), AppendOptions{MaxLength: 5}); err != nil || info.Length != 3 {
		t.Errorf("past the greatest length: %+v, %v", info, err)
	}
	if info, err := s.AppendWith(ctx, testBlocks(0, 1), AppendOptions{MaxLength: 5, If: &head}); err != nil || info.Length != 4 {
		t.Errorf("if the head is the head: %+v, %v", info, err)
	}
	if _, err := s.AppendWith(ctx, testBlocks(0, 1), AppendOptions{If: &head}); !errors.Is(err, ErrDiverged) {
		t.Errorf("if the head is another: %v", err)
	}
}

func TestExclusiveSessionsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		f, s := writer(t, memoryStore(), 1)
		first, err := f.Exclusive(ctx, SessionOptions{})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan *Session, 1)
		go func() {
			second, err := f.Exclusive(ctx, SessionOptions{})
			if err != nil {
				t.Error(err)
			}
			done <- second
		}()
		synctest.Wait()
		appendBlocks(t, s, []byte("others are not kept from it"))
		select {
		case <-done:
			t.Fatal("two exclusive sessions at once")
		default:
		}
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
		second := <-done
		defer second.Close()
		timed, cancel := context.WithCancel(ctx)
		cancel()
		if _, err := f.Exclusive(timed, SessionOptions{}); !errors.Is(err, context.Canceled) {
			t.Errorf("with a context that has ended: %v", err)
		}
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

// A writer whose storage is older than what a peer has takes the peer's blocks and head, durably.
func TestWriterTakesALongerHead(t *testing.T) {
	ctx := t.Context()
	pair := KeyPairFromSeed([32]byte{7})
	w, ws := writer(t, memoryStore(), 10)
	ds := newBrittleStore(true, 1)
	old, err := Create(ctx, ds, Options{Prefix: testPrefix, KeyPair: &pair})
	if err != nil {
		t.Fatal(err)
	}
	appendBlocks(t, session(t, old), testBlocks(0, 4)...)
	upgrade(t, w, old)
	if old.Info().Head != w.Info().Head {
		t.Fatalf("head %+v, want %+v", old.Info().Head, w.Info().Head)
	}
	ds.crash()
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

// TestReadingIsNoEndOfASession: what is read through a session takes snapshots of it, and their end is not the session's.
func TestReadingIsNoEndOfASession(t *testing.T) {
	ctx := t.Context()
	f, _ := writer(t, memoryStore(), 3)
	closed := 0
	s, err := f.Session(SessionOptions{OnClose: func() { closed++ }})
	if err != nil {
		t.Fatal(err)
	}
	alone, err := f.Exclusive(ctx, SessionOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*Session{s, alone} {
		for range s.Blocks(ctx, Range{End: 3}, ReadOptions{}) {
		}
		r, err := s.NewReader(ctx, ReaderOptions{})
		if err != nil {
			t.Fatal(err)
		}
		snapshot, err := s.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(r.Close(), snapshot.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if closed != 0 {
		t.Errorf("OnClose was called %d times while the session is open", closed)
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := f.Exclusive(gone, SessionOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("a second exclusive session: %v", err)
	}
	if err := errors.Join(s.Close(), alone.Close()); err != nil {
		t.Fatal(err)
	}
	if closed != 1 {
		t.Errorf("OnClose was called %d times", closed)
	}
	alone, err = f.Exclusive(ctx, SessionOptions{})
	if err != nil {
		t.Fatal(err)
	}
	alone.Close()
}

// TestAtomWithAForcedTruncation: also where the fork stays, blocks below the old length are others.
func TestAtomWithAForcedTruncation(t *testing.T) {
	ctx := t.Context()
	ds := atomicStore{memoryStore()}
	f, s := writer(t, ds, 5)
	if _, err := s.Truncate(ctx, 4, TruncateOptions{}); err != nil {
		t.Fatal(err)
	}
	before, err := s.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	atom := NewAtom()
	a, err := atom.Session(f, SessionOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Truncate(ctx, 2, TruncateOptions{Fork: 1, Force: true}); err != nil {
		t.Fatal(err)
	}
	appendBlocks(t, a, nil, []byte("other"))
	if b, err := a.Get(ctx, 2); err != nil || len(b) != 0 {
		t.Errorf("an empty block in an atom: %q, %v", b, err)
	}
	if err := atom.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if b, err := before.Get(ctx, 3); err != nil || !bytes.Equal(b, testBlock(3)) {
		t.Errorf("the snapshot reads %q, %v", b, err)
	}
	if err := errors.Join(before.Close(), f.Check(ctx)); err != nil {
		t.Error(err)
	}
	f = reopen(t, f, ds, Options{})
	if b, err := session(t, f).Get(ctx, 3); err != nil || string(b) != "other" || f.Info().Length != 4 {
		t.Errorf("after reopening: %q, %v, length %d", b, err, f.Info().Length)
	}
	if err := f.Check(ctx); err != nil {
		t.Error(err)
	}
}

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
