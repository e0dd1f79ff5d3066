package node

import (
	"context"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
)

// startEvents follows the host's events: a peer that can be talked to now ends the pause before its next attempt, and
// other addresses of our own are announced.
func (n *Node) startEvents() error {
	sub, err := n.host.EventBus().Subscribe([]any{
		new(event.EvtPeerIdentificationCompleted),
		new(event.EvtPeerProtocolsUpdated),
		new(event.EvtLocalAddressesUpdated),
	}, eventbus.BufSize(256))
	if err != nil {
		return fmt.Errorf("node: subscribe to the host's events: %w", err)
	}
	ok := n.group.Go(func(ctx context.Context) {
		defer sub.Close()
		var quiet <-chan time.Time // fires when addresses may be announced again; nil: at once
		pending := false
		for {
			select {
			case <-ctx.Done():
				return
			case <-quiet:
				quiet = nil
			case e, ok := <-sub.Out():
				if !ok {
					return
				}
				switch e := e.(type) {
				case event.EvtPeerIdentificationCompleted:
					n.connector.poke(e.Peer)
				case event.EvtPeerProtocolsUpdated:
					n.connector.poke(e.Peer)
				case event.EvtLocalAddressesUpdated:
					pending = true
				}
			}
			if pending && quiet == nil && n.discovery != nil {
				n.discovery.Poke()
				pending, quiet = false, time.After(addressQuiet)
			}
		}
	})
	if !ok {
		sub.Close()
		return ErrClosed
	}
	return nil
}
