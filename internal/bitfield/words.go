package bitfield

import "encoding/binary"

const (
	wordBits     = 32
	wordsPerPage = PageBits / wordBits
)

// AppendWords appends the bits of [start, end) to dst as words of 32 bits,
// lowest bit first: bit b of word w stands for index start + 32*w + b. Bits at
// or after end are zero. It appends one word for every started 32 indexes, so
// the caller bounds the range. It is fast if start is a multiple of 32.
func (f *Bitfield) AppendWords(dst []uint32, start, end uint64) []uint32 {
	end = min(end, MaxIndex)
	if start >= end {
		return dst
	}
	base := len(dst)
	n := (end-start-1)/wordBits + 1
	dst = append(dst, make([]uint32, n)...)
	words := dst[base:]
	if start%wordBits != 0 {
		for from, to := range f.Ranges(start, end) {
			for i := from - start; i < to-start; i++ {
				words[i/wordBits] |= 1 << (i % wordBits)
			}
		}
		return dst
	}
	for i := f.search(start >> pageShift); i < len(f.segments); i++ {
		s := &f.segments[i]
		from, to := max(start, s.first<<pageShift), min(end, s.end()<<pageShift)
		if from >= to {
			break
		}
		for at := from; at < to; at += wordBits {
			w := ^uint32(0)
			if s.page != nil {
				w = uint32(s.page.words[at&pageMask/64] >> (at % 64))
			}
			words[(at-start)/wordBits] = w
		}
	}
	if over := (end - start) % wordBits; over != 0 {
		words[n-1] &= 1<<over - 1
	}
	return dst
}

// SetWords replaces the bits of [start, start + 32*len(words)) by words, in the
// form of AppendWords. It is fast if start is a multiple of 32.
func (f *Bitfield) SetWords(start uint64, words []uint32) {
	if start%wordBits != 0 {
		f.setUnaligned(start, words)
		return
	}
	for len(words) > 0 && start < MaxIndex {
		offset := start & pageMask / wordBits
		n := min(uint64(len(words)), wordsPerPage-offset)
		f.setPageWords(start>>pageShift, offset, words[:n])
		words = words[n:]
		start += n * wordBits
	}
}

// setPageWords replaces 32 bit words of page p from word offset on.
func (f *Bitfield) setPageWords(p, offset uint64, words []uint32) {
	if s := f.at(p); s == nil && all(words, 0) || s != nil && s.page == nil && all(words, ^uint32(0)) {
		return
	}
	i := f.open(p)
	page := f.segments[i].page
	for k, w := range words {
		at := offset + uint64(k)
		shift := at % 2 * wordBits
		page.words[at/2] = page.words[at/2]&^(^uint64(0)>>wordBits<<shift) | uint64(w)<<shift
	}
	page.recount()
	f.settle(i)
}

// setUnaligned is SetWords for any start, a run of equal bits at a time.
func (f *Bitfield) setUnaligned(start uint64, words []uint32) {
	bit := func(i uint64) bool { return words[i/wordBits]>>(i%wordBits)&1 == 1 }
	n := uint64(len(words)) * wordBits
	if start >= MaxIndex {
		return
	}
	for i := uint64(0); i < n; {
		j := i + 1
		for j < n && bit(j) == bit(i) {
			j++
		}
		f.SetRange(start+i, start+j, bit(i))
		i = j
	}
}

func all(words []uint32, v uint32) bool {
	for _, w := range words {
		if w != v {
			return false
		}
	}
	return true
}

// Page returns page p for storage: PageBytes bytes, index p*PageBits + i at bit
// i%8 of byte i/8. It is nil if no bit is set. The result is the caller's.
func (f *Bitfield) Page(p uint64) []byte {
	s := f.at(p)
	if s == nil {
		return nil
	}
	b := make([]byte, 0, PageBytes)
	for i := range uint64(pageWords) {
		w := ^uint64(0)
		if s.page != nil {
			w = s.page.words[i]
		}
		b = binary.LittleEndian.AppendUint64(b, w)
	}
	return b
}

// SetPage replaces page p by b, in the form of Page. Bits that b is too short
// for are cleared, bytes past PageBytes ignored. b is not kept.
func (f *Bitfield) SetPage(p uint64, b []byte) {
	if p >= MaxIndex>>pageShift {
		return
	}
	var image [PageBytes]byte
	copy(image[:], b)
	i := f.open(p)
	page := f.segments[i].page
	for k := range page.words {
		page.words[k] = binary.LittleEndian.Uint64(image[k*8:])
	}
	page.recount()
	f.settle(i)
}
