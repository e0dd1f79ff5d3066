package replica

import (
	"slices"

	"github.com/p2pcore/p2pcore/internal/merkle"
)

// verifyFork has an answer about a higher fork verified.
func (m *Machine) verifyFork(p *peer, r *request, token Token, proof *merkle.Proof) {
	m.reorgs[token] = r
	if r.upgrade.Length > 0 {
		m.emit(StartReorg{Token: token, Peer: p.id, Proof: proof})
	} else {
		m.emit(StepReorg{Token: token, Peer: p.id, Search: r.follows.search, Proof: proof})
	}
}

func (m *Machine) onReorged(e Reorged) {
	if m.applying != nil && e.Token == m.applyToken {
		m.onForkApplied(e)
		return
	}
	r := m.reorgs[e.Token]
	if r == nil {
		return
	}
	delete(m.reorgs, e.Token)
	p, c := r.peer, r.follows
	if e.Fault == FaultNone {
		p.upgradeFail = 0
		// Else our own fork has moved meanwhile, or a higher one is verified.
		if c.asked == r && slices.Contains(m.candidates, c) {
			m.forkVerified(c, e)
		}
	}
	m.finish(r)
	switch e.Fault {
	case FaultNone:
	case FaultStale:
		// Our own head has moved: the search, if it had begun, starts over.
		m.candidates = without(m.candidates, c)
	case FaultNotAvailable:
		m.stats.Refused++
		m.failed(p, r)
		if !p.gone {
			m.countNoData(p)
		}
	case FaultInvalid, FaultContradicts:
		m.stats.InvalidProofs++
		m.drop(p, "invalid proof", e.Err)
	default:
		m.pauseUpgrade(p)
		m.fail(e.Err)
	}
	m.touchAll()
}

// forkVerified notes that a search has begun, or got on.
func (m *Machine) forkVerified(c *candidate, e Reorged) {
	if c.search == nil {
		m.dropCandidates(func(other *candidate) bool { return other.fork < c.fork })
	}
	c.search, c.length, c.want, c.done, c.moved = e.Search, e.Length, e.Want, !e.More, m.now
	m.wakeAt(m.now.Add(StallTimeout))
}

// applyFork makes a fork our own. Nothing is asked about others until that is done.
func (m *Machine) applyFork(c *candidate, early bool) {
	if m.applying != nil {
		return
	}
	m.applying, m.applyToken = c, m.token()
	m.emit(ApplyReorg{Token: m.applyToken, Search: c.search, Early: early})
}

// onForkApplied ends the turn of a fork. If it is ours now, Changed tells the rest.
func (m *Machine) onForkApplied(e Reorged) {
	c := m.applying
	m.applying = nil
	m.candidates = without(m.candidates, c)
	switch e.Fault {
	case FaultNone:
		m.stats.Reorgs++
	case FaultStale:
	default:
		for _, p := range m.order {
			if p.fork == c.fork {
				m.pauseUpgrade(p)
			}
		}
		m.fail(e.Err)
	}
	m.touchAll()
}

// forked does what a change of our own fork calls for, once the new head is in place: of the blocks
// from ancestors on, what was asked and what is known concerned another tree.
func (m *Machine) forked(ancestors uint64) {
	m.candidates = nil
	m.remoteContig = min(m.remoteContig, ancestors)
	for _, p := range m.order {
		m.takeBack(p)
		m.overtakeCheck(p)
		if p.fork < m.info.Fork {
			p.known.clip(ancestors)
		}
		p.stale(merkle.Range{Start: ancestors, End: 1 << 63})
		for b := range p.refusals {
			if b >= ancestors {
				delete(p.refusals, b)
			}
		}
		p.toldAll, p.noUpgrade = 0, false
		p.push.restart()
		if p.synced && p.fork < m.info.Fork {
			p.unaware = MaxWindow
		}
	}
	for _, s := range m.overtaken {
		if p := s.peer; !p.gone && s.live {
			m.flush(p) // the news first
			m.refuse(s)
		}
	}
	m.overtaken = nil
	for len(m.seeks) > 0 { // the local search goes on in the new tree
		m.resolve(m.seeks[0], true, nil)
	}
}
