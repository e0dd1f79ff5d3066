package feed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	datastore "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	dssync "github.com/ipfs/go-datastore/sync"
	pebbleds "github.com/ipfs/go-ds-pebble"
)

// atomicStore says of a datastore that its batches are atomic.
type atomicStore struct{ datastore.Batching }

func (atomicStore) AtomicBatch() bool { return true }

// ableStore has the optional abilities of a datastore that make reading and writing fast.
type ableStore struct{ *pebbleds.Datastore }

func (ableStore) AtomicBatch() bool { return true }

func (s ableStore) ReadRange(_ context.Context, start, end string, fn func(key, value []byte) error) error {
	it, err := s.DB.NewIter(&pebble.IterOptions{LowerBound: []byte(start), UpperBound: []byte(end)})
	if err != nil {
		return err
	}
	for it.First(); it.Valid() && err == nil; it.Next() {
		err = fn(it.Key(), it.Value())
	}
	return errors.Join(err, it.Close())
}

func (s ableStore) DeleteRange(_ context.Context, start, end string) error {
	return s.DB.DeleteRange([]byte(start), []byte(end), pebble.NoSync)
}

func (s ableStore) Compact(ctx context.Context, start, end string) error {
	return s.DB.Compact(ctx, []byte(start), []byte(end), false)
}

func (s ableStore) Batch(context.Context) (datastore.Batch, error) {
	return &ableBatch{s.DB.NewBatch(), s.DB}, nil
}

type ableBatch struct {
	*pebble.Batch
	db *pebble.DB
}

func (b *ableBatch) Grow(puts, bytes int) { b.Batch = b.db.NewBatchWithSize(16*puts + bytes) }

func (b *ableBatch) Put(_ context.Context, key datastore.Key, value []byte) error {
	return b.Set(key.Bytes(), value, nil)
}

func (b *ableBatch) Delete(_ context.Context, key datastore.Key) error {
	return b.Batch.Delete(key.Bytes(), nil)
}

func (b *ableBatch) Commit(context.Context) error {
	return errors.Join(b.Batch.Commit(pebble.NoSync), b.Close())
}

// stores are the datastores and crash modes that every test of storage runs with.
var stores = []struct {
	name string
	open func(t testing.TB) datastore.Batching
}{
	{"memory two steps", func(testing.TB) datastore.Batching { return memoryStore() }},
	{"memory atomic", func(testing.TB) datastore.Batching { return atomicStore{memoryStore()} }},
	{"pebble two steps", func(t testing.TB) datastore.Batching { return pebbleStore(t, "", vfs.NewMem()) }},
	{"pebble atomic", func(t testing.TB) datastore.Batching {
		return atomicStore{pebbleStore(t, "", vfs.NewMem())}
	}},
	{"pebble able", func(t testing.TB) datastore.Batching { return ableStore{pebbleStore(t, "", vfs.NewMem())} }},
}

func memoryStore() datastore.Batching { return dssync.MutexWrap(datastore.NewMapDatastore()) }

type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(format string, args ...any) {
	panic(fmt.Sprintf(format, args...))
}

func pebbleStore(t testing.TB, dir string, fs vfs.FS) *pebbleds.Datastore {
	t.Helper()
	ds, err := openPebble(dir, fs)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ds.Close() })
	return ds
}

func openPebble(dir string, fs vfs.FS) (*pebbleds.Datastore, error) {
	return pebbleds.NewDatastore(dir, pebbleds.WithPebbleOpts(&pebble.Options{
		FS: fs, Logger: quiet{}, MemTableSize: 64 << 20, FormatMajorVersion: pebble.FormatColumnarBlocks,
	}))
}

// onStores runs a test with each of the stores.
func onStores(t *testing.T, test func(t *testing.T, ds datastore.Batching)) {
	t.Helper()
	for _, s := range stores {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			test(t, s.open(t))
		})
	}
}

const testPrefix = "/00000001"

// create makes a feed that is closed, and checked before, at the end of the test.
func create(t testing.TB, ds datastore.Batching, opts Options) *Feed {
	t.Helper()
	opts.Prefix = testPrefix
	f, err := Create(t.Context(), ds, opts)
	if err != nil {
		t.Fatal(err)
	}
	checkAtEnd(t, f)
	return f
}

func reopen(t testing.TB, f *Feed, ds datastore.Batching, opts Options) *Feed {
	t.Helper()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	opts.Prefix = testPrefix
	again, err := Open(t.Context(), ds, opts)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := f.Info(), again.Info(); a != b {
		t.Fatalf("reopened as %+v, was %+v", b, a)
	}
	checkAtEnd(t, again)
	return again
}

func checkAtEnd(t testing.TB, f *Feed) {
	t.Helper()
	t.Cleanup(func() {
		if err := f.Check(context.Background()); err != nil && err != ErrClosed {
			t.Errorf("check: %v", err)
		}
		if err := f.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
}

func writer(t testing.TB, ds datastore.Batching, n int) (*Feed, *Session) {
	t.Helper()
	pair := KeyPairFromSeed([32]byte{7})
	f := create(t, ds, Options{KeyPair: &pair})
	s := session(t, f)
	if n > 0 {
		appendBlocks(t, s, testBlocks(0, n)...)
	}
	return f, s
}

func session(t testing.TB, f *Feed) *Session {
	t.Helper()
	s, err := f.Session(SessionOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// reader makes a feed that knows the key of w only.
func reader(t testing.TB, ds datastore.Batching, w *Feed) *Feed {
	t.Helper()
	key := w.Key()
	return create(t, ds, Options{Key: &key})
}

func appendBlocks(t testing.TB, s *Session, blocks ...[]byte) {
	t.Helper()
	if _, err := s.Append(t.Context(), blocks...); err != nil {
		t.Fatal(err)
	}
}

// testBlock is block i: its number, many times, of a length that varies.
func testBlock(i int) []byte {
	return bytes.Repeat([]byte(fmt.Sprint(i, ";")), i%7)
}

func testBlocks(start, end int) (blocks [][]byte) {
	for i := start; i < end; i++ {
		blocks = append(blocks, testBlock(i))
	}
	return blocks
}

// prove asks w for one proof, apply gives it to r.
func prove(t testing.TB, w *Feed, req Request) *Proof {
	t.Helper()
	proved, err := w.Prove(t.Context(), []Request{req})
	if err != nil {
		t.Fatal(err)
	}
	if proved[0].Err != nil {
		t.Fatal(proved[0].Err)
	}
	return proved[0].Proof
}

func apply(t testing.TB, r *Feed, ps ...*Proof) []Applied {
	t.Helper()
	applied, err := r.Apply(t.Context(), ps)
	if err != nil {
		t.Fatal(err)
	}
	return applied
}

// upgradeRequest asks for all that w is ahead of r.
func upgradeRequest(w, r *Feed) Request {
	have, want := r.Info(), w.Info()
	return Request{
		Fork:     want.Fork,
		Upgrade:  &UpgradeRequest{Start: have.Length, Length: want.Length - have.Length},
		Manifest: !have.HasManifest,
	}
}

func blockRequest(t testing.TB, w, r *Feed, index uint64) Request {
	t.Helper()
	nodes, err := r.Plan(t.Context(), []uint64{index})
	if err != nil {
		t.Fatal(err)
	}
	return Request{Fork: w.Info().Fork, Block: &BlockRequest{Index: index, Nodes: nodes[0]}}
}

// upgrade brings r to the length of w.
func upgrade(t testing.TB, w, r *Feed) {
	t.Helper()
	if a := apply(t, r, prove(t, w, upgradeRequest(w, r)))[0]; a.Err != nil || !a.Grown {
		t.Fatalf("upgrade: %+v", a)
	}
}

// fetch brings blocks from w to r, one by one.
func fetch(t testing.TB, w, r *Feed, blocks ...uint64) {
	t.Helper()
	for _, i := range blocks {
		if a := apply(t, r, prove(t, w, blockRequest(t, w, r, i)))[0]; a.Err != nil {
			t.Fatalf("block %d: %v", i, a.Err)
		}
	}
}

// allKeys lists the keys of a datastore.
var allKeys = query.Query{KeysOnly: true}

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
