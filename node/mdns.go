package node

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/discovery/mdns"
)

// maxLabel is the longest label of a DNS name (RFC 1035, section 2.3.4).
const maxLabel = 63

// mdnsService returns the name under which the nodes of a network find each other in a LAN. It begins with the
// network's name, so that networks stay apart and a person who lists services sees which is which.
//
// A DNS label knows no dot, no difference of case and at most 63 bytes: a name that would lose something
// by that gets eight digits of its hash.
func mdnsService(network string) string {
	const prefix = "_p2pcore-"
	label := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-':
			return r
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		}
		return '-'
	}, network)
	if label != network || len(prefix)+len(label) > maxLabel {
		sum := sha256.Sum256([]byte(network))
		label = label[:min(len(label), maxLabel-len(prefix)-9)] + "-" + hex.EncodeToString(sum[:4])
	}
	return prefix + label + "._udp"
}

// lan hands peers of the local network to the connector.
type lan struct{ c *connector }

// HandlePeerFound is called by the mDNS service.
func (l lan) HandlePeerFound(p peer.AddrInfo) { l.c.want(p, reason{kind: byLAN}) }

// startMDNS begins to look for peers in the local network. That it cannot is worth one warning: containers and
// machines without a multicast interface are common.
func (n *Node) startMDNS() {
	service := mdns.NewMdnsService(n.host, mdnsService(n.cfg.network), lan{n.connector})
	if err := service.Start(); err != nil {
		n.log.Warn("mDNS cannot start: peers in the local network are not looked for", "err", err)
		return
	}
	n.mdns = service
}
