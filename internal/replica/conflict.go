package replica

import (
	"errors"
	"slices"
	"time"

	"github.com/p2pcore/p2pcore/internal/merkle"
	"github.com/p2pcore/p2pcore/internal/wire"
)

// ErrFrozen ends all wishes when the feed freezes: two contradicting heads are signed.
var ErrFrozen = errors.New("replica: feed is frozen")

// check is a conflict check. A proof of a peer led to another hash than ours, or to a head that is not
// signed. Either the peer is wrong, or its blocks are damaged, or there are two signed heads. So it is
// asked, under the id 0, for the head itself, and nothing else before it has answered: a Hypercore
// peer that thinks the same of us does not survive another request.
type check struct {
	why   error // what was wrong with the proof
	due   time.Time
	sent  bool
	void  bool  // the fork is another one by now: any answer will do
	token Token // the answer is being verified
}

// mayBeAsked reports whether p can bear a request: no conflict check of either side is out, and we have
// not refused p so often that, being a Hypercore peer, it has stopped to listen.
func (p *peer) mayBeAsked() bool { return p.check == nil && !p.probing && p.turnedDown < maxTurnedDown }

// answeredPeer notes what our answers mean to p. If we cannot prove our head, it will never listen again.
func (m *Machine) answeredPeer(p *peer, msg wire.Message) {
	switch msg := msg.(type) {
	case *wire.Data:
		if msg.ID == 0 && p.probing {
			p.probing = false
			m.touch(p)
		}
	case *wire.NoData:
		if msg.Reason == wire.ReasonNotAvailable {
			p.turnedDown++
		}
		if msg.ID == 0 && p.probing {
			p.probing, p.turnedDown = false, maxTurnedDown
		}
		m.touch(p)
	}
}

// needs reports whether there is something to ask of p.
func (m *Machine) needs(p *peer) bool {
	switch {
	case !p.synced || m.info.Frozen || !p.uploading || m.pushOnly:
		return false
	case p.fork != m.info.Fork:
		return p.fork > m.info.Fork && p.length > 0 && !m.refuseForks
	}
	return p.length > m.info.Length || len(m.wants)+len(m.urgentRefs)+len(m.seeks) > 0 && m.contig < m.info.Length
}

// suspect asks p for its head, after the answer to r has failed.
func (m *Machine) suspect(p *peer, r *request, why error) {
	m.failed(p, r)
	m.accuse(p, r.fork, why)
}

// accuse asks p for its head, after a proof of a fork has failed.
func (m *Machine) accuse(p *peer, fork uint64, why error) {
	switch {
	case p.check != nil && !p.gone: // for an answer before this one
	case p.gone, m.info.Frozen, p.checks >= maxChecks, fork != m.info.Fork || p.fork != m.info.Fork,
		m.info.Length == 0 || p.length == 0:
		m.drop(p, "invalid proof", why)
	default:
		p.checks++
		m.stats.Checks++
		p.check = &check{why: why, due: m.now.Add(StallTimeout)}
		m.checking++
		m.wakeAt(p.check.due)
		m.takeBack(p)
		m.touch(p)
	}
}

func (m *Machine) sendCheck(p *peer) {
	if p.check.sent {
		return
	}
	p.check.sent = true
	msg := &wire.Request{}
	msg.Fork = m.info.Fork
	msg.Upgrade = m.headRequest(p)
	m.send(p, msg)
}

// headRequest is for a head that p and we both have.
func (m *Machine) headRequest(p *peer) *merkle.UpgradeRequest {
	return &merkle.UpgradeRequest{Length: min(m.info.Length, p.length)}
}

// endCheck takes p out of suspicion, or it is about to be dropped.
func (m *Machine) endCheck(p *peer) {
	if p.check != nil {
		p.check = nil
		m.checking--
		m.checkIdle = true
		m.touch(p)
	}
}

// overtakeCheck makes nothing of a check, for the fork is not the same any more. It still counts, and
// what was sent is waited for.
func (m *Machine) overtakeCheck(p *peer) {
	switch {
	case p.check == nil || p.check.token != 0:
	case p.check.sent:
		p.check.void = true
	default:
		m.endCheck(p)
	}
}

// checkRefused takes noData for an answer to a conflict check.
func (m *Machine) checkRefused(p *peer) bool {
	switch {
	case p.check == nil || !p.check.sent || p.check.token != 0:
		return false
	case p.check.void:
		m.endCheck(p)
	default:
		m.drop(p, "invalid proof", p.check.why)
	}
	return true
}

func (m *Machine) tickCheck(p *peer) {
	switch {
	case p.check == nil || p.check.token != 0 || p.gone:
	case m.now.Before(p.check.due):
		m.wakeAt(p.check.due)
	case p.check.void:
		m.closeChannel(p, true)
	default:
		m.drop(p, "invalid proof", p.check.why)
	}
}

// onHeadProof has a proof of p's head examined: the answer to a conflict check, or one that comes
// unasked, from a peer whose feed has frozen.
func (m *Machine) onHeadProof(p *peer, d *wire.Data) bool {
	if p.check != nil && p.check.void && p.check.sent {
		m.endCheck(p)
		return true
	}
	u := d.Proof.Upgrade
	if u == nil || u.Start != 0 || d.Proof.Block != nil || d.Proof.Hash != nil || d.Proof.Seek != nil ||
		p.examining != 0 || d.Proof.Fork != m.info.Fork || m.info.Length == 0 || m.info.Frozen {
		return false
	}
	asked := p.check != nil && p.check.sent
	if !asked {
		if u.Length > m.info.Length {
			return false // that is a push: it says nothing of what we have
		}
		if p.proofs >= maxHeadProofs {
			return false
		}
		p.proofs++
	}
	p.examining = m.token()
	m.examined[p.examining] = p
	m.checking++
	if asked {
		p.check.token = p.examining
	}
	m.emit(Examine{Token: p.examining, Peer: p.id, Proof: &d.Proof})
	return true
}

func (m *Machine) onExamined(e Examined) {
	p := m.examined[e.Token]
	if p == nil {
		return
	}
	delete(m.examined, e.Token)
	p.examining = 0
	m.checking--
	m.checkIdle = true
	if p.gone {
		return
	}
	asked, why := p.check != nil && p.check.token == e.Token, e.Err
	if asked {
		why = p.check.why
	}
	switch {
	case e.Conflict && !m.info.Frozen:
		// Changed will say that the feed is frozen.
		if asked {
			p.check.void, p.check.token = true, 0
		}
		return
	case e.Fault == FaultInvalid, e.Fault == FaultContradicts:
		m.stats.InvalidProofs++
		m.drop(p, "invalid proof", why)
		return
	case e.Fault == FaultNotAvailable && asked:
		// We cannot prove our own head there, so nobody can know who is right.
		m.drop(p, "invalid proof", why)
		return
	case e.Fault == FaultFailed && asked:
		m.closeChannel(p, true)
		return
	}
	if asked {
		m.endCheck(p) // the same tree, or ours has moved: a damaged block is no crime
	}
}

// freeze stops everything: what somebody waits for will not be asked of anybody. The peers that have
// a head get ours, so that they see the conflict too, and all channels are closed.
func (m *Machine) freeze() {
	m.fail(ErrFrozen)
	m.dropCandidates(func(c *candidate) bool { return c != m.applying })
	for _, p := range slices.Clone(m.order) {
		m.endCheck(p)
		m.takeBack(p)
		if !m.warn(p) {
			m.closeChannel(p, false)
		}
	}
}

// thaw lets everything go on.
func (m *Machine) thaw() {
	for _, p := range m.order {
		p.warned, p.syncDue, p.contigDue = false, true, m.contig > 0
		p.rescanAll()
		m.touch(p)
	}
}

// warn sends our head to p, if p has one to hold against it, once; then the channel is closed.
func (m *Machine) warn(p *peer) bool {
	if p.warned || !p.synced || p.fork != m.info.Fork || p.length == 0 || m.info.Length == 0 {
		return false
	}
	p.warned = true
	token := m.token()
	m.warnings[token] = p
	m.emit(Prove{Token: token, Peer: p.id, Request: merkle.Request{Fork: m.info.Fork, Upgrade: m.headRequest(p)}})
	return true
}

// onWarning sends the proof that warn has asked for.
func (m *Machine) onWarning(e Proved) {
	p := m.warnings[e.Token]
	if p == nil {
		return
	}
	delete(m.warnings, e.Token)
	if p.gone || !m.info.Frozen {
		return
	}
	if e.Fault == FaultNone && e.Proof != nil {
		m.send(p, &wire.Data{Proof: *e.Proof})
	}
	m.closeChannel(p, false)
}

// refuseFrozen resolves a wish of a frozen feed at once.
func (m *Machine) refuseFrozen(t Ticket) bool {
	if m.info.Frozen {
		m.emit(Resolve{Ticket: t, Err: ErrFrozen})
	}
	return m.info.Frozen
}
