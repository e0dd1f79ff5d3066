package replica

import (
	"time"

	"github.com/p2pcore/p2pcore/internal/flattree"
	"github.com/p2pcore/p2pcore/internal/merkle"
	"github.com/p2pcore/p2pcore/internal/wire"
)

// pushing is what a peer is sent unasked (replication.md 9). A push is an answer with the id 0, to a request that is
// made up here: for the block, for all nodes that a reader of the peer's length can lack, and, where the block is past
// that length, for an upgrade. The next upgrade then starts where this one ends, which the peer has not confirmed:
//
//	peer's sync: length 5        ours: 8
//	  push 5  → block 5, upgrade 5+3        proven = 8
//	  push 6  → block 6, nodes up to the root of 8 blocks
//
// So whatever carries an upgrade to a peer that allows pushes goes out before the next one is made.
//
// To a peer without a head the head goes first, and alone. Hypercore takes what has the id 0 and an upgrade from 0 for a
// proof of a head, and one with a block in it for another head than its own, if it is as long by then: two honest
// pushers at once would freeze its feed for good.
type pushing struct {
	queue  []merkle.Range // to be pushed, at most maxPendingRanges
	proven uint64         // the greatest length that it was sent a proof of, on this fork
	at     time.Time      // when that was
	chain  *serving       // carries an upgrade and has not been sent
	held   []*serving     // requests for upgrades that wait for chain
}

// ready reports whether there is something to push.
func (g *pushing) ready() bool { return len(g.queue) > 0 && g.chain == nil }

// restart forgets what was proven: it was about another fork.
func (g *pushing) restart() { g.proven, g.queue = 0, nil }

// mayPush reports whether p may be sent a block unasked now.
func (m *Machine) mayPush(p *peer) bool {
	return !p.gone && p.greeted && p.synced && p.allowsPush && p.downloading && p.fork == m.info.Fork &&
		!m.info.Frozen && p.check == nil && !p.probing
}

func (m *Machine) onPush(e Push) {
	r := clip(e.Range, 0, m.info.Length)
	if r.Len() == 0 {
		return
	}
	for _, p := range m.order {
		if (e.Peer == 0 || e.Peer == p.id) && m.mayPush(p) {
			p.push.add(r)
			m.touch(p)
		}
	}
}

// add queues a range behind the others. Where there are too many, those that have waited longest are not pushed: any
// later one brings the whole head with it.
func (g *pushing) add(r merkle.Range) {
	if n := len(g.queue); n > 0 && g.queue[n-1].End >= r.Start && g.queue[n-1].Start <= r.Start {
		g.queue[n-1].End = max(g.queue[n-1].End, r.End)
		return
	}
	if len(g.queue) == maxPendingRanges {
		g.queue = append(g.queue[:0], g.queue[1:]...)
	}
	g.queue = append(g.queue, r)
}

// again queues block b before all others.
func (g *pushing) again(b uint64) {
	switch {
	case len(g.queue) > 0 && g.queue[0].Start == b+1:
		g.queue[0].Start = b
	case len(g.queue) < maxPendingRanges:
		g.queue = append([]merkle.Range{{Start: b, End: b + 1}}, g.queue...)
	}
}

// nextPush takes the next block from p's queue that we hold and it is not known to hold.
func (m *Machine) nextPush(p *peer) (uint64, bool) {
	g := &p.push
	for len(g.queue) > 0 {
		r := &g.queue[0]
		at, ok := m.have.FirstSet(r.Start)
		switch end := min(r.End, m.info.Length); {
		case !ok || at >= end:
			g.queue = g.queue[1:]
		case at < p.known.contig:
			r.Start = p.known.contig
		case p.known.bits.Has(at):
			r.Start = p.known.bits.FirstUnset(at)
		default:
			r.Start = at + 1
			return at, true
		}
	}
	g.queue = nil
	return 0, false
}

// pushOne begins one push to p, and reports whether there was one to begin.
func (m *Machine) pushOne(p *peer) bool {
	if !m.mayPush(p) {
		p.push.queue = nil
	}
	if !p.push.ready() {
		return false
	}
	b, ok := m.nextPush(p)
	if !ok {
		return false
	}
	at := min(m.provenTo(p), m.info.Length)
	s := &serving{peer: p, live: true, pushed: true}
	s.request = merkle.Request{Fork: m.info.Fork, Manifest: p.length == 0}
	s.request.Block = &merkle.BlockRequest{Index: b, Nodes: merkle.MaxMissingNodes(flattree.Leaf(b), at)}
	if b >= at {
		s.request.Upgrade = &merkle.UpgradeRequest{Start: at, Length: m.info.Length - at}
		p.push.chain = s
	}
	if at == 0 {
		s.request.Block = nil
		p.push.again(b)
	}
	m.prove(p, s, s.request)
	return true
}

// provenTo is the length that p has, or is about to have: what it was sent is believed to arrive, for a while.
func (m *Machine) provenTo(p *peer) uint64 {
	if p.push.proven > p.length && m.now.Sub(p.push.at) > pushPatience {
		p.push.proven = p.length
	}
	return max(p.length, p.push.proven)
}

// pushProved sends the push that was made, unless p has no use for it any more.
func (m *Machine) pushProved(p *peer, s *serving, e Proved) {
	ok := e.Fault == FaultNone && e.Proof != nil && e.Proof.Fork == m.info.Fork && m.mayPush(p)
	block := s.request.Block
	switch {
	case block == nil && (!ok || e.Proof.Upgrade == nil):
		p.push.queue = nil // nothing can follow
		m.unchain(s)
		return
	case block != nil && (!ok || e.Proof.Block == nil || p.known.has(block.Index)):
		m.unchain(s)
		return
	}
	d := &wire.Data{Proof: *e.Proof}
	size := d.Size()
	switch {
	case size > maxAnswerBytes:
		m.unchain(s)
	case m.mustWait(p) && p.heldBytes > 0 && p.heldBytes+size > maxHeldBytes:
		if block != nil {
			p.push.again(block.Index) // made again when there is room for it
		}
		m.unchain(s)
	default:
		m.reply(s, d)
	}
}

// chain makes s, which asks for an upgrade, wait for the one that is under way to a peer that allows pushes; false if
// it has to. Otherwise req is made to start where p will be when it has taken what it was pushed.
func (m *Machine) chain(p *peer, s *serving, req *merkle.Request) bool {
	g := &p.push
	if g.chain != nil && g.chain != s {
		if g.held = append(g.held, s); len(g.held) > 2*p.queue {
			g.held = alive(g.held)
		}
		return false
	}
	g.chain = s
	if s.id == 0 || p.fork != m.info.Fork {
		return true // it wants to see the whole head
	}
	at, u := m.provenTo(p), *req.Upgrade
	if at <= u.Start || u.Length > merkle.MaxLength || at >= u.Start+u.Length {
		return true
	}
	req.Upgrade = &merkle.UpgradeRequest{Start: at, Length: u.Start + u.Length - at}
	if b := req.Block; b != nil && b.Index < at {
		nodes := merkle.MaxMissingNodes(flattree.Leaf(b.Index), at)
		req.Block = &merkle.BlockRequest{Index: b.Index, Nodes: max(b.Nodes, nodes)}
	}
	return true
}

// unchain lets the next upgrade to a peer be made, if s was the one that it waits for.
func (m *Machine) unchain(s *serving) {
	p := s.peer
	g := &p.push
	if g.chain != s {
		return
	}
	g.chain = nil
	for i := len(g.held) - 1; i >= 0; i-- {
		if w := g.held[i]; w.live {
			p.waiting[w.class()] = append([]*serving{w}, p.waiting[w.class()]...)
		}
	}
	g.held = nil
	m.touch(p)
}

// proved notes which length p was sent a proof of.
func (m *Machine) proved(p *peer, proof *merkle.Proof) {
	if u := proof.Upgrade; u != nil && proof.Fork == m.info.Fork {
		p.push.proven, p.push.at = max(p.push.proven, u.End()), m.now
	}
}
