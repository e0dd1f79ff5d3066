package replica

import (
	"slices"

	"github.com/p2pcore/p2pcore/internal/bitfield"
	"github.com/p2pcore/p2pcore/internal/merkle"
)

// listIndex finds the blocks of a list by their index.
type listIndex struct {
	blocks []uint64          // in order of index, each once
	left   bitfield.Bitfield // numbers in blocks of those that were not seen to be stored
}

func newListIndex(list []uint64) *listIndex {
	x := &listIndex{blocks: slices.Clone(list)}
	slices.Sort(x.blocks)
	x.blocks = slices.Compact(x.blocks)
	x.renew()
	return x
}

// renew takes it that no block is stored.
func (x *listIndex) renew() { x.left.SetRange(0, uint64(len(x.blocks)), true) }

func (x *listIndex) has(b uint64) bool {
	_, ok := slices.BinarySearch(x.blocks, b)
	return ok
}

// at returns the number of the first block at or past b.
func (x *listIndex) at(b uint64) uint64 {
	i, _ := slices.BinarySearch(x.blocks, b)
	return uint64(i)
}

// count returns how many blocks lie in r.
func (x *listIndex) count(r merkle.Range) uint64 {
	if r.Start >= r.End {
		return 0
	}
	return x.at(r.End) - x.at(r.Start)
}

// renewList has the blocks of w in r searched again: in the order of the list if there are many of them, but not too
// often. A peer could else have the whole list searched with each message of a few bytes.
func (s *scan) renewList(w *want, r merkle.Range) {
	n := w.index.count(r)
	if s.a == 0 || n == 0 {
		return
	}
	if n > maxOutOfOrder && s.restarts < maxListRestarts {
		s.a, s.again = 0, nil
		s.restarts++
		return
	}
	s.addAgain(r)
}

// pickList takes up to n blocks of a list, below limit: what was not searched yet in the order of the list, then what
// has to be searched again.
func (m *Machine) pickList(p *peer, w *want, s *scan, limit uint64, n int) (got int) {
	if limit > s.end {
		s.renewList(w, merkle.Range{Start: s.end, End: limit})
		s.end = limit
	}
	at := max(s.a, uint64(w.position))
	for ; at < uint64(len(w.blocks)) && got < n; at++ {
		m.listSteps++
		b := w.blocks[at]
		if b >= limit {
			s.end = min(s.end, limit) // looked at again when the limit has moved
			continue
		}
		if m.have.Has(b) || m.fetches[b] != nil || p.refuses(b) {
			continue
		}
		if p.known.has(b) {
			m.take(p, b)
			got++
		} else if !m.need(p, b/wantPage) {
			break
		}
	}
	s.a = at
	return got + m.pickAgain(p, w, s, limit, n-got)
}

// pickListed takes up to n blocks of a list that lie in [from, end), in order of index, and returns where it has
// stopped. What is stored is passed over once, what p does not hold a page at a time.
func (m *Machine) pickListed(p *peer, w *want, from, end uint64, n int) (got int, at uint64) {
	x := w.index
	for i := x.at(from); ; i++ {
		m.listSteps++
		var ok bool
		if i, ok = x.left.FirstSet(i); !ok || x.blocks[i] >= end {
			return got, max(from, end)
		}
		b := x.blocks[i]
		switch {
		case got == n:
			return got, b
		case m.have.Has(b):
			x.left.Set(i, false)
		case m.fetches[b] != nil || p.refuses(b):
		case p.known.has(b):
			m.take(p, b)
			got++
		case !m.need(p, b/wantPage):
			return got, b
		default:
			next := (b/wantPage + 1) * wantPage
			if known, ok := p.known.first(b, next); ok {
				next = known
			}
			i = x.at(next) - 1
		}
	}
}
