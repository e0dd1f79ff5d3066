package replica

import (
	"testing"

	"github.com/p2pcore/p2pcore/internal/merkle"
	"github.com/p2pcore/p2pcore/internal/wire"
)

// What a range from 0 on raises, for the peer and for the feed, and what takes it back.
func TestRangesFromTheBeginningRaiseTheRemoteContiguousLength(t *testing.T) {
	r := newRig(t, 100)
	r.open(1)
	expect := func(after string, peer, feed uint64) {
		t.Helper()
		got, of := r.m.RemoteContiguous(), uint64(0)
		for _, p := range r.m.Peers(nil) {
			if p.Peer == 1 {
				of = p.Contiguous
			}
		}
		if of != peer || got != feed {
			t.Errorf("after %s: the peer has %d and the feed %d, want %d and %d", after, of, got, peer, feed)
		}
	}
	expect("the sync", 0, 0)
	r.receive(1, &wire.Range{Start: 1, Length: 9})
	expect("a range from 1 on", 0, 0)
	r.receive(1, &wire.Range{Length: 1})
	expect("block 0, which joins the others", 10, 1)
	r.receive(1, &wire.Range{Length: 20})
	expect("a longer range from 0 on", 20, 20)
	r.receive(1, &wire.Range{Length: 15})
	expect("a shorter one", 20, 20)
	r.receive(1, &wire.Range{Start: 20, Length: 5})
	expect("the blocks that follow", 25, 20)
	r.receive(1, &wire.Range{Start: 12, Length: 1, Drop: true})
	expect("a drop", 12, 20)
	r.receive(1, &wire.Range{Length: 30})
	expect("all of it and more", 30, 30)
	r.receive(1, &wire.Bitfield{Words: []uint32{0b111}})
	expect("a bitfield, which is the truth", 3, 30)
	r.receive(1, &wire.Range{Start: 0, Length: 40, Drop: true})
	expect("a drop from 0 on", 0, 30)
	r.open(2)
	r.receive(2, &wire.Range{Length: 50})
	expect("a range of another peer", 0, 50)
	r.step(Closed{Peer: 2})
	expect("the end of its channel", 0, 50)
	r.receive(1, &wire.Range{Length: 150})
	expect("more than there is", 150, 100)
}

// What was announced of another fork does not count, and a truncation leaves what is left of before.
func TestTheRemoteContiguousLengthIsOfThePresentFork(t *testing.T) {
	r := newRig(t, 100)
	expect := func(after string, want uint64) {
		t.Helper()
		if got := r.m.RemoteContiguous(); got != want {
			t.Errorf("after %s: %d, want %d", after, got, want)
		}
	}
	r.open(1)
	r.receive(1, &wire.Range{Length: 80})
	expect("a range", 80)
	r.receive(1, &wire.Sync{Fork: 1, Length: 100, Uploading: true, Downloading: true})
	r.receive(1, &wire.Range{Length: 100})
	expect("a range of a peer on a higher fork", 80)

	fork := func(number, ancestors, length uint64) {
		r.feed.forkFrom(ancestors)
		r.feed.info.Fork, r.feed.info.Length = number, length
		r.feed.drop(merkle.Range{Start: ancestors, End: 1 << 40})
		r.step(r.feed.changed())
	}
	fork(2, 60, 90)
	expect("a truncation to 60 blocks and 30 new ones", 60)
	r.receive(1, &wire.Range{Length: 100})
	expect("a range of a peer on a lower fork", 60)
	r.receive(1, &wire.Sync{Fork: 2, Length: 90, RemoteLength: 90, Uploading: true, Downloading: true})
	r.receive(1, &wire.Range{Length: 70})
	expect("a range of a peer on the new fork", 70)
	fork(3, 70, 70)
	expect("a truncation to where it is", 70)
	fork(4, 0, 0)
	expect("a truncation to nothing", 0)
}
