package feed

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	datastore "github.com/ipfs/go-datastore"
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

// Neighbouring blocks are read as a range where the datastore can: with empty blocks, and in any order.
func TestProveManyBlocks(t *testing.T) {
	onStores(t, func(t *testing.T, ds datastore.Batching) {
		w, s := writer(t, ds, 0)
		appendBlocks(t, s, testBlocks(0, 20)...)
		appendBlocks(t, s, []byte("twenty"), nil, []byte{})
		appendBlocks(t, s, testBlocks(23, 40)...)
		values := slices.Concat(testBlocks(0, 20), [][]byte{[]byte("twenty"), {}, {}}, testBlocks(23, 40))
		for _, indexes := range [][]uint64{
			upTo(40), {7}, {3, 4}, {18, 19, 20, 21, 22, 23}, {39, 38, 37, 36}, {1, 2, 3, 4, 5, 9, 10, 11, 12, 13, 5},
		} {
			reqs := make([]Request, len(indexes))
			for i, index := range indexes {
				reqs[i] = Request{Fork: w.Info().Fork, Block: &BlockRequest{Index: index}}
			}
			proved, err := w.Prove(t.Context(), reqs)
			if err != nil {
				t.Fatal(err)
			}
			for i, index := range indexes {
				if p := proved[i]; p.Err != nil || p.Proof.Block.Value == nil || !bytes.Equal(p.Proof.Block.Value, values[index]) {
					t.Errorf("blocks %d: block %d: got %+v, want %q", indexes, index, p, values[index])
				}
			}
		}
	})
}

func upTo(n uint64) (indexes []uint64) {
	for i := range n {
		indexes = append(indexes, i)
	}
	return indexes
}

// A record that is gone from the middle of a range is damage in a store whose batches are atomic. It is no
// reason to refuse the other blocks, which other peers may have asked for.
func TestProveFindsALostBlock(t *testing.T) {
	for _, gone := range []uint64{0, 5, 9} {
		ds := ableStore{pebbleStore(t, "", vfs.NewMem())}
		pair := KeyPairFromSeed([32]byte{7})
		w, err := Create(t.Context(), ds, Options{Prefix: testPrefix, KeyPair: &pair})
		if err != nil {
			t.Fatal(err)
		}
		appendBlocks(t, session(t, w), testBlocks(0, 10)...)
		if err := ds.Delete(t.Context(), w.storage.blockKey(0, gone)); err != nil {
			t.Fatal(err)
		}
		var reqs []Request
		for i := range uint64(10) {
			reqs = append(reqs, Request{Block: &BlockRequest{Index: i}, Manifest: i%2 == 0})
		}
		proved, err := w.Prove(t.Context(), reqs)
		if err != nil {
			t.Fatalf("block %d is gone: the whole call fails: %v", gone, err)
		}
		for i, p := range proved {
			lost := uint64(i) == gone
			if errors.Is(p.Err, ErrCorrupt) != lost || (p.Proof == nil) != lost {
				t.Errorf("block %d is gone: answer %d is %v", gone, i, p.Err)
			}
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}
}

// What the range has past the bound is not read.
func TestProveReadsABoundedRange(t *testing.T) {
	const size, n = 128 << 10, 64
	w, s := writer(t, ableStore{pebbleStore(t, "", vfs.NewMem())}, 0)
	var reqs []Request
	for i := range byte(n) {
		appendBlocks(t, s, bytes.Repeat([]byte{i}, size))
		reqs = append(reqs, Request{Block: &BlockRequest{Index: uint64(i)}})
	}
	proved, err := w.Prove(t.Context(), reqs)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range proved {
		var want error
		if i >= MaxProveBytes/size {
			want = ErrDeferred
		}
		if !errors.Is(p.Err, want) {
			t.Errorf("block %d: %v, want %v", i, p.Err, want)
		}
	}
}
