package replica

import (
	"cmp"
	"fmt"
	"slices"
	"testing"

	"github.com/p2pcore/p2pcore/internal/merkle"
)

// TestMessageEconomy counts the messages between peers that have nothing to give each other.
func TestMessageEconomy(t *testing.T) {
	for _, c := range []struct {
		name   string
		length uint64
		have   []merkle.Range
		want   map[string]int
	}{
		{"complete", 10, []merkle.Range{{End: 10}}, map[string]int{
			"0>1 *wire.Sync": 1, "1>0 *wire.Sync": 1, "0>1 *wire.Range": 1, "1>0 *wire.Range": 1}},
		{"empty", 0, nil, map[string]int{"0>1 *wire.Sync": 1, "1>0 *wire.Sync": 1}},
		{"sparse", 10, []merkle.Range{{Start: 4, End: 5}}, map[string]int{"0>1 *wire.Sync": 1, "1>0 *wire.Sync": 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, 1)
			a, b := w.node(c.length, c.have...), w.node(c.length, c.have...)
			w.connect(a, b)
			w.run(1000)
			w.wait(StallTimeout, 1000)
			if fmt.Sprint(w.sent) != fmt.Sprint(c.want) {
				t.Errorf("got %v, want %v", w.sent, c.want)
			}
		})
	}
}

// TestBulkIsSpread has one reader and four complete peers: each block travels once, and everybody
// helps.
func TestBulkIsSpread(t *testing.T) {
	w := newWorld(t, 7)
	const length = 2000
	r := w.node(length)
	for range 4 {
		w.connect(r, w.node(length, merkle.Range{End: length}))
	}
	w.run(1000)
	r.step(Want{Ticket: 1, Range: merkle.Range{End: length}})
	w.run(200_000)
	var counts []int
	total := 0
	for i := 1; i <= 4; i++ {
		n := w.sent[fmt.Sprintf("%d>0 *wire.Data", i)]
		counts = append(counts, n)
		total += n
	}
	// One stale result in twenty is asked for again.
	if total > length*11/10 || slices.MinFunc(counts, cmp.Compare[int]) < length/10 {
		t.Errorf("answers per peer: %v, want about %d each", counts, length/4)
	}
	if _, ok := r.resolved[1]; !ok {
		t.Error("the download did not end")
	}
}
