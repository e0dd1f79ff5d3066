package node

import (
	"errors"

	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/internal/shrink"
	hyper "github.com/p2pcore/p2pcore/protocol"
)

// AddCore puts a feed on all connections, those to come included, until remove is called, which may be done twice. The
// feed may be one that is in no store; it must stay open until then. Feeds of the store take part by themselves while they
// have a session.
//
// The error is ErrClosed, or ErrAdded if another feed of the same key takes part.
func (r *Replicator) AddCore(f *feed.Feed) (remove func(), err error) {
	dk := f.DiscoveryKey()
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil, ErrClosed
	}
	e := r.entries[dk]
	if e != nil && e.f != f {
		r.mu.Unlock()
		return nil, ErrAdded
	}
	if e == nil {
		e = r.add(f)
	}
	e.added++
	r.tellPush(e)
	conns := r.connsFor(dk)
	r.mu.Unlock()
	e.x.SetDownloading(true)
	for _, c := range conns {
		r.attach(c, e)
	}
	var removed bool
	return func() {
		r.mu.Lock()
		if removed {
			r.mu.Unlock()
			return
		}
		removed = true
		e.added--
		r.tellPush(e)
		last := !e.wanted() && r.entries[dk] == e
		if last && e.release == nil {
			shrink.Delete(&r.entries, dk, &r.gone) // nobody else holds the feed open
			r.leaving[e] = struct{}{}
		}
		mine := last && e.release == nil
		r.mu.Unlock()
		switch {
		case mine:
			r.drop(e)
		case last:
			r.quieten(e)
		}
	}, nil
}

// ErrAdded says that another feed of the same key takes part in replication.
var ErrAdded = errors.New("node: another feed of the same key takes part")

// connsFor returns the connections on which a feed in use is offered. mu is held.
func (r *Replicator) connsFor(dk feed.DiscoveryKey) []*hyper.Conn {
	conns := make([]*hyper.Conn, 0, len(r.conns))
	for c, t := range r.conns {
		if r.mayHear(t, dk) {
			conns = append(conns, c)
		}
	}
	return conns
}
