package feed

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/p2pcore/p2pcore/internal/brittle"
)

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
