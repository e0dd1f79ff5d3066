package bitfield

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"
)

// universe is the end of the indexes that programs use: three pages and a part.
const universe = 3*PageBits + 1000

// model is the slow twin of a Bitfield, straight from the definition.
type model map[uint64]bool

func (m model) setRange(start, end uint64, v bool) (changed uint64) {
	for i := start; i < end; i++ {
		if m[i] != v {
			changed++
		}
		if v {
			m[i] = true
		} else {
			delete(m, i)
		}
	}
	return changed
}

func (m model) count(start, end uint64) (n uint64) {
	for i := start; i < end; i++ {
		if m[i] {
			n++
		}
	}
	return n
}

func (m model) firstUnset(i uint64) uint64 {
	for m[i] {
		i++
	}
	return i
}

func (m model) firstSet(i uint64) (uint64, bool) {
	for ; i < universe; i++ {
		if m[i] {
			return i, true
		}
	}
	return 0, false
}

func (m model) ranges(start, end uint64) (r [][2]uint64) {
	for i := start; i < end; i++ {
		switch {
		case !m[i]:
		case len(r) > 0 && r[len(r)-1][1] == i:
			r[len(r)-1][1]++
		default:
			r = append(r, [2]uint64{i, i + 1})
		}
	}
	return r
}

func (m model) words(start, end uint64) []uint32 {
	w := make([]uint32, 0)
	for i := start; i < end; i++ {
		if (i-start)%32 == 0 {
			w = append(w, 0)
		}
		if m[i] {
			w[len(w)-1] |= 1 << ((i - start) % 32)
		}
	}
	return w
}

// program reads operations from bytes, so that the fuzzer and a random test
// drive the same code.
type program struct{ data []byte }

func (p *program) byte() byte {
	if len(p.data) == 0 {
		return 0
	}
	b := p.data[0]
	p.data = p.data[1:]
	return b
}

// index returns an index, often near the border of a page.
func (p *program) index() uint64 {
	kind, a, b := p.byte(), uint64(p.byte()), uint64(p.byte())
	switch kind % 4 {
	case 0:
		return a % 4 * PageBits
	case 1:
		return a%3*PageBits + PageBits - 70 + b%140
	default:
		return (uint64(kind/4)<<16 | a<<8 | b) * 7 % universe
	}
}

func (p *program) span() (start, end uint64) {
	start = p.index()
	switch length := p.byte(); {
	case length < 200:
		return start, start + uint64(length)
	case length < 230: // whole pages
		start = start >> pageShift << pageShift
		return start, start + uint64(length%3)*PageBits
	default:
		return start, max(start, p.index())
	}
}

func (p *program) run(t *testing.T) {
	t.Helper()
	f, m := new(Bitfield), model{}
	for len(p.data) > 0 {
		op, value := p.byte()%8, p.byte()%3 > 0
		start, end := p.span()
		what := fmt.Sprintf("op %d [%d,%d) %v", op, start, end, value)
		var old *Bitfield
		if op == 6 {
			old = f
			f = f.Clone()
		}
		size := f.Size()
		switch op {
		case 0:
			if got, want := f.Set(start, value), m.setRange(start, start+1, value) == 1; got != want {
				t.Fatalf("%s: Set = %v, want %v", what, got, want)
			}
		case 1:
			words := make([]uint32, p.byte())
			for i := range words {
				words[i] = uint32(p.byte())*0x01010101 ^ uint32(p.byte())
			}
			f.SetWords(start, words)
			for i := range uint64(len(words)) * 32 {
				m.setRange(start+i, start+i+1, words[i/32]>>(i%32)&1 == 1)
			}
		case 2:
			page := start >> pageShift
			image := slices.Repeat([]byte{p.byte()}, int(p.byte())*PageBytes/255)
			f.SetPage(page, image)
			for i := range uint64(PageBits) {
				v := i/8 < uint64(len(image)) && image[i/8]>>(i%8)&1 == 1
				m.setRange(page<<pageShift+i, page<<pageShift+i+1, v)
			}
		default:
			if got, want := f.SetRange(start, end, value), m.setRange(start, end, value); got != want {
				t.Fatalf("%s: SetRange = %d, want %d", what, got, want)
			}
			if grown := f.Size() - size; grown > MaxGrowth {
				t.Fatalf("%s: grew by %d bytes, want at most %d", what, grown, MaxGrowth)
			}
		}
		checkShape(t, what, f)
		start, end = p.span()
		compare(t, what, f, m, start, end)
		if old != nil {
			checkShape(t, what+" on a clone", old)
		}
	}
}

// compare checks every question about [start, end).
func compare(t *testing.T, what string, f *Bitfield, m model, start, end uint64) {
	t.Helper()
	fail := func(name string, got, want any) {
		t.Helper()
		t.Fatalf("%s: then %s of [%d,%d) = %v, want %v", what, name, start, end, got, want)
	}
	if got, want := f.Has(start), m[start]; got != want {
		fail("Has", got, want)
	}
	count := m.count(start, end)
	if got := f.Count(start, end); got != count {
		fail("Count", got, count)
	}
	if got, want := f.HasRange(start, end), count == end-start; got != want {
		fail("HasRange", got, want)
	}
	if got, want := f.FirstUnset(start), m.firstUnset(start); got != want {
		fail("FirstUnset", got, want)
	}
	got, gotOK := f.FirstSet(start)
	if want, wantOK := m.firstSet(start); got != want || gotOK != wantOK {
		fail("FirstSet", got, want)
	}
	if got, want := collect(f, start, end), m.ranges(start, end); !slices.Equal(got, want) {
		fail("Ranges", got, want)
	}
	words := m.words(start, end)
	if got := f.AppendWords([]uint32{9}, start, end); got[0] != 9 || !slices.Equal(got[1:], words) {
		fail("AppendWords", got[1:], words)
	}
	aligned := start &^ 31
	if got, want := f.AppendWords(nil, aligned, end), m.words(aligned, end); !slices.Equal(got, want) {
		fail("AppendWords, aligned,", got, want)
	}
	page := start >> pageShift
	image := f.Page(page)
	if image == nil {
		image = make([]byte, PageBytes)
		if n := m.count(page<<pageShift, (page+1)<<pageShift); n != 0 {
			fail("Page", nil, n)
		}
	}
	want := make([]byte, 0, PageBytes)
	for _, w := range m.words(page<<pageShift, (page+1)<<pageShift) {
		want = binary.LittleEndian.AppendUint32(want, w)
	}
	if !slices.Equal(image, want) {
		fail("Page", image, want)
	}
}

// checkShape checks what the representation promises.
func checkShape(t *testing.T, what string, f *Bitfield) {
	t.Helper()
	partial := 0
	for i, s := range f.segments {
		if i > 0 {
			before := f.segments[i-1]
			if before.end() > s.first {
				t.Fatalf("%s: segments %d and %d overlap", what, i-1, i)
			}
			if before.end() == s.first && before.page == nil && s.page == nil {
				t.Fatalf("%s: runs %d and %d are not merged", what, i-1, i)
			}
		}
		if s.page == nil {
			if s.n == 0 {
				t.Fatalf("%s: run %d is empty", what, i)
			}
			continue
		}
		partial++
		ones := 0
		for _, w := range s.page.words {
			ones += bits.OnesCount64(w)
		}
		if s.n != 1 || uint64(ones) != s.page.ones || ones == 0 || ones == PageBits {
			t.Fatalf("%s: page of segment %d: n %d, ones %d, counted %d", what, i, s.n, s.page.ones, ones)
		}
	}
	if partial != f.partial {
		t.Fatalf("%s: partial = %d, want %d", what, f.partial, partial)
	}
}

func collect(f *Bitfield, start, end uint64) (r [][2]uint64) {
	for from, to := range f.Ranges(start, end) {
		r = append(r, [2]uint64{from, to})
	}
	return r
}

func randomProgram(r *rand.Rand, n int) *program {
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	return &program{data: data}
}

func TestRandomProgramsAgreeWithMap(t *testing.T) {
	t.Parallel()
	for seed := range uint64(12) {
		randomProgram(rand.New(rand.NewPCG(seed, 1)), 800).run(t)
	}
}

func FuzzBitfield(f *testing.F) {
	for seed := range uint64(8) {
		f.Add(randomProgram(rand.New(rand.NewPCG(seed, 2)), 120).data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p := &program{data: data[:min(len(data), 64)]}
		p.run(t)
	})
}
