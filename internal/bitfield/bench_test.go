package bitfield

import "testing"

// tenMillion is a set of ten million contiguous blocks.
func tenMillion() *Bitfield {
	f := new(Bitfield)
	f.SetRange(0, 10_000_000, true)
	return f
}

// sparse has every third block of a million.
func sparse() *Bitfield {
	f := new(Bitfield)
	for i := uint64(0); i < 1_000_000; i += 3 {
		f.Set(i, true)
	}
	return f
}

func BenchmarkSet(b *testing.B) {
	b.Run("append", func(b *testing.B) {
		f, i := new(Bitfield), uint64(0)
		b.ReportAllocs()
		for b.Loop() {
			f.Set(i, true)
			i++
		}
	})
	b.Run("random", func(b *testing.B) {
		f, i := new(Bitfield), uint64(0)
		b.ReportAllocs()
		for b.Loop() {
			i = i*6364136223846793005 + 1442695040888963407
			f.Set(i>>40, true)
		}
	})
}

func BenchmarkSetRangeHuge(b *testing.B) {
	var f Bitfield
	b.ReportAllocs()
	for b.Loop() {
		f.SetRange(1, 1<<53, true)
		f.SetRange(1, 1<<53, false)
	}
}

func BenchmarkTenMillionContiguous(b *testing.B) {
	f := tenMillion()
	b.Run("Has", func(b *testing.B) {
		for b.Loop() {
			f.Has(7_654_321)
		}
	})
	b.Run("FirstUnset", func(b *testing.B) {
		for b.Loop() {
			f.FirstUnset(0)
		}
	})
	b.Run("HasRange", func(b *testing.B) {
		for b.Loop() {
			f.HasRange(3, 9_999_999)
		}
	})
	b.Run("Count", func(b *testing.B) {
		for b.Loop() {
			f.Count(3, 9_999_999)
		}
	})
	b.Run("Ranges", func(b *testing.B) {
		for b.Loop() {
			for range f.Ranges(0, 1<<53) {
				continue
			}
		}
	})
	b.Run("AppendWordsPage", func(b *testing.B) {
		words := make([]uint32, 0, wordsPerPage)
		b.SetBytes(PageBytes)
		b.ReportAllocs()
		for b.Loop() {
			words = f.AppendWords(words[:0], PageBits, 2*PageBits)
		}
	})
	b.Run("Clone", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			f.Clone()
		}
	})
}

func BenchmarkSparseMillion(b *testing.B) {
	f := sparse()
	b.Run("Has", func(b *testing.B) {
		for b.Loop() {
			f.Has(765_432)
		}
	})
	b.Run("Count", func(b *testing.B) {
		for b.Loop() {
			f.Count(1, 999_999)
		}
	})
	b.Run("RangesPage", func(b *testing.B) {
		for b.Loop() {
			for range f.Ranges(PageBits, 2*PageBits) {
				continue
			}
		}
	})
	b.Run("AppendWordsPage", func(b *testing.B) {
		words := make([]uint32, 0, wordsPerPage)
		b.SetBytes(PageBytes)
		b.ReportAllocs()
		for b.Loop() {
			words = f.AppendWords(words[:0], PageBits, 2*PageBits)
		}
	})
	b.Run("SetWordsPage", func(b *testing.B) {
		words := f.AppendWords(nil, PageBits, 2*PageBits)
		b.SetBytes(PageBytes)
		b.ReportAllocs()
		for b.Loop() {
			f.SetWords(PageBits, words)
		}
	})
}
