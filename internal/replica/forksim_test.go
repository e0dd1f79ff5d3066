package replica

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/p2pcore/p2pcore/internal/merkle"
)

// askFork gives an answer about a fork later; once in a while it is stale.
func (n *simNode) askFork(token Token, answer func() Reorged) {
	n.asks = append(n.asks, func() Event {
		if n.w.rng.IntN(20) == 0 {
			return Reorged{Token: token, Fault: FaultStale}
		}
		return answer()
	})
}

// planted returns a node whose feed has a fake tree of the given versions, and all blocks of it.
func (w *world) planted(versions ...uint64) *simNode {
	length := uint64(len(versions))
	n := w.node(length, merkle.Range{End: length})
	n.feed.tree = append([]uint64{}, versions...)
	return n
}

// TestReadersFollowTheWriterThroughForks truncates and appends while readers follow in different
// shapes, channels break, and verifications are overtaken. In the end everybody has what the writer has.
func TestReadersFollowTheWriterThroughForks(t *testing.T) {
	for seed := range uint64(80) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, seed)
			writer := w.planted()
			readers := []*simNode{w.planted(), w.planted(), w.planted(), w.planted()}
			// A chain, a ring, or a star with one more behind.
			join := func() {
				for i, r := range readers {
					switch seed % 3 {
					case 0:
						w.connectOnce(append([]*simNode{writer}, readers...)[i], r)
					case 1:
						w.connectOnce(r, readers[(i+1)%len(readers)])
						w.connectOnce(writer, readers[0])
					default:
						if i < 3 {
							w.connectOnce(writer, r)
						}
						w.connectOnce(readers[0], readers[3])
					}
				}
			}
			join()
			// Peers that pretend to have a higher fork, and prove something else or nothing.
			var forgers []*simNode
			for i := range seed % 4 * 2 {
				f := w.planted(9, 9, 9)
				f.feed.rewrite(1000+i, f.feed.tree, 0)
				f.lying, f.silent = i < 2, i > 0
				forgers = append(forgers, f)
			}
			for i, r := range readers {
				if i != 1 || seed%3 != 2 {
					r.step(Want{Ticket: 1, Follow: true, Linear: i == 2})
				} else { // a sparse one
					r.step(Want{Ticket: 1, Blocks: []uint64{3, 30, 40, 90}})
				}
			}
			version := uint64(0)
			for range 30 {
				version++
				if length := writer.feed.info.Length; length > 0 && w.rng.IntN(3) == 0 {
					writer.feed.truncate(w.rng.Uint64N(length + 1))
				} else {
					writer.feed.append(1+w.rng.IntN(20), version)
				}
				for range w.rng.IntN(120) {
					w.move()
				}
				if r := readers[w.rng.IntN(len(readers))]; len(r.links) > 0 && w.rng.IntN(3) == 0 {
					w.cut(r.links[w.rng.IntN(len(r.links))])
				}
				if w.rng.IntN(4) == 0 {
					join()
				}
				readers[w.rng.IntN(len(readers))].step(WantUpgrade{Ticket: Ticket(100 + version)})
				for _, f := range forgers {
					if r := readers[w.rng.IntN(len(readers))]; w.rng.IntN(3) == 0 {
						w.connectOnce(f, r)
					}
				}
			}
			writer.feed.append(1, version+1)
			join()
			w.run(200_000)
			for range 4 {
				w.wait(StallTimeout, 100_000)
			}
			want := writer.feed
			for _, r := range readers {
				if f := r.feed; f.info.Fork != want.info.Fork || !slices.Equal(f.tree, want.tree) {
					t.Errorf("node %d: fork %d, tree %v, want %d, %v", r.name, f.info.Fork, f.tree, want.info.Fork, want.tree)
				}
				if n := r.feed.bits.Count(0, want.info.Length); r.m.tickets[1] != nil && r.m.tickets[1].follow && n != want.info.Length {
					t.Errorf("node %d: %d of %d blocks", r.name, n, want.info.Length)
				}
				if len(forgers) == 0 && len(r.m.updates) != 0 {
					t.Errorf("node %d: %v still wait for news", r.name, r.m.updates)
				}
				if s := r.m.Stats(); len(forgers) == 0 && (s.Inflight != 0 || s.InflightBytes != 0 || s.InvalidProofs != 0 || len(r.m.candidates) != 0 || r.dropped != 0) || len(r.m.fetches) != 0 {
					t.Errorf("node %d: left over: %+v, %d fetches, %d candidates", r.name, s, len(r.m.fetches), len(r.m.candidates))
				}
			}
		})
	}
}

// connectOnce connects two nodes that are not.
func (w *world) connectOnce(a, b *simNode) {
	for _, l := range a.links {
		if l.other.node == b {
			return
		}
	}
	w.connect(a, b)
}

// TestAConflictReachesWhoeverSeesBothSides has two writers with one key, each with a reader, and a
// connection between the readers. A writer whose reader has frozen hears nothing new from it; one that
// meets the other's reader does.
func TestAConflictReachesWhoeverSeesBothSides(t *testing.T) {
	for seed := range uint64(30) {
		w := newWorld(t, seed)
		left, right := w.planted(1, 1, 1, 2, 2, 2, 2), w.planted(1, 1, 1, 3, 3)
		a, b := w.planted(), w.planted()
		w.connect(left, a)
		w.connect(right, b)
		w.run(10_000)
		for _, r := range []*simNode{a, b} {
			r.step(Want{Ticket: 1, Follow: true})
			r.step(Want{Ticket: 2, Range: merkle.Range{Start: 20, End: 21}, Priority: 1})
		}
		w.run(10_000)
		w.connect(a, b)
		w.run(10_000)
		left.feed.append(1, 2)
		right.feed.append(1, 3)
		w.run(10_000)
		for _, n := range []*simNode{left, right} {
			if n.feed.info.Frozen {
				t.Errorf("seed %d: writer %d has frozen for its own head", seed, n.name)
			}
		}
		w.connect(left, b)
		w.connect(right, a)
		w.run(10_000)
		w.wait(StallTimeout, 10_000)
		for _, n := range w.nodes {
			if !n.feed.info.Frozen || len(n.links) != 0 || n.dropped != 0 {
				t.Errorf("seed %d: node %d frozen %v, %d channels, %d dropped", seed, n.name, n.feed.info.Frozen, len(n.links), n.dropped)
			}
		}
		for _, r := range []*simNode{a, b} {
			if len(r.resolved) != 2 || !errors.Is(r.resolved[1], ErrFrozen) || !errors.Is(r.resolved[2], ErrFrozen) {
				t.Errorf("seed %d: node %d: tickets %v", seed, r.name, r.resolved)
			}
		}
		if a.m.Stats().Checks+b.m.Stats().Checks == 0 {
			t.Errorf("seed %d: nobody has checked", seed)
		}
	}
}
