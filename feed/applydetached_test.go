package feed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	datastore "github.com/ipfs/go-datastore"
)

func proveDetached(t testing.TB, f *Feed, index uint64) []byte {
	t.Helper()
	proof, err := f.ProveDetached(t.Context(), &index)
	if err != nil {
		t.Fatal(err)
	}
	return proof
}

// A detached proof begins at nothing; a reader has some length. Whatever the two are, the proof is taken or
// called stale, and what is taken is what the proof says.
func TestApplyDetachedConnects(t *testing.T) {
	ctx := t.Context()
	const most = 9
	grown, stored, stale := 0, 0, 0
	for length := range uint64(most + 1) {
		for longer := max(length, 1); longer <= most; longer++ {
			w, _ := writer(t, memoryStore(), int(longer))
			for index := range longer {
				name := fmt.Sprintf("from %d to %d, block %d", length, longer, index)
				r := reader(t, memoryStore(), w)
				if length > 0 {
					upgradeTo(t, r, length)
				}
				before, proof := r.Info(), proveDetached(t, w, index)
				v, a, err := r.ApplyDetached(ctx, proof)
				if err != nil || v.Head != w.Info().Head || v.Index != index || !bytes.Equal(v.Block, testBlock(int(index))) {
					t.Fatalf("%s: %+v, %v", name, v, err)
				}
				after := r.Info()
				if errors.Is(a.Err, ErrStale) {
					if stale++; after != before || length == 0 || length == longer {
						t.Errorf("%s: %v, and %+v became %+v", name, a.Err, before, after)
					}
					continue
				}
				if a.Err != nil || a.Grown != (length < longer) || !a.Stored || after.Head != w.Info().Head || after.LocalBlocks != 1 {
					t.Errorf("%s: %+v, %+v", name, a, after)
				}
				if stored++; a.Grown {
					grown++
				}
				if got, err := session(t, r).GetLocal(ctx, index); err != nil || !bytes.Equal(got, testBlock(int(index))) {
					t.Errorf("%s: stored %q, %v", name, got, err)
				}
				if _, a, err := r.ApplyDetached(ctx, proof); err != nil || a != (Applied{}) {
					t.Errorf("%s, again: %+v, %v", name, a, err)
				}
			}
		}
	}
	if grown < 80 || stored < 100 || stale < 50 {
		t.Errorf("%d have grown, %d stored, %d were stale", grown, stored, stale)
	}
}

// upgradeTo brings a reader of the feed that writer makes to a length.
func upgradeTo(t testing.TB, r *Feed, length uint64) {
	t.Helper()
	w, _ := writer(t, memoryStore(), int(length))
	upgrade(t, w, r)
}

func TestApplyDetachedStoresDurably(t *testing.T) {
	onStores(t, func(t *testing.T, ds datastore.Batching) {
		ctx := t.Context()
		w, _ := writer(t, memoryStore(), 20)
		r := reader(t, ds, w)
		sub := r.Subscribe()
		if _, a, err := r.ApplyDetached(ctx, proveDetached(t, w, 13)); err != nil || a.Err != nil || !a.Grown {
			t.Fatal(a, err)
		}
		if told, ok := sub.Take(); !ok || told.Head != w.Info().Head || !told.Manifest || len(told.Added) != 1 {
			t.Errorf("told %+v", told)
		}
		// Of the same head: blocks hang on the roots, which are stored.
		for i := range uint64(20) {
			if _, a, err := r.ApplyDetached(ctx, proveDetached(t, w, i)); err != nil || a.Err != nil || a.Stored != (i != 13) {
				t.Errorf("block %d: %+v, %v", i, a, err)
			}
		}
		r = reopen(t, r, ds, Options{})
		if info := r.Info(); info.ContiguousLength != 20 || !info.HasManifest {
			t.Errorf("reopened: %+v", info)
		}
		before := r.Info()
		bad := proveDetached(t, w, 3)
		bad[60] ^= 1
		if _, _, err := r.ApplyDetached(ctx, bad); err == nil || r.Info() != before {
			t.Errorf("tampered: %v", err)
		}
		if _, _, err := r.ApplyDetached(ctx, proveDetached(t, compatWriter(t), 3)); !errors.Is(err, ErrKeyMismatch) {
			t.Errorf("of another feed: %v", err)
		}
	})
}

// All kinds of feeds, by an empty reader that knows the key only.
func TestApplyDetachedOfAllKinds(t *testing.T) {
	pinned, _ := prologueWriter(t, "a", "b")
	for name, w := range map[string]*Feed{"compat": compatWriter(t), "two of three": signersWriter(t), "prologue": pinned} {
		last := w.Info().Length - 1
		for _, index := range []uint64{0, last} {
			r := reader(t, memoryStore(), w)
			if _, a, err := r.ApplyDetached(t.Context(), proveDetached(t, w, index)); err != nil || a.Err != nil || !a.Stored || r.Info().Head != w.Info().Head {
				t.Errorf("%s, block %d: %+v, %v", name, index, a, err)
			}
			fetch(t, w, r, last/2)
		}
	}
}

func TestApplyDetachedAcrossForks(t *testing.T) {
	ctx := t.Context()
	w, ws := writer(t, memoryStore(), 9)
	old := proveDetached(t, w, 3)
	behind, full := reader(t, memoryStore(), w), reader(t, memoryStore(), w)
	upgrade(t, w, behind)
	upgrade(t, w, full)
	fetch(t, w, full, upTo(9)...)
	if _, err := ws.Truncate(ctx, 4, TruncateOptions{}); err != nil {
		t.Fatal(err)
	}
	cut := proveDetached(t, w, 2)
	appendBlocks(t, ws, []byte("another"))
	now := proveDetached(t, w, 4)

	empty := reader(t, memoryStore(), w)
	if _, a, err := empty.ApplyDetached(ctx, now); err != nil || a.Err != nil || !a.Grown || !a.Stored || empty.Info().Head != w.Info().Head {
		t.Errorf("an empty reader: %+v, %v", a, err)
	}
	// The roots of the shorter feed are all stored: it is clear what both have in common.
	if _, a, err := full.ApplyDetached(ctx, cut); err != nil || a.Err != nil || !a.Grown || full.Info().Fork != 1 || full.Info().ContiguousLength != 4 {
		t.Errorf("a full copy: %+v, %v, %+v", a, err, full.Info())
	}
	if _, a, err := full.ApplyDetached(ctx, now); err != nil || a.Err != nil || !a.Stored || full.Info().Head != w.Info().Head {
		t.Errorf("a full copy, on: %+v, %v, %+v", a, err, full.Info())
	}
	if v, a, err := full.ApplyDetached(ctx, old); err != nil || !errors.Is(a.Err, ErrStaleFork) || v.Head.Fork != 0 || full.Info().Head != w.Info().Head {
		t.Errorf("the fork before: %+v, %v", a, err)
	}
	before := behind.Info()
	if _, newer, err := behind.CheckDetached(cut); !newer || err != nil {
		t.Errorf("a later fork, shorter: newer %v, %v", newer, err)
	}
	// A sparse one may have to ask for more.
	if v, a, err := behind.ApplyDetached(ctx, cut); err != nil || v.Head.Fork != 1 || a.Err != nil && (!errors.Is(a.Err, ErrStaleFork) || behind.Info() != before) {
		t.Errorf("a sparse copy: %+v, %v", a, err)
	}
}

func TestApplyDetachedFindsConflicts(t *testing.T) {
	ctx := t.Context()
	a, b := twoWriters(t, 4, 9)
	shorter, longer := twoWriters(t, 4, 6)
	appendBlocks(t, session(t, longer), []byte("and more"))
	appendBlocks(t, session(t, longer), []byte("and more"))
	for name, c := range map[string]struct {
		feed  *Feed
		proof []byte
	}{
		"of the same length": {a, proveDetached(t, b, 7)},
		"of a shorter one":   {a, proveDetached(t, longer, 5)},
		"of a common block":  {a, proveDetached(t, b, 1)},
		"of a longer one":    {shorter, proveDetached(t, longer, 6)},
	} {
		before := c.feed.Info()
		v, applied, err := c.feed.ApplyDetached(ctx, c.proof)
		var conflict *ConflictError
		if !errors.As(err, &conflict) {
			t.Errorf("%s: %+v, %v", name, applied, err)
			continue
		}
		if v == nil || VerifyConflict(c.feed.Key(), conflict) != nil || c.feed.Info() != before {
			t.Errorf("%s: %+v", name, conflict)
		}
	}
	if err := a.Freeze(ctx, examineDetached(t, a, b)); err != nil {
		t.Fatal(err)
	}
	own := proveDetached(t, a, 2)
	if _, applied, err := a.ApplyDetached(ctx, own); err != nil || applied != (Applied{}) {
		t.Errorf("frozen, of what is stored: %+v, %v", applied, err)
	}
}

func examineDetached(t testing.TB, f, other *Feed) *ConflictError {
	t.Helper()
	_, _, err := f.ApplyDetached(t.Context(), proveDetached(t, other, 0))
	var c *ConflictError
	if !errors.As(err, &c) {
		t.Fatal(err)
	}
	return c
}

// meanwhile is a datastore that lets something happen at its next Get.
type meanwhile struct {
	datastore.Batching
	then func()
}

func (m *meanwhile) Get(ctx context.Context, key datastore.Key) ([]byte, error) {
	if then := m.then; then != nil {
		m.then = nil
		then()
	}
	return m.Batching.Get(ctx, key)
}

// The feed grows while the proof is fitted to what it had: it is fitted again.
func TestApplyDetachedWhileTheFeedGrows(t *testing.T) {
	w, _ := writer(t, memoryStore(), 12)
	halfway, _ := writer(t, memoryStore(), 8)
	ds := &meanwhile{Batching: memoryStore()}
	r := reader(t, ds, w)
	upgradeTo(t, r, 4)
	r = reopen(t, r, ds, Options{})
	grew := false
	ds.then = func() {
		upgrade(t, halfway, r)
		grew = true
	}
	_, a, err := r.ApplyDetached(t.Context(), proveDetached(t, w, 1))
	if err != nil || a != (Applied{Stored: true, Grown: true}) || !grew || r.Info().Head != w.Info().Head {
		t.Errorf("%+v, %v; grew meanwhile: %v", a, err, grew)
	}
}

// The machine's failure is an error and not the proof's fault.
func TestApplyDetachedOnAClosedFeed(t *testing.T) {
	w, _ := writer(t, memoryStore(), 4)
	r := reader(t, memoryStore(), w)
	proof := proveDetached(t, w, 1)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.ApplyDetached(t.Context(), proof); !errors.Is(err, ErrClosed) {
		t.Errorf("apply: %v", err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.ProveDetached(t.Context(), nil); !errors.Is(err, ErrClosed) {
		t.Errorf("prove: %v", err)
	}
}
