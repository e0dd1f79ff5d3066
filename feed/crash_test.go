package feed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"

	datastore "github.com/ipfs/go-datastore"
	dsquery "github.com/ipfs/go-datastore/query"
)

// brittleStore is a datastore in memory that fails, and that crashes: of what has not been synced, a
// crash keeps what the promises of the mode allow. It counts its operations; operation failAt fails
// (and all later ones if dead is set).
type brittleStore struct {
	atomic bool
	dead   bool
	failAt int
	random *rand.Rand

	mu      sync.Mutex
	quiet   bool // operations neither count nor fail
	ops     int
	live    map[datastore.Key][]byte // what is read
	durable map[datastore.Key][]byte // what was synced
	pending [][]brittleOp            // batches since
}

type brittleOp struct {
	key   datastore.Key
	value []byte // nil: delete
}

var errBrittle = errors.New("operation failed")

func newBrittleStore(atomic bool, seed uint64) *brittleStore {
	return &brittleStore{
		atomic: atomic, failAt: -1, random: rand.New(rand.NewPCG(seed, 1)),
		live: map[datastore.Key][]byte{}, durable: map[datastore.Key][]byte{},
	}
}

func (s *brittleStore) AtomicBatch() bool { return s.atomic }

// step counts an operation and fails it if it is its turn.
func (s *brittleStore) step() error {
	if s.quiet {
		return nil
	}
	s.ops++
	if s.failAt >= 0 && (s.ops == s.failAt || s.dead && s.ops > s.failAt) {
		return errBrittle
	}
	return nil
}

func (s *brittleStore) Get(_ context.Context, key datastore.Key) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.step(); err != nil {
		return nil, err
	}
	b, ok := s.live[key]
	if !ok {
		return nil, datastore.ErrNotFound
	}
	return bytes.Clone(b), nil
}

func (s *brittleStore) Has(ctx context.Context, key datastore.Key) (bool, error) {
	_, err := s.Get(ctx, key)
	if errors.Is(err, datastore.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

func (s *brittleStore) GetSize(ctx context.Context, key datastore.Key) (int, error) {
	b, err := s.Get(ctx, key)
	return len(b), err
}

func (s *brittleStore) Query(_ context.Context, q dsquery.Query) (dsquery.Results, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.step(); err != nil {
		return nil, err
	}
	var entries []dsquery.Entry
	for k, v := range s.live {
		entries = append(entries, dsquery.Entry{Key: k.String(), Value: v, Size: len(v)})
	}
	return dsquery.NaiveQueryApply(q, dsquery.ResultsWithEntries(q, entries)), nil
}

func (s *brittleStore) Put(ctx context.Context, key datastore.Key, value []byte) error {
	b, err := s.Batch(ctx)
	if err == nil {
		err = errors.Join(b.Put(ctx, key, value), b.Commit(ctx))
	}
	return err
}

func (s *brittleStore) Delete(ctx context.Context, key datastore.Key) error {
	b, err := s.Batch(ctx)
	if err == nil {
		err = errors.Join(b.Delete(ctx, key), b.Commit(ctx))
	}
	return err
}

func (s *brittleStore) Sync(context.Context, datastore.Key) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.step(); err != nil {
		return err
	}
	s.durable, s.pending = maps.Clone(s.live), nil
	return nil
}

func (s *brittleStore) Close() error { return nil }

func (s *brittleStore) Batch(context.Context) (datastore.Batch, error) {
	return &brittleBatch{store: s}, nil
}

// fail says that the n-th operation from now on fails, and all after it if dead is set.
func (s *brittleStore) fail(n int, dead bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failAt, s.dead = s.ops+n, dead
}

// heal says that no operation fails any more.
func (s *brittleStore) heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failAt, s.dead = -1, false
}

// broken reports whether an operation has failed since fail.
func (s *brittleStore) broken() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failAt >= 0 && s.ops >= s.failAt
}

// crash loses what was not synced: in the atomic mode all batches from some point on, else any puts.
func (s *brittleStore) crash() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.live, s.failAt, s.dead = s.durable, -1, false
	batches := s.pending
	if s.atomic {
		batches = batches[:s.random.IntN(len(batches)+1)]
	}
	for _, ops := range batches {
		for _, op := range ops {
			if s.atomic || s.random.IntN(2) == 0 {
				set(s.live, op)
			}
		}
	}
	s.durable, s.pending = maps.Clone(s.live), nil
}

func set(m map[datastore.Key][]byte, op brittleOp) {
	if op.value == nil {
		delete(m, op.key)
	} else {
		m[op.key] = op.value
	}
}

type brittleBatch struct {
	store *brittleStore
	ops   []brittleOp
}

func (b *brittleBatch) Put(_ context.Context, key datastore.Key, value []byte) error {
	b.ops = append(b.ops, brittleOp{key, append([]byte{}, value...)})
	return nil
}

func (b *brittleBatch) Delete(_ context.Context, key datastore.Key) error {
	b.ops = append(b.ops, brittleOp{key, nil})
	return nil
}

// Commit fails with nothing done or all done, or, if batches are not atomic, half done.
func (b *brittleBatch) Commit(context.Context) error {
	s := b.store
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.step()
	ops := b.ops
	if err != nil {
		n := s.random.IntN(2) * len(ops)
		if !s.atomic {
			s.random.Shuffle(len(ops), func(i, j int) { ops[i], ops[j] = ops[j], ops[i] })
			n = s.random.IntN(len(ops) + 1)
		}
		ops = ops[:n]
	}
	for _, op := range ops {
		set(s.live, op)
	}
	s.pending = append(s.pending, ops)
	return err
}

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
		if !errors.Is(err, errBrittle) {
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
		case !errors.Is(err, errBrittle):
			t.Fatalf("append: %v", err)
		}
	}
	if err := f.Close(); err != nil && !errors.Is(err, errBrittle) {
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
					s := newBrittleStore(atomic, uint64(n))
					s.failAt, s.dead = n, dead
					w := &brittleWriter{pair: KeyPairFromSeed([32]byte{7})}
					w.run(t, s)
					done := s.ops < n
					if !dead {
						s.failAt = -1
						w.verify(t, s)
					}
					s.crash()
					w.verify(t, s)
					w.run(t, s)
					s.crash()
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
					s := newBrittleStore(atomic, uint64(n))
					s.failAt, s.dead = n, dead
					program(t, s)
					done := s.ops < n
					if !dead {
						s.failAt = -1
						check(t, s)
					}
					s.crash()
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
