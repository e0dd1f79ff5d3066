package node

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/p2pcore/p2pcore/feed"
)

// The networks that are no private ones.
const (
	// NetworkPublic is the public libp2p DHT with its bootstrap peers.
	NetworkPublic = "public"
	// NetworkNone is no DHT: peers come from mDNS and Connect alone.
	NetworkNone = "none"
)

// maxNetworkName bounds the name of a private network: it is part of a protocol ID and of a DNS name.
const maxNetworkName = 64

// Option changes one setting of a Node.
type Option func(*config) error

// config is what the options settle. Every field has a usable default, see defaults.
type config struct {
	host         host.Host // the application's; nil: we make one
	identity     crypto.PrivKey
	listen       []ma.Multiaddr
	network      string
	bootstrap    []peer.AddrInfo
	noBootstrap  bool // WithBootstrap was given an empty list on purpose
	mdns         bool
	relay        bool
	relayServer  bool // the node is the relay of a private network, see StartBootstrap
	dhtServer    bool
	handshakeKey *feed.Key
	announce     AnnouncePolicy
	discreet     bool
	// handshakeDefault makes the store's default feed the handshakeKey.
	handshakeDefault bool
	tcp              string // where to listen for raw TCP; empty: nowhere
	tcpIdentity      bool
	metrics          prometheus.Registerer
	log              *slog.Logger
	agent            string
}

func defaults() config {
	return config{
		network: NetworkPublic,
		mdns:    true,
		relay:   true,
		log:     slog.New(slog.DiscardHandler),
		agent:   "p2pcore",
	}
}

// defaultListen is QUIC and TCP on all interfaces, with ports that the system chooses.
var defaultListen = []string{
	"/ip4/0.0.0.0/udp/0/quic-v1",
	"/ip4/0.0.0.0/tcp/0",
	"/ip6/::/udp/0/quic-v1",
	"/ip6/::/tcp/0",
}

// WithHost uses the application's own host. The node registers its stream protocol on it, and its DHT unless
// the network is NetworkNone, and never closes it. A host that serves our protocol already is an
// error of New. Identity, listen addresses, relay and metrics are then the host's, and giving them too is
// an error.
func WithHost(h host.Host) Option {
	return func(c *config) error {
		if h == nil {
			return errors.New("host is nil")
		}
		c.host = h
		return nil
	}
}

// WithIdentity is the node's libp2p key. Without it the node has a new one with every start.
func WithIdentity(key crypto.PrivKey) Option {
	return func(c *config) error {
		if key == nil {
			return errors.New("identity is nil")
		}
		c.identity = key
		return nil
	}
}

// WithListenAddrs replaces the default, QUIC and TCP on all interfaces with ports that the system chooses. An
// empty list listens nowhere.
func WithListenAddrs(addrs ...ma.Multiaddr) Option {
	return func(c *config) error {
		c.listen = append(make([]ma.Multiaddr, 0, len(addrs)), addrs...)
		return nil
	}
}

// WithNetwork says which network the node is part of: NetworkPublic (the default), NetworkNone, or the
// name of a private one, 1 to 64 characters of A–Z a–z 0–9 . _ -, whose DHT speaks /p2pcore/NAME.
func WithNetwork(name string) Option {
	return func(c *config) error {
		if err := checkNetworkName(name); err != nil {
			return err
		}
		c.network = name
		return nil
	}
}

// WithBootstrap gives the peers by which the node enters its network, instead of the network's own (the
// public one has some, a private one has none). They are dialled until one answers, and again
// whenever the routing table is empty.
func WithBootstrap(peers ...peer.AddrInfo) Option {
	return func(c *config) error {
		c.bootstrap = append([]peer.AddrInfo(nil), peers...)
		c.noBootstrap = len(peers) == 0
		return nil
	}
}

// WithMDNS turns the search for peers in the local network on or off. It is on by default; that it cannot
// start is a warning, not an error.
func WithMDNS(on bool) Option {
	return func(c *config) error { c.mdns = on; return nil }
}

// WithRelay turns the use of relays, and hole punching through them, on or off. It is on by default.
// Feeds are never replicated over a relayed connection that is limited: it serves to arrange a direct one.
func WithRelay(on bool) Option {
	return func(c *config) error { c.relay = on; return nil }
}

// WithDHTServer makes the node answer other nodes' DHT queries from the start, also in the public network,
// where it otherwise does so once it is found reachable. Nodes of a private network always do.
func WithDHTServer(on bool) Option {
	return func(c *config) error { c.dhtServer = on; return nil }
}

// WithHandshakeKey makes the feed of key the door of the group: the node replicates with peers alone that know this key,
// and tells nothing to others. See ReplicatorOptions.HandshakeKey. A peer that was found under the door's discovery key, or
// named by Connect or AddPeer, is shown that discovery key first.
func WithHandshakeKey(key feed.Key) Option {
	return func(c *config) error { c.handshakeKey = &key; return nil }
}

// WithDefaultHandshakeKey is WithHandshakeKey with the default feed of the store: the group's face is its door as well.
// The other members open their stores with corestore.Options.DefaultKey.
func WithDefaultHandshakeKey() Option {
	return func(c *config) error { c.handshakeDefault = true; return nil }
}

// WithDiscreet keeps the feeds in use from peers who may not know them; see ReplicatorOptions.Discreet. Peers that Connect
// or AddPeer names hear of all.
func WithDiscreet() Option {
	return func(c *config) error { c.discreet = true; return nil }
}

// WithTCP listens at addr, HOST:PORT, for JavaScript peers without libp2p: on each TCP connection they replicate a
// corestore. At most 8 connections of one address and 64 in all are served, those from loopback not counted.
func WithTCP(addr string) Option {
	return func(c *config) error {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			return fmt.Errorf("raw TCP address: %w", err)
		}
		c.tcp = addr
		return nil
	}
}

// WithTCPIdentity makes the node's identity its name to peers on raw TCP. Without it each connection has a fresh key,
// by which nobody recognizes the node.
func WithTCPIdentity() Option {
	return func(c *config) error { c.tcpIdentity = true; return nil }
}

// WithRegisterer collects libp2p's metrics in r. Without it none are kept.
func WithRegisterer(r prometheus.Registerer) Option {
	return func(c *config) error { c.metrics = r; return nil }
}

// WithUserAgent is how the node calls itself to others, "p2pcore" by default.
func WithUserAgent(agent string) Option {
	return func(c *config) error {
		if agent == "" || len(agent) > 100 {
			return errors.New("user agent must have 1 to 100 bytes")
		}
		c.agent = agent
		return nil
	}
}

// WithLogger receives what happens. Without it the node is silent.
func WithLogger(log *slog.Logger) Option {
	return func(c *config) error {
		if log != nil {
			c.log = log
		}
		return nil
	}
}

// resolve applies opts to the defaults and validates the result.
func resolve(opts []Option) (config, error) {
	c := defaults()
	for _, opt := range opts {
		if err := opt(&c); err != nil {
			return config{}, fmt.Errorf("node: options: %w", err)
		}
	}
	if err := c.validate(); err != nil {
		return config{}, fmt.Errorf("node: options: %w", err)
	}
	return c, nil
}

// validate checks what no option can check alone, and fills in what depends on others.
func (c *config) validate() error {
	if c.host != nil {
		switch {
		case c.identity != nil:
			return errors.New("WithIdentity cannot be combined with WithHost: the host has one")
		case c.listen != nil:
			return errors.New("WithListenAddrs cannot be combined with WithHost: the host has them")
		case c.metrics != nil:
			return errors.New("WithRegisterer cannot be combined with WithHost: the host has its own")
		case c.relayServer:
			return errors.New("a bootstrap node cannot run on an application's host")
		}
	}
	if c.listen == nil {
		for _, s := range defaultListen {
			c.listen = append(c.listen, ma.StringCast(s))
		}
	}
	for _, p := range c.bootstrap {
		if err := p.ID.Validate(); err != nil {
			return fmt.Errorf("bootstrap peer: %w", err)
		}
		if len(p.Addrs) == 0 {
			return fmt.Errorf("bootstrap peer %s has no address", p.ID)
		}
	}
	if c.network == NetworkNone && len(c.bootstrap) > 0 {
		return errors.New("bootstrap peers without a network")
	}
	return nil
}

// private tells whether the network is a private one.
func (c *config) private() bool { return c.network != NetworkPublic && c.network != NetworkNone }

func checkNetworkName(name string) error {
	if name == "" || len(name) > maxNetworkName {
		return fmt.Errorf("network name %q must have 1 to %d characters", name, maxNetworkName)
	}
	bad := strings.IndexFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '.' && r != '_' && r != '-'
	})
	if bad >= 0 {
		return fmt.Errorf("network name %q: only A–Z a–z 0–9 . _ - are allowed", name)
	}
	return nil
}
