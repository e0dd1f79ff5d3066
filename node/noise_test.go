package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/p2pcore/p2pcore/corestore"
	"github.com/p2pcore/p2pcore/internal/lifecycle"
	hyper "github.com/p2pcore/p2pcore/protocol"
)

// foreigner is a peer that speaks the Noise protocol alone, and keeps every stream that it is given, as a JavaScript
// peer does.
type foreigner struct {
	t     *testing.T
	host  host.Host
	r     *Replicator
	group *lifecycle.Group
	ended chan error // capacity 16: how its conversations ended
}

func newForeigner(t *testing.T, store *corestore.Store) *foreigner {
	f := &foreigner{t: t, host: rawHost(t), r: NewReplicator(store, ReplicatorOptions{}), group: lifecycle.NewGroup(), ended: make(chan error, 16)}
	f.host.SetStreamHandler(ProtocolNoise, func(s network.Stream) { f.run(s, false) })
	t.Cleanup(func() {
		f.group.Close()
		f.r.Close()
	})
	return f
}

func (f *foreigner) run(s network.Stream, initiator bool) {
	f.group.Go(func(ctx context.Context) {
		f.ended <- f.r.RunNoise(ctx, s, NoiseConversation{Peer: s.Conn().RemotePeer().String(), Initiator: initiator})
	})
}

func (f *foreigner) info() peer.AddrInfo {
	return peer.AddrInfo{ID: f.host.ID(), Addrs: f.host.Addrs()}
}

// open opens a stream to n.
func (f *foreigner) open(n *Node) {
	f.t.Helper()
	if err := f.host.Connect(testContext(f.t), info(n)); err != nil {
		f.t.Fatal(err)
	}
	s, err := f.host.NewStream(testContext(f.t), n.Host().ID(), ProtocolNoise)
	if err != nil {
		f.t.Fatal(err)
	}
	f.run(s, true)
}

// exchangeFeeds has both stores get a feed of the other.
func exchangeFeeds(t *testing.T, a, b *corestore.Store) {
	t.Helper()
	x, y := named(t, a, "x"), named(t, b, "y")
	appendBlocks(t, x, "one", "two")
	appendBlocks(t, y, "three")
	wantBlocks(t, keyed(t, b, x.Key()), "one", "two")
	wantBlocks(t, keyed(t, a, y.Key()), "three")
}

func TestNodeDialsAPeerThatSpeaksNoiseAlone(t *testing.T) {
	t.Parallel()
	a, b := newStore(t), newStore(t)
	n, f := newNode(t, a), newForeigner(t, b)
	if err := n.Connect(testContext(t), f.info()); err != nil {
		t.Fatal(err)
	}
	exchangeFeeds(t, a, b)
	peers := n.Peers()
	if len(peers) != 1 || !peers[0].Replicating || !peers[0].Opener || peers[0].Protocol != ProtocolNoise {
		t.Errorf("peers %+v, want one that we replicate with over %s", peers, ProtocolNoise)
	}
}

func TestNodeServesAPeerThatSpeaksNoiseAlone(t *testing.T) {
	t.Parallel()
	a, b := newStore(t), newStore(t)
	n, f := newNode(t, a), newForeigner(t, b)
	f.open(n)
	exchangeFeeds(t, a, b)
}

func TestNodesPreferThePlainStream(t *testing.T) {
	t.Parallel()
	a, b := newStore(t), newStore(t)
	n := newNode(t, a)
	connect(t, n, newNode(t, b))
	exchangeFeeds(t, a, b)
	if p := n.Peers(); len(p) != 1 || p[0].Protocol != ProtocolPlain {
		t.Errorf("peers %+v, want one over %s", p, ProtocolPlain)
	}
}

// TestOneNoiseStreamPerPeer has a peer that does not dedup open three streams: the newest stays, and what was opened
// here as well gives way or stays as the peer IDs say.
func TestOneNoiseStreamPerPeer(t *testing.T) {
	t.Parallel()
	a, b := newStore(t), newStore(t)
	n, f := newNode(t, a), newForeigner(t, b)
	for range 3 {
		f.open(n)
	}
	for range 2 {
		if err := <-f.ended; err == nil {
			t.Error("a supplanted stream ended in order, want a reset")
		}
	}
	exchangeFeeds(t, a, b)
	if err := n.Connect(testContext(t), f.info()); err != nil {
		t.Fatal(err)
	}
	if got := streams(n, f.host.ID()); got != 1 {
		t.Errorf("%d streams, want 1", got)
	}
}

func TestBadHandshakesAreReset(t *testing.T) {
	t.Parallel()
	n := newNode(t, newStore(t))
	n.links.timeout = 500 * time.Millisecond
	for name, data := range map[string][]byte{
		"no point":        frame(make([]byte, 32)),
		"too short":       frame(make([]byte, 31)),
		"too long":        frame(make([]byte, 1025)),
		"nothing":         {},
		"a plain opening": frame(hyper.Opening{Boot: 1}.Append(nil)),
		"half of it":      frame(make([]byte, 32))[:20],
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := rawHost(t)
			if err := h.Connect(testContext(t), info(n)); err != nil {
				t.Fatal(err)
			}
			s, err := h.NewStream(testContext(t), n.Host().ID(), ProtocolNoise)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Write(data); err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(s); err == nil || len(got) > 0 {
				t.Errorf("read %x, %v; want nothing and a reset", got, err)
			}
		})
	}
}

func TestReplicateOverRawTCP(t *testing.T) {
	t.Parallel()
	a, b := newStore(t), newStore(t)
	server, client := newNode(t, a, WithTCP("127.0.0.1:0")), newNode(t, b)
	group := lifecycle.NewGroup()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	group.Go(func(context.Context) { ended <- client.ReplicateTCP(ctx, server.TCPAddr().String(), nil) })
	exchangeFeeds(t, a, b)
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's error", err)
	}
	group.Close()
}

// TestRawTCPNames looks whether a name can be recognized on a second connection.
func TestRawTCPNames(t *testing.T) {
	t.Parallel()
	for _, known := range []bool{false, true} {
		opts := []Option{WithTCP("127.0.0.1:0")}
		if known {
			opts = append(opts, WithTCPIdentity())
		}
		n := newNode(t, newStore(t), opts...)
		var names [2][32]byte
		for i := range names {
			c, err := net.Dial("tcp", n.TCPAddr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			noise, err := hyper.OpenNoise(testContext(t), c, hyper.NoiseConfig{Initiator: true})
			if err != nil {
				t.Fatal(err)
			}
			names[i] = noise.RemoteKey()
		}
		if same := names[0] == names[1]; same != known {
			t.Errorf("with the identity %v: names %x and %x", known, names[0], names[1])
		}
		if known {
			want, err := n.Host().ID().ExtractPublicKey()
			if err != nil {
				t.Fatal(err)
			}
			if b, _ := want.Raw(); names[0] != [32]byte(b) {
				t.Errorf("name %x, want %x", names[0], b)
			}
		}
	}
}

func TestRawTCPIsBounded(t *testing.T) {
	t.Parallel()
	r := &raw{conns: make(map[netip.Addr]int)}
	enter := func(host string) (leave func(), ok bool) {
		leave, err := r.enter(&net.TCPAddr{IP: net.ParseIP(host), Port: 1})
		return leave, err == nil
	}
	var leaves []func()
	for i := range maxTCPConnsPerAddr {
		leave, ok := enter(fmt.Sprintf("2001:db8::%d", i)) // one network
		if !ok {
			t.Fatalf("connection %d of a network was refused", i)
		}
		leaves = append(leaves, leave)
	}
	if _, ok := enter("2001:db8::ffff"); ok {
		t.Error("one connection too many of a network was taken")
	}
	for i := len(leaves); i < maxTCPConns; i++ {
		leave, ok := enter(fmt.Sprintf("192.0.2.%d", i))
		if !ok {
			t.Fatalf("connection %d was refused", i)
		}
		leaves = append(leaves, leave)
	}
	if _, ok := enter("198.51.100.1"); ok {
		t.Error("one connection too many was taken")
	}
	for _, host := range []string{"127.0.0.1", "::1", "::ffff:127.0.0.1"} {
		if _, ok := enter(host); !ok {
			t.Errorf("a connection of %s was refused", host)
		}
	}
	for _, leave := range leaves {
		leave()
	}
	if r.all != 0 || len(r.conns) != 0 {
		t.Errorf("%d connections of %d networks counted after the last has left", r.all, len(r.conns))
	}
}

func TestSilentRawTCPConnectionsEnd(t *testing.T) {
	t.Parallel()
	n := newNode(t, newStore(t), WithTCP("127.0.0.1:0"))
	c, err := net.Dial("tcp", n.TCPAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	began := time.Now()
	if _, err := io.ReadAll(c); err != nil {
		t.Logf("ended with %v", err)
	}
	if took := time.Since(began); took < handshakeTimeout/2 || took > 3*handshakeTimeout {
		t.Errorf("a silent connection was ended after %v, want %v", took, handshakeTimeout)
	}
}
