package node

import (
	"github.com/p2pcore/p2pcore/feed"
)

// PushMode says how the blocks of a feed come here. The zero value is the usual one: they are asked for.
type PushMode struct {
	// AllowPush lets peers send blocks that were not asked for, while the feed has a session; they are told so. See
	// protocol.ExchangeOptions.
	AllowPush bool
	// PushOnly asks peers for nothing, but for what a session with feed.SessionOptions.Force gets.
	PushOnly bool
}

// SetPush sets how the blocks of a feed come here, at any time and before the feed is opened too.
func (r *Replicator) SetPush(dk feed.DiscoveryKey, m PushMode) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m == (PushMode{}) {
		delete(r.pushes, dk)
	} else {
		r.pushes[dk] = m
	}
	if e := r.entries[dk]; e != nil {
		r.tellPush(e)
	}
}

// Push sends stored blocks of a feed unasked, to the peers that allow it; see protocol.Exchange.Push. It does nothing for
// a feed that does not take part in replication.
func (r *Replicator) Push(dk feed.DiscoveryKey, blocks feed.Range) {
	if x := r.Exchange(dk); x != nil {
		x.Push(blocks)
	}
}

// tellPush tells e's exchange how its blocks come. Nothing is to be pushed to a feed that nobody here wants any more, though
// its channels linger. mu is held.
func (r *Replicator) tellPush(e *entry) {
	m := r.pushes[e.dk]
	if pushed := (PushMode{m.AllowPush && e.wanted(), m.PushOnly}); pushed != e.push {
		e.push = pushed
		e.x.SetAllowPush(pushed.AllowPush)
		e.x.SetPushOnly(pushed.PushOnly)
	}
}

// SetPush sets how the blocks of a feed come here; see Replicator.SetPush.
func (n *Node) SetPush(key feed.Key, m PushMode) { n.replicator.SetPush(key.DiscoveryKey(), m) }

// Push sends stored blocks of a feed unasked, to the peers that allow it; see Replicator.Push.
func (n *Node) Push(key feed.Key, blocks feed.Range) {
	n.replicator.Push(key.DiscoveryKey(), blocks)
}
