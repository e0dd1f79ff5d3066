package node

import (
	"bytes"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/p2pcore/p2pcore/dht"
	hyper "github.com/p2pcore/p2pcore/protocol"
)

func rawHost(t *testing.T, opts ...libp2p.Option) host.Host {
	t.Helper()
	h, err := libp2p.New(append([]libp2p.Option{libp2p.ListenAddrStrings(loopbackTCP), libp2p.DisableMetrics()}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// openRaw opens a stream of our protocol to n.
func openRaw(t *testing.T, h host.Host, n *Node) network.Stream {
	t.Helper()
	if err := h.Connect(testContext(t), info(n)); err != nil {
		t.Fatal(err)
	}
	s, err := h.NewStream(testContext(t), n.Host().ID(), ProtocolPlain)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func frame(body []byte) []byte {
	var b bytes.Buffer
	if err := hyper.WriteFrame(&b, body); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func TestBadOpeningsAreReset(t *testing.T) {
	t.Parallel()
	n := newNode(t, newStore(t))
	good := hyper.Opening{Boot: 1, Number: 1}.Append(nil)
	for name, data := range map[string][]byte{
		"another version":  frame(append([]byte{2}, good[1:]...)),
		"too short":        frame(good[:32]),
		"too long":         frame(append(good, make([]byte, 1024)...)),
		"a keep-alive":     frame(nil),
		"a huge length":    {0xff, 0xff, 0xff, 1},
		"half of a frame":  frame(good)[:20],
		"no frame, an end": {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := openRaw(t, rawHost(t), n)
			if _, err := s.Write(data); err != nil {
				t.Fatal(err)
			}
			_ = s.CloseWrite() // an error if the reset is here already
			if got, err := io.ReadAll(s); err == nil || len(got) > 0 {
				t.Errorf("read %x, %v; want nothing and a reset", got, err)
			}
		})
	}
}

func TestOpeningIsAnsweredWithoutWaiting(t *testing.T) {
	t.Parallel()
	n := newNode(t, newStore(t))
	s := openRaw(t, rawHost(t), n)
	// More bytes than are known today are ignored.
	if err := hyper.WriteFrame(s, append(hyper.Opening{Boot: 1, Number: 1}.Append(nil), 9, 9, 9)); err != nil {
		t.Fatal(err)
	}
	body, err := hyper.ReadFrame(s, 1024)
	if err != nil {
		t.Fatal(err)
	}
	o, err := hyper.ParseOpening(body)
	if err != nil || o.Boot != n.links.boot || o.Number == 0 || o.Flags != hyper.SupportedFlags {
		t.Errorf("answered %+v, %v; want boot %d, flags %d", o, err, n.links.boot, hyper.SupportedFlags)
	}
}

// Two nodes tell each other how much they bear: more than a JavaScript peer.
func TestNodesAskEachOtherForMore(t *testing.T) {
	t.Parallel()
	sa, sb := newStore(t), newStore(t)
	a, b := newNode(t, sa), newNode(t, sb)
	w := named(t, sa, "log")
	appendBlocks(t, w, "tiny")
	r := keyed(t, sb, w.Key())
	if err := a.Connect(testContext(t), info(b)); err != nil {
		t.Fatal(err)
	}
	wantBlocks(t, r, "tiny")
	for _, n := range []*Node{a, b} {
		peers := n.replicator.Exchange(w.DiscoveryKey()).Peers()
		if len(peers) != 1 || peers[0].Window <= 512 {
			t.Errorf("peers %+v; want one with a window above 512", peers)
		}
	}
}

func TestSilentOpenerIsReset(t *testing.T) {
	t.Parallel()
	n := newNode(t, newStore(t))
	n.links.timeout = 50 * time.Millisecond
	s := openRaw(t, rawHost(t), n)
	if _, err := s.Write([]byte{40}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(s); err == nil {
		t.Error("the stream ended in order, want a reset")
	}
}

func TestSilentResponderIsGivenUp(t *testing.T) {
	t.Parallel()
	h := rawHost(t)
	h.SetStreamHandler(ProtocolPlain, func(s network.Stream) {})
	n := newNode(t, newStore(t))
	n.links.timeout = 50 * time.Millisecond
	err := n.Connect(testContext(t), peer.AddrInfo{ID: h.ID(), Addrs: h.Addrs()})
	var netErr net.Error
	if !errors.As(err, &netErr) || !netErr.Timeout() {
		t.Errorf("error %v, want a timeout", err)
	}
	if n.links.holds(h.ID()) && n.links.live(h.ID()) {
		t.Error("a stream counts as up that was never answered")
	}
}

func TestUnauthenticatedConnectionIsRefused(t *testing.T) {
	t.Parallel()
	h := rawHost(t, libp2p.NoSecurity)
	n, err := New(newStore(t), WithHost(h), WithNetwork(NetworkNone), WithMDNS(false))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	other := rawHost(t, libp2p.NoSecurity)
	s := openRaw(t, other, n)
	if err := hyper.WriteFrame(s, hyper.Opening{Boot: 1, Number: 1}.Append(nil)); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(s); err == nil || len(got) > 0 {
		t.Errorf("read %x, %v; want nothing and a reset", got, err)
	}
	other.SetStreamHandler(ProtocolPlain, func(s network.Stream) {})
	if err := n.Connect(testContext(t), peer.AddrInfo{ID: other.ID(), Addrs: other.Addrs()}); !errors.Is(err, errUnauthenticated) {
		t.Errorf("connect: error %v, want that it does not authenticate", err)
	}
}

func TestSupplantedStreamSaysSo(t *testing.T) {
	t.Parallel()
	n := newNode(t, newStore(t))
	h := rawHost(t)
	first, second := openRaw(t, h, n), openRaw(t, h, n)
	if err := hyper.WriteFrame(first, hyper.Opening{Boot: 1, Number: 1}.Append(nil)); err != nil {
		t.Fatal(err)
	}
	if _, err := hyper.ReadFrame(first, 1024); err != nil {
		t.Fatal(err)
	}
	if err := hyper.WriteFrame(second, hyper.Opening{Boot: 1, Number: 2}.Append(nil)); err != nil {
		t.Fatal(err)
	}
	if _, err := hyper.ReadFrame(second, 1024); err != nil {
		t.Fatalf("the newer stream was not answered: %v", err)
	}
	_, err := io.ReadAll(first)
	var reset *network.StreamError
	if !errors.As(err, &reset) || reset.ErrorCode != network.StreamSupplanted {
		t.Errorf("the older stream ended with %v, want it supplanted", err)
	}
}

// TestCloseLeavesNothingBehind runs alone: it looks at all goroutines of the process.
func TestCloseLeavesNothingBehind(t *testing.T) {
	boot, err := StartBootstrap(testContext(t), BootstrapOptions{
		Network: "test", Options: []Option{WithListenAddrs(ma.StringCast(loopbackTCP))},
	})
	if err != nil {
		t.Fatal(err)
	}
	sa, sb := newStore(t), newStore(t)
	a, b := newNode(t, sa, enter(boot, "test")...), newNode(t, sb, enter(boot, "test")...)
	w := named(t, sa, "log")
	appendBlocks(t, w, "first")
	join(t, a, w.Key(), dht.Announce|dht.Lookup)
	r := keyed(t, sb, w.Key())
	join(t, b, w.Key(), dht.Announce|dht.Lookup)
	wantBlocks(t, r, "first")
	// Peers that stop at every stage of the opening.
	for _, data := range [][]byte{nil, {40}, frame(hyper.Opening{Boot: 1, Number: 1}.Append(nil))} {
		s := openRaw(t, rawHost(t), a)
		if _, err := s.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	silent := rawHost(t)
	silent.SetStreamHandler(ProtocolPlain, func(network.Stream) {})
	a.AddPeer(peer.AddrInfo{ID: silent.ID(), Addrs: silent.Addrs()})
	a.AddPeer(peer.AddrInfo{ID: "nobody", Addrs: []ma.Multiaddr{ma.StringCast("/ip4/192.0.2.1/tcp/9")}})

	for _, close := range []func() error{a.Close, b.Close, boot.Close} {
		began := time.Now()
		if err := close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("closing took %v, want at most 5 s", took)
		}
	}
	for _, g := range ours() {
		t.Errorf("a goroutine is left:\n%s", g)
	}
}

// ours returns the goroutines that run code of ours, tests excepted.
func ours() (left []string) {
	buf := make([]byte, 4<<20)
	for g := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if strings.Contains(g, "github.com/p2pcore/p2pcore/") && !strings.Contains(g, "testing.tRunner") && !strings.Contains(g, "testing.(*T).Run") {
			left = append(left, g)
		}
	}
	return left
}
