package node

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p-kad-dht/amino"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
)

// startEvents follows the host's events: a peer that can be talked to ends the pause before its next attempt, other
// addresses of ours end all pauses, a connection that is lost may have been the last to the network, and what changes where
// our announcements should be makes them anew.
func (n *Node) startEvents() error {
	sub, err := n.host.EventBus().Subscribe([]any{
		new(event.EvtPeerIdentificationCompleted),
		new(event.EvtPeerProtocolsUpdated),
		new(event.EvtPeerConnectednessChanged),
		new(event.EvtLocalAddressesUpdated),
		new(event.EvtLocalReachabilityChanged),
	}, eventbus.BufSize(256))
	if err != nil {
		return fmt.Errorf("node: subscribe to the host's events: %w", err)
	}
	ok := n.group.Go(func(ctx context.Context) {
		defer sub.Close()
		n.follow(ctx, sub.Out())
	})
	if !ok {
		sub.Close()
		return ErrClosed
	}
	return nil
}

// follow is the goroutine that reads the events. It must not block: the host waits for it.
func (n *Node) follow(ctx context.Context, events <-chan any) {
	timer := time.NewTimer(0) // fires when announcements may be made anew
	defer timer.Stop()
	<-timer.C
	var last time.Time // when they last were
	pending := false
	for {
		stale := false
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			pending, last = false, time.Now()
			n.discovery.Poke()
		case e, ok := <-events:
			if !ok {
				return
			}
			stale = n.event(e)
		}
		if stale && !pending && n.discovery != nil {
			pending = true
			// A new peer is admitted to the routing table a moment after its identification.
			timer.Reset(max(announceSettle, announceQuiet-time.Since(last)))
		}
	}
}

// event acts on e and tells whether our announcements should be made anew.
func (n *Node) event(e any) (stale bool) {
	switch e := e.(type) {
	case event.EvtPeerIdentificationCompleted:
		if e.Conn.Stat().Direction == network.DirInbound {
			n.connector.called(e.Peer)
		} else { // by an attempt of ours, whose end is not known yet
			n.connector.poke(e.Peer)
		}
		return n.keepsRecords(e.Protocols)
	case event.EvtPeerProtocolsUpdated:
		n.connector.poke(e.Peer)
		return n.keepsRecords(e.Added)
	case event.EvtPeerConnectednessChanged:
		if e.Connectedness == network.NotConnected {
			signal(n.entrance.wake)
		}
	case event.EvtLocalAddressesUpdated:
		n.connector.news()
		return true
	case event.EvtLocalReachabilityChanged:
		n.reachability.Store(int32(e.Reachability))
	}
	return false
}

// keepsRecords tells whether a peer with these protocols, new or restarted, should hear of our announcements now. In a
// network with no more servers than one record has holders, every server holds every record, and one that comes back
// has forgotten them; in a larger one the next sweep is soon enough.
func (n *Node) keepsRecords(protocols []protocol.ID) bool {
	return n.kad != nil && n.cfg.private() && n.kad.RoutingTable().Size() <= amino.DefaultBucketSize &&
		slices.Contains(protocols, n.cfg.kadProtocol())
}
