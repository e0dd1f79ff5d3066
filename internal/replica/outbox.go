package replica

import (
	"github.com/p2pcore/p2pcore/internal/merkle"
	"github.com/p2pcore/p2pcore/internal/wire"
)

// flush sends what waits for credit, as far as the credit goes. While it waits it is kept merged:
// one sync, one contiguous range, a bounded list of other ranges, the ids to cancel.
func (m *Machine) flush(p *peer) {
	if p.credit <= 0 || p.gone {
		return
	}
	if !p.greeted {
		m.greet(p)
	}
	m.flushAnswers(p)
	for len(p.cancels) > 0 && p.credit > 0 {
		m.send(p, &wire.Cancel{ID: p.cancels[0]})
		p.cancels = p.cancels[1:]
	}
	// Hypercore announces new blocks before the sync with the new length; a receiver keeps what
	// lies past the length that it knows.
	m.flushRanges(p)
	m.flushWants(p)
	if p.syncDue && !p.undecided() && p.credit > 0 {
		m.sendSync(p)
	}
	if p.check != nil && p.credit > 0 {
		m.sendCheck(p)
	}
	for len(p.extensions) > 0 && p.credit > 0 {
		p.extensionBytes -= len(p.extensions[0].Message)
		m.send(p, p.extensions[0])
		p.extensions = p.extensions[1:]
	}
}

// greet sends what a channel begins with: a sync and, unless it is empty, the contiguous part.
func (m *Machine) greet(p *peer) {
	p.greeted = true
	m.sendSync(p)
	p.adds, p.drops, p.resend = nil, nil, false
	p.contigDue = m.contig > 0 && !m.info.Frozen
}

func (m *Machine) sendSync(p *peer) {
	p.syncDue = false
	p.toldDownloading, p.toldPush = m.isDownloading(), m.allowsPush()
	s := &wire.Sync{
		Fork: m.info.Fork, Length: m.info.Length,
		CanUpgrade: p.can, Uploading: !m.info.Frozen, Downloading: p.toldDownloading,
		HasManifest: m.info.HasManifest, AllowPush: p.toldPush,
	}
	if p.fork == m.info.Fork {
		s.RemoteLength = p.length
	}
	m.send(p, s)
}

func (m *Machine) flushRanges(p *peer) {
	for len(p.drops) > 0 && p.credit > 0 {
		r := p.drops[0]
		p.drops = p.drops[1:]
		m.send(p, &wire.Range{Drop: true, Start: r.Start, Length: r.Len()})
		m.reannounce(p, r.Start)
	}
	if p.resend && p.credit > 0 {
		p.resend, p.contigDue = false, m.contig > 0
		m.resendState(p)
	}
	if p.contigDue && p.credit > 0 {
		p.contigDue = false
		m.sendContig(p)
	}
	for len(p.adds) > 0 && p.credit > 0 {
		r := p.adds[0]
		p.adds = p.adds[1:]
		m.send(p, &wire.Range{Start: r.Start, Length: r.Len()})
	}
}

// resendState makes good for announcements that were merged away: the pages that the remote wants,
// or as much as one want may cover if it wants everything, and the last blocks.
func (m *Machine) resendState(p *peer) {
	p.remoteWants.redo(merkle.Range{End: m.info.Length})
	if p.remoteWants.all {
		p.remoteWants.odd = append(p.remoteWants.odd[:0], wire.Want{Length: maxServedWant})
	}
	if !m.complete() {
		m.sendBits(p, merkle.Range{Start: m.info.Length - min(m.info.Length, announceTail), End: m.info.Length})
	}
}

func (m *Machine) sendContig(p *peer) {
	p.told = m.contig
	if m.complete() {
		p.toldAll = m.info.Length
	}
	m.send(p, &wire.Range{Length: m.contig})
}

// queueAdd notes an announcement, merged with its neighbour.
func (p *peer) queueAdd(r merkle.Range) {
	if n := len(p.adds); n > 0 && p.adds[n-1].End == r.Start {
		p.adds[n-1].End = r.End
		return
	}
	if len(p.adds) == maxPendingRanges {
		p.adds, p.resend = nil, true
		return
	}
	p.adds = append(p.adds, r)
}

// queueDrop notes that blocks are gone. When there are too many, one drop covers all of them and
// what is left between them is announced again.
func (p *peer) queueDrop(r merkle.Range) {
	var kept []merkle.Range
	for _, a := range p.adds { // not yet announced, and gone again
		kept = appendRange(kept, merkle.Range{Start: a.Start, End: min(a.End, r.Start)})
		kept = appendRange(kept, merkle.Range{Start: max(a.Start, r.End), End: a.End})
	}
	p.adds = kept
	if len(p.drops) < maxPendingRanges {
		p.drops = append(p.drops, r)
		return
	}
	for _, d := range p.drops {
		r = hull(r, d)
	}
	p.drops, p.adds, p.resend = []merkle.Range{r}, nil, true
}

func appendRange(rs []merkle.Range, r merkle.Range) []merkle.Range {
	if r.Len() == 0 {
		return rs
	}
	return append(rs, r)
}

// hull is the smallest range that covers both.
func hull(a, b merkle.Range) merkle.Range {
	if a.Len() == 0 {
		return b
	}
	if b.Len() == 0 {
		return a
	}
	return merkle.Range{Start: min(a.Start, b.Start), End: max(a.End, b.End)}
}

func clip(r merkle.Range, start, end uint64) merkle.Range {
	return merkle.Range{Start: max(r.Start, start), End: min(r.End, end)}
}
