package replica

import (
	"math/bits"
	"time"
)

// Where several readers download the same feed, a peer that has everything (a seed, often the only one and
// its writer) is asked with care, so that it sends each block about once and the readers get the rest from
// each other:
//
//   - It is asked for blocks first that no reader holds, here called rare, from places that chance chooses.
//   - Of those only so many are asked for at once that few of them are asked for by another reader at the same
//     time: a share of those that there are for each reader. With fewer of them left that becomes slow, but the
//     readers have enough to exchange meanwhile.
//   - For blocks that a reader holds it is asked only if the readers are much slower than it is, or do not
//     answer.
//
// Downloads in order, lists and single gets are asked of whoever is free, as if there were no readers.

// isSeed reports whether p holds all blocks.
func (m *Machine) isSeed(p *peer) bool { return p.known.contig >= m.info.Length }

// economise finds the readers, if p is a seed, and reports whether there are any.
func (m *Machine) economise(p *peer) bool {
	m.readers = m.readers[:0]
	if !m.isSeed(p) {
		return false
	}
	for _, q := range m.order {
		if q.downloading && !m.isSeed(q) && m.usable(q) && m.prompt(q) {
			m.readers = append(m.readers, q)
		}
	}
	return len(m.readers) > 0
}

// spares reports whether the readers can be left to bring what they hold, without the seed p: together they
// are at least half as fast, as far as that is known, and one of them has brought something lately.
func (m *Machine) spares(p *peer) bool {
	readers := 0.0 // speed of the readers, where p's is 1
	for _, q := range m.readers {
		if each := q.pace.each(); each > 0 && p.pace.each() > 0 {
			readers += float64(p.pace.each()) / float64(each)
		} else {
			readers++
		}
	}
	if readers < 0.5 {
		return false
	}
	if m.sparing.IsZero() {
		m.sparing = m.now
	}
	until := later(m.sparing, m.shared).Add(sparePatience)
	if !m.now.Before(until) {
		return false
	}
	m.lookAt(until)
	return true
}

// pickRare takes up to n blocks for w that no reader holds, and returns how many.
func (m *Machine) pickRare(p *peer, w *want, n int) (got int) {
	end := min(m.askLimit(p), w.end)
	if w.low >= end {
		return 0
	}
	if !m.now.Before(w.countAt) {
		m.countRare(w, end)
	}
	share := max(1, w.rare/(rareShare*(len(m.readers)+1)))
	n = min(n, share-m.rareAsked)
	if n <= 0 || w.rare == 0 {
		return 0
	}
	// Each of them is as likely as any other, or all readers would gather behind the gaps.
	skip := m.rng.IntN(w.rare)
	take := func(b uint64) bool {
		if skip--; skip < 0 && m.fetches[b] == nil && !p.refuses(b) {
			m.take(p, b)
			m.fetches[b].rare = true
			m.rareAsked++
			got++
		}
		return got < n
	}
	if _, whole := m.eachRare(w.low, end, take); !whole {
		return got
	}
	skip = 0
	if _, whole := m.eachRare(w.low, end, take); whole {
		w.rare = 0 // until the next count
	}
	return got
}

// countRare counts the rare blocks of w, as far as their number matters.
func (m *Machine) countRare(w *want, end uint64) {
	w.rare = 0
	enough := rareShare * (len(m.readers) + 1) * MaxWindow
	steps, _ := m.eachRare(w.low, end, func(uint64) bool {
		w.rare++
		return w.rare < enough
	})
	w.countAt = m.now.Add(countInterval + time.Duration(steps*len(m.readers))*countCost)
}

// recount has the rare blocks counted when that matters next, after something has made more of them.
func (m *Machine) recount() {
	for _, w := range m.wants {
		w.countAt = time.Time{}
	}
}

// eachRare calls fn for the blocks of [start, end) that we lack and no reader holds, until it returns false; whole is
// that it never did. Steps counts the pages and runs that were looked at. What a reader holds in one run is one step,
// however long it is: a writer may have signed any length, and a reader may say that it holds all of it.
func (m *Machine) eachRare(start, end uint64, fn func(b uint64) bool) (steps int, whole bool) {
	for at := start; ; steps++ {
		if at = m.have.FirstUnset(at); at >= end {
			return steps, true
		}
		if held := m.sharedUntil(at); held > at {
			at = held
			continue
		}
		base := at &^ 31
		stop := min(at&^(wantPage-1)+wantPage, end)
		m.words[0] = m.have.AppendWords(m.words[0][:0], base, stop)
		for _, q := range m.readers {
			if limit := m.askLimit(q); limit > base {
				m.words[1] = q.known.words(m.words[1], base, min(stop, limit))
				for i, held := range m.words[1] {
					m.words[0][i] |= held
				}
			}
		}
		for i, held := range m.words[0] {
			for c := ^held & within(base+uint64(i)*32, at, stop); c != 0; c &= c - 1 {
				if !fn(base + uint64(i)*32 + uint64(bits.TrailingZeros32(c))) {
					return steps, false
				}
			}
		}
		at = stop
	}
}

// sharedUntil returns the end of the longest run of blocks from at on that a reader holds; at if none holds that.
func (m *Machine) sharedUntil(at uint64) uint64 {
	end := at
	for _, q := range m.readers {
		end = max(end, min(q.known.end(at), m.askLimit(q)))
	}
	return end
}
