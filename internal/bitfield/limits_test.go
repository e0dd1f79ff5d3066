package bitfield

import (
	"math"
	"testing"
)

func TestHugeRangeCostsTwoPages(t *testing.T) {
	var f Bitfield
	const end = 1 << 53
	if got, want := f.SetRange(5, end-5, true), uint64(end-10); got != want {
		t.Fatalf("SetRange = %d, want %d", got, want)
	}
	if got := f.Size(); got > MaxGrowth {
		t.Errorf("Size = %d, want at most %d", got, MaxGrowth)
	}
	if got, want := f.Count(0, math.MaxUint64), uint64(end-10); got != want {
		t.Errorf("Count = %d, want %d", got, want)
	}
	if got, want := f.FirstUnset(5), uint64(end-5); got != want {
		t.Errorf("FirstUnset = %d, want %d", got, want)
	}
	if !f.HasRange(5, end-5) || f.HasRange(4, end-5) || f.HasRange(5, end-4) {
		t.Error("HasRange does not see the borders of the range")
	}
	if !f.Set(1<<40, false) {
		t.Error("Set changed nothing inside the range")
	}
	if got, want := f.FirstUnset(5), uint64(1<<40); got != want {
		t.Errorf("FirstUnset with a hole = %d, want %d", got, want)
	}
	if !f.Set(1<<40, true) || f.partial != 2 {
		t.Errorf("pages after closing the hole = %d, want 2", f.partial)
	}
	if got, want := f.SetRange(0, math.MaxUint64, false), uint64(end-10); got != want {
		t.Errorf("SetRange to clear = %d, want %d", got, want)
	}
	if got := f.Size(); got != 0 {
		t.Errorf("Size when empty = %d, want 0", got)
	}
	checkShape(t, "at the end", &f)
}

func TestIndexesPastTheEndAreNeverSet(t *testing.T) {
	var f Bitfield
	if got := f.SetRange(MaxIndex-10, math.MaxUint64, true); got != 10 {
		t.Errorf("SetRange over the end = %d, want 10", got)
	}
	if f.Set(MaxIndex, true) || f.Set(math.MaxUint64, true) || f.Has(MaxIndex) || f.Has(math.MaxUint64) {
		t.Error("an index past the end was set")
	}
	f.SetWords(MaxIndex-64, []uint32{1, 0, 1, 1})
	f.SetWords(MaxIndex-33, []uint32{1, 1, 1})
	f.SetWords(math.MaxUint64-3, []uint32{1, 1, 1})
	f.SetPage(math.MaxUint64, []byte{1})
	f.SetPage(MaxIndex>>pageShift, []byte{1})
	want := [][2]uint64{{MaxIndex - 64, MaxIndex - 63}, {MaxIndex - 33, MaxIndex - 32}, {MaxIndex - 1, MaxIndex}}
	got := collect(&f, 0, math.MaxUint64)
	if len(got) != len(want) || got[0] != want[0] || got[1] != want[1] || got[2] != want[2] {
		t.Errorf("Ranges = %v, want %v", got, want)
	}
	if got := f.FirstUnset(MaxIndex - 1); got != MaxIndex {
		t.Errorf("FirstUnset = %d, want %d", got, uint64(MaxIndex))
	}
	if got := f.FirstUnset(math.MaxUint64); got != math.MaxUint64 {
		t.Errorf("FirstUnset = %d, want %d", got, uint64(math.MaxUint64))
	}
	if _, ok := f.FirstSet(MaxIndex); ok {
		t.Error("FirstSet found an index past the end")
	}
	if f.HasRange(MaxIndex-1, math.MaxUint64) || !f.HasRange(7, 7) || !f.HasRange(9, 3) {
		t.Error("HasRange is wrong at the end or for empty ranges")
	}
	if f.Page(math.MaxUint64) != nil {
		t.Error("a page past the end is not empty")
	}
	if got := f.AppendWords(nil, math.MaxUint64-100, math.MaxUint64); got != nil {
		t.Errorf("AppendWords past the end = %v, want none", got)
	}
	checkShape(t, "at the end", &f)
}

func TestSingleBlocksInOrderCostOnePage(t *testing.T) {
	var f Bitfield
	const n = 10*PageBits + 17
	for i := range uint64(n) {
		if !f.Set(i, true) {
			t.Fatalf("Set(%d) = false, want true", i)
		}
	}
	if got := len(f.segments); got != 2 || f.partial != 1 {
		t.Errorf("segments = %d with %d pages, want 2 with 1", got, f.partial)
	}
	if got := f.FirstUnset(0); got != n {
		t.Errorf("FirstUnset = %d, want %d", got, n)
	}
}

func TestWordsOfFullAndEmptyPagesTakeNoMemory(t *testing.T) {
	var f Bitfield
	ones := make([]uint32, wordsPerPage)
	f.SetWords(PageBits, ones)
	f.SetPage(3, nil)
	if f.Size() != 0 {
		t.Errorf("Size after zeros = %d, want 0", f.Size())
	}
	for i := range ones {
		ones[i] = math.MaxUint32
	}
	f.SetWords(PageBits, ones)
	f.SetWords(PageBits+64, ones[:5])
	if f.partial != 0 || f.Count(0, 3*PageBits) != PageBits {
		t.Errorf("pages = %d, count = %d; want 0 and %d", f.partial, f.Count(0, 3*PageBits), PageBits)
	}
}

func TestCloneSharesNothing(t *testing.T) {
	var f Bitfield
	f.SetRange(10, 20, true)
	f.SetRange(PageBits, 3*PageBits, true)
	c := f.Clone()
	c.SetRange(0, 15, false)
	c.Set(2*PageBits, false)
	if f.Count(0, universe) != 10+2*PageBits {
		t.Errorf("Count of the original = %d, want %d", f.Count(0, universe), 10+2*PageBits)
	}
	if c.Count(0, universe) != 5+2*PageBits-1 {
		t.Errorf("Count of the clone = %d, want %d", c.Count(0, universe), 5+2*PageBits-1)
	}
}

func TestRangesStopsWhenAsked(t *testing.T) {
	var f Bitfield
	f.Set(1, true)
	f.Set(3, true)
	n := 0
	for range f.Ranges(0, 10) {
		n++
		break
	}
	if n != 1 {
		t.Errorf("ranges seen = %d, want 1", n)
	}
}

func TestRunsOfFullPagesMerge(t *testing.T) {
	// Every order of filling four pages, some at once, ends in one run.
	fills := [][][2]uint64{
		{{0, 1}, {2, 3}, {1, 2}, {3, 4}},
		{{3, 4}, {1, 3}, {0, 1}},
		{{1, 2}, {3, 4}, {0, 4}},
		{{0, 2}, {1, 3}, {2, 4}},
		{{2, 4}, {1, 3}, {0, 2}},
		{{0, 4}, {1, 2}},
	}
	for _, fill := range fills {
		var f Bitfield
		f.Set(2*PageBits+5, true) // a page that a run swallows
		for _, r := range fill {
			f.SetRange(r[0]*PageBits, r[1]*PageBits, true)
			checkShape(t, "filling", &f)
		}
		if len(f.segments) != 1 || f.segments[0].n != 4 || f.partial != 0 {
			t.Errorf("segments after %v = %v, want one run of 4", fill, f.segments)
		}
	}
}

func TestPageThatFillsUpJoinsItsNeighbours(t *testing.T) {
	for _, order := range [][3]uint64{{0, 2, 1}, {2, 0, 1}, {2, 1, 0}, {0, 1, 2}, {1, 0, 2}, {1, 2, 0}} {
		var f Bitfield
		for _, p := range order {
			f.SetRange(p*PageBits+7, (p+1)*PageBits, true)
			f.SetRange(p*PageBits, p*PageBits+7, true)
			checkShape(t, "filling up", &f)
		}
		if len(f.segments) != 1 || f.segments[0].n != 3 || f.partial != 0 {
			t.Errorf("segments after pages %v = %v, want one run of 3", order, f.segments)
		}
	}
}
