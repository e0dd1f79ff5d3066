package feed

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strconv"
	"testing"

	"github.com/p2pcore/p2pcore/internal/brittle"
	"github.com/p2pcore/p2pcore/internal/flattree"
)

// world is all that can be seen of a feed.
type world struct {
	Head   Head
	Blocks map[uint64]string // that are stored
	Branch map[uint64]string // nil: there is none
	User   string
	Frozen bool
}

func look(ctx context.Context, f *Feed) (w world, err error) {
	if ds, ok := f.storage.ds.(*brittle.Store); ok {
		ds.Calm(true)
		defer ds.Calm(false)
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

func lookAt(ctx context.Context, s *Session) (map[uint64]string, error) {
	blocks := map[uint64]string{}
	for i, length := uint64(0), s.Info().Length; i < length; i++ {
		if s.line == nil && i%64 == 0 { // most of a wide feed is not there
			if next, ok := s.feed.nextRange(Range{Start: i, End: i + 64}); !ok || next.Start >= i+64 {
				i += 63
				continue
			}
		}
		if !s.Has(i) {
			continue
		}
		b, err := s.GetLocal(ctx, i)
		switch {
		case errors.Is(err, ErrNotAvailable): // lost in a crash
		case err != nil:
			return nil, err
		default:
			blocks[i] = string(b)
		}
	}
	return blocks, nil
}

// between reports whether w has a head of one of the worlds, and of each block what one of them has. pieces
// are what the blocks may be made of: each as in some of the worlds, or not there.
func (w world) between(worlds []world) bool {
	head := slices.ContainsFunc(worlds, func(o world) bool { return o.Head == w.Head && o.User == w.User })
	for i, b := range w.Blocks {
		head = head && slices.ContainsFunc(worlds, func(o world) bool { c, ok := o.Blocks[i]; return ok && b == c })
	}
	return head
}

// act is one operation of a program.
type act struct {
	name string
	do   func(ctx context.Context, f *Feed) error
	lazy bool // not durable: a crash later may take it back in part
	// bits of several pages change: where batches are not atomic, a crash meanwhile may do it in part
	wide bool
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
	proved, err := w.Prove(ctx, []Request{{Fork: w.Info().Fork, Upgrade: &UpgradeRequest{Length: w.Info().Length}, Manifest: true}})
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

func upgradeAct(w *Feed) act {
	return act{name: "upgrade", lazy: true, do: func(ctx context.Context, f *Feed) error {
		if f.Info().Length == w.Info().Length {
			return nil
		}
		return tryUpgrade(ctx, w, f)
	}}
}

func fetchAct(w *Feed, blocks ...uint64) act {
	return act{name: fmt.Sprintf("fetch %d", blocks), lazy: true, do: func(ctx context.Context, f *Feed) error { return tryFetch(ctx, w, f, blocks...) }}
}

func followAct(w *Feed) act {
	return act{name: "follow", do: func(ctx context.Context, f *Feed) error {
		if f.Info().Fork == w.Info().Fork {
			return nil
		}
		return tryFollow(ctx, w, f)
	}}
}

// goOnWith follows a writer from wherever the reader is.
func goOnWith(w *Feed, blocks ...uint64) act {
	return act{name: "go on", do: func(ctx context.Context, f *Feed) error {
		for _, a := range []act{followAct(w), upgradeAct(w), fetchAct(w, blocks...)} {
			if err := a.do(ctx, f); err != nil {
				return fmt.Errorf("%s: %w", a.name, err)
			}
		}
		return nil
	}}
}

// failing is a program on a datastore that fails.
type failing struct {
	atomic  bool
	opts    Options
	program []act
	worlds  []world // worlds[i] is the one before act i
	ops     int     // of the datastore, in all
	step    int     // every so many of them fails
	after   act     // goes with the last world
}

// seeds is how many random ways a test goes, one unless P2PCORE_SEEDS says otherwise.
func seeds(t *testing.T) int {
	t.Helper()
	v := os.Getenv("P2PCORE_SEEDS")
	if v == "" {
		return 1
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestEveryFailureLeavesBeforeOrAfter runs programs on a datastore whose n-th operation fails, for every n.
//
// Once: the operation that fails has changed nothing, trying it again does it, and what is stored at the end is
// what was to come out. For good, and then a crash: the feed opens, checks clean, and shows the world before or
// after the operation that failed. Once, and a few operations later for good: the same. And when the crash comes
// again while the feed is being opened, it opens the next time.
func TestEveryFailureLeavesBeforeOrAfter(t *testing.T) {
	pair := KeyPairFromSeed([32]byte{7})
	again := withSession(func(ctx context.Context, s *Session) error {
		if _, err := s.Append(ctx, []byte("a"), []byte("b"), []byte("c")); err != nil {
			return err
		}
		if _, err := s.Truncate(ctx, s.Info().Length-2, TruncateOptions{}); err != nil {
			return err
		}
		_, err := s.Append(ctx, []byte("d"))
		return err
	})
	programs := map[string]func(t *testing.T, atomic bool) *failing{
		"writer": func(_ *testing.T, atomic bool) *failing {
			return &failing{step: 1, opts: Options{KeyPair: &pair}, program: writerProgram(atomic), after: act{do: again}}
		},
		"reader":      func(t *testing.T, _ bool) *failing { return readerProgram(t) },
		"wide reader": func(t *testing.T, _ bool) *failing { return wideProgram(t) },
	}
	for name, program := range programs {
		for _, atomic := range []bool{true, false} {
			p := program(t, atomic)
			p.atomic, p.opts.Prefix = atomic, testPrefix
			p.run(t)
			step := p.step
			if testing.Short() {
				step = 7
			}
			t.Run(fmt.Sprintf("%s, atomic %v", name, atomic), func(t *testing.T) {
				t.Parallel()
				for seed := range seeds(t) {
					for n := 1; n <= p.ops; n += step {
						for _, plan := range []failures{{n: n}, {n: n, dead: true}, {n: n, again: 1 + (n*7+seed*5)%23}} {
							plan.seed = uint64(n + 1000*seed)
							p.failAt(t, plan)
							if t.Failed() {
								t.Logf("%+v of %d", plan, p.ops)
								return
							}
						}
					}
				}
			})
		}
	}
}

// run runs the program without failures.
func (p *failing) run(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	ds := brittle.New(p.atomic, 1)
	f, err := Create(ctx, ds, p.opts)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	start := ds.Ops()
	for i := 0; ; i++ {
		w, err := look(ctx, f)
		if err != nil {
			t.Fatal(err)
		}
		p.worlds = append(p.worlds, w)
		if i == len(p.program) {
			break
		}
		if err := p.program[i].do(ctx, f); err != nil {
			t.Fatalf("%s: %v", p.program[i].name, err)
		}
		ds.Calm(true)
		if err := f.Check(ctx); err != nil {
			t.Fatalf("after %q: %v", p.program[i].name, err)
		}
		ds.Calm(false)
	}
	p.ops = ds.Ops() - start
	assertNoGarbage(t, f)
}

// failures says which operations fail.
type failures struct {
	n     int  // the n-th
	dead  bool // and all later ones; then comes a crash
	again int  // not 0: after so many further ones all fail, and there is a crash
	seed  uint64
}

func (p *failing) failAt(t *testing.T, plan failures) {
	t.Helper()
	ctx := t.Context()
	ds := brittle.New(p.atomic, plan.seed)
	f, err := Create(ctx, ds, p.opts)
	if err != nil {
		t.Fatal(err)
	}
	ds.Fail(plan.n, plan.dead)
	for i, a := range p.program {
		err := a.do(ctx, f)
		if ds.Dead() {
			p.crash(t, ds, i, err == nil)
			return
		}
		if err != nil && !errors.Is(err, brittle.Err) {
			t.Errorf("%q: %v", a.name, err)
			return
		}
		if ds.Broken() && plan.again > 0 {
			ds.Fail(plan.again, true)
			plan.again = 0
		}
		if err != nil {
			got, err := look(ctx, f)
			if err != nil {
				t.Errorf("after %q failed: %v", a.name, err)
				return
			}
			before := reflect.DeepEqual(got, p.worlds[i])
			if !a.lazy && !before && !reflect.DeepEqual(got, p.worlds[i+1]) {
				t.Errorf("after %q failed: %+v,\nbefore it %+v,\nafter it would be %+v", a.name, got, p.worlds[i], p.worlds[i+1])
				return
			}
			if before || a.lazy {
				err := a.do(ctx, f)
				if ds.Dead() {
					p.crash(t, ds, i, err == nil)
					return
				}
				if err != nil {
					t.Errorf("%q again: %v", a.name, err)
					return
				}
			}
		}
		if got, err := look(ctx, f); err != nil || !reflect.DeepEqual(got, p.worlds[i+1]) {
			t.Errorf("after %q: %+v, %v;\nwant %+v", a.name, got, err, p.worlds[i+1])
			return
		}
	}
	ds.Heal()
	if err := f.Close(); err != nil {
		t.Errorf("close: %v", err)
		return
	}
	p.openAndLook(t, ds, p.worlds[len(p.worlds)-1:], false)
}

// crash ends what runs in act i, and opens what is left.
func (p *failing) crash(t *testing.T, ds *brittle.Store, i int, done bool) {
	t.Helper()
	allowed := p.worlds[i : i+2]
	if done {
		allowed = p.worlds[i+1 : i+2]
	}
	parts := p.program[i].lazy || p.program[i].wide && !p.atomic
	// What was not durable may be gone in part.
	for j := i - 1; j >= 0 && p.program[j].lazy; j-- {
		allowed, parts = p.worlds[j:i+2], true
	}
	ds.Crash()
	// Another crash while the feed is being opened.
	ds.FailAmong(20, true)
	if f, err := Open(t.Context(), ds, Options{Prefix: testPrefix}); err == nil {
		_ = f // whoever has it crashes with the datastore
	} else if !errors.Is(err, brittle.Err) {
		t.Errorf("open: %v", err)
		return
	}
	ds.Crash()
	p.openAndLook(t, ds, allowed, parts)
}

// openAndLook opens what a failure has left, and goes on with it.
func (p *failing) openAndLook(t *testing.T, ds *brittle.Store, allowed []world, parts bool) {
	t.Helper()
	ctx := t.Context()
	f, err := Open(ctx, ds, Options{Prefix: testPrefix})
	if err != nil {
		t.Errorf("open: %v", err)
		return
	}
	if err := f.Check(ctx); err != nil {
		t.Error(err)
	}
	got, err := look(ctx, f)
	if err != nil {
		t.Error(err)
		return
	}
	same := slices.ContainsFunc(allowed, func(w world) bool { return reflect.DeepEqual(got, w) })
	if !same && !(parts && got.between(allowed)) {
		t.Errorf("opened as %+v,\nallowed %+v", got, allowed)
	}
	if len(f.Branches()) == 0 {
		p.assertNoGarbage(t, f)
	}
	if err := p.after.do(ctx, f); err != nil {
		t.Errorf("going on: %v", err)
		return
	}
	if err := f.Check(ctx); err != nil {
		t.Errorf("after going on: %v", err)
	}
	want, err := look(ctx, f)
	if err != nil {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if f, err = Open(ctx, ds, Options{Prefix: testPrefix}); err != nil {
		t.Errorf("open again: %v", err)
		return
	}
	defer f.Close()
	if got, err := look(ctx, f); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("opened again as %+v, %v,\nwant %+v", got, err, want)
	}
	if err := f.Check(ctx); err != nil {
		t.Errorf("opened again: %v", err)
	}
	if len(f.Branches()) == 0 {
		p.assertNoGarbage(t, f)
	}
}

// assertNoGarbage allows, where batches are not atomic, what an append or download that never was has left: it
// lies where the next one is going to write.
func (p *failing) assertNoGarbage(t *testing.T, f *Feed) {
	t.Helper()
	for _, k := range garbageOf(t, f) {
		if p.atomic || k.kind != "block" || f.head.generations.of(k.id) != k.generation {
			t.Errorf("%+v is garbage of %+v", k, f.head.generations)
		}
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

// TestCreateThatFailsCanBeTriedAgain fails each operation of a Create, and crashes.
func TestCreateThatFailsCanBeTriedAgain(t *testing.T) {
	pair := KeyPairFromSeed([32]byte{7})
	opts := Options{Prefix: testPrefix, KeyPair: &pair, Fork: 5}
	for _, atomic := range []bool{true, false} {
		for _, dead := range []bool{true, false} {
			for n := 1; ; n++ {
				ds := brittle.New(atomic, uint64(n))
				ds.Fail(n, dead)
				_, err := Create(t.Context(), ds, opts)
				if !ds.Broken() {
					break
				}
				ds.Crash()
				f, openErr := Open(t.Context(), ds, Options{Prefix: testPrefix})
				if errors.Is(openErr, ErrNotFound) && err != nil {
					f, openErr = Create(t.Context(), ds, opts)
				}
				if openErr != nil {
					t.Fatalf("atomic %v, operation %d: %v, then %v", atomic, n, err, openErr)
				}
				if got := f.Info(); got.Fork != 5 || !got.Writable {
					t.Errorf("atomic %v, operation %d: %+v", atomic, n, got)
				}
				f.Close()
			}
		}
	}
}
