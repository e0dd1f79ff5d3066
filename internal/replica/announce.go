package replica

import (
	"github.com/p2pcore/p2pcore/internal/bitfield"
	"github.com/p2pcore/p2pcore/internal/merkle"
)

// complete reports whether we hold every block of our tree.
func (m *Machine) complete() bool { return m.info.Length > 0 && m.contig >= m.info.Length }

// loadHave takes over from the feed which blocks of r are stored.
func (m *Machine) loadHave(r merkle.Range) {
	m.have.SetRange(r.Start, r.End, false)
	for run := range m.local.Ranges(r) {
		m.have.SetRange(run.Start, run.End, true)
	}
	m.contig = m.have.FirstUnset(0)
}

func (m *Machine) onChanged(e Changed) {
	for _, r := range e.Dropped {
		m.dropped(r)
	}
	if e.Forked {
		m.reload(e.Ancestors)
	}
	for _, r := range e.Added {
		for run := range m.local.Ranges(r) {
			m.added(run)
		}
	}
	m.contig = m.have.FirstUnset(m.contig)
	// The announcements are decided with the new head in place.
	m.rewritten = e.Forked
	m.refresh()
	m.rewritten = false
	if e.Forked {
		m.forked(e.Ancestors)
	}
	for _, r := range e.Added {
		for start, end := range m.have.Ranges(r.Start, r.End) {
			m.announce(merkle.Range{Start: start, End: end})
		}
	}
}

// reload takes over what is stored past the blocks that a rewriting has left.
func (m *Machine) reload(ancestors uint64) {
	m.have.SetRange(ancestors, bitfield.MaxIndex, false)
	m.contig = m.have.FirstUnset(0)
	m.regressWants(ancestors)
	length := m.local.Info().Length
	for run := range m.local.Ranges(merkle.Range{Start: ancestors, End: max(ancestors, length)}) {
		m.added(run)
	}
	m.rescan = hull(m.rescan, merkle.Range{Start: ancestors, End: max(ancestors, m.info.Length, length)})
}

// added notes that the blocks of a run are stored, by whatever way they came.
func (m *Machine) added(run merkle.Range) {
	for at := run.Start; at < run.End; {
		at = m.have.FirstUnset(at)
		if at >= run.End {
			return
		}
		end := run.End
		if i, ok := m.have.FirstSet(at); ok {
			end = min(end, i)
		}
		m.storedRun(merkle.Range{Start: at, End: end})
		at = end
	}
}

func (m *Machine) dropped(r merkle.Range) {
	if r.Len() == 0 {
		return
	}
	m.loadHave(r)
	// Where blocks came back meanwhile, only the gaps are gone.
	for at := r.Start; at < r.End; {
		at = m.have.FirstUnset(at)
		end := r.End
		if i, ok := m.have.FirstSet(at); ok {
			end = min(end, i)
		}
		if at < end {
			m.dropGap(merkle.Range{Start: at, End: end})
		}
		at = max(end, at)
	}
}

func (m *Machine) dropGap(gap merkle.Range) {
	for _, p := range m.order {
		p.queueDrop(gap)
		p.remoteWants.changed(gap)
		p.stale(gap) // it has not announced what it got while we held it
		m.touch(p)
	}
	m.regressWants(gap.Start)
	m.rescan = hull(m.rescan, gap)
}

// announce tells the peers that need to hear it that we hold the blocks of a run.
func (m *Machine) announce(run merkle.Range) {
	if m.info.Frozen {
		return
	}
	tail := m.info.Length - min(m.info.Length, announceTail)
	for _, p := range m.order {
		p.remoteWants.changed(run)
		if m.complete() {
			m.announceComplete(p)
			continue
		}
		p.remoteWants.covered(clip(run, 0, tail), func(r merkle.Range) { m.announceRun(p, r) })
		m.announceRun(p, clip(run, tail, run.End))
	}
}

// announceComplete tells that nothing is missing, once for each length, and also to a peer that has
// everything: that is how a writer learns that a reader is complete.
func (m *Machine) announceComplete(p *peer) {
	if p.toldAll == m.info.Length {
		return
	}
	p.contigDue, p.adds = true, nil
	if p.synced && !p.can && !p.undecided() {
		m.judge(p) // with all blocks we have all nodes
	}
	m.touch(p)
}

func (m *Machine) announceRun(p *peer, r merkle.Range) {
	if r.Len() == 0 || p.known.hasRange(r.Start, r.End) {
		return
	}
	p.queueAdd(r)
	m.touch(p)
}

// reannounce repeats what a drop made the remote forget: its receiver forgets everything from the
// drop to the end of the contiguous part that we had announced, and a Hypercore reader does not ask
// again for pages that it asked for before.
func (m *Machine) reannounce(p *peer, start uint64) {
	if start >= p.told {
		return
	}
	lost := merkle.Range{Start: start, End: p.told}
	p.told, p.toldAll = start, 0
	p.remoteWants.redo(lost)
	if lost.Len() <= cheapBitfield && !m.holdsNothing(lost) {
		m.sendBits(p, lost)
	}
}
