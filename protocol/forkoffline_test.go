package protocol

import (
	"bytes"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/internal/vectors"
)

// TestReadersFollowAnOfflineReorg has readers of all kinds meet a writer that has truncated and appended
// meanwhile. They keep what is common, and the far one hears of it from the near one only.
func TestReadersFollowAnOfflineReorg(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		near, far []feed.Range
	}{
		"complete": {[]feed.Range{{End: 40}}, []feed.Range{{End: 40}}},
		"sparse":   {[]feed.Range{{Start: 3, End: 9}, {Start: 17, End: 19}, {Start: 30, End: 31}}, []feed.Range{{End: 2}, {Start: 16, End: 17}}},
		"empty":    {nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				old, new := numbered(40, 10), renamed(25, "new ")
				w := writer(t, 1, old...)
				near, far := reader(t, w), reader(t, w)
				fill(t, w, near, c.near...)
				fill(t, w, far, c.far...)
				truncate(t, w, 21)
				appendBlocks(t, w, new...)
				xs := []*Exchange{exchange(t, w, false), exchange(t, near, true), exchange(t, far, true)}
				run := newRunner(t)
				run.connect(xs[:1], xs[1:2])
				synctest.Wait()
				sameHead(t, near, w)
				for _, r := range c.near {
					for i := r.Start; i < min(r.End, 16); i++ { // the roots of before show that these are common
						if !near.Has(feed.Range{Start: i, End: i + 1}) {
							t.Errorf("common block %d was given up", i)
						}
					}
				}
				if name == "complete" {
					sameStored(t, near, feed.Range{End: 21})
				}
				if got := xs[1].Stats().BlocksReceived; got != 0 {
					t.Errorf("%d blocks fetched, nobody wants any", got)
				}
				run.connect(xs[1:2], xs[2:])
				time.Sleep(time.Minute) // where near has nothing that helps, far waits a little
				sameHead(t, far, w)
				follow(t, xs[1])
				follow(t, xs[2])
				synctest.Wait()
				for _, f := range []*feed.Feed{near, far} {
					sameBlocks(t, f, append(slices.Clone(old[:21]), new...))
				}
				clean(t, xs...)
			})
		})
	}
}

func sameStored(t *testing.T, f *feed.Feed, want ...feed.Range) {
	t.Helper()
	if got := slices.Collect(f.Ranges(feed.Range{End: f.Info().Length})); !slices.Equal(got, want) {
		t.Errorf("stored are %v, want %v", got, want)
	}
}

// TestVectorsReorgOverTheNetwork plays the recorded reorgs: what a reader has afterwards is what a JavaScript one has.
func TestVectorsReorgOverTheNetwork(t *testing.T) {
	t.Parallel()
	type state struct {
		Length, Fork uint64
		TreeHash     vectors.Hex
		Blocks       []uint64
	}
	var v struct {
		Reorgs []struct {
			Name         string
			Compat       bool
			Key, Seed    vectors.Hex
			Blocks       []vectors.Hex
			NewBlocks    []vectors.Hex `json:"new_blocks"`
			ReaderBefore state         `json:"reader_before"`
			ReaderAfter  state         `json:"reader_after"`
			WriterAfter  state         `json:"writer_after"`
		}
	}
	vectors.Load(t, "reorg.json", &v)
	if len(v.Reorgs) == 0 {
		t.Fatal("no reorgs")
	}
	for _, c := range v.Reorgs {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := writerOf(t, transcript{Key: c.Key, Seed: c.Seed, Blocks: c.Blocks})
				r := reader(t, w)
				before := make([]feed.Range, 0, len(c.ReaderBefore.Blocks))
				for _, b := range c.ReaderBefore.Blocks {
					before = append(before, feed.Range{Start: b, End: b + 1})
				}
				fill(t, w, r, before...)
				truncate(t, w, c.WriterAfter.Length-uint64(len(c.NewBlocks)))
				for _, b := range c.NewBlocks {
					appendBlocks(t, w, b)
				}
				from, to := exchange(t, w, false), exchange(t, r, true)
				newRunner(t).connect([]*Exchange{from}, []*Exchange{to})
				synctest.Wait()
				got := r.Info()
				if want := c.ReaderAfter; got.Length != want.Length || got.Fork != want.Fork || !bytes.Equal(got.Hash[:], want.TreeHash) {
					t.Errorf("head %+v, want %d of fork %d, %v", got.Head, want.Length, want.Fork, want.TreeHash)
				}
				var stored []uint64
				for run := range r.Ranges(feed.Range{End: got.Length}) {
					for i := run.Start; i < run.End; i++ {
						stored = append(stored, i)
					}
				}
				if !slices.Equal(stored, c.ReaderAfter.Blocks) {
					t.Errorf("stored are %v, want %v", stored, c.ReaderAfter.Blocks)
				}
				clean(t, from, to)
			})
		})
	}
}

// TestTheHighestOfTwoForksWins has a reader meet a mirror of a fork that the writer has left meanwhile.
func TestTheHighestOfTwoForksWins(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := writer(t, 1, numbered(20, 10)...)
		r, mirror := reader(t, w), reader(t, w)
		fill(t, w, r, feed.Range{End: 20})
		truncate(t, w, 15)
		appendBlocks(t, w, renamed(9, "left ")...)
		fill(t, w, mirror, feed.Range{End: 24})
		truncate(t, w, 10)
		appendBlocks(t, w, renamed(5, "last ")...)
		from, stale, to := exchange(t, w, false), exchange(t, mirror, false), exchange(t, r, true)
		run := newRunner(t)
		run.connect([]*Exchange{stale}, []*Exchange{to})
		run.connect([]*Exchange{from}, []*Exchange{to})
		follow(t, to)
		synctest.Wait()
		want := append(numbered(20, 10)[:10], renamed(5, "last ")...)
		sameBlocks(t, r, want)
		sameHead(t, mirror, w) // which has heard of it, in turn
		clean(t, from, stale, to)
	})
}
