package node

import (
	"cmp"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/p2pcore/p2pcore/feed"
	hyper "github.com/p2pcore/p2pcore/protocol"
)

// PeerInfo is one connected peer.
type PeerInfo struct {
	ID        peer.ID
	Addr      ma.Multiaddr  // the remote end of the connection
	Transport string        // "quic-v1", "tcp", "relay", …
	Inbound   bool          // the peer dialled us
	Limited   bool          // relayed with limits: nothing is replicated over it
	RTT       time.Duration // smoothed; 0 when unknown
	Agent     string        // what the peer calls itself

	Replicating              bool        // a replication stream is up; the rest is zero otherwise
	Protocol                 protocol.ID // of that stream
	Opener                   bool        // we opened it
	Since                    time.Time   // when it came up
	Feeds                    int         // channels open on it
	BytesReceived, BytesSent uint64      // on this stream, with framing
}

// Addrs returns the addresses at which the node can be dialled now, those of other machines first and loopback
// last, each ending in /p2p/ID.
func (n *Node) Addrs() []ma.Multiaddr { return fullAddrs(n.host) }

func fullAddrs(h host.Host) []ma.Multiaddr {
	id := ma.StringCast("/p2p/" + h.ID().String())
	addrs := slices.Clone(h.Addrs())
	// A host's own list may leave out loopback, which peers on this machine need.
	if listening, err := h.Network().InterfaceListenAddresses(); err == nil {
		for _, a := range listening {
			if manet.IsIPLoopback(a) && !slices.ContainsFunc(addrs, a.Equal) {
				addrs = append(addrs, a)
			}
		}
	}
	slices.SortStableFunc(addrs, func(a, b ma.Multiaddr) int { return cmp.Compare(distance(a), distance(b)) })
	for i, a := range addrs {
		addrs[i] = a.Encapsulate(id)
	}
	return addrs
}

// distance orders addresses by how far away they are of use.
func distance(a ma.Multiaddr) int {
	switch {
	case manet.IsIPLoopback(a):
		return 2
	case manet.IsPublicAddr(a):
		return 0
	}
	return 1
}

// Peers returns the connected peers, by ID.
func (n *Node) Peers() []PeerInfo {
	ids := n.host.Network().Peers()
	slices.Sort(ids)
	infos := make([]PeerInfo, 0, len(ids))
	for _, id := range ids {
		conns := n.host.Network().ConnsToPeer(id)
		if len(conns) == 0 {
			continue // gone meanwhile
		}
		infos = append(infos, n.peerInfo(id, conns))
	}
	return infos
}

func (n *Node) peerInfo(id peer.ID, conns []network.Conn) PeerInfo {
	l, s, c, since := n.links.describe(id)
	conn := conns[0]
	if s != nil {
		conn = s.Conn()
	}
	info := PeerInfo{
		ID:        id,
		Addr:      conn.RemoteMultiaddr(),
		Transport: transport(conn),
		Inbound:   conn.Stat().Direction == network.DirInbound,
		Limited:   conn.Stat().Limited,
		RTT:       n.host.Peerstore().LatencyEWMA(id),
	}
	if agent, err := n.host.Peerstore().Get(id, "AgentVersion"); err == nil {
		info.Agent, _ = agent.(string)
	}
	if l != nil {
		stats := c.Stats()
		info.Replicating, info.Protocol, info.Opener, info.Since = true, s.Protocol(), l.outbound, since
		info.Feeds = stats.Channels
		info.BytesReceived, info.BytesSent = stats.BytesReceived, stats.BytesSent
	}
	return info
}

// describe returns what is up with p, or nils.
func (ls *links) describe(p peer.ID) (l *link, s network.Stream, c *hyper.Conn, since time.Time) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if l = ls.liveLink(p); l == nil {
		return nil, nil, nil, time.Time{}
	}
	return l, l.stream, l.conn, l.since
}

func transport(c network.Conn) string {
	if _, err := c.RemoteMultiaddr().ValueForProtocol(ma.P_CIRCUIT); err == nil {
		return "relay"
	}
	return c.ConnState().Transport
}

// FeedPeers returns the peers that have a channel open for key's feed. A peer's Name is the text of its peer ID.
func (n *Node) FeedPeers(key feed.Key) []hyper.PeerInfo {
	if x := n.replicator.Exchange(key.DiscoveryKey()); x != nil {
		return x.Peers()
	}
	return nil
}

// FeedDeparted returns the last peers whose channel for key's feed has closed, as they were then, oldest first.
func (n *Node) FeedDeparted(key feed.Key) []hyper.PeerInfo {
	if x := n.replicator.Exchange(key.DiscoveryKey()); x != nil {
		return x.Departed()
	}
	return nil
}

// FeedStats returns the figures of key's replication since the feed was opened; zero for a feed that takes no part.
func (n *Node) FeedStats(key feed.Key) hyper.Stats {
	if x := n.replicator.Exchange(key.DiscoveryKey()); x != nil {
		return x.Stats()
	}
	return hyper.Stats{}
}

// FeedAbsent returns the first run of blocks in r that are not stored here and that no connected peer of key's feed has
// said it holds; an empty range if there is none.
func (n *Node) FeedAbsent(key feed.Key, r feed.Range) feed.Range {
	if x := n.replicator.Exchange(key.DiscoveryKey()); x != nil {
		return x.Absent(r)
	}
	return feed.Range{}
}
