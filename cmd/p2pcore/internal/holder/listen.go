package holder

import (
	"fmt"
	"net"

	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/p2pcore/p2pcore/node/api"
)

// listenAddrs reads the addresses to listen on and finds ports that are taken. libp2p shares a port with
// other processes (SO_REUSEPORT), and each would then get some of the other's connections.
func listenAddrs(texts []string) ([]ma.Multiaddr, error) {
	addrs := make([]ma.Multiaddr, 0, len(texts))
	for _, s := range texts {
		a, err := ma.NewMultiaddr(s)
		if err != nil {
			return nil, api.Errorf(api.CodeUsage, "--listen %q: %v", s, err)
		}
		if err := probe(a); err != nil {
			return nil, fmt.Errorf("cannot listen on %s: %w; end the process that uses it, or choose another --listen", s, err)
		}
		addrs = append(addrs, a)
	}
	return addrs, nil
}

// probe opens an exclusive socket on the address for a moment. Addresses that are neither UDP nor TCP, or
// that let the system choose the port, need none.
func probe(a ma.Multiaddr) error {
	network, host, err := manet.DialArgs(firstTwo(a))
	if err != nil {
		return nil
	}
	if _, port, err := net.SplitHostPort(host); err != nil || port == "0" {
		return nil
	}
	var c interface{ Close() error }
	switch network {
	case "tcp", "tcp4", "tcp6":
		c, err = net.Listen(network, host)
	case "udp", "udp4", "udp6":
		c, err = net.ListenPacket(network, host)
	default:
		return nil
	}
	if err != nil {
		return err
	}
	return c.Close()
}

// firstTwo is the part of an address that a socket has: the IP address and the port.
func firstTwo(a ma.Multiaddr) ma.Multiaddr { return a[:min(2, len(a))] }
