package replica

import (
	"slices"
	"time"

	"github.com/p2pcore/p2pcore/internal/flattree"
	"github.com/p2pcore/p2pcore/internal/merkle"
)

// candidate is a fork past ours that we are about to follow. There is one while something is asked
// about it, and from the moment its head is verified until it has become ours, or cannot any more.
//
//	peer's sync: fork 3, length 46        ┌ answer verified ┐
//	  → request fork=3 upgrade 0..46 ──→ StartReorg ──→ search wants a hash in [a, b)
//	                                                     → request fork=3 hash ──→ StepReorg ─┐
//	                                      ApplyReorg ←── search has ended ←───────────────────┘
type candidate struct {
	fork   uint64
	asked  *request // the only one in flight, or answered and being verified
	search Search   // nil until the head is verified; then:
	length uint64   // of that head
	want   merkle.Want
	done   bool      // there is nothing to want any more
	moved  time.Time // when the search last got on
}

// RefuseForks has the machine stay on its fork, whatever a remote has. It is called before the first
// Step.
func (m *Machine) RefuseForks() { m.refuseForks = true }

// canFollow reports whether p may be asked about a fork past ours. A feed that was truncated to
// nothing has no head to prove until something is appended.
func (m *Machine) canFollow(p *peer) bool {
	return !p.gone && p.greeted && p.synced && p.uploading && p.fork > m.info.Fork && p.length > 0 &&
		!m.refuseForks && !m.pushOnly && !m.info.Frozen && p.stalled.IsZero() && !p.noUpgrade && p.mayBeAsked()
}

// askFork asks p for the head of its higher fork, or for what the search lacks.
func (m *Machine) askFork(p *peer) {
	if m.applying != nil || !m.canFollow(p) || p.credit <= 0 || p.inflight >= m.window(p) ||
		m.local.Info().Fork != m.info.Fork { // the Changed of the last one is under way
		return
	}
	c := m.candidateOf(p.fork)
	switch {
	case c == nil:
		if m.mayStart(p.fork) && !m.betterFollower(p) {
			m.askForkHead(p)
		}
	case c.asked == nil && !c.done && p.length >= c.length:
		m.askForkHash(p, c)
	}
}

func (m *Machine) candidateOf(fork uint64) *candidate {
	for _, c := range m.candidates {
		if c.fork == fork {
			return c
		}
	}
	return nil
}

// mayStart reports whether one more fork can be asked about: there is room, and none past it is
// verified.
func (m *Machine) mayStart(fork uint64) bool {
	for _, c := range m.candidates {
		if c.search != nil && c.fork > fork {
			return false
		}
	}
	return len(m.candidates) < maxCandidates
}

// betterFollower reports whether another peer of the same fork has failed less often than p.
func (m *Machine) betterFollower(p *peer) bool {
	for _, q := range m.order {
		if q.fork == p.fork && q.upgradeFail < p.upgradeFail && m.canFollow(q) && q.credit > 0 && q.inflight < m.window(q) {
			m.touch(q)
			return true
		}
	}
	return false
}

func (m *Machine) askForkHead(p *peer) {
	c := &candidate{fork: p.fork}
	i := slices.IndexFunc(m.candidates, func(other *candidate) bool { return other.fork < c.fork })
	if i < 0 {
		i = len(m.candidates)
	}
	m.candidates = slices.Insert(m.candidates, i, c)
	r := &request{peer: p, follows: c}
	r.upgrade = merkle.UpgradeRequest{Length: p.length}
	m.sendFork(p, r)
}

// askForkHash asks for the way from some block up to the node that differs, and with it for the nodes
// beside that way.
func (m *Machine) askForkHash(p *peer, c *candidate) {
	b, ok := m.blockForFork(p, c.want.Range)
	if !ok {
		return
	}
	r := &request{peer: p, follows: c, hasHash: true, hash: flattree.Leaf(b), nodes: c.want.Nodes}
	m.sendFork(p, r)
}

func (m *Machine) sendFork(p *peer, r *request) {
	r.follows.asked = r
	m.sendRequest(p, r)
	m.wakeAt(m.now.Add(forkStallTimeout))
}

// blockForFork returns a block of span that p holds. Where none is known, p is asked what it holds of
// a few more pages, each once: the same question brings the same answer until something has changed.
func (m *Machine) blockForFork(p *peer, span merkle.Range) (uint64, bool) {
	from := span.Start + m.rng.Uint64N(span.Len())
	if b, ok := p.known.first(from, span.End); ok {
		return b, true
	}
	if b, ok := p.known.first(span.Start, from); ok {
		return b, true
	}
	first := span.Start / wantPage
	for number, open := first, 0; open < maxSeekPages && number < first+maxWantPages && number*wantPage < span.End; number++ {
		pg := p.pages[number]
		if p.givenUp.Has(number) || pg != nil && !pg.stale && (pg.answered || m.now.Sub(pg.at) >= StallTimeout) {
			continue
		}
		m.need(p, number)
		open++
	}
	return 0, false
}

// learnedFork has p asked when it has told what it holds, which is news for a search even where we
// hold the same blocks of the old fork.
func (m *Machine) learnedFork(p *peer) {
	if len(m.candidates) > 0 && p.fork > m.info.Fork {
		m.touch(p)
	}
}

// disownFork lets what r asked about a fork be asked again.
func (m *Machine) disownFork(r *request) {
	c := r.follows
	if c.asked != r {
		return
	}
	c.asked = nil
	if c.search == nil {
		m.candidates = without(m.candidates, c)
	}
}

// dropCandidates gives up the forks that match, and what is asked about them.
func (m *Machine) dropCandidates(match func(*candidate) bool) {
	for _, c := range slices.Clone(m.candidates) {
		if !match(c) {
			continue
		}
		m.candidates = without(m.candidates, c)
		if r := c.asked; r != nil {
			m.cancel(r)
		}
	}
}

// settleForks gives up verified forks that nobody can tell more of, so that others have their turn, and
// does not search where there is nothing to find.
func (m *Machine) settleForks() {
	for i := 0; i < len(m.candidates); {
		c := m.candidates[i]
		switch {
		case c.asked != nil || c == m.applying:
		case m.applying == nil && (c.done || m.have.Count(c.want.Start, m.info.Length) == 0):
			if m.mayFork() {
				m.applyFork(c, !c.done)
			}
		case !m.hasFollower(c):
			m.candidates = without(m.candidates, c)
			m.touchAll()
			continue
		}
		i++
	}
}

func (m *Machine) hasFollower(c *candidate) bool {
	for _, p := range m.order {
		if p.fork == c.fork && p.length >= c.length && m.canFollow(p) {
			return true
		}
	}
	return false
}

// tickForkStall takes a request about a fork back from p, which is silent, if somebody else could be
// asked instead.
func (m *Machine) tickForkStall(p *peer) {
	for _, c := range slices.Clone(m.candidates) {
		r := c.asked
		if r == nil || r.peer != p || r.state != stateSent {
			continue
		}
		if due := r.sentAt.Add(forkStallTimeout); m.now.Before(due) {
			m.wakeAt(due)
		} else if m.otherFollower(p, c) {
			m.pauseUpgrade(p)
			p.upgradeFail++
			m.cancelSent(r)
			m.requeue(r)
		}
	}
}

// otherFollower reports whether a peer could be asked if p were not: about the same fork, or about one
// for which there is no room.
func (m *Machine) otherFollower(p *peer, c *candidate) bool {
	for _, q := range m.order {
		if q == p || !m.canFollow(q) {
			continue
		}
		if q.fork == c.fork && q.length >= c.length || m.candidateOf(q.fork) == nil && len(m.candidates) == maxCandidates {
			return true
		}
	}
	return false
}

// tickForks ends a search in which nobody helps, if that costs little.
func (m *Machine) tickForks() {
	for _, c := range m.candidates {
		if c.search == nil || c.done || c.asked != nil || m.applying != nil || !m.mayFork() {
			continue
		}
		if due := c.moved.Add(StallTimeout); m.now.Before(due) {
			m.wakeAt(due)
		} else if m.have.Count(c.want.Start, m.info.Length) <= maxSacrifice {
			m.applyFork(c, true)
		}
	}
}
