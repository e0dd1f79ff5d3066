package bitfield

import "math/bits"

const pageWords = PageBits / 64

// A page is PageBits bits, the lowest one of each word first. The words are an allocation of their own, of
// a size that the allocator has without waste: together with the count they would take a fifth more.
type page struct {
	ones  uint64 // number of set bits
	words *[pageWords]uint64
}

// pageMemory is what a page takes.
const pageMemory = PageBytes + 16

func newPage() *page { return &page{words: new([pageWords]uint64)} }

func fullPage() *page {
	p := newPage()
	p.ones = PageBits
	for i := range p.words {
		p.words[i] = ^uint64(0)
	}
	return p
}

func (p *page) clone() *page {
	words := *p.words
	return &page{p.ones, &words}
}

func (p *page) has(bit uint64) bool { return p.words[bit/64]>>(bit%64)&1 == 1 }

// set sets or clears [from, to), from below to, and returns how many bits
// changed.
func (p *page) set(from, to uint64, v bool) (changed uint64) {
	for i, last := from/64, (to-1)/64; i <= last; i++ {
		m := mask(i, from, to)
		if v {
			changed += uint64(bits.OnesCount64(m &^ p.words[i]))
			p.words[i] |= m
		} else {
			changed += uint64(bits.OnesCount64(m & p.words[i]))
			p.words[i] &^= m
		}
	}
	if v {
		p.ones += changed
	} else {
		p.ones -= changed
	}
	return changed
}

// count returns the number of set bits in [from, to), from below to.
func (p *page) count(from, to uint64) (n uint64) {
	if from == 0 && to == PageBits {
		return p.ones
	}
	for i, last := from/64, (to-1)/64; i <= last; i++ {
		n += uint64(bits.OnesCount64(p.words[i] & mask(i, from, to)))
	}
	return n
}

// firstSet returns the first set bit at or after from, or PageBits.
func (p *page) firstSet(from uint64) uint64 {
	w := p.words[from/64] >> (from % 64) << (from % 64)
	for i := from / 64; ; w = p.words[i] {
		if w != 0 {
			return i*64 + uint64(bits.TrailingZeros64(w))
		}
		if i++; i == pageWords {
			return PageBits
		}
	}
}

// firstUnset returns the first clear bit at or after from, or PageBits.
func (p *page) firstUnset(from uint64) uint64 {
	w := ^p.words[from/64] >> (from % 64) << (from % 64)
	for i := from / 64; ; w = ^p.words[i] {
		if w != 0 {
			return i*64 + uint64(bits.TrailingZeros64(w))
		}
		if i++; i == pageWords {
			return PageBits
		}
	}
}

// recount brings ones up to date after a change of words.
func (p *page) recount() {
	p.ones = 0
	for _, w := range p.words {
		p.ones += uint64(bits.OnesCount64(w))
	}
}

// mask returns the bits of word i that lie in [from, to), which the word meets.
func mask(i, from, to uint64) uint64 {
	m := ^uint64(0)
	if base := i * 64; base < from {
		m <<= from - base
	}
	if end := i*64 + 64; end > to {
		m = m << (end - to) >> (end - to)
	}
	return m
}
