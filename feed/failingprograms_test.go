package feed

import (
	"context"
	"errors"
	"slices"
	"testing"
)

// writerProgram uses everything that a writer can do.
func writerProgram(atomic bool) []act {
	program := []act{
		appendAct(70, 0), appendAct(3, 100), truncateAct(65), appendAct(10, 200), clearAct(Range{Start: 3, End: 40}),
		{name: "begin a branch", do: withSession(func(ctx context.Context, s *Session) error {
			at := uint64(70)
			b, err := s.Branch(ctx, "b", BranchOptions{Checkout: &at, Overwrite: true})
			if err != nil {
				return err
			}
			return b.Close()
		})},
		onBranch("append to the branch", func(ctx context.Context, _, b *Session) error {
			_, err := b.Append(ctx, []byte("x"), []byte("y"), []byte("z"))
			return err
		}),
		truncateAct(68),
		{name: "truncate under a snapshot", do: withSession(func(ctx context.Context, s *Session) error {
			snap, err := s.Snapshot()
			if err != nil {
				return err
			}
			if _, err := s.Truncate(ctx, 50, TruncateOptions{}); err != nil {
				return errors.Join(err, snap.Close())
			}
			_, err = snap.GetLocal(ctx, 66)
			return errors.Join(err, snap.Close())
		})},
		onBranch("truncate the branch", func(ctx context.Context, _, b *Session) error {
			_, err := b.Truncate(ctx, 71, TruncateOptions{})
			return err
		}),
		onBranch("commit a part of the branch", func(ctx context.Context, s, b *Session) error {
			_, err := s.Commit(ctx, b, CommitOptions{Length: 60})
			return err
		}),
		onBranch("commit the branch", func(ctx context.Context, s, b *Session) error {
			_, err := s.Commit(ctx, b, CommitOptions{})
			return err
		}),
		onBranch("append to the branch again", func(ctx context.Context, _, b *Session) error {
			_, err := b.Append(ctx, []byte("more"))
			return err
		}),
		{name: "user data", do: withSession(func(ctx context.Context, s *Session) error {
			return s.SetUserData(ctx, "k", []byte("value"))
		})},
		{name: "delete the branch", do: func(ctx context.Context, f *Feed) error { return f.DeleteBranch(ctx, "b") }},
		truncateAct(0), appendAct(5, 300), clearAct(Range{Start: 0, End: 5}), appendAct(2, 400),
	}
	if atomic {
		program = slices.Insert(program, 5, act{name: "atom", do: func(ctx context.Context, f *Feed) error {
			a := NewAtom()
			defer a.Discard()
			s, err := a.Session(f, SessionOptions{})
			if err != nil {
				return err
			}
			if _, err := s.Truncate(ctx, 72, TruncateOptions{}); err != nil {
				return err
			}
			if _, err := s.Append(ctx, []byte("atom")); err != nil {
				return err
			}
			if err := s.SetUserData(ctx, "k", []byte("of the atom")); err != nil {
				return err
			}
			return a.Flush(ctx)
		}})
	}
	return program
}

// readerProgram follows two writers of one key: the second is the first, truncated and grown again.
func readerProgram(t *testing.T) *failing {
	w, _ := writer(t, memoryStore(), 70)
	w2, s2 := writer(t, memoryStore(), 70)
	if _, err := s2.Truncate(t.Context(), 33, TruncateOptions{}); err != nil {
		t.Fatal(err)
	}
	appendBlocks(t, s2, testBlocks(300, 350)...)
	key := w.Key()
	return &failing{step: 1, opts: Options{Key: &key}, after: goOnWith(w2, 1, 31, 40, 69), program: []act{
		upgradeAct(w), fetchAct(w, 0, 1, 2, 3, 31, 32, 33, 34, 64, 69), clearAct(Range{Start: 1, End: 33}), fetchAct(w, 5, 6),
		followAct(w2), fetchAct(w2, 0, 31, 33, 34, 70, 82), clearAct(Range{Start: 0, End: 83}), fetchAct(w2, 33, 40, 41),
	}}
}

// wideProgram is of a feed whose bits are in several pages.
func wideProgram(t *testing.T) *failing {
	w, ws := writer(t, memoryStore(), 0)
	w2, s2 := writer(t, memoryStore(), 0)
	for _, s := range []*Session{ws, s2} {
		appendBlocks(t, s, make([][]byte, 70_000)...)
	}
	if _, err := s2.Truncate(t.Context(), 40_000, TruncateOptions{}); err != nil {
		t.Fatal(err)
	}
	appendBlocks(t, s2, slices.Repeat([][]byte{[]byte("x")}, 30_000)...)
	key := w.Key()
	wide := clearAct(Range{Start: 1, End: 65_536})
	wide.wide = true
	follow := followAct(w2)
	follow.wide = true
	return &failing{step: 3, opts: Options{Key: &key}, after: goOnWith(w2, 1, 39_999, 50_000), program: []act{
		upgradeAct(w), fetchAct(w, 0, 1, 2, 32_767, 32_768, 50_000, 65_535, 65_536, 69_999), wide,
		fetchAct(w, 5, 33_000, 50_000), follow, fetchAct(w2, 50_000, 69_999), clearAct(Range{Start: 0, End: 70_000}),
	}}
}
