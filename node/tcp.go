package node

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"github.com/libp2p/go-libp2p/core/crypto"

	hyper "github.com/p2pcore/p2pcore/protocol"
)

// ErrTCPBusy says that a raw TCP connection was refused: too many are open.
var ErrTCPBusy = errors.New("node: too many raw TCP connections")

// raw is the door for JavaScript peers that have no libp2p: plain TCP connections, each a stream of
// corestore.replicate. They have no part in the one-stream rule, for their names prove nothing.
type raw struct {
	n        *Node
	seed     [32]byte // zero: a fresh key for each connection
	listener net.Listener

	mu    sync.Mutex
	conns map[netip.Addr]int // under mu: open inbound connections, by network
	all   int                // under mu: their sum
}

// startTCP listens, if the options say so.
func (n *Node) startTCP() error {
	n.raw = &raw{n: n, conns: make(map[netip.Addr]int)}
	if n.cfg.tcpIdentity {
		seed, err := seedOf(n.host.Peerstore().PrivKey(n.host.ID()))
		if err != nil {
			return err
		}
		n.raw.seed = seed
	}
	if n.cfg.tcp == "" {
		return nil
	}
	l, err := net.Listen("tcp", n.cfg.tcp)
	if err != nil {
		return fmt.Errorf("node: listen for raw TCP: %w", err)
	}
	n.raw.listener = l
	n.group.Go(n.raw.accept)
	return nil
}

// seedOf returns the seed of an Ed25519 key.
func seedOf(key crypto.PrivKey) (seed [32]byte, err error) {
	if key == nil || key.Type() != crypto.Ed25519 {
		return seed, errors.New("node: the identity is no Ed25519 key, so it cannot name this node on raw TCP")
	}
	b, err := key.Raw()
	if err != nil {
		return seed, err
	}
	return [32]byte(ed25519.PrivateKey(b).Seed()), nil
}

// TCPAddr returns where the node listens for raw TCP, or nil.
func (n *Node) TCPAddr() net.Addr {
	if n.raw == nil || n.raw.listener == nil {
		return nil
	}
	return n.raw.listener.Addr()
}

// ReplicateTCP connects to a JavaScript peer at addr, HOST:PORT, and replicates the store's feeds over that one
// connection until it or ctx ends. Nil means that the remote has ended it in order. started is called, if not nil, when
// the conversation begins. The error wraps ErrRefused if the remote has ended the connection before it said anything.
func (n *Node) ReplicateTCP(ctx context.Context, addr string, started func(c *hyper.Conn)) error {
	_, leave, ok := n.group.Enter()
	if !ok {
		return ErrClosed
	}
	defer leave()
	ctx, cancel := context.WithCancelCause(ctx)
	closing := n.group.Child()
	closing.Go(func(own context.Context) {
		<-own.Done()
		cancel(ErrClosed)
	})
	defer closing.Close()
	d := net.Dialer{Timeout: dialTimeout}
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return fmt.Errorf("node: raw TCP: %w", err)
	}
	var conn *hyper.Conn
	err = n.replicator.RunNoise(ctx, c, NoiseConversation{
		Peer: tcpName(c.RemoteAddr()), Initiator: true, Seed: n.raw.seed, DiscoveryKey: n.doorKey(),
		OnStart: func(c *hyper.Conn) {
			conn = c
			if started != nil {
				started(c)
			}
		},
	})
	if conn != nil {
		return ended(ctx, conn, err)
	}
	if ctx.Err() == nil && err != nil && remoteEnd(err) {
		err = errors.Join(ErrRefused, err) // not even hands were shaken
	}
	return err
}

func tcpName(a net.Addr) string { return "tcp:" + a.String() }

// accept serves connections until the listener is closed, with the group.
func (r *raw) accept(ctx context.Context) {
	r.n.group.Go(func(ctx context.Context) {
		<-ctx.Done()
		r.listener.Close()
	})
	for ctx.Err() == nil {
		c, err := r.listener.Accept()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				// Out of file descriptors, most likely; others will be closed.
				r.n.log.Warn("raw TCP connection not accepted", "err", err)
				pause(ctx, acceptPause, nil)
			}
			continue
		}
		if !r.n.group.Go(func(ctx context.Context) { r.serve(ctx, c) }) {
			c.Close()
		}
	}
}

// serve replicates over an inbound connection.
func (r *raw) serve(ctx context.Context, c net.Conn) {
	name := tcpName(c.RemoteAddr())
	leave, err := r.enter(c.RemoteAddr())
	if err != nil {
		c.Close()
		r.n.replicator.decided.refused.Add(1)
		r.n.log.Debug("raw TCP connection refused", "peer", name, "err", err)
		return
	}
	defer leave()
	err = r.n.replicator.RunNoise(ctx, c, NoiseConversation{Peer: name, Seed: r.seed})
	r.n.log.Debug("raw TCP connection ended", "peer", name, "err", err)
}

// enter counts an inbound connection until leave is called. Loopback is exempt.
func (r *raw) enter(a net.Addr) (leave func(), err error) {
	from := networkOf(a)
	if from.IsLoopback() {
		return func() {}, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all >= maxTCPConns || r.conns[from] >= maxTCPConnsPerAddr {
		return nil, ErrTCPBusy
	}
	r.all++
	r.conns[from]++
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.all--
		if r.conns[from]--; r.conns[from] == 0 {
			delete(r.conns, from)
		}
	}, nil
}

// networkOf is what one machine may hold of addresses: an IPv4 address, or a network of 64 bits.
func networkOf(a net.Addr) netip.Addr {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	addr := tcp.AddrPort().Addr().Unmap().WithZone("")
	if addr.Is4() || addr.IsLoopback() {
		return addr
	}
	p, err := addr.Prefix(64)
	if err != nil {
		return addr
	}
	return p.Addr()
}
