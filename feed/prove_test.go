package feed

import (
	"bytes"
	"errors"
	"testing"
)

// A peer may ask for the same large block in every request of a call: what one call reads is bounded,
// and what it leaves out can be asked for again.
func TestProveReadsABoundedAmount(t *testing.T) {
	const size = 1 << 20
	w, s := writer(t, memoryStore(), 3)
	large := bytes.Repeat([]byte{5}, size)
	appendBlocks(t, s, large)
	reqs := make([]Request, 64)
	for i := range reqs {
		reqs[i] = Request{Block: &BlockRequest{Index: 3}, Manifest: i%2 == 0}
	}
	reqs[60] = Request{Upgrade: &UpgradeRequest{Length: 4}}
	answered := 0
	for calls := 0; len(reqs) > 0; calls++ {
		if calls == 64 {
			t.Fatalf("%d requests are never answered", len(reqs))
		}
		proved, err := w.Prove(t.Context(), reqs)
		if err != nil {
			t.Fatal(err)
		}
		read := 0
		var later []Request
		for i, p := range proved {
			switch {
			case errors.Is(p.Err, ErrDeferred) && p.Proof == nil:
				later = append(later, reqs[i])
			case p.Err != nil:
				t.Fatal(p.Err)
			case reqs[i].Block != nil:
				if !bytes.Equal(p.Proof.Block.Value, large) || (p.Proof.Manifest != nil) != reqs[i].Manifest {
					t.Fatalf("request %d: wrong answer", i)
				}
				read += size
			}
			if p.Err == nil {
				answered++
			}
		}
		if read > MaxProveBytes+size {
			t.Fatalf("one call read %d bytes", read)
		}
		if len(later) == len(reqs) {
			t.Fatal("a call answered nothing")
		}
		reqs = later
	}
	if answered != 64 {
		t.Errorf("%d requests were answered", answered)
	}
}
