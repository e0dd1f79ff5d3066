package feed

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	datastore "github.com/ipfs/go-datastore"
)

// TestRepairDropsWhatDoesNotFit damages the storage of a feed at random, one record after the other, and
// fetches again what the repair has dropped.
func TestRepairDropsWhatDoesNotFit(t *testing.T) {
	onStores(t, func(t *testing.T, ds datastore.Batching) {
		const length = 300
		ctx := t.Context()
		w, _ := writer(t, memoryStore(), length)
		r := reader(t, ds, w)
		upgrade(t, w, r)
		for i := range uint64(length) {
			if i%50 < 40 {
				fetch(t, w, r, i)
			}
		}
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		random := rand.New(rand.NewPCG(seed, 3))
		for round := range 12 {
			var keys []string
			if err := r.storage.query(ctx, true, func(key string, _ []byte, _ int) error {
				if _, _, _, ok := r.storage.parseRecordKey(key); ok {
					keys = append(keys, key)
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			slices.Sort(keys)
			key := datastore.RawKey(keys[random.IntN(len(keys))])
			value, err := ds.Get(ctx, key)
			if err != nil {
				t.Fatal(err)
			}
			value = slices.Clone(value)
			switch {
			case len(value) == 0 || random.IntN(4) == 0:
				value = append(value, 1)
			default:
				value[random.IntN(len(value))] ^= 1 << random.IntN(8)
			}
			if err := ds.Put(ctx, key, value); err != nil {
				t.Fatal(err)
			}
			r = openAgain(t, r, ds)
			damage := r.Check(ctx)
			result, err := r.Repair(ctx)
			if err != nil {
				t.Fatalf("round %d, key %s: repair: %v", round, key, err)
			}
			if damage != nil && result.Blocks+result.Nodes == 0 {
				t.Fatalf("round %d, key %s: %v, and nothing was dropped", round, key, damage)
			}
			if err := r.Check(ctx); err != nil {
				t.Fatalf("round %d, key %s: after the repair: %v", round, key, err)
			}
			for i := range uint64(length) {
				if i%50 < 40 && !r.Has(Range{Start: i, End: i + 1}) {
					fetch(t, w, r, i)
				}
			}
			r = openAgain(t, r, ds)
			if err := r.Check(ctx); err != nil {
				t.Fatalf("round %d, key %s: after fetching again: %v", round, key, err)
			}
		}
		s := session(t, r)
		for i := range uint64(length) {
			b, err := s.GetLocal(ctx, i)
			if i%50 < 40 && (err != nil || string(b) != string(testBlock(int(i)))) {
				t.Fatalf("block %d: %q, %v", i, b, err)
			}
		}
	})
}

// TestRepairedWriterGoesOn damages each node page of a writer in turn, by cutting and by deleting it. After the repair
// the writer appends, and what it has can be proven.
func TestRepairedWriterGoesOn(t *testing.T) {
	for _, cut := range []bool{true, false} {
		for page := 0; ; page++ {
			ds := memoryStore()
			w, s := writer(t, ds, 43)
			var keys []string
			if err := w.storage.query(t.Context(), true, func(key string, _ []byte, _ int) error {
				if _, ok := w.storage.parseNodePageKey(key, w.head.generations); ok {
					keys = append(keys, key)
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if page == len(keys) {
				break
			}
			key := datastore.RawKey(keys[page])
			value, err := ds.Get(t.Context(), key)
			if err != nil {
				t.Fatal(err)
			}
			s.Close()
			if cut {
				err = ds.Put(t.Context(), key, value[:len(value)/2])
			} else {
				err = ds.Delete(t.Context(), key)
			}
			if err != nil {
				t.Fatal(err)
			}
			w = openAgain(t, w, ds)
			if _, err := w.Repair(t.Context()); err != nil {
				t.Fatal(err)
			}
			appendBlocks(t, session(t, w), []byte("one more"))
			if err := w.Check(t.Context()); err != nil {
				t.Errorf("page %s, cut %v: after an append: %v", key, cut, err)
			}
			if info := w.Info(); info.Length != 44 || !w.Has(Range{Start: 43, End: 44}) {
				t.Errorf("page %s, cut %v: %+v", key, cut, info)
			}
			r := reader(t, memoryStore(), w)
			upgrade(t, w, r)
			fetch(t, w, r, 43)
		}
	}
}

// openAgain opens a feed from what is stored, whatever it said of itself before.
func openAgain(t *testing.T, f *Feed, ds datastore.Batching) *Feed {
	t.Helper()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Open(t.Context(), ds, Options{Prefix: testPrefix})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { again.Close() })
	return again
}

// TestRepairRefusesAnUnsignedHead leaves a feed alone whose head is not signed.
func TestRepairRefusesAnUnsignedHead(t *testing.T) {
	ds := atomicStore{memoryStore()}
	w, _ := writer(t, memoryStore(), 9)
	r := reader(t, ds, w)
	upgrade(t, w, r)
	key := r.storage.headKey()
	value, err := ds.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	value = slices.Clone(value)
	value[len(value)-5] ^= 1
	if err := ds.Put(t.Context(), key, value); err != nil {
		t.Fatal(err)
	}
	f := openAgain(t, r, ds)
	if _, err := f.Repair(t.Context()); !errors.Is(err, ErrCorrupt) {
		t.Errorf("repair: %v", err)
	}
}
