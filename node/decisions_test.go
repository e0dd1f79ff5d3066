package node

import (
	"net"
	"testing"

	"github.com/p2pcore/p2pcore/dht"
)

// probes are those of n, by target.
func probes(n *Node) map[string]bool {
	all := make(map[string]bool)
	for _, p := range n.Probes() {
		all[p.Target] = p.OK
	}
	return all
}

func TestDecisionsAreCounted(t *testing.T) {
	t.Parallel()
	sa, sb, sc := newStore(t), newStore(t), newStore(t)
	door := named(t, sa, "door")
	a := newNode(t, sa, WithHandshakeKey(door.Key()))
	member, stranger := newNode(t, sb, WithHandshakeKey(door.Key())), newNode(t, sc)
	connect(t, member, a)
	eventually(t, "the member is let in", func() bool { return a.Figures().Decisions.ConnectionsAccepted > 0 })
	if d := a.Figures().Decisions; d.ConnectionsAccepted != 1 || d.DoorsRefused != 0 || d.ConnectionsRefused != 0 {
		t.Errorf("with a member: %+v", d)
	}
	// The member has a feed open of which nobody else knows, then one that is stored here and not open.
	before := a.Figures().Decisions
	keyed(t, sb, named(t, sc, "elsewhere").Key())
	eventually(t, "a feed is unknown", func() bool { return a.Figures().Decisions.FeedsUnknown > before.FeedsUnknown })
	stored := named(t, sa, "stored")
	appendBlocks(t, stored, "first")
	stored.Close()
	wantBlocks(t, keyed(t, sb, stored.Key()), "first")

	if err := stranger.Connect(testContext(t), info(a)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the door is held", func() bool { return a.Figures().Decisions.DoorsRefused >= 1 })
	if d := stranger.Figures().Decisions; d.ConnectionsAccepted != 0 || d.DoorsRefused != 0 {
		t.Errorf("who has dialled has decided: %+v", d)
	}
}

// farConn is a connection from another machine.
type farConn struct{ net.Conn }

func (farConn) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1} }

func TestConnectionsPastTheBoundAreCounted(t *testing.T) {
	t.Parallel()
	n := newNode(t, newStore(t))
	n.raw.mu.Lock()
	n.raw.all = maxTCPConns
	n.raw.mu.Unlock()
	near, far := net.Pipe()
	defer near.Close()
	n.raw.serve(testContext(t), farConn{far})
	if d := n.Figures().Decisions; d.ConnectionsRefused != 1 || d.ConnectionsAccepted != 0 {
		t.Errorf("got %+v, want one connection refused", d)
	}
}

func TestProbesTellWhatIsInTouch(t *testing.T) {
	t.Parallel()
	a, b := newNode(t, newStore(t)), newNode(t, newStore(t))
	if p := probes(a); len(p) != 1 || !p["listen"] {
		t.Errorf("alone: got %v, want listen", p)
	}
	remove := a.AddPeer(info(b))
	eventually(t, "the peer is in touch", func() bool { return probes(a)["peers"] })
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the peer is gone", func() bool { ok, told := probes(a)["peers"]; return told && !ok })
	remove()
	eventually(t, "the peer is forgotten", func() bool { _, told := probes(a)["peers"]; return !told })
}

// TestProbesOfANetwork has a node enter a network by another, which then goes.
func TestProbesOfANetwork(t *testing.T) {
	t.Parallel()
	entry := newNode(t, newStore(t), WithNetwork("probes"))
	n := newNode(t, newStore(t), WithNetwork("probes"), WithBootstrap(info(entry)))
	if p := probes(entry); len(p) != 2 || !p["listen"] || p["dht"] {
		t.Errorf("who enters by nobody: got %v, want listen, and no dht", p)
	}
	eventually(t, "the network is reached", func() bool { p := probes(n); return p["bootstrap"] && p["dht"] })
	if err := entry.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the bootstrap peer is gone", func() bool { ok, told := probes(n)["bootstrap"]; return told && !ok })
	if err := n.NetworkErr(); err != nil && err != dht.ErrNoNetwork {
		t.Error(err)
	}
}
