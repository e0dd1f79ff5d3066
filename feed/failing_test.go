package feed

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/p2pcore/p2pcore/internal/flattree"
)

// world is all that can be seen of a feed.
type world struct {
	Head   Head
	Blocks []string // "-" for one that is not stored
	Branch []string // nil: there is none
	User   string
	Frozen bool
}

func look(ctx context.Context, f *Feed) (w world, err error) {
	if ds, ok := f.storage.ds.(*brittleStore); ok {
		ds.calm(true)
		defer ds.calm(false)
	}
	s, err := f.Session(SessionOptions{Local: true})
	if err != nil {
		return w, err
	}
	defer s.Close()
	w.Head, w.Frozen = f.Info().Head, f.Info().Frozen
	if w.Blocks, err = lookAt(ctx, s); err != nil {
		return w, err
	}
	if slices.Contains(f.Branches(), "b") {
		b, err := s.Branch(ctx, "b", BranchOptions{})
		if err != nil {
			return w, err
		}
		defer b.Close()
		if w.Branch, err = lookAt(ctx, b); err != nil {
			return w, err
		}
	}
	user, err := s.UserData(ctx, "k")
	w.User = string(user)
	return w, err
}

// calm says whether operations fail.
func (s *brittleStore) calm(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.quiet = on
}

func lookAt(ctx context.Context, s *Session) ([]string, error) {
	blocks := []string{}
	for i := range s.Info().Length {
		b, err := s.GetLocal(ctx, i)
		switch {
		case errors.Is(err, ErrNotAvailable), errors.Is(err, ErrSnapshotNotAvailable):
			blocks = append(blocks, "-")
		case err != nil:
			return nil, err
		default:
			blocks = append(blocks, string(b))
		}
	}
	return blocks, nil
}

// act is one operation of a program.
type act struct {
	name string
	do   func(ctx context.Context, f *Feed) error
	lazy bool // not durable: a crash later may take it back in part
}

func withSession(do func(ctx context.Context, s *Session) error) func(context.Context, *Feed) error {
	return func(ctx context.Context, f *Feed) error {
		s, err := f.Session(SessionOptions{})
		if err != nil {
			return err
		}
		defer s.Close()
		return do(ctx, s)
	}
}

func appendAct(n, from int) act {
	return act{name: fmt.Sprintf("append %d", n), do: withSession(func(ctx context.Context, s *Session) error {
		var blocks [][]byte
		for i := range n {
			blocks = append(blocks, fmt.Appendf(nil, "block %d", from+i))
		}
		_, err := s.Append(ctx, blocks...)
		return err
	})}
}

func truncateAct(n uint64) act {
	return act{name: fmt.Sprintf("truncate to %d", n), do: withSession(func(ctx context.Context, s *Session) error {
		_, err := s.Truncate(ctx, n, TruncateOptions{})
		return err
	})}
}

func clearAct(r Range) act {
	return act{name: fmt.Sprintf("clear %d to %d", r.Start, r.End), do: withSession(func(ctx context.Context, s *Session) error {
		_, err := s.Clear(ctx, r)
		return err
	})}
}

func onBranch(name string, do func(ctx context.Context, s, b *Session) error) act {
	return act{name: name, do: withSession(func(ctx context.Context, s *Session) error {
		b, err := s.Branch(ctx, "b", BranchOptions{})
		if err != nil {
			return err
		}
		defer b.Close()
		return do(ctx, s, b)
	})}
}

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

func tryUpgrade(ctx context.Context, w, r *Feed) error {
	return tryPass(ctx, w, r, upgradeRequest(w, r))
}

func tryPass(ctx context.Context, w, r *Feed, req Request) error {
	proved, err := w.Prove(ctx, []Request{req})
	if err == nil {
		err = proved[0].Err
	}
	if err != nil {
		return err
	}
	applied, err := r.Apply(ctx, []*Proof{proved[0].Proof})
	if err != nil {
		return err
	}
	return applied[0].Err
}

func tryFetch(ctx context.Context, w, r *Feed, blocks ...uint64) error {
	for _, i := range blocks {
		if r.Has(Range{Start: i, End: i + 1}) {
			continue
		}
		nodes, err := r.Plan(ctx, []uint64{i})
		if err != nil {
			return err
		}
		if err := tryPass(ctx, w, r, Request{Fork: w.Info().Fork, Block: &BlockRequest{Index: i, Nodes: nodes[0]}}); err != nil {
			return err
		}
	}
	return nil
}

func tryFollow(ctx context.Context, w, r *Feed) error {
	proved, err := w.Prove(ctx, []Request{{Fork: w.Info().Fork, Upgrade: &UpgradeRequest{Length: w.Info().Length}}})
	if err == nil {
		err = proved[0].Err
	}
	if err != nil {
		return err
	}
	g, err := r.Reorg(ctx, proved[0].Proof)
	if err != nil {
		return err
	}
	for {
		want, more := g.Want()
		if !more {
			return g.Apply(ctx)
		}
		proved, err := w.Prove(ctx, []Request{{Fork: w.Info().Fork, Hash: &HashRequest{Index: flattree.Leaf(want.Start), Nodes: want.Nodes}}})
		if err == nil {
			err = proved[0].Err
		}
		if err == nil {
			err = g.Verify(ctx, proved[0].Proof)
		}
		if err != nil {
			return err
		}
	}
}

// readerProgram follows two writers of one key: the second is the first, truncated and grown again.
func readerProgram(t *testing.T) (key Key, program []act) {
	w, _ := writer(t, memoryStore(), 70)
	w2, s2 := writer(t, memoryStore(), 70)
	if _, err := s2.Truncate(t.Context(), 33, TruncateOptions{}); err != nil {
		t.Fatal(err)
	}
	appendBlocks(t, s2, testBlocks(300, 350)...)
	fetching := func(w *Feed, blocks ...uint64) act {
		return act{name: fmt.Sprintf("fetch %d", blocks), lazy: true, do: func(ctx context.Context, f *Feed) error { return tryFetch(ctx, w, f, blocks...) }}
	}
	return w.Key(), []act{
		{name: "upgrade", lazy: true, do: func(ctx context.Context, f *Feed) error {
			if f.Info().Length == w.Info().Length {
				return nil
			}
			return tryUpgrade(ctx, w, f)
		}},
		fetching(w, 0, 1, 2, 3, 31, 32, 33, 34, 64, 69), clearAct(Range{Start: 1, End: 33}), fetching(w, 5, 6),
		{name: "follow", do: func(ctx context.Context, f *Feed) error {
			if f.Info().Fork == w2.Info().Fork {
				return nil
			}
			return tryFollow(ctx, w2, f)
		}},
		fetching(w2, 0, 31, 33, 34, 70, 82), clearAct(Range{Start: 0, End: 83}), fetching(w2, 33, 40, 41),
	}
}

// TestEveryFailureLeavesBeforeOrAfter runs programs on a datastore whose n-th operation fails, for every n.
//
// Once: the operation that fails has changed nothing, trying it again does it, and what is stored at the end is
// what was to come out. For good, and then a crash: the feed opens, checks clean, and shows the world before or
// after the operation that failed.
func TestEveryFailureLeavesBeforeOrAfter(t *testing.T) {
	key, reading := readerProgram(t)
	pair := KeyPairFromSeed([32]byte{7})
	for _, atomic := range []bool{true, false} {
		for name, c := range map[string]struct {
			opts    Options
			program []act
		}{
			"writer": {Options{Prefix: testPrefix, KeyPair: &pair}, writerProgram(atomic)},
			"reader": {Options{Prefix: testPrefix, Key: &key}, reading},
		} {
			worlds, ops := worldsOf(t, atomic, c.opts, c.program)
			for _, dead := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, atomic %v, dead %v", name, atomic, dead), func(t *testing.T) {
					t.Parallel()
					step := 1
					if testing.Short() {
						step = 7
					}
					for n := 1; n <= ops; n += step {
						if dead {
							crashAt(t, n, atomic, c.opts, c.program, worlds)
						} else {
							failOnceAt(t, n, atomic, c.opts, c.program, worlds)
						}
						if t.Failed() {
							return
						}
					}
				})
			}
		}
	}
}

// worldsOf runs a program without failures. worlds[i] is the world before act i.
func worldsOf(t *testing.T, atomic bool, opts Options, program []act) (worlds []world, ops int) {
	t.Helper()
	ctx := t.Context()
	ds := newBrittleStore(atomic, 1)
	f, err := Create(ctx, ds, opts)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	start := ds.ops
	for i := 0; ; i++ {
		w, err := look(ctx, f)
		if err != nil {
			t.Fatal(err)
		}
		worlds = append(worlds, w)
		if i == len(program) {
			break
		}
		if err := program[i].do(ctx, f); err != nil {
			t.Fatalf("%s: %v", program[i].name, err)
		}
		ds.calm(true)
		if err := f.Check(ctx); err != nil {
			t.Fatalf("after %q: %v", program[i].name, err)
		}
		ds.calm(false)
	}
	assertNoGarbage(t, f)
	return worlds, ds.ops - start
}

func failOnceAt(t *testing.T, n int, atomic bool, opts Options, program []act, worlds []world) {
	t.Helper()
	ctx := t.Context()
	ds := newBrittleStore(atomic, uint64(n))
	f, err := Create(ctx, ds, opts)
	if err != nil {
		t.Fatal(err)
	}
	ds.mu.Lock()
	ds.failAt = ds.ops + n
	ds.mu.Unlock()
	for i, a := range program {
		if err := a.do(ctx, f); err != nil {
			if !errors.Is(err, errBrittle) {
				t.Errorf("operation %d, %q: %v", n, a.name, err)
				return
			}
			got, err := look(ctx, f)
			if err != nil {
				t.Errorf("operation %d, after %q failed: %v", n, a.name, err)
				return
			}
			if !a.lazy && !reflect.DeepEqual(got, worlds[i]) && !reflect.DeepEqual(got, worlds[i+1]) {
				t.Errorf("operation %d, after %q failed: %+v,\nbefore it %+v,\nafter it would be %+v", n, a.name, got, worlds[i], worlds[i+1])
				return
			}
			if reflect.DeepEqual(got, worlds[i]) || a.lazy {
				if err := a.do(ctx, f); err != nil {
					t.Errorf("operation %d, %q again: %v", n, a.name, err)
					return
				}
			}
		}
		if got, err := look(ctx, f); err != nil || !reflect.DeepEqual(got, worlds[i+1]) {
			t.Errorf("operation %d, after %q: %+v, %v;\nwant %+v", n, a.name, got, err, worlds[i+1])
			return
		}
	}
	if err := f.Close(); err != nil {
		t.Errorf("operation %d: close: %v", n, err)
		return
	}
	openAndLook(t, n, ds, opts, worlds[len(worlds)-1:])
}

func crashAt(t *testing.T, n int, atomic bool, opts Options, program []act, worlds []world) {
	t.Helper()
	ctx := t.Context()
	ds := newBrittleStore(atomic, uint64(n))
	f, err := Create(ctx, ds, opts)
	if err != nil {
		t.Fatal(err)
	}
	ds.mu.Lock()
	ds.failAt, ds.dead = ds.ops+n, true
	ds.mu.Unlock()
	for i, a := range program {
		err := a.do(ctx, f)
		ds.mu.Lock()
		broken := ds.ops >= ds.failAt
		ds.mu.Unlock()
		if !broken {
			continue
		}
		ds.crash()
		allowed := worlds[i : i+2]
		if err == nil {
			allowed = worlds[i+1 : i+2]
		}
		// What was not durable may be gone in part.
		lazy := a.lazy
		for j := i - 1; j >= 0 && program[j].lazy; j-- {
			lazy = true
		}
		if lazy {
			allowed = nil
		}
		openAndLook(t, n, ds, opts, allowed)
		return
	}
}

// openAndLook opens what a failure has left.
func openAndLook(t *testing.T, n int, ds *brittleStore, opts Options, allowed []world) {
	t.Helper()
	ctx := t.Context()
	f, err := Open(ctx, ds, Options{Prefix: opts.Prefix})
	if err != nil {
		t.Errorf("operation %d: open: %v", n, err)
		return
	}
	defer f.Close()
	if err := f.Check(ctx); err != nil {
		t.Errorf("operation %d: %v", n, err)
	}
	got, err := look(ctx, f)
	if err != nil {
		t.Errorf("operation %d: %v", n, err)
		return
	}
	if allowed != nil && !slices.ContainsFunc(allowed, func(w world) bool { return reflect.DeepEqual(got, w) }) {
		t.Errorf("operation %d: opened as %+v,\nallowed %+v", n, got, allowed)
	}
	// Where batches are not atomic, blocks of an append that never was may lie past the head. They are
	// written over.
	if len(f.Branches()) == 0 && ds.atomic {
		assertNoGarbage(t, f)
	}
}
