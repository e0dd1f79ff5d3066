package replica

import (
	"math/rand/v2"
	"testing"

	"github.com/p2pcore/p2pcore/internal/merkle"
)

// TestAbsent compares with a walk over all blocks.
func TestAbsent(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	const length = 200
	for round := range 500 {
		m := &Machine{}
		held := make(map[uint64]bool)
		set := func(add func(start, end uint64)) {
			for range rng.IntN(4) {
				start := rng.Uint64N(length)
				end := start + rng.Uint64N(60)
				add(start, end)
				for i := start; i < end; i++ {
					held[i] = true
				}
			}
		}
		set(func(start, end uint64) { m.have.SetRange(start, end, true) })
		m.contig = m.have.FirstUnset(0)
		for range rng.IntN(3) {
			p := &peer{}
			set(func(start, end uint64) { p.known.add(merkle.Range{Start: start, End: end}) })
			m.order = append(m.order, p)
		}
		start := rng.Uint64N(length)
		r := merkle.Range{Start: start, End: start + rng.Uint64N(length)}
		var want merkle.Range
		for i := r.Start; i < r.End; i++ {
			if held[i] {
				if want.End > 0 {
					break
				}
				continue
			}
			if want.End == 0 {
				want.Start = i
			}
			want.End = i + 1
		}
		if got := m.Absent(r); got != want && (got.Start < got.End || want.End > 0) {
			t.Fatalf("round %d: Absent(%v) = %v, want %v", round, r, got, want)
		}
	}
}
