package feed

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/p2pcore/p2pcore/internal/brittle"
)

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

// TestAtomIsNeverHalf fails each operation of a flush to two feeds. One of the feeds goes on, then there is a
// crash: both are as before, or both as after.
func TestAtomIsNeverHalf(t *testing.T) {
	pair := KeyPairFromSeed([32]byte{7})
	prefixes := []string{"/00000001", "/00000002"}
	run := func(n int, dead, reopen bool, goOn int) (failed bool) {
		ctx := t.Context()
		ds := brittle.New(true, uint64(n))
		var feeds []*Feed
		for _, prefix := range prefixes {
			f, err := Create(ctx, ds, Options{Prefix: prefix, KeyPair: &pair})
			if err != nil {
				t.Fatal(err)
			}
			appendBlocks(t, session(t, f), testBlocks(0, 70)...)
			feeds = append(feeds, f)
		}
		a := NewAtom()
		for _, f := range feeds {
			s, err := a.Session(f, SessionOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Truncate(ctx, 66, TruncateOptions{}); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Append(ctx, []byte("of the atom")); err != nil {
				t.Fatal(err)
			}
		}
		ds.Fail(n, dead)
		err := a.Flush(ctx)
		if failed = ds.Broken(); !failed {
			return false
		}
		for _, f := range feeds {
			if want := err == nil; (f.Info().Fork == 1) != want {
				t.Fatalf("operation %d: %v, and %+v", n, err, f.Info())
			}
		}
		if !dead && goOn < len(feeds) {
			ds.Fail(1+n%4, n%2 == 0)
			_, _ = session(t, feeds[goOn]).Append(ctx, []byte("more"))
		}
		if !reopen {
			ds.Crash()
		}
		ds.Heal()
		var forks []uint64
		for _, prefix := range prefixes {
			f, err := Open(ctx, ds, Options{Prefix: prefix})
			if err != nil {
				t.Fatalf("operation %d: %v", n, err)
			}
			if err := f.Check(ctx); err != nil {
				t.Errorf("operation %d: %v", n, err)
			}
			forks = append(forks, f.Info().Fork)
		}
		if forks[0] != forks[1] || err == nil && forks[0] != 1 {
			t.Errorf("operation %d, dead %v, feed %d goes on: %v, and forks %d", n, dead, goOn, err, forks)
		}
		return true
	}
	for _, dead := range []bool{true, false} {
		for _, reopen := range []bool{true, false} {
			for goOn := range 3 {
				for n := 1; run(n, dead, reopen, goOn); n++ {
				}
			}
		}
	}
}
