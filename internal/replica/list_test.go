package replica

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/p2pcore/p2pcore/internal/wire"
)

// listOf returns n different blocks below length, in random order.
func listOf(n int, length uint64) []uint64 {
	rng := rand.New(rand.NewPCG(7, 7))
	chosen := map[uint64]bool{}
	var blocks []uint64
	for len(blocks) < n {
		if b := rng.Uint64N(length); !chosen[b] {
			chosen[b] = true
			blocks = append(blocks, b)
		}
	}
	return blocks
}

// asked returns the blocks that peer p was asked for since the last time.
func (r *rig) asked(p PeerID) (blocks []uint64) {
	for _, msg := range r.sent[p] {
		if q, ok := msg.(*wire.Request); ok && q.Block != nil {
			blocks = append(blocks, q.Block.Index)
		}
	}
	r.sent[p] = nil
	return blocks
}

// TestMessagesCostNoSearchOfAList counts the entries of a long list that are looked at for messages of a few bytes: what
// they are about, and not the list.
func TestMessagesCostNoSearchOfAList(t *testing.T) {
	const length, n, messages = 400 * wantPage, 50_000, 400
	list := listOf(n, length)
	slices.Sort(list) // what is announced below can then be told from what is not
	sync := func(length uint64) wire.Message {
		return &wire.Sync{Length: length, RemoteLength: 400 * wantPage, CanUpgrade: true, Uploading: true, Downloading: true}
	}
	tests := []struct {
		name    string
		message func(i uint64) wire.Message
		free    uint64 // steps that all messages may cost together
		each    uint64
	}{
		{"one more block", func(i uint64) wire.Message { return &wire.Range{Start: list[i*7%n], Length: 1} }, 0, 8},
		{"a block that is not in the list", func(i uint64) wire.Message {
			return &wire.Range{Start: list[i*7%n] + 1, Length: 1}
		}, 0, 8},
		{"a short contiguous part", func(i uint64) wire.Message { return &wire.Range{Length: i + 1} }, 0, 16},
		{"another length each time", func(i uint64) wire.Message { return sync(length/2 + i%2*(length/2)) }, n, 8},
		{"everything, and again", func(i uint64) wire.Message {
			return &wire.Range{Start: 1, Length: length - 1}
		}, n, 600},
		{"everything while it cannot be asked for, and nothing", func(i uint64) wire.Message {
			switch i % 4 {
			case 0:
				return sync(1)
			case 1:
				return &wire.Range{Length: length}
			case 2:
				return &wire.Range{Length: length, Drop: true}
			}
			return sync(length)
		}, maxListRestarts * n, 400},
		{"everything, and nothing", func(i uint64) wire.Message {
			if i%2 == 0 {
				return &wire.Range{Length: length}
			}
			return &wire.Range{Length: length, Drop: true}
		}, maxListRestarts * n, 900},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, length)
			r.open(1)
			r.step(Want{Ticket: 1, Blocks: list})
			if got := r.m.listSteps; got < n {
				t.Fatalf("%d of %d entries were looked at", got, n)
			}
			r.m.listSteps = 0
			for i := range uint64(messages) {
				r.receive(1, test.message(i))
			}
			if most := test.free + messages*test.each; r.m.listSteps > most {
				t.Errorf("%d entries were looked at for %d messages, at most %d allowed", r.m.listSteps, messages, most)
			}
			checkBounds(t, r.m)
		})
	}
}

// TestWhatIsStoredOfAListIsPassedOverOnce has nearly all of a list stored, and a peer that goes on telling that it holds all.
func TestWhatIsStoredOfAListIsPassedOverOnce(t *testing.T) {
	const length, n, messages = 400 * wantPage, 50_000, 400
	list := listOf(n, length)
	r := newRig(t, length)
	for _, b := range list[1:] {
		r.feed.bits.Set(b, true)
	}
	r.m = New(r.feed, Limits{}, rand.New(rand.NewPCG(1, 1)))
	r.step(Want{Ticket: 1, Blocks: list})
	r.open(1)
	r.receive(1, &wire.Range{Start: 1, Length: length - 1})
	if got := r.asked(1); !slices.Equal(got, list[:1]) {
		t.Fatalf("asked for %v, want %v", got, list[:1])
	}
	for range messages {
		r.receive(1, &wire.Range{Start: 1, Length: length - 1})
	}
	if most := uint64((maxListRestarts+3)*n + messages*4); r.m.listSteps > most {
		t.Errorf("%d entries were looked at, at most %d allowed", r.m.listSteps, most)
	}
}

// TestAListIsFetchedInItsOrder: of a peer that has all of it.
func TestAListIsFetchedInItsOrder(t *testing.T) {
	const length = 40 * wantPage
	list := listOf(2000, length)
	r := newRig(t, length)
	r.open(1)
	r.step(Want{Ticket: 1, Blocks: list})
	r.receive(1, &wire.Range{Length: length})
	got := r.asked(1)
	if len(got) < pickChunk || !slices.Equal(got, list[:len(got)]) {
		t.Errorf("asked for %v, want %v", got, list[:len(got)])
	}
}

// TestAllOfAListIsFoundByIndex lets a peer announce a list in pieces, of which too many came for its own order to be kept.
func TestAllOfAListIsFoundByIndex(t *testing.T) {
	const length = 20 * wantPage
	list := listOf(600, length)
	r := newRig(t, length)
	r.open(1)
	r.step(Want{Ticket: 1, Blocks: append(list, list[:50]...)})
	for _, s := range r.m.peers[1].scans {
		s.restarts = maxListRestarts
	}
	r.receive(1, &wire.Sync{Length: length / 2, RemoteLength: length, Uploading: true, Downloading: true})
	for _, b := range list[:300] {
		r.receive(1, &wire.Range{Start: b, Length: 1})
	}
	r.receive(1, &wire.Sync{Length: length, RemoteLength: length, Uploading: true, Downloading: true})
	rest := slices.Sorted(slices.Values(list[300:]))
	r.receive(1, &wire.Range{Start: rest[0], Length: length - rest[0]})
	r.receive(1, &wire.Range{Length: rest[0] + 1})
	missing := map[uint64]bool{}
	for _, b := range list {
		missing[b] = true
	}
	r.answerOnce(missing)
	if len(missing) > 0 {
		t.Errorf("%d blocks were never asked for", len(missing))
	}
	if len(r.m.wants) > 0 {
		t.Error("the list is not done")
	}
}
