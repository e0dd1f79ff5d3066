package protocol

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/internal/vectors"
)

// follow has a feed downloaded whole, whatever becomes of it, until the test ends.
func follow(t *testing.T, x *Exchange) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = x.Fetch(ctx, feed.Want{Follow: true})
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
}

// fill has a reader fetch the blocks of a writer that lie in rs, over a connection of its own.
func fill(t *testing.T, w, r *feed.Feed, rs ...feed.Range) {
	t.Helper()
	run := newRunner(t)
	from, to := NewExchange(w, ExchangeOptions{}), NewExchange(r, ExchangeOptions{Downloading: true})
	run.connect([]*Exchange{from}, []*Exchange{to})
	s := session(t, r)
	if _, err := s.Update(timed(t)); err != nil {
		t.Fatal(err)
	}
	for _, want := range rs {
		if err := s.Download(timed(t), want); err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
	run.group.Close()
	from.Close()
	to.Close()
	if got, want := r.Info().Head, w.Info().Head; got != want {
		t.Fatalf("head %+v, want %+v", got, want)
	}
}

func sameHead(t *testing.T, f, want *feed.Feed) {
	t.Helper()
	if got, want := f.Info().Head, want.Info().Head; got != want {
		t.Errorf("head %+v, want %+v", got, want)
	}
}

// clean fails if a conversation has been anything but a model.
func clean(t *testing.T, xs ...*Exchange) {
	t.Helper()
	for i, x := range xs {
		if s := x.Stats(); s.InvalidProofs+s.InvalidRequests+s.Unsolicited+s.Stalls+s.Checks != 0 {
			t.Errorf("exchange %d: %+v", i, s)
		}
	}
}

func renamed(n int, name string) [][]byte {
	blocks := numbered(n, 10)
	for i := range blocks {
		blocks[i] = append([]byte(name), blocks[i]...)
	}
	return blocks
}

func TestReadersFollowAnOnlineTruncation(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		old, new := numbered(40, 10), renamed(40, "new ")
		w := writer(t, 1, old...)
		near, far := reader(t, w), reader(t, w) // far meets near only
		xs := []*Exchange{exchange(t, w, false), exchange(t, near, true), exchange(t, far, true)}
		run := newRunner(t)
		run.connect(xs[:1], xs[1:2])
		run.connect(xs[1:2], xs[2:])
		follow(t, xs[1])
		follow(t, xs[2])
		synctest.Wait()
		sub := far.Subscribe()
		defer sub.Close()
		truncate(t, w, 21)
		synctest.Wait()
		for _, f := range []*feed.Feed{near, far} {
			sameHead(t, f, w)
			sameBlocks(t, f, old[:21])
		}
		if c, ok := sub.Take(); !ok || !c.Forked || c.Ancestors != 21 {
			t.Errorf("the change was told as %+v", c)
		}
		appendBlocks(t, w, new...)
		synctest.Wait()
		for _, f := range []*feed.Feed{near, far} {
			sameBlocks(t, f, append(slices.Clone(old[:21]), new...))
		}
		// To nothing: nobody hears of it before there is a head again.
		truncate(t, w, 0)
		synctest.Wait()
		if got := far.Info(); got.Fork != 1 || got.Length != 61 {
			t.Errorf("an empty fork was followed: %+v", got.Head)
		}
		appendBlocks(t, w, new[:3]...)
		synctest.Wait()
		for _, f := range []*feed.Feed{near, far} {
			sameHead(t, f, w)
			sameBlocks(t, f, new[:3])
		}
		clean(t, xs...)
		if got := xs[2].Stats().Reorgs; got != 2 {
			t.Errorf("%d forks followed, want 2", got)
		}
	})
}

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

func TestForksAreRefusedOnDemand(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		blocks := numbered(10, 10)
		w := writer(t, 1, blocks...)
		r, empty := reader(t, w), reader(t, w)
		fill(t, w, r, feed.Range{End: 10})
		x := exchange(t, w, false)
		run := newRunner(t)
		for _, f := range []*feed.Feed{r, empty} {
			refusing := NewExchange(f, ExchangeOptions{Downloading: true, RefuseForks: true})
			t.Cleanup(func() { _ = refusing.Close() })
			run.connect([]*Exchange{x}, []*Exchange{refusing})
			if f == r {
				synctest.Wait()
				truncate(t, w, 5)
				appendBlocks(t, w, renamed(20, "new ")...)
			}
			synctest.Wait()
		}
		sameBlocks(t, r, blocks)
		if got := empty.Info(); got.Length != 0 {
			t.Errorf("the empty reader has %+v", got.Head)
		}
		s := session(t, r)
		defer s.Close()
		if grown, err := s.Update(timed(t)); grown || err != nil {
			t.Errorf("update: %v, %v", grown, err)
		}
		clean(t, x)
	})
}

func TestTruncationsWhileDownloading(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := writer(t, 1, numbered(600, 400)...)
		xs := []*Exchange{exchange(t, w, false)}
		readers := []*feed.Feed{reader(t, w), reader(t, w), reader(t, w)}
		run := newRunner(t)
		for _, r := range readers {
			x := exchange(t, r, true)
			for _, peer := range xs {
				run.connect([]*Exchange{peer}, []*Exchange{x})
			}
			xs = append(xs, x)
			follow(t, x)
		}
		changes := readers[0].Subscribe()
		defer changes.Close()
		for i := range 12 {
			// Some of it has come.
			for n := uint64(0); n < 20; {
				c, err := changes.Next(timed(t))
				if err != nil {
					t.Fatal(err)
				}
				for _, r := range c.Added {
					n += r.Len()
				}
			}
			length := w.Info().Length
			truncate(t, w, length-uint64(1+i*7))
			appendBlocks(t, w, renamed(30+i, fmt.Sprint("fork ", i, " "))...)
		}
		synctest.Wait()
		for _, r := range readers {
			sameHead(t, r, w)
			if got := r.Info(); got.LocalBlocks != got.Length {
				t.Errorf("%d blocks of %d", got.LocalBlocks, got.Length)
			}
		}
		for i, x := range xs {
			if s := x.Stats(); s.InvalidProofs+s.InvalidRequests+s.Checks != 0 || s.Peers != len(readers) || len(x.Departed()) != 0 {
				t.Errorf("exchange %d: %+v, departed %+v", i, s, x.Departed())
			}
		}
	})
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

func TestWhoWaitsWhileTheFeedForks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := writer(t, 1, numbered(20, 10)...)
		r := reader(t, w)
		fill(t, w, r, feed.Range{End: 3})
		truncate(t, w, 10)
		appendBlocks(t, w, renamed(5, "new ")...)

		s := session(t, r)
		defer s.Close()
		to := exchange(t, r, true)
		errs := make(map[uint64]chan error)
		get := func(index uint64) {
			errs[index] = make(chan error, 1)
			go func() {
				_, err := s.Get(timed(t), index)
				errs[index] <- err
			}()
		}
		get(12) // was there before
		get(22) // is yet to come
		to.SetFinding(true)
		grown := make(chan error, 1)
		go func() {
			ok, err := s.Update(timed(t))
			if err == nil && !ok {
				err = errors.New("not grown")
			}
			grown <- err
		}()
		synctest.Wait()
		newRunner(t).connect([]*Exchange{exchange(t, w, false)}, []*Exchange{to})
		synctest.Wait()
		sameHead(t, r, w)
		if err := <-grown; err != nil {
			t.Errorf("update: %v", err)
		}
		if err := <-errs[12]; !errors.Is(err, feed.ErrSnapshotNotAvailable) {
			t.Errorf("get of a lost block: %v", err)
		}
		select {
		case err := <-errs[22]:
			t.Errorf("get past the end has ended: %v", err)
		default:
		}
		appendBlocks(t, w, numbered(9, 3)...)
		if err := <-errs[22]; err != nil {
			t.Errorf("get of what came later: %v", err)
		}
	})
}

// TestTheManifestIsPassedOnWithoutBlocks has a reader without data pass on the manifest of a feed that is empty.
func TestTheManifestIsPassedOnWithoutBlocks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := writer(t, 1)
		near, far := reader(t, w), reader(t, w)
		xs := []*Exchange{exchange(t, w, false), exchange(t, near, true), exchange(t, far, true)}
		run := newRunner(t)
		run.connect(xs[1:2], xs[2:])
		synctest.Wait()
		if far.Info().HasManifest {
			t.Fatal("the manifest came from nowhere")
		}
		run.connect(xs[:1], xs[1:2])
		synctest.Wait()
		for i, f := range []*feed.Feed{near, far} {
			if m := f.Manifest(); m == nil || !bytes.Equal(m.Append(nil), w.Manifest().Append(nil)) {
				t.Errorf("reader %d: manifest %v", i, m)
			}
		}
		if got := far.Info().Length; got != 0 {
			t.Errorf("length %d", got)
		}
		clean(t, xs...)
	})
}

// TestALiarAboutAForkIsFoundOut has a reader follow a fork by the proofs of a liar, and then of an honest peer.
func TestALiarAboutAForkIsFoundOut(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(p *feed.Proof) bool{
		"root": func(p *feed.Proof) bool {
			if p.Upgrade != nil {
				p.Upgrade.Nodes[0].Hash[3] ^= 1
			}
			return p.Upgrade != nil
		},
		"signature": func(p *feed.Proof) bool {
			if p.Upgrade != nil {
				p.Upgrade.Signature[20] ^= 1
			}
			return p.Upgrade != nil
		},
		"fork": func(p *feed.Proof) bool {
			p.Fork++
			return true
		},
		"no signature": func(p *feed.Proof) bool {
			if p.Upgrade != nil {
				p.Upgrade.Signature = nil
			}
			return p.Upgrade != nil
		},
		"node of a hash": func(p *feed.Proof) bool {
			if p.Hash != nil {
				p.Hash.Nodes[len(p.Hash.Nodes)-1].Hash[3] ^= 1
			}
			return p.Hash != nil
		},
		"half of a hash": func(p *feed.Proof) bool {
			if p.Hash != nil {
				p.Hash.Nodes = p.Hash.Nodes[:len(p.Hash.Nodes)/2]
			}
			return p.Hash != nil
		},
		"another hash": func(p *feed.Proof) bool {
			if p.Hash != nil {
				p.Hash.Index ^= 2
			}
			return p.Hash != nil
		},
		"nothing": func(p *feed.Proof) bool {
			p.Hash, p.Upgrade = nil, nil
			return true
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := writer(t, 1, numbered(40, 10)...)
				r := reader(t, w)
				fill(t, w, r, feed.Range{End: 40})
				truncate(t, w, 21)
				appendBlocks(t, w, renamed(25, "new ")...)
				l, to := &liar{Feed: w, spoil: spoil}, exchange(t, r, true)
				run := newRunner(t)
				run.connect([]*Exchange{exchange(t, l, false)}, []*Exchange{to})
				time.Sleep(time.Second)
				if st := to.Stats(); l.lies.Load() == 0 || st.InvalidProofs+st.Refused == 0 || st.Reorgs != 0 {
					t.Errorf("%d lies were told; %+v", l.lies.Load(), st)
				}
				sameBlocks(t, r, numbered(40, 10))
				run.connect([]*Exchange{exchange(t, w, false)}, []*Exchange{to})
				follow(t, to)
				synctest.Wait()
				sameBlocks(t, r, append(numbered(40, 10)[:21], renamed(25, "new ")...))
			})
		})
	}
}
