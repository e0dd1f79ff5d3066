package replica

import (
	"github.com/p2pcore/p2pcore/internal/bitfield"
	"github.com/p2pcore/p2pcore/internal/wire"
)

func (m *Machine) onSetPush(e SetPush) {
	only := e.Only && !m.pushOnly
	free := m.pushOnly && !e.Only
	m.allowPush, m.pushOnly = e.Allow, e.Only
	for _, p := range m.order {
		if p.toldPush != m.allowsPush() {
			p.syncDue = true
			m.touch(p)
		}
		if free {
			p.rescanAll()
			m.touch(p)
		}
	}
	if only && !m.mayGrow() {
		m.resolveUpdates(false)
	}
}

// allowsPush is the flag that we report: who does not want the feed is not to be sent any of it.
func (m *Machine) allowsPush() bool { return m.allowPush && m.downloading }

// mayAsk reports whether block b may be asked for at all.
func (m *Machine) mayAsk(b uint64) bool {
	if !m.pushOnly {
		return true
	}
	for _, w := range m.forcing {
		if w.covers(b) {
			return true
		}
	}
	return false
}

// mayAskUpgrade reports whether p may be asked for a longer head: with SetPush's Only just for the sake of a block, with
// SetLazy for whoever waits.
func (m *Machine) mayAskUpgrade(p *peer) bool {
	if !m.pushOnly {
		return !m.lazy || m.waitsForHead(p.length)
	}
	_, ok := m.blockWithUpgrade(p)
	return ok
}

// onPushed takes what p has sent unasked. Where pushes are not allowed it is passed over and no offence: p may have
// sent it before it heard so. So is what is of no use here. The rest is verified like an answer; a block past our
// length may be one that an earlier push, not yet verified, brings the head for.
func (m *Machine) onPushed(p *peer, d *wire.Data) {
	b, u := d.Proof.Block, d.Proof.Upgrade
	longer := u != nil && u.End() > m.info.Length
	switch {
	case !m.allowPush:
		if d.ID == 0 { // find counts the others
			m.stats.Unsolicited++
		}
		return
	case m.info.Frozen, d.Proof.Fork != m.info.Fork, p.check != nil, p.taking >= maxTaking,
		b == nil && !longer, b != nil && !longer && m.holds(b.Index), b != nil && b.Index >= bitfield.MaxIndex:
		return
	}
	r := &request{peer: p, state: stateApplying, fork: d.Proof.Fork}
	if b != nil {
		r.hasBlock, r.block, r.size = true, b.Index, uint64(len(b.Value))
		if m.fetches[r.block] == nil {
			m.join(r) // it is not asked of anybody meanwhile
		}
	}
	p.taking++
	token := m.token()
	m.pushes[token] = r
	m.emit(Apply{Token: token, Peer: p.id, Proof: &d.Proof})
}

// onPushApplied notes what has come of a push. One that fits no tree of ours any more is nobody's fault: the peer
// cannot know what others have brought meanwhile. What it does not bring is asked for, if it may be.
func (m *Machine) onPushApplied(e Applied) {
	r := m.pushes[e.Token]
	if r == nil {
		return
	}
	delete(m.pushes, e.Token)
	p := r.peer
	p.taking--
	if r.hasBlock {
		m.part(r)
	}
	r.state = stateDone
	switch e.Fault {
	case FaultNone:
		m.pushTaken(p, r, e)
		return
	case FaultInvalid:
		m.stats.InvalidProofs++
		if p.badPushes++; p.badPushes > maxBadPushes && !p.gone {
			m.drop(p, "invalid pushes", e.Err)
		}
	case FaultContradicts:
		m.stats.InvalidProofs++
		m.accuse(p, r.fork, e.Err)
	}
	m.refresh()
	m.requeue(r)
}

func (m *Machine) pushTaken(p *peer, r *request, e Applied) {
	if e.Grown || !m.info.HasManifest {
		m.refresh()
	}
	if !r.hasBlock {
		return
	}
	if e.Stored {
		m.stats.PushesStored++
		m.received(p, r.size)
	}
	if (e.Stored || m.stores(r.block)) && m.have.Set(r.block, true) {
		m.arrived(r.block)
	}
}

// received counts a block of p that is stored now.
func (m *Machine) received(p *peer, size uint64) {
	m.stats.BlocksReceived++
	m.stats.BytesReceived += size
	p.blocksReceived++
	p.bytesReceived += size
}

// upgradeMissed is for an upgrade that did not fit. A Hypercore peer of which we allow pushes answers the first one on
// a channel from length 0, and the first one about a new fork from where it was on the old one; the next one it answers
// as it is asked for. So it is asked again at once.
func (m *Machine) upgradeMissed(p *peer, r *request) {
	if p.rebased++; !r.rebased || p.rebased > maxRebased {
		m.pauseUpgrade(p)
	}
}
