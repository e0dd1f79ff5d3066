package api

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	datastore "github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"

	"github.com/p2pcore/p2pcore/corestore"
	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/node"
)

// TestSeedsAreRemembered makes a second server of the store that a first one was told to seed.
func TestSeedsAreRemembered(t *testing.T) {
	t.Parallel()
	store, err := corestore.Open(t.Context(), dssync.MutexWrap(datastore.NewMapDatastore()), corestore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	start := func(context.Context) (*node.Node, error) {
		return node.New(store, node.WithNetwork(node.NetworkNone), node.WithMDNS(false), node.WithListenAddrs())
	}
	const peerAddr = "/ip4/192.0.2.1/tcp/1/p2p/12D3KooWKUyGy3d4oum9NycxsqzyHeikhszAkwx9yFCW6zd1W4nh"
	kept, deleted, dropped := feed.Key{1}, feed.Key{2}, feed.Key{3}
	first := New(Config{Store: store})
	for _, key := range []feed.Key{kept, deleted, dropped} {
		if status, body := call(t, first.Transport(), "POST", "/v1/cores/"+key.Hex()+"/seed?peer="+peerAddr, ""); status != 200 || !strings.Contains(body, `"seeding":true`) {
			t.Fatalf("seed: %d %s", status, body)
		}
	}
	if status, body := call(t, first.Transport(), "POST", "/v1/cores/"+kept.Hex()+"/seed?peer=nonsense", ""); status != 400 {
		t.Errorf("a peer that is none: %d %s", status, body)
	}
	if status, body := call(t, first.Transport(), "DELETE", "/v1/cores/"+dropped.Hex()+"/seed", ""); status != 200 || !strings.Contains(body, `"seeding":false`) {
		t.Errorf("unseed: %d %s", status, body)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := store.Delete(t.Context(), deleted, corestore.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}

	second := New(Config{Store: store, Start: start})
	if err := second.Serve(t.Context()); err != nil {
		t.Fatal(err)
	}
	active := func() (keys []feed.Key) {
		for f := range store.Active() {
			keys = append(keys, f.Key())
		}
		return keys
	}
	for deadline := time.Now().Add(time.Minute); !slices.Equal(active(), []feed.Key{kept}) || !slices.Equal(second.seeds.keys(), []feed.Key{kept}); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("open are %v, on the list %v; want %v", active(), second.seeds.keys(), kept)
		}
	}
	second.seeds.mu.Lock()
	peers := second.seeds.list[0].Peers
	second.seeds.mu.Unlock()
	if !slices.Equal(peers, []string{peerAddr}) {
		t.Errorf("the peers are %v", peers)
	}
	if status, body := call(t, second.Transport(), "GET", "/readyz", ""); status != 200 {
		t.Errorf("readyz: %d %s", status, body)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	if got := active(); len(got) != 0 {
		t.Errorf("after Close %v are open", got)
	}

	// A list that cannot be read is no empty list.
	if err := store.SetValue(t.Context(), seedsKey, []byte("{")); err != nil {
		t.Fatal(err)
	}
	third := New(Config{Store: store, Start: start})
	defer third.Close()
	if err := third.Serve(t.Context()); !errors.Is(err, feed.ErrCorrupt) {
		t.Errorf("with a damaged list: %v", err)
	}
}
