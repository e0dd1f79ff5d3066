package replica

import (
	"testing"
	"time"

	"github.com/p2pcore/p2pcore/internal/merkle"
	"github.com/p2pcore/p2pcore/internal/wire"
)

// TestAReaderThatClaimsAnEndlessFeedCostsOneStep: a writer may sign a head of any length, and a second peer may say that it
// holds all but a block of that. The search for what no reader holds then has to pass over its claim in one step.
func TestAReaderThatClaimsAnEndlessFeedCostsOneStep(t *testing.T) {
	const length = merkle.MaxLength
	r := newRig(t, length)
	r.open(1)
	r.open(2)
	r.receive(2, &wire.Range{Start: 1, Length: length - 1})
	r.step(Want{Ticket: 1, Range: merkle.Range{End: length}})
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.receive(1, &wire.Range{Length: length})
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("the machine stands still")
	}
	checkBounds(t, r.m)
	asked := 0
	for _, msg := range r.sent[1] {
		if q, ok := msg.(*wire.Request); ok && q.Block != nil {
			asked++
		}
	}
	if asked == 0 {
		t.Error("the seed was asked for nothing")
	}
}

// TestAnnouncementsOfSingleBlocksCostNoSearchOfTheFeed: what was searched in vain once is not searched again because a
// peer holds one more block somewhere. A peer could keep the feed busy with a few kilobytes a second.
func TestAnnouncementsOfSingleBlocksCostNoSearchOfTheFeed(t *testing.T) {
	const length, announced = 400 * wantPage, 2000
	r := newRig(t, length)
	r.open(1)
	r.step(Want{Ticket: 1, Range: merkle.Range{End: length}, Linear: true})
	// The whole feed was searched; a single block more is all that has to be looked at.
	p := r.m.peers[1]
	if len(p.scans) != 1 {
		t.Fatalf("%d wishes are searched for", len(p.scans))
	}
	for _, s := range p.scans {
		if s.a != length {
			t.Fatalf("%d of %d blocks are searched", s.a, length)
		}
		p.rescan(merkle.Range{Start: 5, End: 6})
		if again := length - s.a + s.b; again > 0 || len(s.again) != 1 || s.again[0].Len() != 1 {
			t.Errorf("%d blocks and %v are to be searched again for one block", again, s.again)
		}
	}
	asked := map[uint64]bool{}
	for i := range uint64(announced) {
		b := i * 7919 % length
		r.receive(1, &wire.Range{Start: b, Length: 1})
		r.receive(1, &wire.Range{Start: b, Length: 1})
		for _, msg := range r.sent[1] {
			if q, ok := msg.(*wire.Request); ok && q.Block != nil {
				asked[q.Block.Index] = true
			}
		}
		r.sent[1] = nil
		if n := len(asked); n <= int(i) {
			break // the window is full
		}
		if !asked[b] {
			t.Fatalf("block %d was announced and not asked for", b)
		}
	}
	if len(asked) < minRequests {
		t.Errorf("%d blocks were asked for", len(asked))
	}
	checkBounds(t, r.m)
}

// TestManyAnnouncementsAreAllSearched lets announcements pile up while the window is full.
func TestManyAnnouncementsAreAllSearched(t *testing.T) {
	const length = 20 * wantPage
	r := newRig(t, length)
	r.open(1)
	r.step(Want{Ticket: 1, Range: merkle.Range{End: length}})
	want := map[uint64]bool{}
	for i := range uint64(300) {
		b := i * 7919 % length
		want[b] = true
		r.receive(1, &wire.Range{Start: b, Length: 1})
	}
	for _, s := range r.m.peers[1].scans {
		if len(s.again) > maxAgain {
			t.Errorf("%d parts are to be searched again", len(s.again))
		}
	}
	r.answerOnce(want)
	if len(want) > 0 {
		t.Errorf("%d announced blocks were never asked for", len(want))
	}
}
