package node

import (
	"slices"
	"sync/atomic"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/p2pcore/p2pcore/dht"
)

// Decisions counts what was decided of remotes and of what they ask for.
type Decisions struct {
	ConnectionsAccepted uint64 // conversations that remotes have opened, over libp2p and raw TCP
	ConnectionsRefused  uint64 // relayed or unauthenticated streams, streams past libp2p's bounds, raw TCP connections past ours
	DoorsRefused        uint64 // conversations ended because the remote did not know the key of the group's door
	FeedsFound          uint64 // feeds that remotes have asked for by themselves, and that take part
	FeedsUnknown        uint64 // and those that are not here, or have left the group: the remote is told the same of both
}

// decisions is Decisions while it is counted.
type decisions struct {
	accepted, refused, door, found, unknown atomic.Uint64
}

func (d *decisions) figures() Decisions {
	return Decisions{
		ConnectionsAccepted: d.accepted.Load(), ConnectionsRefused: d.refused.Load(), DoorsRefused: d.door.Load(),
		FeedsFound: d.found.Load(), FeedsUnknown: d.unknown.Load(),
	}
}

// Probe is whether the node is in touch with something that it needs.
type Probe struct {
	Target string // listen, bootstrap, dht or peers
	OK     bool
}

// Probes returns how the node is in touch now: listen, at least one address is listened on; bootstrap, a bootstrap peer is
// connected; dht, somebody is in the routing table; peers, there is a stream with each peer that AddPeer has named. What the
// node was not told to have is left out.
func (n *Node) Probes() (probes []Probe) {
	if len(n.cfg.listen) > 0 {
		probes = append(probes, Probe{"listen", len(n.host.Network().ListenAddresses()) > 0})
	}
	if list := n.entrance.list(); n.kad != nil && len(list) > 0 {
		probes = append(probes, Probe{"bootstrap", slices.ContainsFunc(list, func(p peer.AddrInfo) bool {
			return n.host.Network().Connectedness(p.ID) == network.Connected
		})})
	}
	if n.discovery != nil {
		probes = append(probes, Probe{"dht", n.discovery.Err() != dht.ErrNoNetwork})
	}
	if all, up := n.connector.configured(); all > 0 {
		probes = append(probes, Probe{"peers", up == all})
	}
	return probes
}

// configured counts the peers that AddPeer has named, and those of them with a stream.
func (c *connector) configured() (all, up int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.targets {
		if _, ok := t.reasons[reason{kind: byConfig}]; !ok {
			continue
		}
		all++
		if c.links.live(t.id) {
			up++
		}
	}
	return all, up
}
