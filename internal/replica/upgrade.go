package replica

import (
	"math/bits"
	"time"

	"github.com/p2pcore/p2pcore/internal/flattree"
	"github.com/p2pcore/p2pcore/internal/merkle"
)

// canAskUpgrade is the most important gate of the protocol. The remote must be longer and on our
// fork, and it must have said that it can prove an upgrade from exactly the length that we have now:
// a sparse Hypercore peer that lacks a node for the answer ends the whole connection.
func (m *Machine) canAskUpgrade(p *peer) bool {
	return m.usable(p) && p.length > m.info.Length && p.canUpgrade && p.acked == m.info.Length &&
		!p.noUpgrade
}

// pauseUpgrade asks no more upgrades of p until it has news.
func (m *Machine) pauseUpgrade(p *peer) {
	p.noUpgrade, p.upgradeAt = true, m.now.Add(StallTimeout)
	m.wakeAt(p.upgradeAt)
}

// otherCanUpgrade reports whether a peer other than p, with fewer upgrades failed, could be asked.
func (m *Machine) otherCanUpgrade(p *peer) bool {
	for _, q := range m.order {
		if q != p && q.upgradeFail < p.upgradeFail+1 && m.canAskUpgrade(q) {
			return true
		}
	}
	return false
}

// askHead asks p for a longer head, or for the manifest of a feed that is still empty. There is one
// upgrade in flight, over all peers, and it asks for all that the remote has: never a part, never
// more. It is asked whether or not anybody waits for it, unless the machine is told to be lazy.
func (m *Machine) askHead(p *peer) {
	if m.upgrade == nil && m.canAskUpgrade(p) && m.mayAskUpgrade(p) {
		if p.upgradeFail == 0 || !m.betterUpgrade(p) {
			m.askUpgrade(p)
		}
		return
	}
	if m.manifest == nil && !m.info.HasManifest && p.hasManifest && !p.noManifest && p.length == 0 {
		r := &request{peer: p, manifest: true}
		m.manifest = r
		m.sendRequest(p, r)
	}
}

// betterUpgrade reports whether another peer has failed fewer upgrades than p.
func (m *Machine) betterUpgrade(p *peer) bool {
	for _, q := range m.order {
		if q.upgradeFail < p.upgradeFail && m.canAskUpgrade(q) && q.inflight < m.window(q) {
			m.touch(q)
			return true
		}
	}
	return false
}

func (m *Machine) askUpgrade(p *peer) {
	r := &request{peer: p}
	r.upgrade = merkle.UpgradeRequest{Start: m.info.Length, Length: p.length - m.info.Length}
	if b, ok := m.blockWithUpgrade(p); ok {
		r.hasBlock, r.block = true, b
		m.fetches[b] = r
	} else {
		m.addPassedSeek(p, r)
	}
	m.upgrade = r
	m.sendRequest(p, r)
	m.wakeAt(m.now.Add(p.upgradePatience()))
}

// upgradePatience is how long p may take for an upgrade that another peer could bring.
func (p *peer) upgradePatience() time.Duration {
	return min(max(p.patience(), minUpgradeTimeout), maxUpgradeTimeout)
}

// blockWithUpgrade finds a block past our length to ask for in the same request: one that somebody
// waits for or, for those who follow the feed, the newest. It saves them a round trip.
func (m *Machine) blockWithUpgrade(p *peer) (uint64, bool) {
	for at := m.info.Length; ; at++ {
		b, ok := m.urgent.FirstSet(at)
		if !ok || b >= p.length {
			break
		}
		if m.fetches[b] == nil && p.known.has(b) && !p.refuses(b) && m.mayAsk(b) {
			return b, true
		}
		at = b
	}
	if m.pushOnly {
		return 0, false
	}
	newest := p.length - 1
	for _, w := range m.wants {
		if w.follow && newest >= w.start && m.fetches[newest] == nil &&
			p.known.has(newest) && !p.refuses(newest) {
			return newest, true
		}
	}
	return 0, false
}

// mayGrow reports whether it is still open that some known peer has a longer head for us.
func (m *Machine) mayGrow() bool {
	if m.pushOnly && m.upgrade == nil {
		return false // nobody is asked
	}
	if m.upgrade != nil || len(m.candidates) > 0 || m.applying != nil || m.opening > 0 && len(m.order) < updatePeers || !m.met && m.finding {
		return true
	}
	if m.local.Info().Fork != m.info.Fork {
		return true // it has grown, and Changed is under way
	}
	for _, p := range m.order[:min(len(m.order), updatePeers)] {
		switch {
		case !p.synced, m.canFollow(p):
			return true
		case p.fork != m.info.Fork || p.length <= m.info.Length || p.noUpgrade || !p.uploading:
		case m.info.Length == 0, p.canUpgrade, p.acked != m.info.Length:
			return true
		}
	}
	return false
}

func (m *Machine) onWantUpgrade(t Ticket) {
	if t == 0 || m.tickets[t] != nil {
		return
	}
	if m.refuseFrozen(t) {
		return
	}
	m.refresh() // that the head has moved is no growth to one who has seen it before asking
	m.tickets[t] = &want{ticket: t, kind: wantUpgrade}
	m.updates = append(m.updates, t)
	if m.lazy {
		m.touchAll()
	}
}

func (m *Machine) resolveUpdates(grown bool) {
	for len(m.updates) > 0 {
		m.resolve(m.tickets[m.updates[0]], grown, nil)
	}
}

func (m *Machine) onWantSeek(e WantSeek) {
	if e.Ticket == 0 || m.tickets[e.Ticket] != nil || m.refuseFrozen(e.Ticket) {
		return
	}
	n := e.Span.Len()
	if n&(n-1) != 0 || n > 0 && e.Span.Start%n != 0 {
		e.Span.End, e.Span.Start = 0, 0
	}
	w := &want{ticket: e.Ticket, kind: wantSeek, bytes: e.Bytes, padding: e.Padding, span: e.Span}
	m.tickets[w.ticket] = w
	m.seeks = append(m.seeks, w)
	m.touchAll()
}

// askSeeks asks p for the nodes that seeks inside the known tree lack. The request is for the hash
// of some block in the span and the way up to the span's top, which we hold and can compare with;
// the nodes that the search needs come with it.
func (m *Machine) askSeeks(p *peer, window int) {
	limit := m.askLimit(p)
	for _, w := range m.seeks {
		if p.inflight >= window || p.credit <= 0 {
			return
		}
		if w.asked != nil || w.span.Len() == 0 || !p.seeks || w.span.End > limit || w.refused[p.id] {
			continue
		}
		b, ok := m.blockIn(p, w.span)
		if !ok {
			continue
		}
		r := &request{peer: p, hasHash: true, hash: flattree.Leaf(b), seek: w}
		r.nodes = uint64(bits.Len64(w.span.Len()) - 1)
		w.asked = r
		m.sendRequest(p, r)
	}
}

// blockIn returns a block of span that p holds, and has it tell us if we know of none.
func (m *Machine) blockIn(p *peer, span merkle.Range) (uint64, bool) {
	from := span.Start + m.rng.Uint64N(span.Len())
	if b, ok := p.known.first(from, span.End); ok {
		return b, true
	}
	if b, ok := p.known.first(span.Start, from); ok {
		return b, true
	}
	for i := range uint64(maxSeekPages) {
		if number := span.Start/wantPage + i; number*wantPage < span.End {
			m.need(p, number)
		}
	}
	return 0, false
}

// addPassedSeek adds a seek past the known byte length to an upgrade.
func (m *Machine) addPassedSeek(p *peer, r *request) {
	for _, w := range m.seeks {
		if p.seeks && w.asked == nil && w.span.Len() == 0 && !w.refused[p.id] {
			w.asked, r.seek = r, w
			return
		}
	}
}

// resolvePassedSeeks ends the seeks past the known byte length: the head has moved, and the local
// search goes on.
func (m *Machine) resolvePassedSeeks() {
	for i := 0; i < len(m.seeks); {
		if w := m.seeks[i]; w.span.Len() == 0 {
			m.resolve(w, true, nil) // removes it
			continue
		}
		i++
	}
}
