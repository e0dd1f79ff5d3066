package replica

import (
	"math/bits"
	"time"

	"github.com/p2pcore/p2pcore/internal/merkle"
)

// scan is how far one peer has been searched for the missing blocks of one wish: [origin, a) and
// [start, b) hold nothing more for it, where start is the wish's first missing block. Peers start
// at different places, so that what several readers fetch differs and they can serve each other.
// Of a list, [0, a) are the positions that hold nothing more; see list.go.
type scan struct {
	origin, a, b uint64
	// again are parts of what was searched in which there may be something by now, at most maxAgain. They are all that is
	// searched once more: a peer that announces one block after the other, which costs it a few bytes each, would else
	// have the whole feed searched for each.
	again []merkle.Range

	// Of a list.
	end      uint64 // blocks from here on were passed over: they could not be asked for
	restarts int    // how often the list was looked at from its beginning once more
}

// rescan has the blocks of r looked at again.
func (p *peer) rescan(r merkle.Range) {
	p.urgent.reset(r)
	for w, s := range p.scans {
		if w.blocks != nil {
			s.renewList(w, r)
			continue
		}
		s.renew(r)
	}
}

func (p *peer) rescanAll() { p.rescan(merkle.Range{End: 1 << 63}) }

// renew has the part of r searched again that was searched.
func (s *scan) renew(r merkle.Range) {
	s.addAgain(clip(r, s.origin, s.a))
	s.addAgain(clip(r, 0, s.b))
}

func (s *scan) addAgain(r merkle.Range) {
	if r.Start >= r.End {
		return
	}
	n := len(s.again)
	if n > 0 && r.Start <= s.again[n-1].End && s.again[n-1].Start <= r.End {
		s.again[n-1] = hull(s.again[n-1], r)
		return
	}
	if n < maxAgain {
		s.again = append(s.again, r)
		return
	}
	for _, other := range s.again {
		r = hull(r, other)
	}
	s.again = append(s.again[:0], r)
}

// reset has all searched again from the start of r on.
func (s *scan) reset(r merkle.Range) {
	if r.End > s.origin {
		s.a = min(s.a, max(r.Start, s.origin))
	}
	if r.Start < s.origin {
		s.b = min(s.b, r.Start)
	}
}

// fill sends what the dirty peers can be sent: first what waits, then requests until their windows
// are full. Peers take turns of pickChunk blocks, in random order.
func (m *Machine) fill() {
	work := append(m.working[:0], m.dirty...)
	m.dirty = m.dirty[:0]
	if len(work) > 1 {
		m.rng.Shuffle(len(work), func(i, j int) { work[i], work[j] = work[j], work[i] })
	}
	for _, p := range work {
		p.dirty = false
		if len(p.cancelled) > maxCancelled && !p.gone {
			m.closeChannel(p, true)
			continue
		}
		if p.turnedDown >= maxTurnedDown && !p.gone && m.needs(p) {
			m.closeChannel(p, true)
			continue
		}
		m.flush(p)
		m.enterRing(p)
	}
	for active := work; len(active) > 0; {
		rest := active[:0]
		for _, p := range active {
			if m.fillChunk(p) {
				rest = append(rest, p)
			}
		}
		active = rest
	}
	m.working = work[:0]
	if len(m.picked) > 0 {
		m.plan()
	}
}

// usable reports whether p may be asked for anything now.
func (m *Machine) usable(p *peer) bool {
	return !p.gone && p.greeted && p.synced && p.uploading && p.fork == m.info.Fork &&
		!m.info.Frozen && p.stalled.IsZero() && p.credit > 0 && p.mayBeAsked()
}

// askLimit is the end of the blocks that p can prove to us without an upgrade. A peer that is
// shorter than we are builds proofs up to its own head; they help us only if we hold the roots of
// its tree.
func (m *Machine) askLimit(p *peer) uint64 {
	limit := min(p.length, m.info.Length)
	if p.length >= m.info.Length || p.can {
		return limit
	}
	if p.proven.Fork == m.info.Fork {
		return min(limit, p.proven.Length)
	}
	return 0
}

// fillChunk gives p up to pickChunk more blocks, and reports whether it could take more.
func (m *Machine) fillChunk(p *peer) bool {
	if p.fork > m.info.Fork {
		m.askFork(p)
		return false
	}
	if !m.usable(p) {
		return false
	}
	window := m.window(p)
	if p.inflight < window {
		m.askHead(p)
	}
	if len(m.seeks) > 0 && p.inflight < window && !m.pushOnly {
		m.askSeeks(p, window)
	}
	m.sendReady(p, window)

	// Blocks are picked ahead of the window, so that a slot that gets free is filled without
	// waiting for a plan; and in batches, so that a plan is made for many of them.
	ahead := max(pickChunk, window/2)
	space := window + ahead - p.inflight - p.planning - len(p.ready)
	got, more := 0, false
	if n := min(space+ahead, pickChunk); n > 0 && len(m.urgentRefs) > 0 {
		got = m.pickUrgent(p, n)
		more = got == n
	}
	p.filling = space > 0 && (p.filling || space >= ahead/2)
	if n := min(space, pickChunk) - got; n > 0 && p.filling && !m.pushOnly {
		k := m.pickWants(p, n)
		got += k
		p.filling = k == n
		more = more || k == n
	}
	if got == 0 && p.planning+len(p.ready) == 0 && !m.pushOnly {
		if p.inflight <= window/2 && m.steal(p) {
			m.sendReady(p, window)
		} else {
			m.swap(p, window)
		}
	}
	return more
}

// plan asks for the nodes numbers of all picked blocks at once.
func (m *Machine) plan() {
	token := m.token()
	rs := append([]*request(nil), m.picked...)
	blocks := make([]uint64, len(rs))
	for i, r := range rs {
		blocks[i] = r.block
	}
	clear(m.picked)
	m.picked = m.picked[:0]
	m.plans[token] = rs
	m.emit(Plan{Token: token, Blocks: blocks})
}

// take gives block b to p.
func (m *Machine) take(p *peer, b uint64) {
	r := &request{peer: p, state: statePlanning, hasBlock: true, block: b}
	m.fetches[b] = r
	m.picked = append(m.picked, r)
	p.planning++
}

// sendReady sends planned requests while there are slots.
func (m *Machine) sendReady(p *peer, window int) {
	limit := m.askLimit(p)
	for p.inflight < window && len(p.ready) > 0 && p.credit > 0 {
		r := p.ready[0]
		p.ready = p.ready[1:]
		if r.block >= limit || !m.mayAsk(r.block) { // its head or ours has moved since
			r.state = stateDone
			m.disown(r)
			m.requeue(r)
			continue
		}
		m.sendRequest(p, r)
	}
	p.pace.full = p.pace.full || p.inflight >= window
}

// steal moves blocks that wait for a slot at the busiest peer to p, which has nothing left to do.
func (m *Machine) steal(p *peer) bool {
	var from *peer
	for _, q := range m.order {
		if q != p && (from == nil || len(q.ready) > len(from.ready)) {
			from = q
		}
	}
	if from == nil || len(from.ready) == 0 || m.economise(p) && m.spares(p) {
		return false
	}
	limit := m.askLimit(p)
	moved := 0
	most := min(pickChunk, (len(from.ready)+1)/2)
	for i := len(from.ready) - 1; i >= 0 && moved < most; i-- {
		r := from.ready[i]
		if r.block >= limit || !p.known.has(r.block) || p.refuses(r.block) {
			continue
		}
		from.ready = append(from.ready[:i], from.ready[i+1:]...)
		r.peer, r.nodes = p, r.planned // p was promised nothing
		p.ready = append(p.ready, r)
		moved++
	}
	return moved > 0
}

// pickUrgent takes up to n blocks that single gets wait for.
func (m *Machine) pickUrgent(p *peer, n int) (got int) {
	limit := m.askLimit(p)
	at := p.urgent.a
	for got < n {
		b, ok := m.urgent.FirstSet(at)
		if !ok || b >= limit {
			break
		}
		if m.fetches[b] == nil && !p.refuses(b) {
			switch {
			case p.known.has(b):
				if m.mayAsk(b) {
					m.take(p, b)
					got++
				}
			case !m.need(p, b/wantPage):
				p.urgent.a = b
				return got
			}
		}
		at = b + 1
	}
	p.urgent.a = at
	return got
}

// pickWants takes up to n blocks for ranges and lists.
func (m *Machine) pickWants(p *peer, n int) (got int) {
	limit := m.askLimit(p)
	economise := m.economise(p)
	for _, w := range m.wants[:min(len(m.wants), maxWantsPerRound)] {
		if got == n {
			break
		}
		s := p.scans[w]
		if s == nil {
			s = m.newScan(w, limit)
			if s == nil {
				continue
			}
			p.scans[w] = s
		}
		if w.blocks != nil {
			got += m.pickList(p, w, s, limit, n-got)
			continue
		}
		if economise && !w.linear {
			if got += m.pickRare(p, w, n-got); got > 0 {
				m.sparing = time.Time{}
			}
			if got == n || m.spares(p) {
				continue
			}
		}
		end := min(limit, w.end)
		got += m.pickAgain(p, w, s, end, n-got)
		if got == n {
			continue
		}
		var k int
		k, s.a = m.pickRange(p, max(s.a, w.low), end, n-got)
		got += k
		if got < n {
			k, s.b = m.pickRange(p, max(s.b, w.low), min(end, s.origin), n-got)
			got += k
		}
	}
	return got
}

// pickAgain takes up to n blocks from what has to be searched again, below end.
func (m *Machine) pickAgain(p *peer, w *want, s *scan, end uint64, n int) (got int) {
	left := s.again[:0]
	for _, r := range s.again {
		if got < n {
			var k int
			if w.blocks != nil {
				k, r.Start = m.pickListed(p, w, r.Start, min(r.End, end), n-got)
			} else {
				k, r.Start = m.pickRange(p, max(r.Start, w.low), min(r.End, end), n-got)
			}
			got += k
		}
		if r.Start < r.End {
			left = append(left, r)
		}
	}
	s.again = left
	return got
}

// newScan starts a scan of w where w begins or, if its order is free, somewhere inside it. It
// returns nil while nothing of w can be asked.
func (m *Machine) newScan(w *want, limit uint64) *scan {
	if w.blocks != nil {
		return &scan{end: limit}
	}
	end := min(limit, w.end)
	if w.low >= end {
		return nil
	}
	origin := w.low
	if !w.linear && end-w.low > pickChunk {
		// On a multiple of 64, so that neighbours share the nodes above them.
		origin = max(w.low, (w.low+m.rng.Uint64N(end-w.low))&^63)
	}
	return &scan{origin: origin, a: origin, b: w.low}
}

// pickRange takes up to n blocks of [from, end) that we lack, that nobody was asked for, and that
// p is known to hold; pages of which nothing is known are wanted. It returns where it has stopped.
// The blocks are compared as words, a page at a time. A page without a find is one that is wanted
// from now on, so the number of them is bounded by maxWantPages.
func (m *Machine) pickRange(p *peer, from, end uint64, n int) (got int, at uint64) {
	for at = from; got < n; {
		if at = m.have.FirstUnset(at); at >= end {
			return got, max(from, min(at, end))
		}
		base := at &^ 31
		stop := min(at&^(wantPage-1)+wantPage, end)
		m.words[0] = m.have.AppendWords(m.words[0][:0], base, stop)
		m.words[1] = p.known.words(m.words[1], base, stop)
		unknown := false
		for i, have := range m.words[0] {
			missing := ^have & within(base+uint64(i)*32, at, stop)
			unknown = unknown || missing&^m.words[1][i] != 0
			for c := missing & m.words[1][i]; c != 0; c &= c - 1 {
				b := base + uint64(i)*32 + uint64(bits.TrailingZeros32(c))
				if m.fetches[b] != nil || p.refuses(b) {
					continue
				}
				m.take(p, b)
				if got++; got < n {
					continue
				}
				if unknown && !m.need(p, at/wantPage) {
					return got, at // what was passed over is looked at again
				}
				return got, b + 1
			}
		}
		if unknown && !m.need(p, at/wantPage) {
			return got, at
		}
		at = stop
	}
	return got, at
}

// within is the mask of those of the 32 indexes from base on that lie in [start, end).
func within(base, start, end uint64) uint32 {
	mask := ^uint32(0)
	if start > base {
		mask <<= min(start-base, 32)
	}
	if end < base+32 {
		mask &= 1<<(end-min(base, end)) - 1
	}
	return mask
}
