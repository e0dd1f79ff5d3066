package feed

import (
	"errors"
	"testing"

	datastore "github.com/ipfs/go-datastore"
)

// TestFullDatastoreIsTruncated: what gives space back needs none.
func TestFullDatastoreIsTruncated(t *testing.T) {
	ds := &fullStore{memoryStore(), 1 << 20}
	f, s := writer(t, ds, 5)
	other, _ := writer(t, memoryStore(), 5)
	mirror := &fullStore{memoryStore(), 1 << 20}
	r := reader(t, mirror, other)
	upgrade(t, other, r)
	ds.free, mirror.free = 0, 0
	if _, err := s.Truncate(t.Context(), 2, TruncateOptions{}); err != nil {
		t.Errorf("truncate: %v", err)
	}
	if got := f.Info(); got.Length != 2 || got.Fork != 1 {
		t.Errorf("the feed is at length %d, fork %d, want 2 and 1", got.Length, got.Fork)
	}
	follow(t, f, r)
	if got := r.Info(); got.Head != f.Info().Head {
		t.Errorf("the reader is at %+v, want %+v", got.Head, f.Info().Head)
	}
}

// fullStore is a datastore that knows how much it can take.
type fullStore struct {
	datastore.Batching
	free uint64
}

func (s *fullStore) FreeSpace() (uint64, error) { return s.free, nil }

func TestFullDatastoreIsLeftAlone(t *testing.T) {
	ds := &fullStore{memoryStore(), 1 << 20}
	f, s := writer(t, ds, 5)
	other, _ := writer(t, memoryStore(), 9)
	ds.free = 0
	if _, err := s.Append(t.Context(), nil); !errors.Is(err, ErrNoSpace) {
		t.Errorf("append: %v, want ErrNoSpace", err)
	}
	p := prove(t, other, Request{Upgrade: &UpgradeRequest{Start: 5, Length: 4}})
	if _, err := f.Apply(t.Context(), []*Proof{p}); !errors.Is(err, ErrNoSpace) {
		t.Errorf("apply: %v, want ErrNoSpace", err)
	}
	pair := NewKeyPair()
	if _, err := Create(t.Context(), ds, Options{Prefix: "/00000002", KeyPair: &pair}); !errors.Is(err, ErrNoSpace) {
		t.Errorf("create: %v, want ErrNoSpace", err)
	}
	if _, err := s.Get(t.Context(), 4); err != nil {
		t.Errorf("get: %v", err)
	}
	if _, err := s.Clear(t.Context(), Range{Start: 1, End: 2}); err != nil {
		t.Errorf("clear: %v", err)
	}
	ds.free = 1 << 20
	f = reopen(t, f, ds, Options{})
	if a := apply(t, f, p)[0]; a.Err != nil || f.Info().Length != 9 {
		t.Errorf("apply with space again: %+v, length %d", a, f.Info().Length)
	}
}
