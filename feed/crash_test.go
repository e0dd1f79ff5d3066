package feed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	datastore "github.com/ipfs/go-datastore"

	"github.com/p2pcore/p2pcore/internal/brittle"
)

// brittleWriter appends and notes what was acknowledged.
type brittleWriter struct {
	pair  KeyPair
	acked [][]byte
	tries int
}

func (w *brittleWriter) open(ctx context.Context, ds datastore.Batching) (*Feed, error) {
	opts := Options{Prefix: testPrefix, KeyPair: &w.pair}
	f, err := Open(ctx, ds, opts)
	if errors.Is(err, ErrNotFound) {
		f, err = Create(ctx, ds, opts)
	}
	return f, err
}

// run appends a program of batches; what fails is skipped.
func (w *brittleWriter) run(t *testing.T, ds datastore.Batching) {
	f, err := w.open(t.Context(), ds)
	if err != nil {
		if !errors.Is(err, brittle.Err) {
			t.Fatalf("open: %v", err)
		}
		return
	}
	s := session(t, f)
	for _, n := range []int{1, 3, 70, 1, 2} {
		var blocks [][]byte
		for i := range n {
			w.tries++
			blocks = append(blocks, fmt.Appendf(nil, "try %d, block %d", w.tries, i))
		}
		info, err := s.Append(t.Context(), blocks...)
		switch {
		case err == nil:
			w.acked = append(w.acked, blocks...)
			if info.Length != uint64(len(w.acked)) {
				t.Fatalf("length %d after %d acknowledged blocks", info.Length, len(w.acked))
			}
		case !errors.Is(err, brittle.Err):
			t.Fatalf("append: %v", err)
		}
	}
	if err := f.Close(); err != nil && !errors.Is(err, brittle.Err) {
		t.Fatalf("close: %v", err)
	}
}

// verify opens the feed and looks for every acknowledged block. What was not acknowledged may be there.
func (w *brittleWriter) verify(t *testing.T, ds datastore.Batching) {
	t.Helper()
	f, err := w.open(t.Context(), ds)
	if err != nil {
		t.Fatalf("reopen: %v", err)
	}
	defer f.Close()
	if err := f.Check(t.Context()); err != nil {
		t.Fatalf("check: %v", err)
	}
	s := session(t, f)
	for i, want := range w.acked {
		if b, err := s.Get(t.Context(), uint64(i)); err != nil || !bytes.Equal(b, want) {
			t.Fatalf("acknowledged block %d: %q, %v, want %q", i, b, err, want)
		}
	}
	// What the failed append has left is the feed's now.
	for i := uint64(len(w.acked)); i < f.Info().Length; i++ {
		b, err := s.Get(t.Context(), i)
		if err != nil {
			t.Fatalf("block %d: %v", i, err)
		}
		w.acked = append(w.acked, b)
	}
}

// TestWriterSurvivesEveryFailure fails each datastore operation of a program of appends in turn, goes
// on in the same process or crashes, and looks whether every acknowledged block is there.
func TestWriterSurvivesEveryFailure(t *testing.T) {
	for _, atomic := range []bool{true, false} {
		for _, dead := range []bool{true, false} {
			t.Run(fmt.Sprintf("atomic %v, dead %v", atomic, dead), func(t *testing.T) {
				t.Parallel()
				for n := 1; ; n++ {
					s := brittle.New(atomic, uint64(n))
					s.Fail(n, dead)
					w := &brittleWriter{pair: KeyPairFromSeed([32]byte{7})}
					w.run(t, s)
					done := !s.Broken()
					if !dead {
						s.Heal()
						w.verify(t, s)
					}
					s.Crash()
					w.verify(t, s)
					w.run(t, s)
					s.Crash()
					w.verify(t, s)
					if done {
						if n < 12 {
							t.Fatalf("the program has %d operations only", n)
						}
						return
					}
				}
			})
		}
	}
}

// TestReaderSurvivesEveryFailure is the same for downloads, of which a crash may lose the newest.
func TestReaderSurvivesEveryFailure(t *testing.T) {
	w, ws := writer(t, memoryStore(), 150)
	key := w.Key()
	program := func(t *testing.T, ds datastore.Batching) {
		opts := Options{Prefix: testPrefix, Key: &key}
		r, err := Open(t.Context(), ds, opts)
		if errors.Is(err, ErrNotFound) {
			r, err = Create(t.Context(), ds, opts)
		}
		if err != nil {
			return
		}
		for _, i := range []uint64{149, 0, 1, 70, 2, 3, 100, 151} {
			var ps []*Proof
			if w.Info().Length > r.Info().Length {
				ps = append(ps, prove(t, w, upgradeRequest(w, r)))
			}
			if i < r.Info().Length && !r.Has(Range{Start: i, End: i + 1}) {
				nodes, err := r.Plan(t.Context(), []uint64{i})
				if err != nil {
					continue
				}
				ps = append(ps, prove(t, w, Request{Block: &BlockRequest{Index: i, Nodes: nodes[0]}}))
			}
			before := r.Info()
			applied, err := r.Apply(t.Context(), ps)
			if err != nil && before.Head != r.Info().Head {
				t.Fatalf("the head moved in an apply that failed: %v", err)
			}
			for _, a := range applied {
				if a.Err != nil {
					t.Fatalf("apply: %v", a.Err)
				}
			}
		}
		r.Close()
	}
	check := func(t *testing.T, ds datastore.Batching) {
		t.Helper()
		r, err := Open(t.Context(), ds, Options{Prefix: testPrefix})
		if errors.Is(err, ErrNotFound) {
			return
		}
		if err != nil {
			t.Fatalf("reopen: %v", err)
		}
		if err := r.Check(t.Context()); err != nil {
			t.Fatalf("check: %v", err)
		}
		if got, want := r.Info().ContiguousLength, r.FirstMissing(0); got != want {
			t.Fatalf("contiguous length %d, want %d", got, want)
		}
		s := session(t, r)
		for rg := range r.Ranges(Range{End: 200}) {
			for i := rg.Start; i < rg.End; i++ {
				got, err := s.Get(t.Context(), i)
				want, _ := ws.Get(t.Context(), i)
				if err != nil || !bytes.Equal(got, want) {
					t.Fatalf("block %d: %q, %v, want %q", i, got, err, want)
				}
			}
		}
		r.Close()
	}
	for _, atomic := range []bool{true, false} {
		for _, dead := range []bool{true, false} {
			t.Run(fmt.Sprintf("atomic %v, dead %v", atomic, dead), func(t *testing.T) {
				for n := 1; ; n++ {
					s := brittle.New(atomic, uint64(n))
					s.Fail(n, dead)
					program(t, s)
					done := !s.Broken()
					if !dead {
						s.Heal()
						check(t, s)
					}
					s.Crash()
					check(t, s)
					program(t, s)
					check(t, s)
					if done {
						if n < 12 {
							t.Fatalf("the program has %d operations only", n)
						}
						return
					}
				}
			})
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
