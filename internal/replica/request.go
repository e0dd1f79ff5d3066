package replica

import (
	"slices"
	"time"

	"github.com/p2pcore/p2pcore/internal/bitfield"
	"github.com/p2pcore/p2pcore/internal/flattree"
	"github.com/p2pcore/p2pcore/internal/merkle"
	"github.com/p2pcore/p2pcore/internal/wire"
)

type state uint8

const (
	statePlanning  state = iota // the number of nodes is being looked up
	stateReady                  // waits for a slot
	stateSent                   // waits for the answer
	stateApplying               // answered, being verified and stored
	stateCancelled              // cancelled on the wire, the id is not free yet
	stateLate                   // the same, and a late answer has come
	stateDone
)

// request is one request of ours, from the moment a block is given to a peer.
type request struct {
	peer     *peer
	id       uint64
	sequence uint64 // the peer's count of requests when it was sent, or cancelled
	state    state
	fork     uint64

	rare     bool   // counted in Machine.rareAsked
	rebased  bool   // the upgrade in the answer started elsewhere
	tries    int    // how often the block had been asked for
	priority uint64 // 1: somebody waits for it
	hasBlock bool
	block    uint64
	nodes    uint64
	planned  uint64                // what nodes was planned as; see shorten
	upgrade  merkle.UpgradeRequest // Length 0: none
	manifest bool
	next     *request // also asked for the same block; see swap.go
	seek     *want    // asked for with hash, or with upgrade
	hash     flattree.Index
	hasHash  bool
	follows  *candidate // of whose fork it is

	sentAt   time.Time
	expected int    // bytes of the block that it asks for, as estimated when it was sent
	size     uint64 // of the block in the answer, in bytes
}

// parts holds a request message with what it points to in one allocation.
type parts struct {
	wire.Request
	block   merkle.BlockRequest
	hash    merkle.HashRequest
	seek    merkle.SeekRequest
	upgrade merkle.UpgradeRequest
}

type blockParts struct {
	wire.Request
	block merkle.BlockRequest
}

// sendRequest puts r on the wire. The caller has made sure of a free slot and of credit.
func (m *Machine) sendRequest(p *peer, r *request) {
	p.sequence++
	r.id, r.sequence, r.fork, r.sentAt = p.takeID(r), p.sequence, m.info.Fork, m.now
	r.state = stateSent
	if r.follows != nil {
		r.fork = r.follows.fork
	}
	if r.hasBlock && m.urgentRefs[r.block] > 0 {
		r.priority = 1
	}
	r.manifest = r.manifest || !m.info.HasManifest && p.hasManifest && !p.noManifest
	if p.sent == 0 {
		p.progress = m.now
		m.wakeAt(m.now.Add(StallTimeout))
	}
	p.sent++
	p.inflight++
	m.inflight++
	if r.hasBlock {
		r.expected = m.usualSize(p)
		m.inflightBytes += r.expected
	}
	m.stats.Requests++
	m.watch(p)
	m.send(p, r.message())
}

func (r *request) message() *wire.Request {
	if r.hasBlock && r.upgrade.Length == 0 && r.seek == nil { // the common one
		msg := &blockParts{block: merkle.BlockRequest{Index: r.block, Nodes: r.nodes}}
		msg.ID, msg.Priority, msg.Fork = r.id, r.priority, r.fork
		msg.Block, msg.Manifest = &msg.block, r.manifest
		return &msg.Request
	}
	msg := &parts{}
	msg.ID, msg.Priority, msg.Fork, msg.Manifest = r.id, r.priority, r.fork, r.manifest
	if r.hasBlock {
		msg.block = merkle.BlockRequest{Index: r.block, Nodes: r.nodes}
		msg.Block = &msg.block
	}
	if r.hasHash {
		msg.hash = merkle.HashRequest{Index: r.hash, Nodes: r.nodes}
		msg.Hash = &msg.hash
	}
	if r.seek != nil {
		msg.seek = merkle.SeekRequest{Bytes: r.seek.bytes, Padding: r.seek.padding}
		msg.Seek = &msg.seek
	}
	if r.upgrade.Length > 0 {
		msg.upgrade = r.upgrade
		msg.Upgrade = &msg.upgrade
	}
	return &msg.Request
}

// takeID returns a free id, the one freed last if there is one.
func (p *peer) takeID(r *request) uint64 {
	if n := len(p.freeIDs); n > 0 {
		id := p.freeIDs[n-1]
		p.freeIDs = p.freeIDs[:n-1]
		p.requests[id] = r
		return id
	}
	p.requests = append(p.requests, r)
	return uint64(len(p.requests) - 1)
}

func (p *peer) freeID(id uint64) {
	p.requests[id] = nil
	p.freeIDs = append(p.freeIDs, id)
}

// answered takes r off the wire: its id is free, and so are those cancelled before it was sent, for
// the remote has read the cancels before it read r.
func (m *Machine) answered(p *peer, r *request) {
	m.measure(p, r)
	p.missed = false
	p.freeID(r.id)
	p.sent--
	p.progress = m.now
	n := 0
	for n < len(p.cancelled) && p.cancelled[n].sequence < r.sequence {
		p.freeID(p.cancelled[n].id)
		n++
	}
	p.cancelled = p.cancelled[n:]
}

// finish ends r's claim on a slot and on what it asked for.
func (m *Machine) finish(r *request) {
	r.state = stateDone
	r.peer.inflight--
	m.inflight--
	m.inflightBytes -= r.expected
	m.disown(r)
	m.touch(r.peer)
	if m.inflight == 0 {
		m.checkIdle = true
	}
}

// disown lets what r asked for be asked again.
func (m *Machine) disown(r *request) {
	if r.hasBlock {
		m.part(r)
	}
	if r.rare {
		r.rare = false
		m.rareAsked--
	}
	if m.upgrade == r {
		m.upgrade = nil
	}
	if m.manifest == r {
		m.manifest = nil
	}
	if r.seek != nil && r.seek.asked == r {
		r.seek.asked = nil
	}
	if r.follows != nil {
		m.disownFork(r)
	}
}

// requeue has the block of r picked again, by any peer, unless it has come meanwhile.
func (m *Machine) requeue(r *request) {
	if r.hasBlock {
		m.rescan = hull(m.rescan, merkle.Range{Start: r.block, End: r.block + 1})
	}
	if r.upgrade.Length > 0 || r.seek != nil || r.manifest || r.follows != nil {
		m.touchAll()
	}
}

// cancel takes back a request that nobody waits for any more, in whatever state. Answers that are
// being applied are left alone.
func (m *Machine) cancel(r *request) {
	p := r.peer
	switch r.state {
	case statePlanning:
		p.planning--
	case stateReady:
		p.ready = without(p.ready, r)
	case stateSent:
		m.cancelSent(r)
		return
	default:
		return
	}
	r.state = stateDone
	m.disown(r)
	m.touch(p)
}

// cancelSent cancels on the wire. The id stays taken until the remote is known to have passed the
// cancel, or an answer under way could be mistaken for that of a later request.
func (m *Machine) cancelSent(r *request) {
	p := r.peer
	p.missed = p.missed || !m.now.Before(r.late())
	p.sent--
	m.finish(r)
	r.state, r.sequence = stateCancelled, p.sequence
	p.cancelled = append(p.cancelled, r)
	p.cancels = append(p.cancels, r.id)
	if !p.gone {
		m.stats.Cancels++
	}
}

// takeBack requeues everything that was asked of p, which gets no more requests or has gone.
func (m *Machine) takeBack(p *peer) {
	for _, r := range slices.Clone(p.requests) {
		if r != nil && r.state == stateSent {
			m.cancelSent(r)
			m.requeue(r)
		}
	}
	for _, r := range p.ready {
		r.state = stateDone
		m.disown(r)
		m.requeue(r)
	}
	p.ready = nil
	if p.planning > 0 {
		m.dropPlans(p)
	}
}

// dropPlans gives up what is being planned for p.
func (m *Machine) dropPlans(p *peer) {
	drop := func(rs []*request) {
		for _, r := range rs {
			if r.peer == p && r.state == statePlanning {
				r.state = stateDone
				m.disown(r)
				m.requeue(r)
			}
		}
	}
	for _, rs := range m.plans {
		drop(rs)
	}
	drop(m.picked)
	p.planning = 0
}

// tickAsking looks at the timers of our requests to p.
func (m *Machine) tickAsking(p *peer) {
	if p.gone {
		return
	}
	if !p.stalled.IsZero() && !m.now.Before(p.stalled) {
		p.stalled = time.Time{}
		m.touch(p)
	} else if !p.stalled.IsZero() {
		m.wakeAt(p.stalled)
	}
	if p.pagesFull {
		p.pagesFull = false
		m.touch(p)
	}
	if p.noUpgrade {
		if m.now.Before(p.upgradeAt) {
			m.wakeAt(p.upgradeAt)
		} else {
			p.noUpgrade = false
			m.touch(p)
		}
	}
	if !p.recycle.IsZero() {
		if m.now.Before(p.recycle) {
			m.wakeAt(p.recycle)
		} else {
			p.recycle, p.givenUp = time.Time{}, bitfield.Bitfield{}
			p.rescanAll()
			m.touch(p)
		}
	}
	m.tickStall(p)
}

// hoards reports whether p holds a block for long that another peer could bring: one that answers a
// request now and then is never silent, and could hold up a download for hours.
func (m *Machine) hoards(p *peer) bool {
	for _, r := range p.requests {
		if r == nil || r.state != stateSent || !r.hasBlock || m.now.Sub(r.sentAt) < hoardTimeout {
			continue
		}
		for _, q := range m.order {
			if q != p && m.usable(q) && q.known.has(r.block) && !q.refuses(r.block) && r.block < m.askLimit(q) {
				return true
			}
		}
	}
	return false
}

func (m *Machine) tickStall(p *peer) {
	if p.sent == 0 {
		return
	}
	if due := p.progress.Add(StallTimeout); m.now.Before(due) && !m.hoards(p) {
		m.wakeAt(due)
	} else {
		m.stats.Stalls++
		p.stalled = m.now.Add(StallTimeout)
		m.wakeAt(p.stalled)
		m.takeBack(p)
		return
	}
	m.tickForkStall(p)
	r := m.upgrade
	if r == nil || r.peer != p || r.state != stateSent {
		return
	}
	if due := r.sentAt.Add(p.upgradePatience()); m.now.Before(due) {
		m.wakeAt(due)
	} else if m.otherCanUpgrade(p) {
		m.pauseUpgrade(p)
		p.upgradeFail++
		m.cancelSent(r)
		m.requeue(r)
	}
}
