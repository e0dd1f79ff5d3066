package node

import (
	"context"
	"sync"

	"github.com/p2pcore/p2pcore/dht"
	"github.com/p2pcore/p2pcore/feed"
)

// listening counts who wants a discovery key to be announced and looked up.
type listening struct {
	// under Replicator.mu
	announce, lookup int
	removed          bool // the feed has left the group: nothing is wanted until it is back
	concealed        bool // the policy keeps it from being announced

	telling bool          // somebody calls the listen functions, and goes on until told is mode()
	told    dht.Mode      // of whoever tells
	settled chan struct{} // closed when nobody tells any more; nil if nobody waits
}

func (l *listening) mode() (m dht.Mode) {
	if l.removed {
		return 0
	}
	if l.announce > 0 && !l.concealed {
		m |= dht.Announce
	}
	if l.lookup > 0 {
		m |= dht.Lookup
	}
	return m
}

// Listen declares that dk should be announced, looked up, or both, until leave is called, which may be done
// twice. The listen functions of the options have been called for it when Listen and leave return, unless another call
// for dk was calling them: that one calls them again. So they may call Listen and leave.
func (r *Replicator) Listen(dk feed.DiscoveryKey, m dht.Mode) (leave func()) {
	r.listen(dk, m, 1)
	return sync.OnceFunc(func() { r.listen(dk, m, -1) })
}

func (r *Replicator) listen(dk feed.DiscoveryKey, m dht.Mode, n int) {
	r.mu.Lock()
	l := r.listening(dk)
	if m&dht.Announce != 0 {
		l.announce += n
	}
	if m&dht.Lookup != 0 {
		l.lookup += n
	}
	r.tellListening(dk, l)
}

// listening returns who wants dk, and makes it if nobody did. mu is held.
func (r *Replicator) listening(dk feed.DiscoveryKey) *listening {
	l := r.listens[dk]
	if l == nil {
		l = &listening{concealed: r.conceals(dk)}
		r.listens[dk] = l
	}
	return l
}

// tellListening calls the listen functions until they know what l wants. If somebody is at it, that one sees the change.
// mu is held on entry and not on return.
func (r *Replicator) tellListening(dk feed.DiscoveryKey, l *listening) {
	defer r.mu.Unlock()
	if l.telling {
		return
	}
	l.telling = true
	for l.told != l.mode() {
		l.told = l.mode()
		want := l.told
		r.mu.Unlock()
		r.callListening(dk, want)
		r.mu.Lock()
	}
	l.telling = false
	if l.settled != nil {
		close(l.settled)
		l.settled = nil
	}
	if l.announce == 0 && l.lookup == 0 && r.listens[dk] == l {
		delete(r.listens, dk)
	}
}

// callListening calls the listen function for a mode.
func (r *Replicator) callListening(dk feed.DiscoveryKey, m dht.Mode) {
	switch {
	case m != 0 && r.opts.OnListen != nil:
		r.opts.OnListen(dk, m)
	case m == 0 && r.opts.OnUnlisten != nil:
		r.opts.OnUnlisten(dk)
	}
}

// settle waits until the listen functions know what is wanted of dk. They must not wait for it.
func (r *Replicator) settle(dk feed.DiscoveryKey) {
	r.mu.Lock()
	l := r.listens[dk]
	if l == nil || !l.telling {
		r.mu.Unlock()
		return
	}
	if l.settled == nil {
		l.settled = make(chan struct{})
	}
	settled := l.settled
	r.mu.Unlock()
	<-settled
}

// setRemoved says that the feed of dk has left the group, or is back in it, and returns who is to be told. Whoever listens
// for it keeps doing so, and nobody is told to announce it or look it up until it is back. mu is held.
func (r *Replicator) setRemoved(dk feed.DiscoveryKey, removed bool) *listening {
	l := r.listens[dk]
	if l == nil || l.removed == removed {
		return nil
	}
	l.removed = removed
	return l
}

// unlisten follows the removal of the feed of dk. Whoever removes it does not wait for listen functions that may wait for
// the removal.
func (r *Replicator) unlisten(dk feed.DiscoveryKey) {
	r.mu.Lock()
	// At once, not when it is told: by then the feed may be back, and announced anew.
	l := r.unannounce(dk)
	if m := r.setRemoved(dk, true); m != nil {
		l = m
	}
	r.mu.Unlock()
	tell := func(context.Context) {
		if l != nil {
			r.mu.Lock()
			r.tellListening(dk, l)
		}
	}
	if !r.opts.quiet {
		r.group.Go(tell)
		return
	}
	tell(r.group.Context())
	r.settle(dk)
}
