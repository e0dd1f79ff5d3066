package node

import (
	"slices"

	"github.com/p2pcore/p2pcore/feed"
	hyper "github.com/p2pcore/p2pcore/protocol"
)

// hook is what OnDiscoveryKey was given.
type hook struct {
	fn func(peer string, c *hyper.Conn)
}

// OnDiscoveryKey has fn called, once for each connection, when a peer pops up for dk: HandlePeer has found it or
// HandleConnection was told so, or the peer has opened dk's channel here and nobody had the feed open. The remote need not
// have proved that it knows the key. fn runs before the feed is looked for in the store, so it may open it; it must
// not wait for the connection's end. stop ends it and may be called twice.
func (r *Replicator) OnDiscoveryKey(dk feed.DiscoveryKey, fn func(peer string, c *hyper.Conn)) (stop func()) {
	h := &hook{fn}
	r.mu.Lock()
	r.hooks[dk] = append(r.hooks[dk], h)
	r.mu.Unlock()
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		left := slices.DeleteFunc(slices.Clone(r.hooks[dk]), func(other *hook) bool { return other == h })
		if len(left) == 0 {
			delete(r.hooks, dk)
		} else {
			r.hooks[dk] = left
		}
	}
}

// popsUp tells the hooks of dk of a connection.
func (r *Replicator) popsUp(t *talking, dk feed.DiscoveryKey) {
	r.mu.Lock()
	hooks := r.hooks[dk]
	_, told := t.told[dk]
	if len(hooks) == 0 || told {
		r.mu.Unlock()
		return
	}
	t.told[dk] = struct{}{}
	r.mu.Unlock()
	for _, h := range hooks {
		h.fn(t.peer, t.conn)
	}
}
