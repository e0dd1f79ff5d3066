package main

import (
	"context"
	"net"
	"strings"

	"github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/p2pcore/p2pcore/corestore"
	"github.com/p2pcore/p2pcore/node"
)

// closedGate refuses all connections that come in.
type closedGate struct{}

func (closedGate) InterceptPeerDial(peer.ID) bool               { return true }
func (closedGate) InterceptAddrDial(peer.ID, ma.Multiaddr) bool { return true }
func (closedGate) InterceptAccept(network.ConnMultiaddrs) bool  { return true }
func (closedGate) InterceptSecured(d network.Direction, _ peer.ID, _ network.ConnMultiaddrs) bool {
	return d == network.DirOutbound
}
func (closedGate) InterceptUpgraded(network.Conn) (bool, control.DisconnectReason) { return true, 0 }

// scriptRefuser starts a peer that refuses, and keeps where it listens: refuser KIND VAR. The kinds are full, which closes
// TCP connections at once; raw, which serves raw TCP to members of a group only; door, the same over libp2p; deaf, which
// serves no feeds; gated, which lets nobody in.
func scriptRefuser(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: refuser KIND VAR")
	}
	listen := libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0")
	switch args[0] {
	case "full":
		ts.Setenv(args[1], fullListener(ts))
	case "raw":
		ts.Setenv(args[1], doorNode(ts).TCPAddr().String())
	case "door":
		ts.Setenv(args[1], addrOf(doorNode(ts).Host()))
	case "deaf":
		ts.Setenv(args[1], addrOf(libp2pHost(ts, listen)))
	case "gated":
		ts.Setenv(args[1], addrOf(libp2pHost(ts, listen, libp2p.ConnectionGater(closedGate{}))))
	default:
		ts.Fatalf("there is no refuser of kind %q", args[0])
	}
}

func addrOf(h host.Host) string {
	for _, a := range h.Addrs() {
		if strings.HasPrefix(a.String(), "/ip4/127.0.0.1/tcp/") {
			return a.String() + "/p2p/" + h.ID().String()
		}
	}
	return ""
}

func libp2pHost(ts *testscript.TestScript, opts ...libp2p.Option) host.Host {
	h, err := libp2p.New(opts...)
	ts.Check(err)
	ts.Defer(func() { h.Close() })
	return h
}

// doorNode is a node whose group has nobody else in it.
func doorNode(ts *testscript.TestScript) *node.Node {
	store, err := corestore.Open(context.Background(), dssync.MutexWrap(datastore.NewMapDatastore()), corestore.Options{})
	ts.Check(err)
	n, err := node.New(store, node.WithDefaultHandshakeKey(), node.WithNetwork(node.NetworkNone), node.WithMDNS(false),
		node.WithListenAddrs(ma.StringCast("/ip4/127.0.0.1/tcp/0")), node.WithTCP("127.0.0.1:0"))
	ts.Check(err)
	ts.Defer(func() {
		n.Close()
		store.Close()
	})
	return n
}

func fullListener(ts *testscript.TestScript) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	over := make(chan struct{})
	go func() {
		defer close(over)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	ts.Defer(func() {
		l.Close()
		<-over
	})
	return l.Addr().String()
}
