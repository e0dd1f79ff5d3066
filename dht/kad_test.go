package dht_test

import (
	"context"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	kaddht "github.com/libp2p/go-libp2p-kad-dht"
	"github.com/libp2p/go-libp2p-kad-dht/provider"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/p2pcore/p2pcore/dht"
)

// TestKademliaOnLoopback runs two Discoveries over kad-dht as it is, in a private network of five servers: one announces
// through a SweepingProvider, the other finds.
func TestKademliaOnLoopback(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var nodes []*kaddht.IpfsDHT
	for range 5 {
		h, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.DisableMetrics())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { h.Close() })
		d, err := kaddht.New(h, kaddht.ProtocolPrefix("/p2pcore/test"), kaddht.Mode(kaddht.ModeServer), kaddht.DisableValues())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { d.Close() })
		nodes = append(nodes, d)
	}
	discovery := func(d *kaddht.IpfsDHT) *dht.Discovery {
		sweep, err := provider.New(
			provider.WithHost(d.Host()), provider.WithRouter(d), provider.WithMessageSender(d.MessageSender()),
			provider.WithSelfAddrs(d.FilteredAddrs), provider.WithReplicationFactor(d.BucketSize()),
		)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { sweep.Close() })
		disc := dht.New(sweep, d, dht.Options{Self: d.PeerID(), TableSize: d.RoutingTable().Size})
		t.Cleanup(func() { disc.Close() })
		return disc
	}
	sharer, getter := discovery(nodes[1]), discovery(nodes[4])
	topic := dht.Topic{1, 2, 3}
	found := make(chan peer.ID, 100)
	if _, err := sharer.Join(topic, dht.Announce, nil); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	m, err := getter.Join(topic, dht.Lookup, func(_ context.Context, p peer.AddrInfo) {
		select {
		case found <- p.ID:
		default:
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Refresh(ctx); err != dht.ErrNoNetwork {
		t.Errorf("refresh before there is a network: %v, want ErrNoNetwork", err)
	}

	boot := peer.AddrInfo{ID: nodes[0].PeerID(), Addrs: nodes[0].Host().Addrs()}
	for _, d := range nodes[1:] {
		if err := d.Host().Connect(ctx, boot); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case p := <-found:
		if p != nodes[1].PeerID() {
			t.Errorf("found %s, want the announcer %s", p, nodes[1].PeerID())
		}
		t.Logf("found %v after joining", time.Since(began))
	case <-ctx.Done():
		t.Fatal("nobody was found")
	}
	if err := m.Refresh(ctx); err != nil {
		t.Errorf("refresh: %v", err)
	}
}
