package node

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	datastore "github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/p2pcore/p2pcore/corestore"
	"github.com/p2pcore/p2pcore/feed"
)

const (
	loopbackTCP  = "/ip4/127.0.0.1/tcp/0"
	loopbackQUIC = "/ip4/127.0.0.1/udp/0/quic-v1"
)

// patience bounds every wait of these tests: it ends a test that hangs and paces none that passes.
const patience = 60 * time.Second

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func newStore(t testing.TB) *corestore.Store {
	t.Helper()
	return newStoreWith(t, corestore.Options{})
}

func newStoreWith(t testing.TB, opts corestore.Options) *corestore.Store {
	t.Helper()
	store, err := corestore.Open(testContext(t), dssync.MutexWrap(datastore.NewMapDatastore()), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Errorf("close store: %v", err)
		}
	})
	return store
}

// newNode returns a node on loopback that finds nobody by itself; opts may change that.
func newNode(t testing.TB, store *corestore.Store, opts ...Option) *Node {
	t.Helper()
	base := []Option{WithListenAddrs(ma.StringCast(loopbackTCP)), WithNetwork(NetworkNone), WithMDNS(false), WithRelay(false)}
	n, err := New(store, append(base, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		began := time.Now()
		if err := n.Close(); err != nil {
			t.Errorf("close node: %v", err)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("closing the node took %v, want at most 5 s", took)
		}
	})
	return n
}

func info(n *Node) peer.AddrInfo { return peer.AddrInfo{ID: n.Host().ID(), Addrs: n.Host().Addrs()} }

func named(t testing.TB, s *corestore.Store, name string) *feed.Session {
	t.Helper()
	session, err := s.Named(testContext(t), name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { session.Close() })
	return session
}

func keyed(t testing.TB, s *corestore.Store, key feed.Key) *feed.Session {
	t.Helper()
	session, err := s.Keyed(testContext(t), key)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { session.Close() })
	return session
}

func appendBlocks(t testing.TB, s *feed.Session, blocks ...string) {
	t.Helper()
	data := make([][]byte, len(blocks))
	for i, b := range blocks {
		data[i] = []byte(b)
	}
	if _, err := s.Append(testContext(t), data...); err != nil {
		t.Fatal(err)
	}
}

// wantBlocks reads blocks from index 0 on, waiting for them.
func wantBlocks(t testing.TB, s *feed.Session, blocks ...string) {
	t.Helper()
	for i, want := range blocks {
		got, err := s.Get(testContext(t), uint64(i))
		if err != nil {
			t.Fatalf("get block %d: %v", i, err)
		}
		if !bytes.Equal(got, []byte(want)) {
			t.Fatalf("block %d is %q, want %q", i, got, want)
		}
	}
}

// eventually waits until cond holds.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	ctx := testContext(t)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

func connect(t testing.TB, a, b *Node) {
	t.Helper()
	if err := a.Connect(testContext(t), info(b)); err != nil {
		t.Fatalf("connect: %v", err)
	}
}

// streams counts the replication streams that n runs, over all connections to p.
func streams(n *Node, p peer.ID) (count int) {
	for _, c := range n.Host().Network().ConnsToPeer(p) {
		for _, s := range c.GetStreams() {
			if slices.Contains(streamProtocols, s.Protocol()) {
				count++
			}
		}
	}
	return count
}

func numbered(prefix string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("%s %d", prefix, i)
	}
	return out
}
