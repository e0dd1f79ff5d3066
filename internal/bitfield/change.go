package bitfield

import "slices"

// setWithin sets or clears the bits [from, to) of page p, from below to.
func (f *Bitfield) setWithin(p, from, to uint64, v bool) uint64 {
	s := f.at(p)
	if s == nil && !v || s != nil && s.page == nil && v {
		return 0
	}
	i := f.open(p)
	changed := f.segments[i].page.set(from, to, v)
	f.settle(i)
	return changed
}

// fillPages sets all bits of the pages [from, to), from below to.
func (f *Bitfield) fillPages(from, to uint64) uint64 {
	// Runs of full pages that overlap or touch become part of the new one.
	run := segment{first: from, n: to - from}
	was := uint64(0)
	i := f.search(from)
	if i > 0 && f.segments[i-1].page == nil && f.segments[i-1].end() == from {
		i--
	}
	j := i
	for ; j < len(f.segments) && f.segments[j].first <= to; j++ {
		s := &f.segments[j]
		if s.page != nil {
			if s.first == to {
				break
			}
			was += s.page.ones
			f.partial--
			continue
		}
		// Nothing overlaps if the segment only touches.
		was += (min(s.end(), to) - min(max(s.first, from), s.end())) << pageShift
		end := max(s.end(), run.end())
		run.first = min(s.first, run.first)
		run.n = end - run.first
	}
	f.segments = slices.Replace(f.segments, i, j, run)
	return (to-from)<<pageShift - was
}

// clearPages clears all bits of the pages [from, to), from below to.
func (f *Bitfield) clearPages(from, to uint64) uint64 {
	kept := make([]segment, 0, 2) // of the runs that cross a border
	was := uint64(0)
	i := f.search(from)
	j := i
	for ; j < len(f.segments) && f.segments[j].first < to; j++ {
		s := &f.segments[j]
		if s.page != nil {
			was += s.page.ones
			f.partial--
			continue
		}
		was += (min(s.end(), to) - max(s.first, from)) << pageShift
		if s.first < from {
			kept = append(kept, segment{first: s.first, n: from - s.first})
		}
		if s.end() > to {
			kept = append(kept, segment{first: to, n: s.end() - to})
		}
	}
	f.segments = slices.Replace(f.segments, i, j, kept...)
	return was
}

// open makes page p a segment with a page of its own and returns its position.
// Until settle is called for it, the page may be empty or full.
func (f *Bitfield) open(p uint64) int {
	i := f.search(p)
	if i == len(f.segments) || f.segments[i].first > p {
		f.segments = slices.Insert(f.segments, i, segment{first: p, n: 1, page: newPage()})
		f.partial++
		return i
	}
	s := f.segments[i]
	if s.page != nil {
		return i
	}
	parts := make([]segment, 0, 3)
	if s.first < p {
		parts = append(parts, segment{first: s.first, n: p - s.first})
	}
	at := i + len(parts)
	parts = append(parts, segment{first: p, n: 1, page: fullPage()})
	if p+1 < s.end() {
		parts = append(parts, segment{first: p + 1, n: s.end() - p - 1})
	}
	f.segments = slices.Replace(f.segments, i, i+1, parts...)
	f.partial++
	return at
}

// settle gives up the page of segment i if it is empty or full, and joins a full
// one with its neighbours.
func (f *Bitfield) settle(i int) {
	s := &f.segments[i]
	switch s.page.ones {
	case 0:
		f.partial--
		f.segments = slices.Delete(f.segments, i, i+1)
	case PageBits:
		f.partial--
		s.page = nil
		from, to := i, i+1
		if i > 0 && f.segments[i-1].page == nil && f.segments[i-1].end() == s.first {
			from--
		}
		if to < len(f.segments) && f.segments[to].page == nil && f.segments[to].first == s.end() {
			to++
		}
		joined := segment{first: f.segments[from].first}
		joined.n = f.segments[to-1].end() - joined.first
		f.segments = slices.Replace(f.segments, from, to, joined)
	}
}
