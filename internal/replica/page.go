package replica

import (
	"time"

	"github.com/p2pcore/p2pcore/internal/bitfield"
	"github.com/p2pcore/p2pcore/internal/merkle"
	"github.com/p2pcore/p2pcore/internal/wire"
)

// page is a page of wantPage blocks that we want to hear of. A want is a subscription: the remote
// goes on announcing what it gets in the page until we take the want back.
type page struct {
	at       time.Time // when it was wanted
	answered bool      // a bitfield for it has come
	stale    bool      // what the remote announced for it was forgotten; it has to be wanted anew
}

// need makes sure that we hear what the remote holds in a page. It returns false if that has to
// wait for another page to be answered.
//
// A page is asked for once. It is asked for again only after a message of the remote has made us
// forget what we knew of it.
func (m *Machine) need(p *peer, number uint64) bool {
	start := number * wantPage
	if start >= p.length || start+wantPage <= p.known.contig {
		return true
	}
	pg := p.pages[number]
	switch {
	case pg != nil && !pg.stale:
		return true
	case pg != nil:
		m.send(p, &wire.Unwant{Start: start, Length: wantPage})
		*pg = page{at: m.now}
	case p.givenUp.Has(number):
		return true
	default:
		if len(p.pages) >= maxWantPages && !m.giveUpPage(p) {
			p.pagesFull = true
			m.wakeAt(m.now.Add(StallTimeout))
			return false
		}
		p.pages[number] = &page{at: m.now}
		p.pageOrder = append(p.pageOrder, number)
	}
	m.send(p, &wire.Want{Start: start, Length: wantPage})
	return true
}

// giveUpPage takes back the oldest want that has served its purpose.
func (m *Machine) giveUpPage(p *peer) bool {
	for i, number := range p.pageOrder {
		pg := p.pages[number]
		end := (number + 1) * wantPage
		if !pg.answered && end > p.known.contig && m.now.Sub(pg.at) < StallTimeout {
			continue
		}
		p.pageOrder = append(p.pageOrder[:i], p.pageOrder[i+1:]...)
		delete(p.pages, number)
		if p.givenUp.Size() > maxGivenUpBytes {
			p.givenUp = bitfield.Bitfield{}
		}
		p.givenUp.Set(number, true)
		m.send(p, &wire.Unwant{Start: number * wantPage, Length: wantPage})
		if p.recycle.IsZero() {
			p.recycle = m.now.Add(StallTimeout)
			m.wakeAt(p.recycle)
		}
		return true
	}
	return false
}

// stale marks the pages of which something was forgotten.
func (p *peer) stale(lost merkle.Range) {
	if lost.Len() == 0 {
		return
	}
	for number, pg := range p.pages {
		if number*wantPage < lost.End && lost.Start < (number+1)*wantPage {
			pg.stale = true
		}
	}
	p.givenUp.SetRange(lost.Start/wantPage, (lost.End-1)/wantPage+1, false)
}

// forgot has pages wanted anew of which a message has made us forget something.
func (p *peer) forgot(lost merkle.Range) {
	if lost.Start < lost.End {
		p.stale(lost)
		p.rescan(lost)
	}
}

func (p *peer) staleAll() { p.stale(merkle.Range{End: 1 << 63}) }

func (m *Machine) onRange(p *peer, r *wire.Range) {
	if r.Start+r.Length < r.Start {
		return
	}
	span := merkle.Range{Start: r.Start, End: r.Start + r.Length}
	if r.Drop {
		p.forgot(p.known.drop(span))
		return
	}
	m.hearContig(p, r)
	m.learned(p, p.known.add(span))
	m.learnedFork(p)
}

func (m *Machine) onBitfield(p *peer, b *wire.Bitfield) {
	words := b.Words[:min(len(b.Words), maxBitfieldWords)]
	end := b.Start + uint64(len(words))*32
	if b.Start%32 != 0 || end < b.Start {
		return
	}
	// Only what is overwritten now is known; the rest of the contiguous part is forgotten.
	lost := p.known.overwrite(b.Start, words)
	p.forgot(merkle.Range{Start: max(lost.Start, end), End: lost.End})
	for number := b.Start / wantPage; number*wantPage < end; number++ {
		if pg := p.pages[number]; pg != nil {
			pg.answered = true
		}
	}
	if p.pagesFull {
		p.pagesFull = false
		m.touch(p)
	}
	m.learned(p, merkle.Range{Start: b.Start, End: end})
	m.learnedFork(p)
}

// learned has the peer's window filled if a message may have brought something useful. News of
// blocks that we hold are no reason: answers to our own wants would keep us searching for ever.
func (m *Machine) learned(p *peer, news merkle.Range) {
	if at := m.have.FirstUnset(news.Start); at < news.End {
		p.rescan(merkle.Range{Start: at, End: news.End})
		for b, ref := range p.refusals {
			if b >= at && b < news.End && ref.n < maxRefusals {
				p.refusals[b] = refusal{n: ref.n}
			}
		}
		m.touch(p)
	}
}
