package node

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"

	kaddht "github.com/libp2p/go-libp2p-kad-dht"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/p2pcore/p2pcore/internal/lifecycle"
)

// entrance keeps a host in its network: it dials the bootstrap peers until somebody of the routing table is connected,
// and again whenever nobody is. (The table alone does not tell: it keeps peers that are gone until they are asked.)
type entrance struct {
	// set when made
	host host.Host
	dht  *kaddht.IpfsDHT
	wake chan struct{} // capacity 1: there are more peers to try

	mu    sync.Mutex
	peers []peer.AddrInfo // under mu
}

func newEntrance(c *config) *entrance {
	e := &entrance{peers: c.bootstrap, wake: make(chan struct{}, 1)}
	if c.network == NetworkPublic && len(c.bootstrap) == 0 && !c.noBootstrap {
		e.peers = kaddht.GetDefaultBootstrapPeerAddrInfos()
	}
	return e
}

// list returns the bootstrap peers.
func (e *entrance) list() []peer.AddrInfo {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.peers)
}

func (e *entrance) add(peers []peer.AddrInfo) {
	e.mu.Lock()
	e.peers = append(slices.Clip(e.peers), peers...)
	e.mu.Unlock()
	signal(e.wake)
}

// relays are candidates for relays: the bootstrap peers, and in the public network whom the routing table
// knows. It fits autorelay.PeerSource, which owns the channel until it is closed.
func (e *entrance) relays(_ context.Context, n int) <-chan peer.AddrInfo {
	peers := e.list()
	if e.dht != nil {
		for _, p := range e.dht.RoutingTable().ListPeers() {
			peers = append(peers, e.host.Peerstore().PeerInfo(p))
		}
	}
	peers = peers[:min(n, len(peers))]
	out := make(chan peer.AddrInfo, len(peers))
	for _, p := range peers {
		out <- p
	}
	close(out)
	return out
}

// run is the entrance's goroutine.
func (e *entrance) run(ctx context.Context, group *lifecycle.Group) {
	wait := redialMin
	for ctx.Err() == nil {
		if e.inside() {
			wait = redialMin
			pause(ctx, bootstrapCheck, e.wake)
			continue
		}
		if e.dial(ctx, group) {
			// Admission to the table takes an exchange of messages after the connection.
			pause(ctx, bootstrapSettle, e.wake)
			continue
		}
		pause(ctx, wait/2+rand.N(wait), e.wake)
		wait = min(2*wait, bootstrapMaxWait)
	}
}

// inside tells whether somebody of the routing table is connected.
func (e *entrance) inside() bool {
	return slices.ContainsFunc(e.dht.RoutingTable().ListPeers(), func(p peer.ID) bool {
		return e.host.Network().Connectedness(p) == network.Connected
	})
}

// dial tries all bootstrap peers at once and tells whether one that we were not connected to was reached.
func (e *entrance) dial(ctx context.Context, group *lifecycle.Group) bool {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	results := make(chan bool, maxDials)
	started := 0
	for _, p := range e.list() {
		if p.ID == e.host.ID() || started == maxDials || e.host.Network().Connectedness(p.ID) == network.Connected {
			continue
		}
		if group.Go(func(context.Context) {
			clearBackoff(e.host, p.ID)
			results <- e.host.Connect(ctx, p) == nil
		}) {
			started++
		}
	}
	for range started {
		if <-results {
			return true
		}
	}
	return false
}

// BootstrapOptions are the settings of a Bootstrap. Network is required and names a private network.
type BootstrapOptions struct {
	Network string
	// Options apply as to a Node: identity, listen addresses, other bootstrap peers, logger, registerer.
	Options []Option
}

// Bootstrap is the meeting point of a private network: a DHT server that others enter by, and a relay through
// which nodes that cannot be reached arrange direct connections. It replicates nothing.
type Bootstrap struct {
	host  host.Host
	dht   *kaddht.IpfsDHT
	group *lifecycle.Group
	once  func() error
}

// StartBootstrap makes a Bootstrap that listens when it returns. ctx bounds the start, not the life.
func StartBootstrap(ctx context.Context, opts BootstrapOptions) (*Bootstrap, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c, err := resolve(append(slices.Clip(opts.Options), WithNetwork(opts.Network), asRelay))
	if err != nil {
		return nil, err
	}
	if !c.private() {
		return nil, fmt.Errorf("node: a bootstrap node needs a private network, not %q", c.network)
	}
	e := newEntrance(&c)
	h, err := newHost(&c, e.relays)
	if err != nil {
		return nil, fmt.Errorf("node: start host: %w", err)
	}
	d, err := newDHT(&c, h, e.list)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("node: start DHT: %w", err), h.Close())
	}
	e.host, e.dht = h, d
	b := &Bootstrap{host: h, dht: d, group: lifecycle.NewGroup()}
	b.group.Go(func(ctx context.Context) { e.run(ctx, b.group) })
	b.once = sync.OnceValue(func() error {
		b.group.Close()
		return errors.Join(b.dht.Close(), b.host.Close())
	})
	return b, nil
}

func asRelay(c *config) error { c.relayServer = true; return nil }

// ID returns the node's peer ID.
func (b *Bootstrap) ID() peer.ID { return b.host.ID() }

// Addrs returns the addresses to give to other nodes, each ending in /p2p/ID.
func (b *Bootstrap) Addrs() []ma.Multiaddr { return fullAddrs(b.host) }

// Peers returns how many peers are connected.
func (b *Bootstrap) Peers() int { return len(b.host.Network().Peers()) }

// Close ends the node. It may be called twice.
func (b *Bootstrap) Close() error { return b.once() }
