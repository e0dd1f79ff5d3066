package replica

import (
	"testing"

	"github.com/p2pcore/p2pcore/internal/merkle"
)

// A peer does not announce a block that we hold. When we clear it, we find out that the peer holds it.
func TestAClearedBlockIsFoundWhereItWasNotAnnounced(t *testing.T) {
	w := newWorld(t, 1)
	const length = 10
	a, b := w.node(length, merkle.Range{End: 5}), w.node(length, merkle.Range{Start: 5, End: 6})
	w.connect(a, b)
	w.run(1000)
	b.step(Want{Ticket: 1, Blocks: []uint64{4, 9}}) // b has a say what it holds and gets; nobody holds 9
	w.run(1000)
	a.step(Want{Ticket: 1, Blocks: []uint64{5}})
	w.run(1000)
	if !a.feed.bits.Has(5) {
		t.Fatal("the first block was not fetched")
	}
	b.feed.drop(merkle.Range{Start: 5, End: 6})
	w.run(1000)
	b.step(Want{Ticket: 2, Blocks: []uint64{5}})
	w.run(1000)
	if !b.feed.bits.Has(5) {
		t.Errorf("the cleared block was not found: %v", w.sent)
	}
}

// Blocks of which nothing is known are asked about also where those that are announced fill the round.
func TestUnknownBlocksBetweenAnnouncedOnesAreAskedAbout(t *testing.T) {
	w := newWorld(t, 1)
	const length = 10 + pickChunk
	a, b := w.node(length, merkle.Range{Start: 5, End: 6}), w.node(length)
	w.connect(a, b)
	w.run(1000)
	for i := uint64(10); i < length; i++ { // near the end of a feed, so they are announced to all
		a.feed.store(i)
	}
	w.run(1000)
	b.step(Want{Ticket: 1, Range: merkle.Range{End: length}, Linear: true})
	w.run(1000)
	if got, want := b.feed.bits.Count(0, length), a.feed.bits.Count(0, length); got != want {
		t.Errorf("%d blocks were fetched, want %d: %v", got, want, w.sent)
	}
}
