package replica

import (
	"cmp"
	"slices"

	"github.com/p2pcore/p2pcore/internal/merkle"
	"github.com/p2pcore/p2pcore/internal/wire"
)

// remoteWant is a page, or a span of any kind, that a remote wants, or wanted, to hear of.
type remoteWant struct {
	span     merkle.Range
	any      bool   // one block of it is enough
	active   bool   // not taken back by unwant
	due      bool   // an answer waits for credit
	changed  bool   // something in the page changed since the last answer
	redo     bool   // the remote has forgotten the last answer
	answered bool   // last is set
	last     uint64 // hash of the last answer
}

// wantMemory is what one remote wants to be told. Pages stay in it after an unwant, with their last
// answer: a want that is repeated while nothing has changed must not be answered again, or
// Hypercore 11 goes round unwant, want and bitfield for ever while it follows a fork.
type wantMemory struct {
	all   bool // wants everything: it exceeded what we remember
	pages map[merkle.Range]*remoteWant
	live  int           // active pages
	sizes []uint64      // lengths of the pages, at most maxServedSizes
	anys  []*remoteWant // wants of any one block, of whatever span; see remoteany.go
	odd   []wire.Want   // to be answered, and not remembered
	due   []*remoteWant
}

func (m *Machine) onRemoteWant(p *peer, w *wire.Want) {
	if w.Length == 0 || w.Length > maxServedWant && !w.Any || w.Start+w.Length < w.Start {
		return
	}
	m.touch(p)
	mem := &p.remoteWants
	remember := mem.remember
	if w.Any {
		remember = mem.rememberAny
	}
	if page := remember(w); page != nil {
		mem.answer(page)
		return
	}
	mem.all = true
	if len(mem.odd) < maxOddWants {
		mem.odd = append(mem.odd, *w)
	}
}

func (m *Machine) onRemoteUnwant(p *peer, w *wire.Unwant) {
	span := merkle.Range{Start: w.Start, End: w.Start + w.Length}
	if w.Any {
		p.remoteWants.takeBackAny(span)
		return
	}
	page := p.remoteWants.pages[span]
	if page != nil && page.active {
		page.active = false
		p.remoteWants.live--
	}
}

// remember returns the page of a want, new or old, or nil if it is none or is one too many.
func (mem *wantMemory) remember(w *wire.Want) *remoteWant {
	if w.Length&(w.Length-1) != 0 || w.Length < minServedWant || w.Start%w.Length != 0 {
		return nil
	}
	span := merkle.Range{Start: w.Start, End: w.Start + w.Length}
	page := mem.pages[span]
	if page == nil {
		if mem.live >= maxServedPages || !mem.addSize(w.Length) {
			return nil
		}
		if len(mem.pages) >= maxServedMemory {
			mem.forget()
		}
		if mem.pages == nil {
			mem.pages = map[merkle.Range]*remoteWant{}
		}
		page = &remoteWant{span: span, changed: true}
		mem.pages[span] = page
	}
	if !page.active {
		if mem.live >= maxServedPages {
			return nil
		}
		page.active = true
		mem.live++
	}
	return page
}

func (mem *wantMemory) addSize(n uint64) bool {
	for _, s := range mem.sizes {
		if s == n {
			return true
		}
	}
	if len(mem.sizes) == maxServedSizes {
		return false
	}
	mem.sizes = append(mem.sizes, n)
	return true
}

// forget makes room by forgetting the pages that are not wanted any more.
func (mem *wantMemory) forget() {
	mem.due = slices.DeleteFunc(mem.due, func(page *remoteWant) bool { return !page.active })
	for span, page := range mem.pages {
		if !page.active {
			delete(mem.pages, span)
		}
	}
}

func (mem *wantMemory) answer(page *remoteWant) {
	if !page.due && (page.changed || page.redo) {
		page.due = true
		mem.due = append(mem.due, page)
	}
}

// redo has the wanted pages that touch r answered again, because the remote forgot.
func (mem *wantMemory) redo(r merkle.Range) {
	for _, page := range append(mem.inOrder(), mem.anys...) {
		if overlaps(page.span, r) {
			page.redo = true
			if page.active {
				mem.answer(page)
			}
		}
	}
}

// changed notes that what we hold in r has changed.
func (mem *wantMemory) changed(r merkle.Range) {
	mem.touching(r, func(page *remoteWant) { page.changed = true })
}

// touching visits what overlaps r: pages by number where r is short, else all of them.
func (mem *wantMemory) touching(r merkle.Range, visit func(*remoteWant)) {
	for _, page := range mem.anys {
		if overlaps(page.span, r) {
			visit(page)
		}
	}
	if len(mem.pages) == 0 || r.Len() == 0 {
		return
	}
	steps := uint64(0)
	for _, n := range mem.sizes {
		steps += r.Len()/n + 2
	}
	if steps > uint64(len(mem.pages)) {
		for span, page := range mem.pages {
			if overlaps(span, r) {
				visit(page)
			}
		}
		return
	}
	for _, n := range mem.sizes {
		for at := r.Start &^ (n - 1); at < r.End; at += n {
			if page := mem.pages[merkle.Range{Start: at, End: at + n}]; page != nil {
				visit(page)
			}
		}
	}
}

// covered yields the parts of r that the remote wants to hear of, in order. Parts are announced
// whole where a page of any size covers them.
func (mem *wantMemory) covered(r merkle.Range, yield func(merkle.Range)) {
	if r.Len() == 0 {
		return
	}
	if mem.all {
		yield(r)
		return
	}
	var parts []merkle.Range
	mem.touching(r, func(page *remoteWant) {
		if page.active {
			parts = append(parts, clip(r, page.span.Start, page.span.End))
		}
	})
	slices.SortFunc(parts, func(a, b merkle.Range) int { return cmp.Compare(a.Start, b.Start) })
	var last merkle.Range
	for _, part := range parts {
		if part.Start > last.End || last.Len() == 0 {
			if last.Len() > 0 {
				yield(last)
			}
			last = part
			continue
		}
		last.End = max(last.End, part.End)
	}
	if last.Len() > 0 {
		yield(last)
	}
}

func (mem *wantMemory) inOrder() []*remoteWant {
	pages := make([]*remoteWant, 0, len(mem.pages))
	for _, page := range mem.pages {
		pages = append(pages, page)
	}
	slices.SortFunc(pages, func(a, b *remoteWant) int {
		return cmp.Or(cmp.Compare(a.span.Start, b.span.Start), cmp.Compare(a.span.End, b.span.End))
	})
	return pages
}

func overlaps(a, b merkle.Range) bool { return a.Start < b.End && b.Start < a.End }

// flushWants answers wants as far as the credit goes. The answer is made from what we hold now, so
// wants that wait together cost one answer.
func (m *Machine) flushWants(p *peer) {
	mem := &p.remoteWants
	for len(mem.due) > 0 && p.credit > 0 {
		page := mem.due[0]
		mem.due = mem.due[1:]
		m.answerPage(p, page)
	}
	for len(mem.odd) > 0 && p.credit > 0 {
		w := mem.odd[0]
		mem.odd = mem.odd[1:]
		m.sendHoldings(p, merkle.Range{Start: w.Start, End: w.Start + w.Length}, w.Any)
	}
}

func (m *Machine) answerPage(p *peer, page *remoteWant) {
	page.due = false
	if !page.active {
		return
	}
	sum := m.answerHash(page)
	if page.answered && page.last == sum && !page.redo {
		page.changed = false
		return
	}
	// A first answer of nothing but zeros tells nothing.
	nothing := !page.answered && !page.redo && m.holdsNothing(page.span)
	page.answered, page.last, page.changed, page.redo = true, sum, false, false
	if !nothing {
		m.sendHoldings(p, page.span, page.any)
	}
}

func (m *Machine) holdsNothing(r merkle.Range) bool {
	i, ok := m.have.FirstSet(r.Start)
	return !ok || i >= r.End
}

// answerHash identifies the answer that sendHoldings would give. The remote has no hand in what is
// hashed, and a collision would only cost it one answer.
func (m *Machine) answerHash(page *remoteWant) uint64 {
	if m.coversAll(page.span) || page.any && page.span.Start < m.contig {
		return mix(mix(fnvBasis, 1), m.contig)
	}
	sum := mix(fnvBasis, 2)
	if page.any {
		if i, ok := m.have.FirstSet(page.span.Start); ok && i < page.span.End {
			sum = mix(sum, i)
		}
		return sum
	}
	for start, end := range m.have.Ranges(page.span.Start, page.span.End) {
		sum = mix(mix(sum, start), end)
	}
	return sum
}

const fnvBasis = 14695981039346656037

// mix is a step of FNV-1a with words in place of bytes.
func mix(sum, v uint64) uint64 {
	sum = (sum ^ v) * 1099511628211
	return sum ^ sum>>32
}

// coversAll reports whether the contiguous part says everything about r.
func (m *Machine) coversAll(r merkle.Range) bool { return m.complete() || r.End <= m.contig }

// sendHoldings tells which blocks of r we hold, or with one, a single one of them.
func (m *Machine) sendHoldings(p *peer, r merkle.Range, one bool) {
	switch {
	case m.coversAll(r) || one && r.Start < m.contig:
		m.sendContig(p)
	case one:
		if i, ok := m.have.FirstSet(r.Start); ok && i < r.End {
			m.send(p, &wire.Range{Start: i, Length: 1})
		}
	default:
		m.sendBits(p, r)
	}
}

// sendBits sends the bitfield of r, cut at our length. Nothing lies past it.
func (m *Machine) sendBits(p *peer, r merkle.Range) {
	start, end := r.Start&^31, min(r.End, m.info.Length)
	if r.Start >= end {
		return
	}
	if start < p.told {
		p.told = start // the receiver lets a bitfield overrule what it knew by the contiguous part
	}
	m.send(p, &wire.Bitfield{Start: start, Words: m.have.AppendWords(nil, start, (end+31)&^31)})
}
