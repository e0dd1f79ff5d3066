package node

import (
	"errors"
	"io"
	"testing"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	ma "github.com/multiformats/go-multiaddr"

	hyper "github.com/p2pcore/p2pcore/protocol"
)

// TestNothingIsReplicatedOverARelay: the bootstrap node relays, and what it relays carries no feeds.
func TestNothingIsReplicatedOverARelay(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	b := newBootstrap(t, "test")
	hidden, err := libp2p.New(libp2p.NoListenAddrs, libp2p.EnableRelay(), libp2p.DisableMetrics())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { hidden.Close() })
	hidden.SetStreamHandler(ProtocolPlain, func(network.Stream) { t.Error("a stream was opened over a relay") })
	relay := peer.AddrInfo{ID: b.ID(), Addrs: b.host.Addrs()}
	if err := hidden.Connect(ctx, relay); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a reservation at the relay", func() bool {
		_, err := client.Reserve(ctx, hidden, relay)
		return err == nil
	})

	n := newNode(t, newStore(t), WithRelay(true))
	circuit := b.Addrs()[0].Encapsulate(ma.StringCast("/p2p-circuit"))
	err = n.Connect(ctx, peer.AddrInfo{ID: hidden.ID(), Addrs: []ma.Multiaddr{circuit}})
	if !errors.Is(err, ErrLimited) {
		t.Errorf("connect through a relay: error %v, want ErrLimited", err)
	}
	if peers := n.Peers(); len(peers) == 0 || n.links.live(hidden.ID()) {
		t.Errorf("peers %+v, want the relay and the hidden one, not replicating", peers)
	}

	s, err := hidden.NewStream(network.WithAllowLimitedConn(ctx, "test"), n.Host().ID(), ProtocolPlain)
	if err != nil {
		t.Fatal(err)
	}
	if err := hyper.WriteFrame(s, hyper.Opening{Boot: 1, Number: 1}.Append(nil)); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(s); err == nil || len(got) > 0 {
		t.Errorf("read %x, %v; want nothing and a reset", got, err)
	}
}
