package replica

import (
	"maps"
	"math"
	"slices"
	"sort"
	"time"

	"github.com/p2pcore/p2pcore/internal/merkle"
)

type wantKind uint8

const (
	wantBlocks wantKind = iota
	wantUpgrade
	wantSeek
)

// want is a wish of the local user: a ticket.
type want struct {
	ticket Ticket
	kind   wantKind
	done   bool

	// wantBlocks: [start, end), or blocks.
	start, end uint64
	low        uint64 // of a range: the first block that is missing
	blocks     []uint64
	position   int        // in blocks: the first that is missing
	index      *listIndex // of blocks
	linear     bool
	follow     bool
	urgent     bool // single gets: in Machine.urgent, not in Machine.wants
	priority   int
	rare       int       // its blocks that no reader holds, when they were counted last
	countAt    time.Time // when to count again

	// wantSeek.
	bytes, padding uint64
	span           merkle.Range // empty: past the known byte length
	asked          *request
	refused        map[PeerID]bool
}

func (m *Machine) onWant(e Want) {
	if e.Ticket == 0 || m.tickets[e.Ticket] != nil || m.refuseFrozen(e.Ticket) {
		return
	}
	w := &want{
		ticket: e.Ticket, start: e.Range.Start, end: e.Range.End, low: e.Range.Start,
		blocks: e.Blocks, linear: e.Linear, follow: e.Follow && e.Blocks == nil, priority: e.Priority,
	}
	if w.follow {
		w.end = math.MaxInt64
	}
	if w.blocks != nil {
		w.index = newListIndex(w.blocks)
	}
	m.tickets[w.ticket] = w
	if !m.advance(w) {
		return
	}
	w.urgent = w.blocks == nil && (w.priority > 0 || e.Force) && w.end-w.low <= maxUrgentRange
	if w.urgent {
		m.addUrgent(w)
		if e.Force {
			m.forcing = append(m.forcing, w)
		}
		m.hurry(w)
		for _, p := range m.order {
			p.urgent.reset(merkle.Range{Start: w.low, End: w.end})
			m.touch(p)
		}
		return
	}
	i := sort.Search(len(m.wants), func(i int) bool { return m.wants[i].priority < w.priority })
	m.wants = slices.Insert(m.wants, i, w)
	m.touchAll()
}

// advance moves w on to the first block that it lacks. It returns false if there is none: w is
// resolved.
func (m *Machine) advance(w *want) bool {
	if w.blocks == nil {
		w.low = m.have.FirstUnset(w.low)
		if w.low >= w.end && !w.follow {
			m.resolve(w, false, nil)
			return false
		}
	} else {
		for w.position < len(w.blocks) && m.have.Has(w.blocks[w.position]) {
			w.position++
		}
		if w.position == len(w.blocks) {
			m.resolve(w, false, nil)
			return false
		}
	}
	at := w.waitsFor()
	m.waiters[at] = append(m.waiters[at], w)
	return true
}

func (w *want) waitsFor() uint64 {
	if w.blocks != nil {
		return w.blocks[w.position]
	}
	return w.low
}

func (w *want) covers(b uint64) bool {
	if w.blocks != nil {
		return w.index.has(b)
	}
	return b >= w.low && b < w.end
}

func (m *Machine) addUrgent(w *want) {
	for b := w.low; b < w.end; b++ {
		if !m.have.Has(b) {
			m.urgentRefs[b]++
			m.urgent.Set(b, true)
		}
	}
}

// hurry moves the blocks of w that wait for a slot behind others, as of a download, to the front.
func (m *Machine) hurry(w *want) {
	for b := w.low; b < w.end; b++ {
		if r := m.fetches[b]; r != nil && r.state == stateReady {
			p := r.peer
			p.ready = without(p.ready, r)
			p.ready = slices.Insert(p.ready, p.urgentReady(m), r)
		}
	}
}

func (m *Machine) dropUrgent(b uint64) {
	if m.urgentRefs[b]--; m.urgentRefs[b] <= 0 {
		delete(m.urgentRefs, b)
		m.urgent.Set(b, false)
	}
}

// resolve ends a ticket.
func (m *Machine) resolve(w *want, grown bool, err error) {
	m.removeWant(w)
	m.emit(Resolve{Ticket: w.ticket, Grown: grown, Err: err})
}

func (m *Machine) removeWant(w *want) {
	w.done = true
	delete(m.tickets, w.ticket)
	switch w.kind {
	case wantUpgrade:
		m.updates = without(m.updates, w.ticket)
		return
	case wantSeek:
		m.seeks = without(m.seeks, w)
		return
	}
	if w.urgent {
		m.forcing = without(m.forcing, w)
		for b := w.low; b < w.end; b++ {
			if m.urgentRefs[b] > 0 {
				m.dropUrgent(b)
			}
		}
	} else {
		m.wants = without(m.wants, w)
		for _, p := range m.order {
			delete(p.scans, w)
		}
	}
}

func (m *Machine) onForget(t Ticket) {
	w := m.tickets[t]
	if w == nil {
		return
	}
	m.removeWant(w)
	switch w.kind {
	case wantSeek:
		if r := w.asked; r != nil && r.upgrade.Length == 0 {
			m.cancel(r)
		}
		return
	case wantUpgrade:
		return
	}
	at := w.waitsFor()
	if ws := without(m.waiters[at], w); len(ws) > 0 {
		m.waiters[at] = ws
	} else {
		delete(m.waiters, at)
	}
	for _, b := range m.fetched(merkle.Range{Start: w.start, End: w.end}, w) {
		if !m.wanted(b) {
			m.cancelBlock(b)
		}
	}
}

// fetched returns the blocks of w that are being fetched, in order.
func (m *Machine) fetched(r merkle.Range, w *want) []uint64 {
	var blocks []uint64
	if w.blocks == nil && r.Len() < uint64(len(m.fetches)) {
		for b := r.Start; b < r.End; b++ {
			if m.fetches[b] != nil {
				blocks = append(blocks, b)
			}
		}
		return blocks
	}
	for b := range m.fetches {
		if w.blocks != nil || b >= r.Start && b < r.End {
			blocks = append(blocks, b)
		}
	}
	slices.Sort(blocks)
	return blocks
}

// wanted reports whether somebody waits for b.
func (m *Machine) wanted(b uint64) bool {
	if m.urgentRefs[b] > 0 {
		return true
	}
	for _, w := range m.wants {
		if w.covers(b) {
			return true
		}
	}
	return false
}

// storedRun notes that a run of missing blocks is stored now.
func (m *Machine) storedRun(run merkle.Range) {
	m.have.SetRange(run.Start, run.End, true)
	if run.Len() <= uint64(len(m.fetches)+len(m.waiters)+len(m.urgentRefs)) {
		for b := run.Start; b < run.End; b++ {
			m.arrived(b)
		}
		return
	}
	var blocks []uint64
	pick := func(b uint64) {
		if b >= run.Start && b < run.End {
			blocks = append(blocks, b)
		}
	}
	for b := range m.fetches {
		pick(b)
	}
	for b := range m.waiters {
		pick(b)
	}
	for b := range m.urgentRefs {
		pick(b)
	}
	slices.Sort(blocks)
	for _, b := range slices.Compact(blocks) {
		m.arrived(b)
	}
}

// arrived ends what was waiting for block b, which is stored.
func (m *Machine) arrived(b uint64) {
	m.cancelBlock(b) // it has come, by whatever way
	if m.urgentRefs[b] > 0 {
		delete(m.urgentRefs, b)
		m.urgent.Set(b, false)
	}
	ws := m.waiters[b]
	if ws == nil {
		return
	}
	delete(m.waiters, b)
	for _, w := range ws {
		if !w.done && w.waitsFor() == b {
			m.advance(w)
		}
	}
}

// regressWants has wishes go back to blocks at or past from that are gone again.
func (m *Machine) regressWants(from uint64) {
	for _, t := range slices.Sorted(maps.Keys(m.tickets)) {
		w := m.tickets[t]
		if w.kind != wantBlocks {
			continue
		}
		before := w.waitsFor()
		if w.blocks != nil {
			w.position = 0
			w.index.renew()
		} else if w.low > from {
			w.low = max(w.start, from)
			w.low = min(m.have.FirstUnset(w.low), before)
		}
		if w.blocks == nil && w.low == before {
			continue
		}
		if ws := without(m.waiters[before], w); len(ws) > 0 {
			m.waiters[before] = ws
		} else {
			delete(m.waiters, before)
		}
		m.advance(w)
	}
	for _, t := range slices.Sorted(maps.Keys(m.tickets)) {
		if w := m.tickets[t]; w.urgent {
			for b := w.low; b < w.end; b++ {
				if !m.have.Has(b) && m.urgentRefs[b] == 0 {
					m.urgentRefs[b]++
					m.urgent.Set(b, true)
				}
			}
		}
	}
}

// fail ends all wishes with a failure of our own machine, and stops asking for them.
func (m *Machine) fail(err error) {
	for _, t := range slices.Sorted(maps.Keys(m.tickets)) {
		m.onForget(t)
		m.emit(Resolve{Ticket: t, Err: err})
	}
}
