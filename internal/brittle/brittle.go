package brittle

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"sync"

	datastore "github.com/ipfs/go-datastore"
	dsquery "github.com/ipfs/go-datastore/query"
)

// Err is what an operation that fails returns.
var Err = errors.New("operation failed")

// Store is the datastore. Of what has not been synced a crash keeps what the promises of its mode allow. It is safe for
// concurrent use.
type Store struct {
	atomic bool // set in New

	mu      sync.Mutex
	random  *rand.Rand
	quiet   bool // operations neither count nor fail
	ops     int
	failAt  int                      // the operation that fails; -1: none
	dead    bool                     // and all after it
	live    map[datastore.Key][]byte // what is read
	durable map[datastore.Key][]byte // what was synced
	pending [][]op                   // batches since
}

type op struct {
	key   datastore.Key
	value []byte // nil: delete
}

// New returns an empty store in which no operation fails yet. With atomic set a batch is written whole or not at all, and
// a crash loses the newest batches; else it loses any of the puts. The seed decides which.
func New(atomic bool, seed uint64) *Store {
	return &Store{
		atomic: atomic, failAt: -1, random: rand.New(rand.NewPCG(seed, 1)),
		live: map[datastore.Key][]byte{}, durable: map[datastore.Key][]byte{},
	}
}

// AtomicBatch is what packages feed and corestore ask for.
func (s *Store) AtomicBatch() bool { return s.atomic }

// Fail says that the n-th operation from now on fails, the first being 1, and all after it if dead is set.
func (s *Store) Fail(n int, dead bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failAt, s.dead = s.ops+n, dead
}

// FailAmong is Fail of one of the next n operations; the seed decides which.
func (s *Store) FailAmong(n int, dead bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failAt, s.dead = s.ops+1+s.random.IntN(n), dead
}

// Heal says that no operation fails any more.
func (s *Store) Heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failAt, s.dead = -1, false
}

// Calm says whether operations neither count nor fail, so that a test can look.
func (s *Store) Calm(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.quiet = on
}

// Broken reports whether an operation has failed since Fail.
func (s *Store) Broken() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.broken()
}

func (s *Store) broken() bool { return s.failAt >= 0 && s.ops >= s.failAt }

// Dead reports whether all operations fail from now on.
func (s *Store) Dead() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dead && s.broken()
}

// Ops is the number of operations so far.
func (s *Store) Ops() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ops
}

// Keys are those of all records.
func (s *Store) Keys() (keys []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := range s.live {
		keys = append(keys, k.String())
	}
	return keys
}

// Crash loses what was not synced: in the atomic mode all batches from some point on, else any puts. Nothing fails any
// more.
func (s *Store) Crash() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.live, s.failAt, s.dead = s.durable, -1, false
	batches := s.pending
	if s.atomic {
		batches = batches[:s.random.IntN(len(batches)+1)]
	}
	for _, ops := range batches {
		for _, o := range ops {
			if s.atomic || s.random.IntN(2) == 0 {
				o.apply(s.live)
			}
		}
	}
	s.durable, s.pending = maps.Clone(s.live), nil
}

func (o op) apply(m map[datastore.Key][]byte) {
	if o.value == nil {
		delete(m, o.key)
	} else {
		m[o.key] = o.value
	}
}

// step counts an operation and fails it if it is its turn. mu is held.
func (s *Store) step() error {
	if s.quiet {
		return nil
	}
	s.ops++
	if s.failAt >= 0 && (s.ops == s.failAt || s.dead && s.ops > s.failAt) {
		return Err
	}
	return nil
}

// Get and the others make it a datastore.
func (s *Store) Get(_ context.Context, key datastore.Key) ([]byte, error) {
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

func (s *Store) Has(ctx context.Context, key datastore.Key) (bool, error) {
	_, err := s.Get(ctx, key)
	if errors.Is(err, datastore.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

func (s *Store) GetSize(ctx context.Context, key datastore.Key) (int, error) {
	b, err := s.Get(ctx, key)
	return len(b), err
}

func (s *Store) Query(_ context.Context, q dsquery.Query) (dsquery.Results, error) {
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

func (s *Store) Put(ctx context.Context, key datastore.Key, value []byte) error {
	b, err := s.Batch(ctx)
	if err == nil {
		err = errors.Join(b.Put(ctx, key, value), b.Commit(ctx))
	}
	return err
}

func (s *Store) Delete(ctx context.Context, key datastore.Key) error {
	b, err := s.Batch(ctx)
	if err == nil {
		err = errors.Join(b.Delete(ctx, key), b.Commit(ctx))
	}
	return err
}

func (s *Store) Sync(context.Context, datastore.Key) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.step(); err != nil {
		return err
	}
	s.durable, s.pending = maps.Clone(s.live), nil
	return nil
}

func (s *Store) Close() error { return nil }

func (s *Store) Batch(context.Context) (datastore.Batch, error) {
	return &batch{store: s}, nil
}

type batch struct {
	store *Store
	ops   []op
}

func (b *batch) Put(_ context.Context, key datastore.Key, value []byte) error {
	b.ops = append(b.ops, op{key, append([]byte{}, value...)})
	return nil
}

func (b *batch) Delete(_ context.Context, key datastore.Key) error {
	b.ops = append(b.ops, op{key, nil})
	return nil
}

// Commit fails with nothing done or all done, or, if batches are not atomic, half done.
func (b *batch) Commit(context.Context) error {
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
	for _, o := range ops {
		o.apply(s.live)
	}
	s.pending = append(s.pending, ops)
	return err
}
