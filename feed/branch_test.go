package feed

import (
	"bytes"
	"errors"
	"testing"

	datastore "github.com/ipfs/go-datastore"
)

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
