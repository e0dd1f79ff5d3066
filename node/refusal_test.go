package node

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// gate refuses all connections that come in, once it is known who calls.
type gate struct{}

func (gate) InterceptPeerDial(peer.ID) bool               { return true }
func (gate) InterceptAddrDial(peer.ID, ma.Multiaddr) bool { return true }
func (gate) InterceptAccept(network.ConnMultiaddrs) bool  { return true }
func (gate) InterceptSecured(d network.Direction, _ peer.ID, _ network.ConnMultiaddrs) bool {
	return d == network.DirOutbound
}
func (gate) InterceptUpgraded(network.Conn) (bool, control.DisconnectReason) { return true, 0 }

// newRefuser returns a libp2p host without our protocols.
func newRefuser(t *testing.T, opts ...libp2p.Option) peer.AddrInfo {
	t.Helper()
	h, err := libp2p.New(append(opts, libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return peer.AddrInfo{ID: h.ID(), Addrs: h.Addrs()}
}

func TestFoundTellsWhoRefuses(t *testing.T) {
	t.Parallel()
	sa, sc := newStore(t), newStore(t)
	door := newNode(t, sa, WithHandshakeKey(named(t, sa, "door").Key()))
	gone := newRefuser(t)
	gone.Addrs = []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/tcp/1")}
	empty := newNode(t, newStore(t))
	for _, c := range []struct {
		name string
		p    peer.AddrInfo
		want Found
	}{
		{"behind a door", info(door), Found{NRefused: 1}},
		{"of another kind", newRefuser(t), Found{NRefused: 1}},
		{"behind a gate", newRefuser(t, libp2p.ConnectionGater(gate{})), Found{NRefused: 1}},
		{"not there", gone, Found{Others: 1}},
		{"without the feed", info(empty), Found{Others: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			store := newStore(t)
			n := newNode(t, store)
			s := keyed(t, store, named(t, sc, c.name).Key())
			remove := n.AddPeer(c.p)
			eventually(t, "it is known how the peer stands", func() bool {
				f := n.Found(s.Key())
				return f.Undecided == 0 && f.NRefused == c.want.NRefused && f.Others == c.want.Others
			})
			if f := n.Found(s.Key()); f.NRefused > 0 && (len(f.Refused) != 1 || f.Refused[0].ID != c.p.ID || len(f.Refused[0].Addrs) == 0) {
				t.Errorf("got %v, want %s with its addresses", f.Refused, c.p.ID)
			}
			remove()
			eventually(t, "the peer is forgotten", func() bool { f := n.Found(s.Key()); return f.NRefused+f.Others+f.Undecided == 0 })
		})
	}
}

func TestReplicateTCPTellsARefusalFromAnEnd(t *testing.T) {
	t.Parallel()
	sa := newStore(t)
	doored := newNode(t, sa, WithTCP("127.0.0.1:0"), WithHandshakeKey(named(t, sa, "door").Key()))
	open := newNode(t, newStore(t), WithTCP("127.0.0.1:0"))
	full, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		for {
			c, err := full.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	t.Cleanup(func() { full.Close(); <-over })
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()

	store := newStore(t)
	n := newNode(t, store)
	named(t, store, "log")
	for name, addr := range map[string]string{"door": doored.TCPAddr().String(), "full": full.Addr().String()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := n.ReplicateTCP(testContext(t), addr, nil); !errors.Is(err, ErrRefused) {
				t.Errorf("got %v, want ErrRefused", err)
			}
		})
	}
	if err := n.ReplicateTCP(testContext(t), closed.Addr().String(), nil); err == nil || errors.Is(err, ErrRefused) {
		t.Errorf("nobody listens: got %v, want another error than ErrRefused", err)
	}
	ctx, cancel := context.WithCancel(testContext(t))
	ended := make(chan error, 1)
	go func() { ended <- n.ReplicateTCP(ctx, open.TCPAddr().String(), nil) }()
	eventually(t, "the peer has answered", func() bool {
		n.replicator.mu.Lock()
		defer n.replicator.mu.Unlock()
		for c := range n.replicator.conns {
			if c.Peer() == "tcp:"+open.TCPAddr().String() && c.Stats().Heard {
				return true
			}
		}
		return false
	})
	if err := open.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; errors.Is(err, ErrRefused) {
		t.Errorf("a peer that had said something has left: got %v", err)
	}
	cancel()
}

// TestPausesGrowAlthoughTheEndOfAnAttemptIsNews: a peer that is connected and takes no stream, or closes every connection, is
// not asked again without a pause.
func TestPausesGrowAlthoughTheEndOfAnAttemptIsNews(t *testing.T) {
	t.Parallel()
	for name, p := range map[string]peer.AddrInfo{"of another kind": newRefuser(t), "behind a gate": newRefuser(t, libp2p.ConnectionGater(gate{}))} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t, newStore(t))
			began := time.Now()
			defer n.AddPeer(p)()
			const tries = 4
			eventually(t, "several attempts have failed", func() bool {
				n.connector.mu.Lock()
				defer n.connector.mu.Unlock()
				return n.connector.targets[p.ID].redial.fails >= tries
			})
			// Pauses are at least half of what doubles from redialMin.
			if got, least := time.Since(began), (1+2+4)*redialMin/2; got < least {
				t.Errorf("%d attempts in %v, want at least %v", tries, got, least)
			}
		})
	}
}
