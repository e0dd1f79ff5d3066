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

// setPages sets or clears the pages [from, to), from below to.
func (f *Bitfield) setPages(from, to uint64, v bool) uint64 {
	i := f.search(from)
	j := i
	kept := make([]segment, 0, 3)
	if i < len(f.segments) && f.segments[i].first < from {
		kept = append(kept, segment{first: f.segments[i].first, n: from - f.segments[i].first})
	}
	if v {
		kept = append(kept, segment{first: from, n: to - from})
	}
	was := uint64(0)
	for ; j < len(f.segments) && f.segments[j].first < to; j++ {
		s := &f.segments[j]
		if s.page != nil {
			was += s.page.ones
			f.partial--
			continue
		}
		was += (min(s.end(), to) - max(s.first, from)) << pageShift
		if s.end() > to {
			kept = append(kept, segment{first: to, n: s.end() - to})
		}
	}
	// Full neighbours outside become part of the run.
	if v && i > 0 && f.segments[i-1].page == nil && f.segments[i-1].end() == kept[0].first {
		i--
		kept[0].n += f.segments[i].n
		kept[0].first = f.segments[i].first
	}
	if last := len(kept) - 1; v && j < len(f.segments) && f.segments[j].page == nil && f.segments[j].first == kept[last].first+kept[last].n {
		kept[last].n += f.segments[j].n
		j++
	}
	// What was kept of overlapping runs touches the new one.
	if v {
		for _, s := range kept[1:] {
			kept[0].n += s.n
		}
		kept = kept[:1]
		return f.replace(i, j, kept, (to-from)<<pageShift-was)
	}
	return f.replace(i, j, kept, was)
}

func (f *Bitfield) replace(i, j int, with []segment, changed uint64) uint64 {
	f.segments = slices.Replace(f.segments, i, j, with...)
	return changed
}

// open makes page p a segment with a page of its own and returns its position.
// Until settle is called for it, the page may be empty or full.
func (f *Bitfield) open(p uint64) int {
	i := f.search(p)
	if i == len(f.segments) || f.segments[i].first > p {
		f.segments = slices.Insert(f.segments, i, segment{first: p, n: 1, page: new(page)})
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
