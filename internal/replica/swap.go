package replica

import (
	"slices"
	"time"
)

// A block is asked of one peer, in the first place. At the end of a download peers run out of work while
// others still owe blocks; one that has nothing else to do is then asked for those too, if it can be
// expected to bring them before those who owe them. The first answer counts, the other requests are
// cancelled. So a peer that is slow or silent holds up nothing but for the time that it takes to notice it.
//
// The requests for a block are a list that begins in Machine.fetches.

// rivals yields the requests for block b, oldest first.
func (m *Machine) rivals(b uint64) (rs [maxRivals]*request, n int) {
	for r := m.fetches[b]; r != nil; r = r.next {
		rs[n] = r
		n++
	}
	return rs, n
}

// join adds r to the requests for its block.
func (m *Machine) join(r *request) {
	at := m.fetches[r.block]
	if at == nil {
		m.fetches[r.block] = r
		return
	}
	for at.next != nil {
		at = at.next
	}
	at.next = r
}

// part takes r from the requests for its block.
func (m *Machine) part(r *request) {
	switch at := m.fetches[r.block]; {
	case at == nil:
	case at == r && r.next == nil:
		delete(m.fetches, r.block)
	case at == r:
		m.fetches[r.block] = r.next
	default:
		for at.next != nil && at.next != r {
			at = at.next
		}
		at.next = r.next
	}
	r.next = nil
}

// cancelBlock takes back the requests for b, but for those that bring an upgrade: it is of use to everybody.
func (m *Machine) cancelBlock(b uint64) {
	rs, n := m.rivals(b)
	for _, r := range rs[:n] {
		if r.upgrade.Length == 0 {
			m.cancel(r)
		}
	}
}

// expected is how long an answer of p takes: when it is as busy as it uses to be, and when it is not.
func (p *peer) expected() (busy, free time.Duration) {
	if p.pace.bestAt.IsZero() {
		return unknownDelay, unknownDelay
	}
	return p.pace.usual, p.pace.best
}

// patience is how long p may be silent, owing an answer, before what it owes is late.
func (p *peer) patience() time.Duration {
	busy, _ := p.expected()
	return 2*busy + lateTime
}

// prompt reports whether p goes on answering.
func (m *Machine) prompt(p *peer) bool { return p.sent == 0 || m.now.Sub(p.progress) < p.patience() }

// late is when the answer to r counts as late, if nothing happens until then: when its peer is silent for too
// long or, where it has answered a later request, takes too long for this one. Each further time that a block is
// asked for waits longer.
func (r *request) late() time.Time {
	since := r.sentAt
	if p := r.peer; r.sequence > p.pace.answered && since.Before(p.progress) {
		since = p.progress
	}
	return since.Add(r.peer.patience() << min(r.tries, maxTries))
}

// due is when the answer to r can be expected, from how long those of its peer took lately. One that is overdue
// is as good as one on half of the way.
func (m *Machine) due(r *request) time.Time {
	busy, _ := r.peer.expected()
	return later(r.sentAt.Add(busy), m.now.Add(busy/2))
}

// reliable reports whether p may be asked for what others owe: it goes on answering, and has not lately been
// late with what it was asked.
func (m *Machine) reliable(p *peer) bool { return m.prompt(p) && !p.missed }

// swap asks p, which has nothing else to do, for blocks that others owe: first for those that were asked of the
// fewest.
func (m *Machine) swap(p *peer, window int) {
	room := min(window, max(minSwapWindow, window/2)) - p.inflight
	if room <= 0 || m.inflight == p.inflight || !m.reliable(p) {
		return
	}
	if m.now.Before(p.swapFrom) {
		m.lookAt(p.swapFrom)
		return
	}
	p.swapFrom = m.now.Add(swapInterval * time.Duration(len(m.order)))
	found := m.swappable(p)
	for _, s := range found[:min(len(found), room)] {
		if p.credit > 0 {
			m.duplicate(p, s.block)
		}
	}
	if len(found) > room {
		m.lookAt(p.swapFrom)
	}
}

// swappable is a block that others owe, and how many of them.
type swappable struct {
	block  uint64
	rivals int
}

// swappable finds the blocks that p may be asked for.
func (m *Machine) swappable(p *peer) []swappable {
	found := m.swaps[:0]
	limit := m.askLimit(p)
	patient := m.economise(p) && m.spares(p)
	for _, q := range m.order {
		if q == p || q.sent == 0 {
			continue
		}
		for _, r := range q.requests {
			if r == nil || r.state != stateSent || !r.hasBlock || m.fetches[r.block] != r {
				continue // a block is looked at with the first request for it
			}
			if r.block >= limit || !p.known.has(r.block) || p.refuses(r.block) {
				continue
			}
			if at, n := m.helpsFrom(p, r.block, patient); n > 0 && !at.After(m.now) {
				found = append(found, swappable{r.block, n})
			} else if n > 0 {
				m.lookAt(at)
			}
		}
	}
	slices.SortStableFunc(found, func(a, b swappable) int { return a.rivals - b.rivals })
	m.swaps = found
	return found
}

// helpsFrom is from when on it would help to ask p for b as well, and of how many b was asked; 0 if p is
// one of them, or if it would never help. Patient is to wait until they are late even if p is much faster.
func (m *Machine) helpsFrom(p *peer, b uint64, patient bool) (at time.Time, n int) {
	rs, n := m.rivals(b)
	if n > 0 && rs[n-1].tries >= maxSwaps {
		patient = true
	}
	_, free := p.expected()
	for _, r := range rs[:n] {
		if r.peer == p || r.state != stateSent || r.upgrade.Length > 0 {
			return at, 0
		}
		// Of two that are about as fast the first one is waited for.
		if patient || !m.due(r).After(m.now.Add(2*free+queueTime)) {
			at = later(at, r.late())
		}
	}
	return at, n
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// duplicate asks p for b too. Where that would be one too many, the slowest of the others is given up.
func (m *Machine) duplicate(p *peer, b uint64) {
	rs, n := m.rivals(b)
	r := &request{peer: p, hasBlock: true, block: b, tries: rs[n-1].tries + 1}
	// Others may have brought some of the nodes; to bring them again does no harm.
	r.nodes, r.planned = rs[0].planned, rs[0].planned
	if n == maxRivals {
		m.cancel(slices.MaxFunc(rs[:], func(a, b *request) int { return m.due(a).Compare(m.due(b)) }))
	}
	m.join(r)
	m.stats.Duplicates++
	m.sendRequest(p, r)
}

// lookAt has the peers that have nothing to do looked at again at a time.
func (m *Machine) lookAt(at time.Time) {
	if m.swapAt.IsZero() || at.Before(m.swapAt) {
		m.swapAt = at
		m.wakeAt(at)
	}
}

// watch sees to it that somebody looks when the answer to r is late.
func (m *Machine) watch(p *peer) {
	if m.swapAt.IsZero() && len(m.order) > 1 {
		m.lookAt(m.now.Add(p.patience()))
	}
}

// tickSwaps has idle peers looked at when that is due.
func (m *Machine) tickSwaps() {
	if m.swapAt.IsZero() {
		return
	}
	if m.now.Before(m.swapAt) {
		m.wakeAt(m.swapAt)
		return
	}
	m.swapAt = time.Time{}
	for _, p := range m.order {
		if p.planning+len(p.ready) == 0 {
			m.touch(p)
		}
	}
}
