package node

import "github.com/p2pcore/p2pcore/feed"

// mayHear tells whether a feed in use is offered to a peer: it may hear of all, or was found for this one. mu is held.
func (r *Replicator) mayHear(t *talking, dk feed.DiscoveryKey) bool {
	if t.known {
		return true
	}
	p := r.peers[t.peer]
	if p == nil || t.peer == "" {
		return false
	}
	_, found := p.keys[dk]
	return found
}

// inUse returns the feeds in use that are offered to a peer. mu is held.
func (r *Replicator) inUse(t *talking) []*entry {
	var active []*entry
	for _, e := range r.entries {
		if (e.wanted() || e.linger != nil) && r.mayHear(t, e.dk) {
			active = append(active, e)
		}
	}
	return active
}

// introduce offers a peer all feeds in use: it has shown that it knows one of ours.
func (r *Replicator) introduce(t *talking) {
	r.mu.Lock()
	if t.known || r.closed {
		r.mu.Unlock()
		return
	}
	t.known = true
	active := r.inUse(t)
	r.mu.Unlock()
	for _, e := range active {
		r.attach(t.conn, e)
	}
}

// found notes that a peer with a stream was found for a feed, and offers it. Without a stream nothing is noted.
func (r *Replicator) found(peer string, dk feed.DiscoveryKey) {
	r.mu.Lock()
	p := r.peers[peer]
	if p == nil || p.live == nil || len(p.keys) >= maxKeysPerPeer {
		r.mu.Unlock()
		return
	}
	p.keys[dk] = struct{}{}
	live := p.live
	r.mu.Unlock()
	r.offerLater(live, dk)
}
