package node

import (
	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/internal/shrink"
)

// onRemove follows the store: the feed of dk leaves the group. Its channels close on every connection, and it is not
// announced any more. The store lets nobody open the feed until this returns, so nothing here waits for the store, nor for
// callbacks of the application, which may.
func (r *Replicator) onRemove(dk feed.DiscoveryKey, f *feed.Feed) {
	r.unlisten(dk)
	r.mu.Lock()
	e := r.entries[dk]
	if e == nil || e.f != f { // not the store's feed but one that was added
		r.mu.Unlock()
		return
	}
	shrink.Delete(&r.entries, dk, &r.gone)
	r.leaving[e] = struct{}{}
	if e.linger != nil {
		e.linger()
		e.linger = nil
	}
	r.mu.Unlock()
	r.drop(e)
}

// back has a feed that was removed announced again once it has a session. It may have been removed once more.
func (r *Replicator) back(e *entry) {
	r.mu.Lock()
	var l *listening
	if r.entries[e.dk] == e {
		l = r.setRemoved(e.dk, false)
	}
	if l == nil {
		r.mu.Unlock()
		return
	}
	r.tellListening(e.dk, l)
}
