package feed

import (
	"bytes"
	"errors"
	"testing"

	datastore "github.com/ipfs/go-datastore"

	"github.com/p2pcore/p2pcore/internal/brittle"
)

// H1 of replication.md: JavaScript's clear deletes nodes that other blocks need. Any block that is left must
// be provable, and so must the length to readers that the writer claims to serve, whatever is cleared.
func TestClearKeepsWhatProvesTheRest(t *testing.T) {
	ctx := t.Context()
	for _, writable := range []bool{true, false} {
		for length := 1; length <= 70; length += 3 {
			w, _ := writer(t, memoryStore(), length)
			f := w
			if !writable {
				f = reader(t, memoryStore(), w)
				upgrade(t, w, f)
				for i := range uint64(length) {
					fetch(t, w, f, i)
				}
			}
			s := session(t, f)
			for start := 0; start < length; start += 1 + length/5 {
				end := start + 1 + (start*7)%5
				if _, err := s.Clear(ctx, Range{Start: uint64(start), End: uint64(end)}); err != nil {
					t.Fatal(err)
				}
			}
			for n := range uint64(length) {
				can, err := f.CanUpgrade(ctx, n)
				if err != nil || writable && !can {
					t.Fatalf("length %d: cannot upgrade a reader of length %d: %v", length, n, err)
				}
				if !can {
					continue
				}
				if p := prove(t, f, Request{Upgrade: &UpgradeRequest{Start: n, Length: uint64(length) - n}}); p.Upgrade == nil {
					t.Fatalf("length %d: no upgrade from %d", length, n)
				}
			}
			fresh := reader(t, memoryStore(), w)
			upgrade(t, f, fresh)
			for i := range uint64(length) {
				if f.Has(Range{Start: i, End: i + 1}) {
					fetch(t, f, fresh, i)
				}
			}
		}
	}
}

// A mirror that clears everything keeps the tops of the pages only, can have it all again, and serve it.
func TestClearedMirrorFetchesAgain(t *testing.T) {
	ctx := t.Context()
	const length = 1000
	ds := atomicStore{memoryStore()}
	w, _ := writer(t, memoryStore(), length)
	r := reader(t, ds, w)
	upgrade(t, w, r)
	for i := range uint64(length) {
		fetch(t, w, r, i)
	}
	s := session(t, r)
	before, err := r.DiskBytes(ctx)
	if err != nil {
		t.Fatal(err)
	}
	cleared, err := s.Clear(ctx, Range{Start: 0, End: length})
	if err != nil || cleared.Blocks != length {
		t.Fatalf("clear: %+v, %v", cleared, err)
	}
	after, err := r.DiskBytes(ctx)
	if err != nil || after > before/5 {
		t.Errorf("%d bytes are stored, were %d; %v", after, before, err)
	}
	if info := s.Info(); info.Length != length || info.LocalBlocks != 0 || info.ContiguousLength != 0 {
		t.Errorf("info %+v", info)
	}
	r = reopen(t, r, ds, Options{})
	p := &pipe{from: w, to: r}
	r.SetSource(p)
	s = session(t, r)
	for i := range uint64(length) {
		if b, err := s.Get(ctx, i); !bytes.Equal(b, testBlock(int(i))) || err != nil {
			t.Fatalf("block %d: %q, %v", i, b, err)
		}
	}
	again := reader(t, memoryStore(), w)
	upgrade(t, r, again)
	for i := range uint64(length) {
		fetch(t, r, again, i)
	}
}

func TestMarkAndSweep(t *testing.T) {
	onStores(t, func(t *testing.T, ds datastore.Batching) {
		ctx := t.Context()
		f, s := writer(t, ds, 100)
		if _, err := f.Sweep(ctx); !errors.Is(err, ErrNotMarking) {
			t.Errorf("sweep before marking: %v", err)
		}
		if err := f.StartMarking(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Get(ctx, 7); err != nil {
			t.Fatal(err)
		}
		if err := f.Mark(Range{Start: 20, End: 30}); err != nil {
			t.Fatal(err)
		}
		f = reopen(t, f, ds, Options{})
		s = session(t, f)
		if _, err := s.Get(ctx, 99); err != nil {
			t.Fatal(err)
		}
		cleared, err := f.Sweep(ctx)
		if err != nil || cleared.Blocks != 88 {
			t.Errorf("swept %+v, %v", cleared, err)
		}
		for i := range uint64(100) {
			if want := i == 7 || i >= 20 && i < 30 || i == 99; s.Has(i) != want {
				t.Errorf("block %d is stored: %v", i, !want)
			}
		}
		if err := f.Mark(Range{Start: 0, End: 1}); !errors.Is(err, ErrNotMarking) {
			t.Errorf("mark after the sweep: %v", err)
		}
	})
}

// A crash loses the marks; nothing may be swept by what is left of them.
func TestMarksDoNotOutliveACrash(t *testing.T) {
	ds := brittle.New(true, 1)
	f, _ := writer(t, ds, 10)
	if err := f.StartMarking(t.Context()); err != nil {
		t.Fatal(err)
	}
	ds.Crash()
	again, err := Open(t.Context(), ds, Options{Prefix: testPrefix})
	if err != nil {
		t.Fatal(err)
	}
	checkAtEnd(t, again)
	if _, err := again.Sweep(t.Context()); !errors.Is(err, ErrNotMarking) {
		t.Errorf("sweep: %v", err)
	}
}

func TestPurgeLeavesNothing(t *testing.T) {
	onStores(t, func(t *testing.T, ds datastore.Batching) {
		ctx := t.Context()
		f, s := writer(t, ds, 200)
		if _, err := s.Branch(ctx, "b", BranchOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := s.SetUserData(ctx, "k", []byte("v")); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Truncate(ctx, 100, TruncateOptions{}); err != nil {
			t.Fatal(err)
		}
		pair := KeyPairFromSeed([32]byte{7})
		fork := f.Info().Fork
		if err := f.Purge(ctx); err != nil {
			t.Fatal(err)
		}
		results, err := ds.Query(ctx, allKeys)
		if err != nil {
			t.Fatal(err)
		}
		if rest, err := results.Rest(); err != nil || len(rest) > 0 {
			t.Errorf("%d records are left, such as %v; %v", len(rest), rest, err)
		}
		if _, err := Open(ctx, ds, Options{Prefix: testPrefix}); !errors.Is(err, ErrNotFound) {
			t.Errorf("open: %v", err)
		}
		if err := Purge(ctx, ds, testPrefix); err != nil {
			t.Errorf("purge of nothing: %v", err)
		}
		again := create(t, ds, Options{KeyPair: &pair, Fork: fork + 1})
		appendBlocks(t, session(t, again), []byte("x"))
		if again.Info().Fork != fork+1 {
			t.Errorf("fork %d", again.Info().Fork)
		}
	})
}

// A purge that is interrupted anywhere leaves nothing that opens, or all.
func TestPurgeIsNeverHalf(t *testing.T) {
	for _, atomic := range []bool{true, false} {
		for at := 1; ; at++ {
			ds := brittle.New(atomic, uint64(at))
			f, _ := writer(t, ds, 20)
			ds.Fail(at, true)
			err := f.Purge(t.Context())
			done := !ds.Broken()
			ds.Heal()
			ds.Crash()
			again, openErr := Open(t.Context(), ds, Options{Prefix: testPrefix})
			switch {
			case openErr == nil:
				if err := again.Check(t.Context()); err != nil || again.Info().Length != 20 {
					t.Errorf("operation %d: half a feed: %v", at, err)
				}
				again.Close()
			case !errors.Is(openErr, ErrNotFound):
				t.Errorf("operation %d: open: %v", at, openErr)
			}
			if err := Purge(t.Context(), ds, testPrefix); err != nil {
				t.Fatal(err)
			}
			if left := ds.Keys(); len(left) > 0 {
				t.Errorf("operation %d: %d records are left", at, len(left))
			}
			if done {
				if err != nil {
					t.Errorf("purge: %v", err)
				}
				break
			}
		}
	}
}
