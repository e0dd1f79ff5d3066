package feed

import (
	"context"
	"slices"
	"sync"
	"testing"

	datastore "github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"
)

// diary is a datastore that writes down in which order things happen.
type diary struct {
	datastore.Batching
	mu      sync.Mutex
	entries []string
}

func (d *diary) note(entry string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.entries = append(d.entries, entry)
}

func (d *diary) read() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.entries)
}

func (d *diary) Batch(ctx context.Context) (datastore.Batch, error) {
	b, err := d.Batching.Batch(ctx)
	return &diaryBatch{b, d}, err
}

func (d *diary) Sync(ctx context.Context, prefix datastore.Key) error {
	err := d.Batching.Sync(ctx, prefix)
	d.note("sync")
	return err
}

type diaryBatch struct {
	datastore.Batch
	d *diary
}

func (b *diaryBatch) Commit(ctx context.Context) error {
	err := b.Batch.Commit(ctx)
	b.d.note("commit")
	return err
}

// A log that forgets what it has announced forks itself: whoever tells peers hears of an append, and
// sees it, only when it is on stable storage.
func TestAppendIsDurableBeforeAnybodyHearsOfIt(t *testing.T) {
	for name, want := range map[string][]string{
		"atomic":     {"commit", "sync", "heard"},
		"not atomic": {"commit", "sync", "commit", "sync", "heard"},
	} {
		t.Run(name, func(t *testing.T) {
			d := &diary{Batching: dssync.MutexWrap(datastore.NewMapDatastore())}
			var ds datastore.Batching = d
			if name == "atomic" {
				ds = atomicStore{d}
			}
			pair := NewKeyPair()
			f := create(t, ds, Options{KeyPair: &pair})
			s, err := f.Session(SessionOptions{})
			if err != nil {
				t.Fatal(err)
			}
			sub := f.SubscribeFunc(func() { d.note("heard") })
			defer sub.Close()
			before := len(d.read())
			if _, err := s.Append(t.Context(), []byte("a"), []byte("b")); err != nil {
				t.Fatal(err)
			}
			if got := d.read()[before:]; !slices.Equal(got, want) {
				t.Errorf("append did %v, want %v", got, want)
			}
		})
	}
}
