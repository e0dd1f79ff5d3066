package replica

import (
	"math/rand/v2"
	"testing"

	"github.com/p2pcore/p2pcore/internal/merkle"
	"github.com/p2pcore/p2pcore/internal/wire"
)

// sparsePeer answers as a peer that holds a few blocks of a feed, and announces none of them.
type sparsePeer struct {
	r      *rig
	held   map[uint64]bool
	asked  map[uint64]int
	wanted map[uint64]bool // pages, by their start
	most   int             // of wanted at once
}

// settle answers wants and requests of peer 1's until there are none.
func (s *sparsePeer) settle() {
	s.r.t.Helper()
	for len(s.r.sent[1]) > 0 {
		sent := s.r.sent[1]
		s.r.sent[1] = nil
		for _, msg := range sent {
			s.answer(msg)
		}
	}
}

func (s *sparsePeer) answer(msg wire.Message) {
	s.r.t.Helper()
	switch msg := msg.(type) {
	case *wire.Want:
		s.wanted[msg.Start] = true
		s.most = max(s.most, len(s.wanted))
		b := &wire.Bitfield{Start: msg.Start, Words: make([]uint32, msg.Length/32)}
		for h := range s.held {
			if h >= msg.Start && h < msg.Start+msg.Length {
				b.Words[(h-msg.Start)/32] |= 1 << (h % 32)
			}
		}
		s.r.receive(1, b)
	case *wire.Unwant:
		delete(s.wanted, msg.Start)
	case *wire.Request:
		if msg.Block == nil || !s.held[msg.Block.Index] {
			s.r.t.Fatalf("asked for %+v, which was not announced", msg.Request)
		}
		s.asked[msg.Block.Index]++
		data := &wire.Data{ID: msg.ID}
		data.Proof.Block = &merkle.BlockProof{Index: msg.Block.Index, Value: []byte{1}}
		s.r.receive(1, data)
	}
}

// TestBlocksOfAHugeSparseFeedAreFoundWhereverTheyAre: Hypercore looks into three pages of 2 Mi blocks of a range, the last
// one among them. Ours looks everywhere, in small pages, as many at once as a peer accepts.
func TestBlocksOfAHugeSparseFeedAreFoundWhereverTheyAre(t *testing.T) {
	t.Parallel()
	const (
		hugePage = 2 << 20
		pages    = 4
		length   = pages*hugePage - 1000
	)
	for name, want := range map[string]Want{
		"in any order": {Range: merkle.Range{End: length}},
		"linear":       {Range: merkle.Range{End: length}, Linear: true},
		"a part":       {Range: merkle.Range{Start: hugePage / 2, End: 3*hugePage + 5}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(1, 7))
			s := &sparsePeer{r: newRig(t, length), held: map[uint64]bool{0: true, length - 1: true},
				asked: map[uint64]int{}, wanted: map[uint64]bool{}}
			for page := range uint64(pages) {
				s.held[page*hugePage+rng.Uint64N(hugePage-1000)] = true
			}
			s.r.open(1)
			want.Ticket = 1
			s.r.step(want)
			s.settle()
			for b := range s.held {
				once := 0
				if b >= want.Range.Start && b < want.Range.End {
					once = 1
				}
				if s.asked[b] != once {
					t.Errorf("block %d was asked for %d times, want %d", b, s.asked[b], once)
				}
			}
			if s.most > maxWantPages {
				t.Errorf("%d pages were wanted at once, more than %d", s.most, maxWantPages)
			}
			checkBounds(t, s.r.m)
		})
	}
}
