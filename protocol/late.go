package protocol

import (
	"slices"

	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/internal/replica"
)

// late is what the links that have ended have left behind for the workers. Each link has an inbox of its own, so a remote
// that connects anew begins with an empty one, and while the store stands still nothing that it has sent before has gone.
type late struct {
	bytes  int
	frames map[*sharedFrame]struct{} // counted
}

// add counts a job that came on ch, if that belongs to a link that has ended.
func (l *late) add(ch *channel, cost load) {
	if ch == nil || !ch.link.ended.Load() {
		return
	}
	l.bytes += cost.bytes
	if f := cost.frame; f != nil {
		if _, ok := l.frames[f]; !ok {
			l.frames[f] = struct{}{}
			l.bytes += f.bytes
		}
	}
}

// lateBytes is what waits for the store and came on links that have ended, the frames that it keeps included. mu is held.
func (w *workers) lateBytes() int {
	l := late{frames: make(map[*sharedFrame]struct{})}
	for i := range w.applies {
		l.add(w.applies[i].ch, w.applies[i].cost)
	}
	for i := range w.heads {
		l.add(w.heads[i].ch, w.heads[i].cost)
	}
	return l.bytes
}

// linkEnded drops what a link that has ended has left behind, if that and what others have left is more than may wait.
// What came first stays. The machine takes the proofs for overtaken ones: what it still lacks is asked of others.
func (w *workers) linkEnded(gone *link) {
	w.mu.Lock()
	if w.lateBytes() <= maxLateProofs {
		w.mu.Unlock()
		return
	}
	var items []item
	drop := func(ch *channel, cost load, ev replica.Event) bool {
		if ch == nil || ch.link != gone {
			return false
		}
		gone.inbox.release(cost)
		items = append(items, item{kind: machineEvent, ev: ev})
		return true
	}
	w.applies = slices.DeleteFunc(w.applies, func(j applyJob) bool {
		return drop(j.ch, j.cost, replica.Applied{Token: j.Token, Fault: replica.FaultStale, Err: feed.ErrStale})
	})
	w.heads = slices.DeleteFunc(w.heads, func(j headJob) bool { return drop(j.ch, j.cost, overtaken(j.Action)) })
	w.mu.Unlock()
	w.x.log.Debug("proofs of a peer that has gone were dropped, the store is slow", "proofs", len(items))
	w.x.push(items...)
}

// overtaken answers an ask about heads as if our own head had moved.
func overtaken(a replica.Action) replica.Event {
	switch a := a.(type) {
	case replica.StartReorg:
		return replica.Reorged{Token: a.Token, Fault: replica.FaultStale, Err: feed.ErrStale}
	case replica.StepReorg:
		return replica.Reorged{Token: a.Token, Fault: replica.FaultStale, Err: feed.ErrStale}
	case replica.Examine:
		return replica.Examined{Token: a.Token, Fault: replica.FaultStale, Err: feed.ErrStale}
	}
	panic("protocol: no ask that comes with a proof of a peer")
}

// peerClosed answers what was to be found out for a peer whose channel has closed: nobody wants to know any more.
func (w *workers) peerClosed(p replica.PeerID) {
	var items []item
	w.mu.Lock()
	w.asks = slices.DeleteFunc(w.asks, func(a replica.Action) bool {
		c, ok := a.(replica.CanUpgrade)
		if !ok || c.Peer != p {
			return false
		}
		items = append(items, item{kind: machineEvent, ev: replica.Verdict{Token: c.Token}})
		return true
	})
	w.mu.Unlock()
	w.x.push(items...)
}
