package node

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	datastore "github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"

	"github.com/p2pcore/p2pcore/corestore"
	"github.com/p2pcore/p2pcore/feed"
)

// fillable is a datastore whose disk can be full.
type fillable struct {
	datastore.Batching
	full atomic.Bool
}

func (f *fillable) Put(ctx context.Context, k datastore.Key, v []byte) error {
	if f.full.Load() {
		return fmt.Errorf("disk: %w", feed.ErrNoSpace)
	}
	return f.Batching.Put(ctx, k, v)
}

// What is stored is served from a full disk too, where no start can be remembered.
func TestNodeStartsOnAFullDisk(t *testing.T) {
	t.Parallel()
	ds := &fillable{Batching: dssync.MutexWrap(datastore.NewMapDatastore())}
	store, err := corestore.Open(t.Context(), ds, corestore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	before, err := nextBoot(t.Context(), store)
	if err != nil {
		t.Fatal(err)
	}
	ds.full.Store(true)
	n, err := New(store, WithNetwork(NetworkNone), WithMDNS(false), WithListenAddrs())
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	if boot, err := nextBoot(t.Context(), store); err != nil || boot <= before {
		t.Errorf("start %d after %d, error %v", boot, before, err)
	}
}
