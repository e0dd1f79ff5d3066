package interop

import (
	"strings"
	"testing"
)

// layout is a feed of blocks of many sizes, as its writer knows it.
type layout struct {
	text   string // all blocks
	starts []int  // offset of each block
}

// uneven fills a feed with blocks of 0 to 96 bytes.
func uneven(w log, blocks int) *layout {
	var l layout
	var all []string
	for i := range blocks {
		block := content("uneven", i, (i*i*31+7*i+5)%97)
		l.starts = append(l.starts, len(l.text))
		l.text += block
		all = append(all, block)
	}
	w.append(all...)
	return &l
}

func (l *layout) total() int { return len(l.text) }

// seek looks for offsets.
func (l *layout) seek(t *testing.T, r log, offsets ...int) {
	t.Helper()
	for _, offset := range offsets {
		index, rest := r.seek(offset)
		want := 0
		for want+1 < len(l.starts) && l.starts[want+1] <= offset {
			want++
		}
		equal(t, "block of the offset", index, want)
		equal(t, "rest", rest, offset-l.starts[want])
	}
}

// A reader finds bytes in a feed of which it has no block.
func TestSeek(t *testing.T) {
	const blocks = 300
	play(t, setups(), func(s *scene) {
		w := s.writer.open(opening{})
		layout := uneven(w, blocks)
		r := s.reader.open(keyed(w.key()))
		s.join()
		r.reach(state{length: blocks})
		layout.seek(s.T, r, 5000, 0, 1, layout.starts[100], layout.starts[100]-1, layout.starts[256], layout.total()/2, layout.total()-1)
		index, rest := r.seek(layout.total())
		equal(s.T, "the end", index, blocks)
		equal(s.T, "rest", rest, 0)
		equal(s.T, "all stored", r.has(0, blocks), false)
	})
}

// The offset is past the end, until the writer has written so much.
func TestSeekAhead(t *testing.T) {
	play(t, across(), func(s *scene) {
		w := s.writer.open(opening{})
		w.fill("seek", 0, 10, 50)
		r := s.reader.open(keyed(w.key()))
		s.join()
		r.reach(state{length: 10})
		found := meanwhile(s.T, func() [2]int {
			index, rest := r.seek(50*17 + 3)
			return [2]int{index, rest}
		})
		w.fill("seek", 10, 40, 50)
		equal(s.T, "place", found(), [2]int{17, 3})
	})
}

// Bytes come from blocks that are fetched as they are read.
func TestByteStream(t *testing.T) {
	const blocks = 500
	play(t, setups(), func(s *scene) {
		w := s.writer.open(opening{})
		layout := uneven(w, blocks)
		r := s.reader.open(keyed(w.key()))
		s.join()
		r.reach(state{length: blocks})
		for _, part := range [][2]int{{10000, 3000}, {0, 1}, {layout.total() - 10, 10}, {layout.starts[50], layout.starts[51] - layout.starts[50]}} {
			got := string(r.bytes(part[0], part[1]))
			equal(s.T, "bytes", got, layout.text[part[0]:part[0]+part[1]])
		}
		equal(s.T, "all stored", r.has(0, blocks), false)
		equal(s.T, "all bytes", string(r.bytes(0, layout.total())), layout.text)
	})
}

// The reader has half of the blocks already.
func TestByteStreamOfHalfStored(t *testing.T) {
	play(t, across(), func(s *scene) {
		w := s.writer.open(opening{})
		w.fill("half", 0, 100, 70)
		r := s.reader.open(keyed(w.key()))
		s.join()
		r.download(0, 50)
		var want strings.Builder
		for i := range 100 {
			want.WriteString(content("half", i, 70))
		}
		equal(s.T, "bytes", string(r.bytes(0, 7000)), want.String())
		equal(s.T, "all stored", r.has(0, 100), true)
	})
}
