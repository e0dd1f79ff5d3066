package replica

import (
	"fmt"
	"testing"

	"github.com/p2pcore/p2pcore/internal/merkle"
)

// TestReadersBecomeComplete lets readers fetch a whole feed from a writer, from each other and from
// a liar, while channels break, at every order of events that the seeds give.
func TestReadersBecomeComplete(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, seed)
			const length = 300
			writer := w.node(length, merkle.Range{End: length})
			sparse := w.node(length, merkle.Range{Start: 100, End: 180}, merkle.Range{Start: 250, End: 251})
			readers := []*simNode{w.node(0), w.node(0), w.node(0)}
			liar := w.node(length, merkle.Range{End: length})
			liar.lying, w.lies, w.mute = true, 100, 300
			for i, r := range readers {
				w.connect(r, writer)
				w.connect(sparse, r)
				w.connect(r, liar)
				w.connect(r, readers[(i+1)%len(readers)])
			}
			for i, r := range readers {
				r.step(Want{Ticket: 1, Range: merkle.Range{End: length}, Linear: i == 0})
				r.step(Want{Ticket: 2, Range: merkle.Range{Start: 299, End: 300}, Priority: 1})
				r.step(Want{Ticket: 3, Blocks: []uint64{7, 250, 3, 3}})
			}
			for range 20 {
				for range 200 {
					w.move()
				}
				r := readers[w.rng.IntN(len(readers))]
				if len(r.links) > 0 {
					l := r.links[w.rng.IntN(len(r.links))]
					other := l.other.node
					w.cut(l)
					if other != liar {
						w.connect(other, r)
					}
				}
			}
			w.run(100_000)
			for range 4 {
				w.wait(StallTimeout, 100_000)
			}
			for i, r := range readers {
				if n := r.feed.bits.Count(0, length); n != length || len(r.resolved) != 3 {
					t.Errorf("reader %d: %d of %d blocks, tickets %v", i, n, length, r.resolved)
				}
				if s := r.m.Stats(); s.Inflight != 0 || s.InflightBytes != 0 || s.Wants != 0 || len(r.m.fetches) != 0 {
					t.Errorf("reader %d: left over: %+v, %d fetches", i, s, len(r.m.fetches))
				}
			}
		})
	}
}

// TestFollowersKeepUp appends while readers follow, in a chain: only the first knows the writer.
func TestFollowersKeepUp(t *testing.T) {
	for seed := range uint64(30) {
		w := newWorld(t, seed)
		writer := w.node(3, merkle.Range{End: 3})
		a, b := w.node(0), w.node(0)
		w.connect(writer, a)
		w.connect(a, b)
		for _, r := range []*simNode{a, b} {
			r.step(Want{Ticket: 1, Follow: true})
		}
		for range 50 {
			writer.feed.store(writer.feed.info.Length)
			writer.feed.info.Length++
			for range w.rng.IntN(40) {
				w.move()
			}
		}
		w.run(100_000)
		w.wait(StallTimeout, 100_000)
		for _, r := range []*simNode{a, b} {
			if got := r.feed.bits.Count(0, 53); got != 53 || r.feed.info.Length != 53 {
				t.Errorf("seed %d: reader %d has %d blocks at length %d, want 53", seed, r.name, got, r.feed.info.Length)
			}
		}
		if got := a.links[0]; got.node.m.peers[got.id].known.contig != 53 {
			t.Errorf("seed %d: the reader does not know that the writer is complete", seed)
		}
	}
}

// TestManySparsePagesAreFound has one block in each of more pages than can be wanted at once.
func TestManySparsePagesAreFound(t *testing.T) {
	w := newWorld(t, 3)
	const pages = maxWantPages + 200
	const length = pages * wantPage
	r := w.node(length)
	var have []merkle.Range
	for i := range uint64(pages) {
		have = append(have, merkle.Range{Start: i*wantPage + 17, End: i*wantPage + 18})
	}
	w.connect(r, w.node(length, have...))
	r.step(Want{Ticket: 1, Range: merkle.Range{End: length}})
	w.run(100_000)
	if got := r.feed.bits.Count(0, length); got != pages {
		t.Errorf("%d blocks found, want %d", got, pages)
	}
}
