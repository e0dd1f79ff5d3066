package node

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/p2pcore/p2pcore/dht"
	"github.com/p2pcore/p2pcore/feed"
)

func newBootstrap(t testing.TB, network string, opts ...Option) *Bootstrap {
	t.Helper()
	base := []Option{WithListenAddrs(ma.StringCast(loopbackTCP))}
	b, err := StartBootstrap(testContext(t), BootstrapOptions{Network: network, Options: append(base, opts...)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Errorf("close bootstrap: %v", err)
		}
	})
	return b
}

func enter(b *Bootstrap, network string) []Option {
	return []Option{WithNetwork(network), WithBootstrap(peer.AddrInfo{ID: b.ID(), Addrs: b.host.Addrs()})}
}

func join(t testing.TB, n *Node, key feed.Key, m dht.Mode) (leave func()) {
	t.Helper()
	leave, err := n.Join(key, m)
	if err != nil {
		t.Fatal(err)
	}
	return leave
}

func TestNodesShareAFeedByItsKeyAlone(t *testing.T) {
	t.Parallel()
	b := newBootstrap(t, "test")
	sa, sb := newStore(t), newStore(t)
	began := time.Now()
	sharer, getter := newNode(t, sa, enter(b, "test")...), newNode(t, sb, enter(b, "test")...)
	w := named(t, sa, "log")
	appendBlocks(t, w, "first")
	join(t, sharer, w.Key(), dht.Announce)
	r := keyed(t, sb, w.Key())
	join(t, getter, w.Key(), dht.Lookup)
	wantBlocks(t, r, "first")
	t.Logf("from two new nodes to the first block: %v", time.Since(began))
	eventually(t, "the announcement is known to be out", func() bool { return sharer.Announced(w.Key()) })
	if err := getter.Refresh(testContext(t), w.Key()); err != nil {
		t.Errorf("refresh: %v", err)
	}
	if err := getter.NetworkErr(); err != nil {
		t.Errorf("network error %v in a network that works", err)
	}
}

func TestUpdateWaitsForTheFirstLookUp(t *testing.T) {
	t.Parallel()
	b := newBootstrap(t, "test")
	sa, sb := newStore(t), newStore(t)
	sharer := newNode(t, sa, enter(b, "test")...)
	w := named(t, sa, "log")
	appendBlocks(t, w, "first")
	join(t, sharer, w.Key(), dht.Announce)
	eventually(t, "announced", func() bool { return sharer.Announced(w.Key()) })

	getter := newNode(t, sb, enter(b, "test")...)
	r := keyed(t, sb, w.Key())
	join(t, getter, w.Key(), dht.Lookup)
	grown, err := r.Update(testContext(t))
	if err != nil || !grown || r.Info().Length != 1 {
		t.Errorf("update: grown %v, %v, length %d; want true, nil, 1", grown, err, r.Info().Length)
	}
}

func TestEmptyRoutingTableIsAnErrorWithAName(t *testing.T) {
	t.Parallel()
	n := newNode(t, newStore(t), WithNetwork("lonely"))
	key := feed.Key{1}
	join(t, n, key, dht.Announce|dht.Lookup)
	if err := n.NetworkErr(); !errors.Is(err, dht.ErrNoNetwork) {
		t.Errorf("network error %v, want ErrNoNetwork", err)
	}
	if err := n.Refresh(testContext(t), key); !errors.Is(err, dht.ErrNoNetwork) {
		t.Errorf("refresh: error %v, want ErrNoNetwork", err)
	}
	if n.Announced(key) {
		t.Error("announced to nobody")
	}
	if err := n.Refresh(testContext(t), feed.Key{2}); !errors.Is(err, ErrNotJoined) {
		t.Errorf("refresh of a feed that is not joined: error %v, want ErrNotJoined", err)
	}
}

func TestNetworkThatComesLate(t *testing.T) {
	t.Parallel()
	sa, sb := newStore(t), newStore(t)
	sharer, getter := newNode(t, sa, WithNetwork("late")), newNode(t, sb, WithNetwork("late"))
	w := named(t, sa, "log")
	appendBlocks(t, w, "first")
	join(t, sharer, w.Key(), dht.Announce)
	r := keyed(t, sb, w.Key())
	join(t, getter, w.Key(), dht.Lookup)

	b := newBootstrap(t, "late")
	for _, n := range []*Node{sharer, getter} {
		n.AddBootstrap(peer.AddrInfo{ID: b.ID(), Addrs: b.host.Addrs()})
	}
	wantBlocks(t, r, "first")
}

func TestBootstrapRestartLosesNothing(t *testing.T) {
	t.Parallel()
	first := newBootstrap(t, "test")
	key := first.host.Peerstore().PrivKey(first.ID())
	addrs := first.host.Addrs()
	opts := enter(first, "test")
	sa := newStore(t)
	sharer := newNode(t, sa, opts...)
	w := named(t, sa, "log")
	appendBlocks(t, w, "first")
	join(t, sharer, w.Key(), dht.Announce)
	eventually(t, "announced", func() bool { return sharer.Announced(w.Key()) })
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the connection is gone", func() bool { return len(sharer.Peers()) == 0 })

	// The new one has forgotten all records.
	newBootstrap(t, "test", WithIdentity(key), WithListenAddrs(addrs...))
	sb := newStore(t)
	getter := newNode(t, sb, opts...)
	r := keyed(t, sb, w.Key())
	join(t, getter, w.Key(), dht.Lookup)
	wantBlocks(t, r, "first")
}

func TestNetworksStayApart(t *testing.T) {
	t.Parallel()
	red, blue := newBootstrap(t, "red"), newBootstrap(t, "blue")
	sa, sb := newStore(t), newStore(t)
	// The getter enters by the other network's door.
	sharer, getter := newNode(t, sa, enter(red, "red")...), newNode(t, sb, enter(blue, "red")...)
	w := named(t, sa, "log")
	join(t, sharer, w.Key(), dht.Announce)
	eventually(t, "announced", func() bool { return sharer.Announced(w.Key()) })
	eventually(t, "connected", func() bool { return len(getter.Peers()) == 1 })
	join(t, getter, w.Key(), dht.Lookup)
	if err := getter.Refresh(testContext(t), w.Key()); !errors.Is(err, dht.ErrNoNetwork) {
		t.Errorf("refresh: error %v, want ErrNoNetwork", err)
	}
}

func TestLeaveEndsTheLookUp(t *testing.T) {
	t.Parallel()
	b := newBootstrap(t, "test")
	n := newNode(t, newStore(t), enter(b, "test")...)
	key := feed.Key{1}
	one, two := join(t, n, key, dht.Lookup), join(t, n, key, dht.Lookup|dht.Announce)
	one()
	one()
	if n.lookedUp(key) == nil {
		t.Error("the look-up ended while somebody wants it")
	}
	two()
	if n.lookedUp(key) != nil {
		t.Error("the look-up goes on after the last leave")
	}
	if err := n.Refresh(testContext(t), key); !errors.Is(err, ErrNotJoined) {
		t.Errorf("refresh: error %v, want ErrNotJoined", err)
	}
}

func TestDialsAreGivenUpInTime(t *testing.T) {
	t.Parallel()
	n := newNode(t, newStore(t))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	gone := newNode(t, newStore(t))
	target := info(gone)
	if err := gone.Close(); err != nil {
		t.Fatal(err)
	}
	if err := n.Connect(ctx, target); !errors.Is(err, context.Canceled) {
		t.Errorf("connect with an ended context: error %v, want context.Canceled", err)
	}
	if err := n.Connect(testContext(t), target); err == nil {
		t.Error("connected to a node that is closed")
	}
}

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	somebody := peer.AddrInfo{ID: "x"}
	for name, opts := range map[string][]Option{
		"a network without a name":         {WithNetwork("")},
		"a slash in a network's name":      {WithNetwork("a/b")},
		"a bootstrap peer without address": {WithNetwork("a"), WithBootstrap(somebody)},
		"bootstrap peers without network":  {WithNetwork(NetworkNone), WithBootstrap(peer.AddrInfo{ID: "x", Addrs: []ma.Multiaddr{ma.StringCast(loopbackTCP)}})},
		"no host":                          {WithHost(nil)},
		"no identity":                      {WithIdentity(nil)},
		"no user agent":                    {WithUserAgent("")},
	} {
		if n, err := New(newStore(t), opts...); err == nil {
			n.Close()
			t.Errorf("%s: no error", name)
		}
	}
	if b, err := StartBootstrap(t.Context(), BootstrapOptions{Network: NetworkPublic}); err == nil {
		b.Close()
		t.Error("a bootstrap node for the public network: no error")
	}
}

func TestMDNSServiceNames(t *testing.T) {
	t.Parallel()
	long := "a-name-of-a-network-that-is-so-long-that-it-does-not-fit-a-label"
	for network, want := range map[string]string{
		"public":  "_p2pcore-public._udp",
		"none":    "_p2pcore-none._udp",
		"lab-2":   "_p2pcore-lab-2._udp",
		"Lab-2":   "_p2pcore-lab-2-8b82794a._udp",
		"lab.two": "_p2pcore-lab-two-45a12d30._udp",
		long:      "_p2pcore-a-name-of-a-network-that-is-so-long-that-it-d-ca1bc19f._udp",
	} {
		got := mdnsService(network)
		if got != want {
			t.Errorf("service of %q is %q, want %q", network, got, want)
		}
		if label := len(got) - len("._udp"); label > 63 {
			t.Errorf("service of %q has a label of %d bytes, at most 63 are allowed", network, label)
		}
	}
}

// TestPublicNetworkUnreached starts a node as applications do, with all defaults but the bootstrap peers: there are none.
func TestPublicNetworkUnreached(t *testing.T) {
	t.Parallel()
	n := newNode(t, newStore(t), WithNetwork(NetworkPublic), WithBootstrap(), WithRelay(true),
		WithListenAddrs(ma.StringCast("/ip4/0.0.0.0/tcp/0"), ma.StringCast("/ip4/0.0.0.0/udp/0/quic-v1")))
	join(t, n, feed.Key{1}, dht.Announce|dht.Lookup)
	if err := n.NetworkErr(); !errors.Is(err, dht.ErrNoNetwork) {
		t.Errorf("network error %v, want ErrNoNetwork", err)
	}
}

func TestApplicationsOwnHostInANetwork(t *testing.T) {
	t.Parallel()
	b := newBootstrap(t, "test")
	h := rawHost(t)
	before := h.Mux().Protocols()
	sa, sb := newStore(t), newStore(t)
	a, err := New(sa, append(enter(b, "test"), WithHost(h), WithMDNS(false))...)
	if err != nil {
		t.Fatal(err)
	}
	w := named(t, sa, "log")
	appendBlocks(t, w, "first")
	join(t, a, w.Key(), dht.Announce)
	reader := newNode(t, sb, enter(b, "test")...)
	r := keyed(t, sb, w.Key())
	join(t, reader, w.Key(), dht.Lookup)
	wantBlocks(t, r, "first")
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if after := h.Mux().Protocols(); len(after) != len(before) {
		t.Errorf("after the node the host speaks %v, before it %v", after, before)
	}
}
