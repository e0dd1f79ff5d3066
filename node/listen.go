package node

import (
	"sync"

	"github.com/p2pcore/p2pcore/dht"
	"github.com/p2pcore/p2pcore/feed"
)

// listening counts who wants a discovery key to be announced and looked up.
type listening struct {
	// under Replicator.mu
	announce, lookup int
	users            int  // calls that hold or wait for the turn
	removed          bool // the feed has left the group: nothing is wanted until it is back
	concealed        bool // the policy keeps it from being announced

	// turn is held while the listen functions are called, so that they come in order. It guards told and nothing
	// that anybody else reads.
	turn sync.Mutex
	told dht.Mode
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
// twice. The listen functions of the options have been called for it when Listen and leave return.
func (r *Replicator) Listen(dk feed.DiscoveryKey, m dht.Mode) (leave func()) {
	r.listen(dk, m, 1)
	return sync.OnceFunc(func() { r.listen(dk, m, -1) })
}

func (r *Replicator) listen(dk feed.DiscoveryKey, m dht.Mode, n int) {
	r.mu.Lock()
	l := r.listens[dk]
	if l == nil {
		l = &listening{concealed: r.conceals(dk)}
		r.listens[dk] = l
	}
	if m&dht.Announce != 0 {
		l.announce += n
	}
	if m&dht.Lookup != 0 {
		l.lookup += n
	}
	r.tellListening(dk, l)
}

// tellListening calls the listen function that l is due, if any. mu is held on entry and not on return.
func (r *Replicator) tellListening(dk feed.DiscoveryKey, l *listening) {
	l.users++
	r.mu.Unlock()

	l.turn.Lock()
	r.mu.Lock()
	want := l.mode()
	r.mu.Unlock()
	switch {
	case want == l.told:
	case want == 0:
		if r.opts.OnUnlisten != nil {
			r.opts.OnUnlisten(dk)
		}
	default:
		if r.opts.OnListen != nil {
			r.opts.OnListen(dk, want)
		}
	}
	l.told = want
	l.turn.Unlock()

	r.mu.Lock()
	l.users--
	if l.users == 0 && l.announce == 0 && l.lookup == 0 && r.listens[dk] == l {
		delete(r.listens, dk)
	}
	r.mu.Unlock()
}

// setRemoved says that the feed of dk has left the group, or is back in it. Whoever listens for it keeps doing so, and
// nobody is told to announce it or look it up until it is back. mu is held on entry and not on return.
func (r *Replicator) setRemoved(dk feed.DiscoveryKey, removed bool) {
	l := r.listens[dk]
	if l == nil || l.removed == removed {
		r.mu.Unlock()
		return
	}
	l.removed = removed
	r.tellListening(dk, l)
}
