package replica

import (
	"slices"
	"time"

	"github.com/p2pcore/p2pcore/internal/merkle"
	"github.com/p2pcore/p2pcore/internal/wire"
)

// serving is a remote request, until it is answered.
type serving struct {
	peer     *peer
	id       uint64
	request  merkle.Request
	live     bool // neither cancelled nor replaced
	urgent   bool // somebody waits for it
	pushed   bool // nobody has asked; see push.go
	size     int  // of its answer in bytes, once that has been made and could not be kept
	reserved int  // credit promised to its answer
	due      time.Time
}

// answer is what waits for credit after it was made.
type answer struct {
	s   *serving
	msg wire.Message
}

func (m *Machine) onRequest(p *peer, r *wire.Request) {
	if old := p.served[r.ID]; old != nil {
		old.live = false // only the newer one is answered
	} else if len(p.served) >= p.queue {
		m.drop(p, "too many requests", nil)
		return
	}
	s := &serving{peer: p, id: r.ID, request: r.Request, live: true, urgent: r.Priority > 0}
	p.served[r.ID] = s
	p.probing = p.probing || r.ID == 0 // a conflict check
	class := s.class()
	p.waiting[class] = append(p.waiting[class], s)
	if len(p.waiting[class]) > 2*p.queue {
		p.waiting[class] = alive(p.waiting[class])
	}
	m.enterRing(p)
}

// class is the queue that s waits in.
func (s *serving) class() int {
	if s.urgent {
		return 0
	}
	return 1
}

// alive returns those still to be answered. Without it, a peer that asks and cancels for ever would
// fill its queue with the dead.
func alive(queue []*serving) []*serving {
	kept := queue[:0]
	for _, s := range queue {
		if s.live {
			kept = append(kept, s)
		}
	}
	clear(queue[len(kept):])
	return kept
}

func (m *Machine) onCancel(p *peer, id uint64) {
	if s := p.served[id]; s != nil {
		s.live = false
		delete(p.served, id)
		p.probing = p.probing && id != 0
	}
}

// enterRing puts p in the round of peers that are served, if it can be.
func (m *Machine) enterRing(p *peer) {
	if !p.inRing && !p.gone && p.credit > p.reserved && (len(p.waiting[0])+len(p.waiting[1]) > 0 || p.push.ready()) {
		p.inRing = true
		m.ring = append(m.ring, p)
	}
}

// serve starts proofs, one per peer in turn, for peers that have credit for the answers.
func (m *Machine) serve() {
	for len(m.ring) > 0 && len(m.proofs) < m.limits.Proving {
		p := m.ring[0]
		m.ring = m.ring[1:]
		p.inRing = false
		if p.gone || p.credit <= p.reserved {
			continue // Room brings it back
		}
		if s := p.next(); s != nil {
			m.serveOne(p, s)
			m.enterRing(p)
		} else if m.pushOne(p) {
			m.enterRing(p)
		}
	}
}

// next takes the next request of p from the queue: first those that somebody waits for, and always the oldest.
// Hypercore takes the newest of the former, in case their reader has gone elsewhere. Ours cancels then what it
// does not need any more, and one that reads on in order waits for the oldest.
func (p *peer) next() *serving {
	for class := range p.waiting {
		for len(p.waiting[class]) > 0 {
			s := p.waiting[class][0]
			p.waiting[class] = p.waiting[class][1:]
			if s.live {
				return s
			}
		}
	}
	return nil
}

func (m *Machine) serveOne(p *peer, s *serving) {
	req := s.request
	if m.info.Frozen || req.Fork != m.info.Fork || req.Block != nil && !m.holds(req.Block.Index) {
		if m.info.Frozen || !req.Manifest || !m.info.HasManifest {
			m.refuse(s)
			return
		}
		// The manifest belongs to the feed, not to a fork or a block.
		req = merkle.Request{Fork: m.info.Fork, Manifest: true}
	}
	if req.Upgrade != nil && p.allowsPush && !m.chain(p, s, &req) {
		return
	}
	m.prove(p, s, req)
}

// prove has the answer to s made.
func (m *Machine) prove(p *peer, s *serving, req merkle.Request) {
	s.reserved = s.size
	if s.size == 0 {
		s.reserved = m.answerSize(&req)
	}
	p.reserved += s.reserved
	token := m.token()
	m.proofs[token] = s
	m.emit(Prove{Token: token, Peer: p.id, Request: req})
}

func (m *Machine) holds(b uint64) bool { return b < m.info.Length && m.have.Has(b) }

// answerSize estimates the bytes of an answer before it is made.
func (m *Machine) answerSize(req *merkle.Request) int {
	const proof = 1024 // nodes of some twenty levels
	if req.Block == nil || m.info.Length == 0 {
		return proof
	}
	return proof + int(m.info.ByteLength/m.info.Length)
}

func (m *Machine) onProved(e Proved) {
	s := m.proofs[e.Token]
	if s == nil {
		m.onWarning(e)
		return
	}
	delete(m.proofs, e.Token)
	p := s.peer
	p.reserved -= s.reserved
	m.touch(p)
	if p.gone || !s.live {
		m.unchain(s)
		return
	}
	switch {
	case s.pushed:
		m.pushProved(p, s, e)
	case e.Fault == FaultNone && e.Proof != nil:
		m.replyData(p, s, &wire.Data{ID: s.id, Proof: *e.Proof})
	case e.Fault == FaultInvalid:
		m.refuseInvalid(p, s)
	case e.Fault == FaultStale && s.request.Fork == m.info.Fork && m.local.Info().Fork != m.info.Fork:
		m.unchain(s)
		m.overtaken = append(m.overtaken, s) // Changed is under way
	default:
		m.refuse(s)
	}
}

// refuse says that something is not available. A peer that could not know that our fork is another one by
// now is not given a reason: a Hypercore reader counts those, and at 32 it asks nothing more on the channel.
func (m *Machine) refuse(s *serving) {
	msg := &wire.NoData{ID: s.id, Reason: wire.ReasonNotAvailable}
	if p := s.peer; s.request.Fork < m.info.Fork && p.unaware > 0 {
		p.unaware--
		msg.Reason = wire.ReasonNone
	}
	m.reply(s, msg)
}

// replyData sends an answer or, when it has turned out too large to be kept until there is credit,
// forgets it and has it made again then.
func (m *Machine) replyData(p *peer, s *serving, d *wire.Data) {
	s.size = d.Size()
	switch {
	case s.size > maxAnswerBytes:
		m.reply(s, &wire.NoData{ID: s.id, Reason: wire.ReasonNotAvailable})
	case m.mustWait(p) && p.heldBytes > 0 && p.heldBytes+s.size > maxHeldBytes:
		again := 0
		queue := p.waiting[s.class()]
		for again < len(queue) && queue[again].size > 0 {
			again++ // behind those that have come back before
		}
		p.waiting[s.class()] = slices.Insert(queue, again, s)
		m.unchain(s)
		m.enterRing(p)
	default:
		m.reply(s, d)
	}
}

// mustWait reports whether an answer to p is not sent at once.
func (m *Machine) mustWait(p *peer) bool { return p.credit <= 0 || len(p.answers) > 0 }

// reply sends an answer, or keeps it until there is credit. What is kept is bounded by the proofs
// that the credit at their start allowed, and by maxHeldBytes.
func (m *Machine) reply(s *serving, msg wire.Message) {
	p := s.peer
	if m.mustWait(p) {
		p.answers = append(p.answers, answer{s, msg})
		p.heldBytes += msg.Size()
		return
	}
	m.sendAnswer(p, answer{s, msg})
}

func (m *Machine) flushAnswers(p *peer) {
	for len(p.answers) > 0 && p.credit > 0 {
		a := p.answers[0]
		p.answers[0] = answer{}
		p.answers = p.answers[1:]
		p.heldBytes -= a.msg.Size()
		m.sendAnswer(p, a)
	}
}

func (m *Machine) sendAnswer(p *peer, a answer) {
	m.unchain(a.s)
	if !a.s.live || a.s.pushed && !m.mayPush(p) {
		return
	}
	a.s.live = false
	m.send(p, a.msg)
	if !a.s.pushed {
		delete(p.served, a.s.id)
		m.answeredPeer(p, a.msg)
	}
	d, ok := a.msg.(*wire.Data)
	if ok {
		m.proved(p, &d.Proof)
	}
	if ok && d.Proof.Block != nil {
		n := uint64(len(d.Proof.Block.Value))
		m.stats.BlocksSent++
		if a.s.pushed {
			m.stats.BlocksPushed++
		}
		m.stats.BytesSent += n
		p.blocksSent++
		p.bytesSent += n
	}
}

// refuseInvalid refuses a malformed request after a while, which grows with their number.
func (m *Machine) refuseInvalid(p *peer, s *serving) {
	m.stats.InvalidRequests++
	if p.invalid++; p.invalid >= maxInvalidRequests {
		m.drop(p, "invalid requests", nil)
		return
	}
	m.unchain(s)
	s.due = m.now.Add(invalidDelay(p.invalid))
	p.delayed = append(p.delayed, s)
	m.wakeAt(s.due)
}

// tickServing sends the refusals that are due.
func (m *Machine) tickServing(p *peer) {
	kept := p.delayed[:0]
	for _, s := range p.delayed {
		if m.now.Before(s.due) {
			kept = append(kept, s)
			m.wakeAt(s.due)
			continue
		}
		m.reply(s, &wire.NoData{ID: s.id, Reason: wire.ReasonInvalidRequest})
	}
	clear(p.delayed[len(kept):])
	p.delayed = kept
}

func (m *Machine) removeServing(p *peer) {
	for _, s := range p.served {
		s.live = false
	}
	p.served, p.answers, p.delayed, p.waiting = nil, nil, nil, [2][]*serving{}
}
