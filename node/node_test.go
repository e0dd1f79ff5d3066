package node

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/p2pcore/p2pcore/corestore"
	"github.com/p2pcore/p2pcore/dht"
	"github.com/p2pcore/p2pcore/feed"
)

func TestNodesShareAFeedAfterConnect(t *testing.T) {
	t.Parallel()
	for name, addr := range map[string]string{"TCP": loopbackTCP, "QUIC": loopbackQUIC} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sa, sb := newStore(t), newStore(t)
			listen := WithListenAddrs(ma.StringCast(addr))
			a, b := newNode(t, sa, listen), newNode(t, sb, listen)
			blocks := numbered("block", 20)
			w := named(t, sa, "log")
			appendBlocks(t, w, blocks...)
			connect(t, b, a)
			r := keyed(t, sb, w.Key())
			wantBlocks(t, r, blocks...)

			appendBlocks(t, w, "one more")
			wantBlocks(t, r, append(blocks, "one more")...)
			if err := r.Feed().Check(testContext(t)); err != nil {
				t.Errorf("the reader's feed fails its audit: %v", err)
			}
		})
	}
}

func TestFeedOpenedBeforeTheConnection(t *testing.T) {
	t.Parallel()
	sa, sb := newStore(t), newStore(t)
	a, b := newNode(t, sa), newNode(t, sb)
	w := named(t, sa, "log")
	r := keyed(t, sb, w.Key())
	appendBlocks(t, w, "first")
	connect(t, a, b)
	wantBlocks(t, r, "first")
}

func TestStoredFeedIsServedWithoutASession(t *testing.T) {
	t.Parallel()
	sa, sb := newStore(t), newStore(t)
	a, b := newNode(t, sa), newNode(t, sb)
	w := named(t, sa, "log")
	appendBlocks(t, w, "first")
	key := w.Key()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	connect(t, b, a)
	r := keyed(t, sb, key)
	wantBlocks(t, r, "first")
}

func TestUnknownFeedEndsNothingElse(t *testing.T) {
	t.Parallel()
	sa, sb := newStore(t), newStore(t)
	a, b := newNode(t, sa), newNode(t, sb)
	connect(t, b, a)
	keyed(t, sb, feed.Key{1})
	w := named(t, sa, "log")
	appendBlocks(t, w, "first")
	r := keyed(t, sb, w.Key())
	wantBlocks(t, r, "first")
	if n := streams(b, a.Host().ID()); n != 1 {
		t.Errorf("%d streams, want 1", n)
	}
}

func TestTenFeedsUseOneStream(t *testing.T) {
	t.Parallel()
	sa, sb := newStore(t), newStore(t)
	a, b := newNode(t, sa), newNode(t, sb)
	var readers []*feed.Session
	for _, name := range numbered("log", 10) {
		w := named(t, sa, name)
		appendBlocks(t, w, name)
		readers = append(readers, keyed(t, sb, w.Key()))
		if len(readers) == 5 {
			connect(t, b, a)
		}
	}
	for i, name := range numbered("log", 10) {
		wantBlocks(t, readers[i], name)
	}
	for _, n := range []*Node{a, b} {
		peers := n.Peers()
		if len(peers) != 1 || !peers[0].Replicating || peers[0].Feeds != 10 {
			t.Errorf("peers are %+v, want one that replicates 10 feeds", peers)
		}
	}
	for _, ends := range [][2]*Node{{a, b}, {b, a}} {
		if n := streams(ends[0], ends[1].Host().ID()); n != 1 {
			t.Errorf("%d replication streams between the nodes, want 1 at both ends", n)
		}
	}
}

func TestSimultaneousDialsEndWithOneStream(t *testing.T) {
	t.Parallel()
	rounds := 200
	if testing.Short() {
		rounds = 20
	}
	for name, addr := range map[string]string{"TCP": loopbackTCP, "QUIC": loopbackQUIC} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sa, sb := newStore(t), newStore(t)
			w := named(t, sa, "log")
			r := keyed(t, sb, w.Key())
			for i := range rounds {
				dialEachOther(t, i, addr, sa, sb, w, r)
			}
		})
	}
}

func dialEachOther(t *testing.T, round int, addr string, sa, sb *corestore.Store, w, r *feed.Session) {
	t.Helper()
	listen := WithListenAddrs(ma.StringCast(addr))
	base := []Option{listen, WithNetwork(NetworkNone), WithMDNS(false), WithRelay(false)}
	a, err := New(sa, base...)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b, err := New(sb, base...)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()

	start := make(chan struct{})
	var wg sync.WaitGroup
	for _, pair := range [][2]*Node{{a, b}, {b, a}} {
		wg.Go(func() {
			<-start
			// One of the dials may fail in the collision of two TCP ports: the node tries again.
			pair[0].AddPeer(info(pair[1]))
		})
	}
	close(start)
	wg.Wait()

	flow := func(index int) {
		block := fmt.Sprintf("round %d, block %d", round, index)
		appendBlocks(t, w, block)
		got, err := r.Get(testContext(t), uint64(index))
		if err != nil || string(got) != block {
			t.Fatalf("round %d: got block %q, %v, want %q", round, got, err, block)
		}
	}
	flow(2 * round)
	eventually(t, "one stream, the same at both ends", func() bool { return oneStream(a, b) })
	flow(2*round + 1)
	if !oneStream(a, b) {
		t.Fatalf("round %d: the one stream did not stay", round)
	}
}

// oneStream tells whether a and b run exactly one stream, opened by one and accepted by the other, over the same
// connection.
func oneStream(a, b *Node) bool {
	if streams(a, b.Host().ID()) != 1 || streams(b, a.Host().ID()) != 1 {
		return false
	}
	la, sa, _, _ := a.links.describe(b.Host().ID())
	lb, sb, _, _ := b.links.describe(a.Host().ID())
	return la != nil && lb != nil && la.outbound != lb.outbound &&
		sa.Conn().LocalMultiaddr().Equal(sb.Conn().RemoteMultiaddr()) &&
		sa.Conn().RemoteMultiaddr().Equal(sb.Conn().LocalMultiaddr())
}

func TestStreamComesBackAfterALoss(t *testing.T) {
	t.Parallel()
	sa, sb := newStore(t), newStore(t)
	a, b := newNode(t, sa), newNode(t, sb)
	w := named(t, sa, "log")
	r := keyed(t, sb, w.Key())
	connect(t, b, a)
	appendBlocks(t, w, "first")
	wantBlocks(t, r, "first")
	for _, c := range a.Host().Network().ConnsToPeer(b.Host().ID()) {
		c.Close()
	}
	appendBlocks(t, w, "second")
	wantBlocks(t, r, "first", "second")
}

func TestNodeRestart(t *testing.T) {
	t.Parallel()
	sa, sb := newStore(t), newStore(t)
	w := named(t, sa, "log")
	r := keyed(t, sb, w.Key())
	appendBlocks(t, w, "first")
	b := newNode(t, sb)
	key := b.Host().Peerstore().PrivKey(b.Host().ID())
	a := newNode(t, sa)
	connect(t, a, b)
	wantBlocks(t, r, "first")
	boot := b.links.boot
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}

	again := newNode(t, sb, WithIdentity(key))
	if again.Host().ID() != b.Host().ID() {
		t.Fatalf("the peer ID changed to %s with the same identity", again.Host().ID())
	}
	if again.links.boot <= boot {
		t.Errorf("the second start is stamped %d, the first %d: stamps must grow", again.links.boot, boot)
	}
	appendBlocks(t, w, "second")
	connect(t, again, a)
	wantBlocks(t, r, "first", "second")
}

func TestApplicationsOwnHost(t *testing.T) {
	t.Parallel()
	h, err := libp2p.New(libp2p.ListenAddrStrings(loopbackTCP), libp2p.DisableMetrics())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	sa, sb := newStore(t), newStore(t)
	a, err := New(sa, WithHost(h), WithNetwork(NetworkNone), WithMDNS(false))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(newStore(t), WithHost(h), WithNetwork(NetworkNone), WithMDNS(false)); !errors.Is(err, ErrServed) {
		t.Errorf("a second node on one host: error %v, want ErrServed", err)
	}
	b := newNode(t, sb)
	w := named(t, sa, "log")
	appendBlocks(t, w, "first")
	connect(t, b, a)
	wantBlocks(t, keyed(t, sb, w.Key()), "first")
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if len(h.Addrs()) == 0 {
		t.Error("the node closed the application's host")
	}
	again, err := New(sa, WithHost(h), WithNetwork(NetworkNone), WithMDNS(false))
	if err != nil {
		t.Fatalf("a node on the host of a closed one: %v", err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestConnectToAHostThatDoesNotSpeak(t *testing.T) {
	t.Parallel()
	h, err := libp2p.New(libp2p.ListenAddrStrings(loopbackTCP), libp2p.DisableMetrics())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	n := newNode(t, newStore(t))
	err = n.Connect(testContext(t), peer.AddrInfo{ID: h.ID(), Addrs: h.Addrs()})
	if !errors.Is(err, ErrNotSpoken) {
		t.Errorf("error %v, want ErrNotSpoken", err)
	}
}

func TestClosedNodeRefuses(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	n := newNode(t, store)
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Fatalf("second close: %v", err)
	}
	if _, err := n.Join(feed.Key{}, dht.Announce); !errors.Is(err, ErrClosed) {
		t.Errorf("join: error %v, want ErrClosed", err)
	}
	if err := n.Connect(testContext(t), peer.AddrInfo{ID: n.Host().ID()}); !errors.Is(err, ErrClosed) {
		t.Errorf("connect: error %v, want ErrClosed", err)
	}
}

func TestNodeWithoutDHT(t *testing.T) {
	t.Parallel()
	n := newNode(t, newStore(t))
	leave, err := n.Join(feed.Key{}, dht.Announce|dht.Lookup)
	if err != nil {
		t.Fatalf("join: %v", err)
	}
	leave()
	leave()
	if err := n.NetworkErr(); !errors.Is(err, ErrNoDHT) {
		t.Errorf("network error %v, want ErrNoDHT", err)
	}
	if err := n.Refresh(testContext(t), feed.Key{}); !errors.Is(err, ErrNoDHT) {
		t.Errorf("refresh: error %v, want ErrNoDHT", err)
	}
}

func TestAddrsEndInTheNodesID(t *testing.T) {
	t.Parallel()
	n := newNode(t, newStore(t), WithListenAddrs(ma.StringCast("/ip4/0.0.0.0/tcp/0")))
	addrs := n.Addrs()
	loopback := 0
	for _, a := range addrs {
		ai, err := peer.AddrInfoFromP2pAddr(a)
		if err != nil || ai.ID != n.Host().ID() {
			t.Errorf("address %s does not name the node: %v", a, err)
		}
		if v, _ := a.ValueForProtocol(ma.P_IP4); v == "127.0.0.1" {
			loopback++
		} else if v == "0.0.0.0" {
			t.Errorf("address %s is not resolved", a)
		}
	}
	if loopback != 1 {
		t.Errorf("addresses %v have %d of loopback, want 1", addrs, loopback)
	}
}
