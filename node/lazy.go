package node

import "github.com/p2pcore/p2pcore/feed"

// SetLazyUpgrade says whether a feed stays as long as it is until somebody here waits for more, at any time and before the
// feed is opened too; see protocol.Exchange.SetLazyUpgrade.
func (r *Replicator) SetLazyUpgrade(dk feed.DiscoveryKey, on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if on {
		r.lazy[dk] = struct{}{}
	} else {
		delete(r.lazy, dk)
	}
	if e := r.entries[dk]; e != nil {
		e.x.SetLazyUpgrade(on)
	}
}

// SetLazyUpgrade says whether a feed stays as long as it is until somebody here waits for more; see
// Replicator.SetLazyUpgrade.
func (n *Node) SetLazyUpgrade(key feed.Key, on bool) {
	n.replicator.SetLazyUpgrade(key.DiscoveryKey(), on)
}
