package node

import (
	"context"
	"fmt"
	"math"
	"net/netip"
	"slices"

	"github.com/libp2p/go-libp2p"
	kaddht "github.com/libp2p/go-libp2p-kad-dht"
	"github.com/libp2p/go-libp2p-kad-dht/amino"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/net/connmgr"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// newHost makes the node's own host. relays brings candidates for relays when the host finds itself unreachable.
func newHost(c *config, relays func(ctx context.Context, n int) <-chan peer.AddrInfo) (host.Host, error) {
	limits, err := newResourceManager(c)
	if err != nil {
		return nil, fmt.Errorf("resource manager: %w", err)
	}
	conns, err := connmgr.NewConnManager(connLow, connHigh)
	if err != nil {
		return nil, fmt.Errorf("connection manager: %w", err)
	}
	opts := []libp2p.Option{
		libp2p.ListenAddrs(c.listen...),
		libp2p.ResourceManager(limits),
		libp2p.ConnectionManager(conns),
		libp2p.UserAgent(c.agent),
	}
	if len(c.listen) == 0 {
		opts = append(opts, libp2p.NoListenAddrs)
	}
	if c.identity != nil {
		opts = append(opts, libp2p.Identity(c.identity))
	}
	if c.metrics != nil {
		opts = append(opts, libp2p.PrometheusRegisterer(c.metrics))
	} else {
		opts = append(opts, libp2p.DisableMetrics())
	}
	switch {
	case c.relayServer:
		// The relay service runs only on a host that takes itself for reachable.
		opts = append(opts, libp2p.EnableRelay(), libp2p.ForceReachabilityPublic(),
			libp2p.EnableRelayService(relay.WithResources(relayResources())))
	case c.relay && c.network != NetworkNone:
		opts = append(opts, libp2p.EnableRelay(), libp2p.EnableHolePunching(),
			libp2p.EnableAutoRelayWithPeerSource(relays))
	case c.relay:
		opts = append(opts, libp2p.EnableRelay(), libp2p.EnableHolePunching())
	default:
		opts = append(opts, libp2p.DisableRelay())
	}
	if c.network == NetworkPublic {
		opts = append(opts, libp2p.NATPortMap(), libp2p.EnableAutoNATv2())
	}
	return libp2p.New(opts...)
}

// newResourceManager bounds what replication may use. libp2p's limits for a protocol that nobody configured allow
// 64 to 75 inbound streams per peer, and their number over all peers grows with the memory of the machine.
func newResourceManager(c *config) (network.ResourceManager, error) {
	scaling := rcmgr.DefaultLimits
	libp2p.SetDefaultServiceLimits(&scaling)
	all := rcmgr.ResourceLimits{
		Streams: 2 * maxStreams, StreamsInbound: maxStreams, StreamsOutbound: maxStreams,
		Memory: rcmgr.Unlimited64,
	}
	one := rcmgr.ResourceLimits{
		Streams: 2 * maxStreamsPerPeer, StreamsInbound: maxStreamsPerPeer, StreamsOutbound: maxStreamsPerPeer,
		Memory: rcmgr.Unlimited64,
	}
	limits := rcmgr.PartialLimitConfig{
		Service:      map[string]rcmgr.ResourceLimits{serviceName: all},
		ServicePeer:  map[string]rcmgr.ResourceLimits{serviceName: one},
		Protocol:     map[protocol.ID]rcmgr.ResourceLimits{ProtocolPlain: all, ProtocolNoise: all},
		ProtocolPeer: map[protocol.ID]rcmgr.ResourceLimits{ProtocolPlain: one, ProtocolNoise: one},
	}.Build(scaling.AutoScale())

	opts := []rcmgr.Option{rcmgr.WithMetricsDisabled()}
	if c.network != NetworkPublic {
		// Many nodes of a private network share a host or a NAT; libp2p allows 8 connections per address.
		v4, v6 := privatePrefixes()
		opts = append(opts, rcmgr.WithNetworkPrefixLimit(v4, v6))
	}
	return rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(limits), opts...)
}

// privatePrefixes are the addresses that many nodes of one private network may share.
func privatePrefixes() (v4, v6 []rcmgr.NetworkPrefixLimit) {
	for _, s := range []string{"127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16"} {
		v4 = append(v4, rcmgr.NetworkPrefixLimit{Network: netip.MustParsePrefix(s), ConnCount: math.MaxInt})
	}
	for _, s := range []string{"::1/128", "fc00::/7", "fe80::/10"} {
		v6 = append(v6, rcmgr.NetworkPrefixLimit{Network: netip.MustParsePrefix(s), ConnCount: math.MaxInt})
	}
	return v4, v6
}

// relayResources bounds a private network's relay. Its circuits carry what two nodes need to arrange a direct
// connection; nothing is replicated over them.
func relayResources() relay.Resources {
	r := relay.DefaultResources()
	r.MaxReservations = 1024
	r.MaxReservationsPerIP = 256 // a private network may sit behind one address
	r.MaxReservationsPerASN = 1024
	return r
}

// privateDHT is the prefix of the protocols that a private network's DHT speaks.
func privateDHT(network string) protocol.ID { return protocol.ID("/p2pcore/" + network) }

// kadProtocol is what the servers of the network's DHT speak.
func (c *config) kadProtocol() protocol.ID {
	if c.private() {
		return privateDHT(c.network) + "/kad/1.0.0"
	}
	return amino.ProtocolID
}

// newDHT joins h to the network's DHT. On a host whose application is a server of it already, ours asks only.
func newDHT(c *config, h host.Host, bootstrap func() []peer.AddrInfo) (*kaddht.IpfsDHT, error) {
	opts := []kaddht.Option{kaddht.BootstrapPeersFunc(bootstrap)}
	served := slices.Contains(h.Mux().Protocols(), c.kadProtocol())
	if c.private() {
		mode := kaddht.ModeServer
		if served {
			mode = kaddht.ModeClient
		}
		// Servers all, and no filter: loopback and private addresses are what such a network may consist of.
		opts = append(opts,
			kaddht.ProtocolPrefix(privateDHT(c.network)),
			kaddht.Mode(mode),
			kaddht.DisableValues(),
		)
		return kaddht.New(h, opts...)
	}
	mode := kaddht.ModeAuto
	switch {
	case served:
		mode = kaddht.ModeClient
	case c.dhtServer:
		mode = kaddht.ModeServer
	}
	opts = append(opts,
		kaddht.Mode(mode),
		kaddht.QueryFilter(kaddht.PublicQueryFilter),
		kaddht.RoutingTableFilter(kaddht.PublicRoutingTableFilter),
		kaddht.RoutingTablePeerDiversityFilter(
			kaddht.NewRTPeerDiversityFilter(h, amino.DefaultMaxPeersPerIPGroupPerCpl, amino.DefaultMaxPeersPerIPGroup)),
		kaddht.AddressFilter(func(addrs []ma.Multiaddr) []ma.Multiaddr {
			return ma.FilterAddrs(addrs, manet.IsPublicAddr)
		}),
	)
	return kaddht.New(h, opts...)
}
