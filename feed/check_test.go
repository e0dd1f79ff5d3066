package feed

import (
	"context"
	"errors"
	"strings"
	"testing"

	datastore "github.com/ipfs/go-datastore"

	"github.com/p2pcore/p2pcore/internal/flattree"
)

func TestCheckFindsDamage(t *testing.T) {
	pair := KeyPairFromSeed([32]byte{7})
	for name, c := range map[string]struct {
		what   string
		damage func(t *testing.T, f *Feed, put func(datastore.Key, []byte))
	}{
		"a block that is gone": {"block 5:", func(t *testing.T, f *Feed, put func(datastore.Key, []byte)) {
			put(f.storage.blockKey(0, 5), nil)
		}},
		"a block with another byte": {"block 70:", func(t *testing.T, f *Feed, put func(datastore.Key, []byte)) {
			b := testBlock(76)
			b[0] ^= 1
			put(f.storage.blockKey(0, 70), b)
		}},
		"a page with a wrong hash": {"node 1:", func(t *testing.T, f *Feed, put func(datastore.Key, []byte)) {
			p := loadedPage(t, f, 0)
			p.hash[1][4] ^= 1 // node 1, so that neither its parent nor itself is right
			p.hash[0][4] ^= 1
			put(f.storage.nodePageKey(0, 0), p.appendRecord(nil))
		}},
		"a node without a parent": {"hangs on nothing", func(t *testing.T, f *Feed, put func(datastore.Key, []byte)) {
			p := loadedPage(t, f, 0)
			p.drop(3)
			put(f.storage.nodePageKey(0, 0), p.appendRecord(nil))
		}},
		"a page cut short": {"page 1:", func(t *testing.T, f *Feed, put func(datastore.Key, []byte)) {
			put(f.storage.nodePageKey(0, 1), []byte{1, 2, 3})
		}},
		"a wrong signature": {"signature 100:", func(t *testing.T, f *Feed, put func(datastore.Key, []byte)) {
			h := *f.head
			h.signature = append([]byte{}, h.signature...)
			h.signature[20] ^= 1
			put(f.storage.headKey(), h.append(nil))
		}},
		"a wrong root": {"signature 100:", func(t *testing.T, f *Feed, put func(datastore.Key, []byte)) {
			h := *f.head
			h.roots = append([]Node{}, h.roots...)
			h.roots[0].Hash[0] ^= 1
			put(f.storage.headKey(), h.append(nil))
		}},
		"a shorter contiguous length": {"block", nil},
	} {
		t.Run(name, func(t *testing.T) {
			ds := atomicStore{memoryStore()}
			f, err := Create(t.Context(), ds, Options{Prefix: testPrefix, KeyPair: &pair})
			if err != nil {
				t.Fatal(err)
			}
			appendBlocks(t, session(t, f), testBlocks(0, 100)...)
			if err := f.Check(t.Context()); err != nil {
				t.Fatalf("before the damage: %v", err)
			}
			if c.damage == nil {
				f.head.contiguous = 7
				err = f.Check(t.Context())
				if !strings.Contains(err.Error(), "contiguous length 7") {
					t.Errorf("got %v", err)
				}
				return
			}
			f.Close()
			c.damage(t, f, func(key datastore.Key, value []byte) {
				var err error
				if value == nil {
					err = ds.Delete(t.Context(), key)
				} else {
					err = ds.Put(t.Context(), key, value)
				}
				if err != nil {
					t.Fatal(err)
				}
			})
			if f, err = Open(t.Context(), ds, Options{Prefix: testPrefix}); err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			err = f.Check(t.Context())
			var damage *CheckError
			if !errors.As(err, &damage) || !errors.Is(err, ErrCorrupt) {
				t.Fatalf("got %v, want a *CheckError", err)
			}
			found := false
			for _, d := range damage.Damages {
				found = found || strings.Contains(d.String(), c.what)
			}
			if !found {
				t.Errorf("got %v, want %q", damage.Damages, c.what)
			}
		})
	}
}

func loadedPage(t *testing.T, f *Feed, id pageID) *nodePage {
	t.Helper()
	b, err := f.storage.get(context.Background(), f.storage.nodePageKey(0, id))
	if err != nil {
		t.Fatal(err)
	}
	p, err := parseNodePage(b)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestOpenRefusesDamagedRecords(t *testing.T) {
	for _, kind := range []string{"a", "h", "i"} {
		ds := atomicStore{memoryStore()}
		w, _ := writer(t, memoryStore(), 300)
		key := w.Key()
		f, err := Create(t.Context(), ds, Options{Prefix: testPrefix, Key: &key})
		if err != nil {
			t.Fatal(err)
		}
		upgrade(t, w, f)
		fetch(t, w, f, 250)
		f.Close()
		if err := ds.Put(t.Context(), datastore.RawKey(testPrefix+"/"+kind+zeros), []byte{1, 0xff}); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), ds, Options{Prefix: testPrefix}); !errors.Is(err, ErrCorrupt) {
			t.Errorf("record %s: %v, want ErrCorrupt", kind, err)
		}
	}
}

func TestBlockLostInACrashIsFetchedAgain(t *testing.T) {
	ds := memoryStore() // not atomic
	w, _ := writer(t, memoryStore(), 100)
	r := reader(t, ds, w)
	upgrade(t, w, r)
	for i := range uint64(20) {
		fetch(t, w, r, i)
	}
	if err := ds.Delete(t.Context(), r.storage.blockKey(0, 9)); err != nil {
		t.Fatal(err)
	}
	sub := r.Subscribe()
	s := session(t, r)
	if _, err := s.Get(t.Context(), 9); !errors.Is(err, ErrNotAvailable) {
		t.Fatalf("get: %v, want ErrNotAvailable", err)
	}
	if c, ok := sub.Take(); !ok || len(c.Dropped) != 1 || c.Dropped[0] != (Range{Start: 9, End: 10}) {
		t.Errorf("change %+v, %v", c, ok)
	}
	if info := r.Info(); info.ContiguousLength != 9 || info.LocalBlocks != 19 {
		t.Errorf("got %+v", info)
	}
	fetch(t, w, r, 30) // the next commit stores what is left of the bits
	r = reopen(t, r, ds, Options{})
	if r.Has(Range{Start: 9, End: 10}) || !r.Has(Range{Start: 10, End: 20}) {
		t.Error("the bits are not as they were")
	}
	fetch(t, w, r, 9)
	if got := r.Info().ContiguousLength; got != 20 {
		t.Errorf("contiguous length %d, want 20", got)
	}
}

func TestDiskBytes(t *testing.T) {
	onStores(t, func(t *testing.T, ds datastore.Batching) {
		f, s := writer(t, ds, 0)
		empty, err := f.DiskBytes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		appendBlocks(t, s, make([]byte, 10_000))
		full, err := f.DiskBytes(t.Context())
		if err != nil || full < empty+10_000 || full > empty+11_000 {
			t.Errorf("%d bytes, then %d, %v", empty, full, err)
		}
	})
}

func TestLocateIsTheReverseOfIndex(t *testing.T) {
	seen := map[flattree.Index]bool{}
	for id := range pageID(3) {
		for _, id := range []pageID{id, 1<<pageLevelShift | id, 2<<pageLevelShift | id} {
			for slot := range uint(pageNodes) {
				at := id.index(slot)
				gotID, gotSlot := locate(at)
				if gotID != id || gotSlot != slot || seen[at] {
					t.Fatalf("page %x slot %d is node %d, which is at page %x slot %d", id, slot, at, gotID, gotSlot)
				}
				seen[at] = true
				start, end := at.Blocks()
				if first, last := id.blocks(); start < first || end > last {
					t.Fatalf("node %d lies outside its page %x", at, id)
				}
			}
		}
	}
	for at := range flattree.Index(1000) {
		if id, slot := locate(at); id.index(slot) != at {
			t.Fatalf("node %d is at page %x slot %d, which is node %d", at, id, slot, id.index(slot))
		}
	}
}
