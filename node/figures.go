package node

import (
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/p2pcore/p2pcore/feed"
	hyper "github.com/p2pcore/p2pcore/protocol"
)

// Figures are the counters and gauges of a whole node. Counters begin with the node and never fall.
type Figures struct {
	Replication hyper.Stats // the sum over all feeds; those that have been closed since count too
	Feeds       int         // that take part in replication now

	Streams    int    // replication streams over libp2p that are up
	Opening    int    // and those that are being opened or decided on
	Supplanted uint64 // streams given up because another one to the same peer took their place

	Announced        int           // feeds whose announcement has been handed to the DHT
	Unannounced      int           // feeds that are to be announced and are not yet
	Announcements    uint64        // direct announcements made; what the sweep repeats does not count
	AnnounceFailures uint64        // that failed
	AnnounceLag      time.Duration // how long the oldest of Unannounced has waited

	Decisions Decisions

	TableSize    int // peers in the DHT's routing table
	Reachability network.Reachability
}

// Figures returns the figures now.
func (n *Node) Figures() Figures {
	f := Figures{}
	f.Replication, f.Feeds = n.replicator.sum()
	f.Streams, f.Opening, f.Supplanted = n.links.count()
	f.Decisions = n.replicator.decided.figures()
	if n.announcer != nil {
		f.Announcements, f.AnnounceFailures = n.announcer.made.Load(), n.announcer.failed.Load()
	}
	if n.kad != nil {
		f.TableSize = n.kad.RoutingTable().Size()
	}
	f.Reachability = network.Reachability(n.reachability.Load())
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, m := range n.members {
		switch {
		case m.announce == nil:
		case m.announce.Announced():
			f.Announced++
		default:
			f.Unannounced++
			f.AnnounceLag = max(f.AnnounceLag, time.Since(m.since))
		}
	}
	return f
}

// count returns how many streams are up, how many are on the way, and how many were given up for another.
func (ls *links) count() (live, opening int, supplanted uint64) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for _, l := range ls.all {
		switch {
		case l.lost:
		case l.conn != nil:
			live++
		default:
			opening++
		}
	}
	return live, opening, ls.supplanted
}

// FeedState is one feed that takes part in replication.
type FeedState struct {
	Info   feed.Info
	Active bool // it has a session: it is offered to every peer
	Peers  []hyper.PeerInfo
}

// Feeds returns the feeds that take part in replication now, in no order: those with a session, and those that a
// peer has asked for lately.
func (n *Node) Feeds() []FeedState {
	r := n.replicator
	r.mu.Lock()
	states := make([]FeedState, 0, len(r.entries))
	entries := make([]*entry, 0, len(r.entries))
	for _, e := range r.entries {
		entries = append(entries, e)
		states = append(states, FeedState{Active: e.active})
	}
	r.mu.Unlock()
	for i, e := range entries {
		states[i].Info, states[i].Peers = e.f.Info(), e.x.Peers()
	}
	return states
}

// sum returns the figures of all exchanges there were, and how many feeds take part now.
func (r *Replicator) sum() (total hyper.Stats, feeds int) {
	r.mu.Lock()
	total, feeds = r.retired, len(r.entries)
	exchanges := make([]*hyper.Exchange, 0, len(r.entries)+len(r.leaving))
	for _, e := range r.entries {
		exchanges = append(exchanges, e.x)
	}
	for e := range r.leaving {
		exchanges = append(exchanges, e.x)
	}
	r.mu.Unlock()
	for _, x := range exchanges {
		total.Add(x.Stats())
	}
	return total, feeds
}
