package replica

import (
	"slices"
	"time"

	"github.com/p2pcore/p2pcore/internal/merkle"
	"github.com/p2pcore/p2pcore/internal/wire"
)

func (m *Machine) onPlanned(e Planned) {
	rs := m.plans[e.Token]
	if rs == nil {
		return
	}
	delete(m.plans, e.Token)
	if e.Err != nil || len(e.Nodes) != len(rs) {
		for _, r := range rs {
			m.cancel(r)
		}
		if e.Err != nil {
			m.fail(e.Err)
		}
		return
	}
	clear(m.promised)
	for i, r := range rs {
		if r.state != statePlanning {
			continue
		}
		p := r.peer
		p.planning--
		r.nodes, r.planned, r.state = e.Nodes[i], e.Nodes[i], stateReady
		m.shorten(r)
		if m.urgentRefs[r.block] > 0 {
			p.ready = slices.Insert(p.ready, p.urgentReady(m), r)
		} else {
			p.ready = append(p.ready, r)
		}
		m.touch(p)
	}
	// What does not fit the windows of these may go to a peer that has nothing to do.
	for _, p := range m.order {
		if p.inflight+p.planning+len(p.ready) == 0 {
			m.touch(p)
		}
	}
}

// urgentReady counts the single gets at the head of the ready queue.
func (p *peer) urgentReady(m *Machine) int {
	for i, r := range p.ready {
		if m.urgentRefs[r.block] == 0 {
			return i
		}
	}
	return len(p.ready)
}

// find returns the request that an answer with this id is for, or nil after counting it.
func (m *Machine) find(p *peer, id uint64) *request {
	if id > 0 && id < uint64(len(p.requests)) {
		switch r := p.requests[id]; {
		case r == nil:
		case r.state == stateSent:
			return r
		case r.state == stateCancelled:
			r.state = stateLate // it has crossed our cancel
			p.stalled = time.Time{}
			m.touch(p)
			return nil
		}
	}
	m.stats.Unsolicited++
	if p.unsolicited++; p.unsolicited > maxUnsolicited {
		m.drop(p, "unsolicited answers", nil)
	}
	return nil
}

func (m *Machine) onData(p *peer, d *wire.Data) {
	if d.ID == 0 && m.onHeadProof(p, d) {
		return
	}
	if d.ID == 0 {
		m.onPushed(p, d)
		return
	}
	r := m.find(p, d.ID)
	if r == nil {
		if m.allowPush && !p.gone {
			m.onPushed(p, d)
		}
		return
	}
	m.answered(p, r)
	if !r.fits(&d.Proof) {
		m.refused(p, r)
		return
	}
	r.rebased = d.Proof.Upgrade != nil && d.Proof.Upgrade.Start != r.upgrade.Start
	if r.follows != nil && r.upgrade.Length > 0 && r.rebased {
		m.finish(r)
		m.upgradeMissed(p, r)
		m.requeue(r)
		return
	}
	if d.Proof.Block != nil {
		r.size = uint64(len(d.Proof.Block.Value))
		p.meanSize = smooth(p.meanSize, len(d.Proof.Block.Value))
		if !m.isSeed(p) {
			m.shared = m.now
		}
	}
	r.state = stateApplying
	token := m.token()
	if r.follows != nil {
		m.verifyFork(p, r, token, &d.Proof)
		return
	}
	m.applies[token] = r
	m.emit(Apply{Token: token, Peer: p.id, Proof: &d.Proof})
	m.touch(p)
}

// smooth is a running mean of sizes.
func smooth(mean, size int) int {
	if mean == 0 {
		return max(size, 1)
	}
	return max(mean+(size-mean)/8, 1)
}

// fits reports whether a proof has what r asked for, and nothing else. A seek part may be left out
// where the hash alone answers it, and an upgrade may cover more than was asked.
func (r *request) fits(p *merkle.Proof) bool {
	if p.Fork != r.fork {
		return false
	}
	if (p.Block != nil) != r.hasBlock || p.Block != nil && p.Block.Index != r.block {
		return false
	}
	if (p.Hash != nil) != r.hasHash || p.Hash != nil && p.Hash.Index != r.hash {
		return false
	}
	if p.Seek != nil && (r.seek == nil || p.Seek.Bytes != r.seek.bytes) {
		return false
	}
	if (p.Upgrade != nil) != (r.upgrade.Length > 0) {
		return false
	}
	lone := !r.hasBlock && !r.hasHash && r.upgrade.Length == 0
	return !lone || p.Manifest != nil
}

func (m *Machine) onNoData(p *peer, n *wire.NoData) {
	if n.ID == 0 && m.checkRefused(p) {
		return
	}
	r := m.find(p, n.ID)
	if r == nil {
		return
	}
	m.answered(p, r)
	m.refused(p, r)
}

// refused notes that p did not answer r, by a noData or by an answer that does not fit.
func (m *Machine) refused(p *peer, r *request) {
	m.stats.Refused++
	m.finish(r)
	m.failed(p, r)
	m.countNoData(p)
}

// failed has r asked of others. Its block is not asked of p again until p announces it again, and at
// most twice.
func (m *Machine) failed(p *peer, r *request) {
	m.requeue(r)
	switch {
	case r.hasBlock:
		p.refuse(r.block)
		p.known.bits.Set(r.block, false)
		if pg := p.pages[r.block/wantPage]; pg != nil && r.block >= p.known.contig {
			pg.stale = true
		}
	case r.upgrade.Length > 0, r.follows != nil:
		m.pauseUpgrade(p)
		p.upgradeFail++
	case r.manifest && !r.hasHash:
		p.noManifest = true
	}
	if w := r.seek; w != nil && !w.done {
		if w.refused == nil {
			w.refused = map[PeerID]bool{}
		}
		w.refused[p.id] = true
	}
}

// countNoData counts a refusal, and reports whether it was the last that p could afford.
func (m *Machine) countNoData(p *peer) bool {
	if p.noData++; p.noData >= maxNoData {
		m.closeChannel(p, true)
	}
	return p.gone
}

func (m *Machine) onApplied(e Applied) {
	r := m.applies[e.Token]
	if r == nil {
		m.onPushApplied(e)
		return
	}
	delete(m.applies, e.Token)
	p := r.peer
	m.finish(r)
	switch e.Fault {
	case FaultNone:
		m.applied(p, r, e)
	case FaultStale, FaultNotAvailable:
		m.refresh()
		fork := m.local.Info().Fork
		if m.fruitless(r) && m.info.Fork == fork {
			m.upgradeMissed(p, r)
		}
		if r.nodes < r.planned {
			// An earlier answer did not come first, or not at all.
			p.disorder++
		} else if (r.hasBlock || r.hasHash) && r.upgrade.Length == 0 && r.fork == fork {
			// It was planned to end at a node that is stored, and none goes away on one fork.
			p.nowhere++
		}
		m.requeue(r)
		if p.nowhere > maxNowhere && !p.gone {
			m.drop(p, "answers that lead nowhere", e.Err)
		}
	case FaultInvalid:
		m.stats.InvalidProofs++
		m.requeue(r)
		m.drop(p, "invalid proof", e.Err)
	case FaultContradicts:
		m.stats.InvalidProofs++
		m.suspect(p, r, e.Err)
	default:
		if r.upgrade.Length > 0 {
			m.pauseUpgrade(p)
		}
		m.fail(e.Err)
	}
}

func (m *Machine) applied(p *peer, r *request, e Applied) {
	if e.Grown || r.upgrade.Length > 0 || r.manifest && !m.info.HasManifest {
		m.refresh()
	}
	if m.fruitless(r) {
		m.pauseUpgrade(p) // wait for news
	}
	if r.manifest && !m.info.HasManifest {
		p.noManifest = true
	}
	if w := r.seek; w != nil && !w.done {
		m.resolve(w, e.Grown, nil)
	}
	if !r.hasBlock {
		return
	}
	if e.Stored {
		m.received(p, r.size)
	}
	// A change that tells of the block comes before Applied, and one that tells that it is gone again may too. So what the
	// feed holds counts, and not that the block was stored.
	switch {
	case m.have.Has(r.block):
		return
	case m.stores(r.block):
		m.have.Set(r.block, true)
		m.arrived(r.block)
		return
	case !e.Stored:
		p.refuse(r.block)
	}
	m.requeue(r)
}

// fruitless reports whether r asked for an upgrade and our head is where it was then. What the feed tells of its new head
// may come long before the verdict on the proof, and so may the peer's answer to it: that the head has not moved just
// now means nothing.
func (m *Machine) fruitless(r *request) bool {
	return r.upgrade.Length > 0 && r.fork == m.info.Fork && m.info.Length <= r.upgrade.Start
}

// stores asks the feed whether it holds b.
func (m *Machine) stores(b uint64) bool {
	for range m.local.Ranges(merkle.Range{Start: b, End: b + 1}) {
		return true
	}
	return false
}
