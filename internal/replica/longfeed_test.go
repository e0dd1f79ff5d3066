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
