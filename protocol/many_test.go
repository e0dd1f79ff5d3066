package protocol

import (
	"bytes"
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/internal/simnet"
)

// home is a path of 5 Mbit/s that takes 20 ms.
var home = simnet.Path{Delay: 20 * time.Millisecond, Bandwidth: 5_000_000 / 8}

// holders are feeds with the same blocks.
func holders(t *testing.T, n int, blocks [][]byte) []*feed.Feed {
	t.Helper()
	feeds := make([]*feed.Feed, n)
	for i := range feeds {
		feeds[i] = writer(t, 1, blocks...)
	}
	return feeds
}

// patch is a Core whose answers to requests for blocks are not those of a good peer.
type patch struct {
	*feed.Feed
	prove func(ctx context.Context, reqs []feed.Request) ([]feed.Proved, error)
}

func (p patch) Prove(ctx context.Context, reqs []feed.Request) ([]feed.Proved, error) {
	return p.prove(ctx, reqs)
}

// silent answers nothing.
func silent(f *feed.Feed) Core {
	return patch{f, func(ctx context.Context, _ []feed.Request) ([]feed.Proved, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}}
}

// mute answers what is not about a block.
func mute(f *feed.Feed) Core {
	return patch{f, func(ctx context.Context, reqs []feed.Request) ([]feed.Proved, error) {
		out, err := f.Prove(ctx, reqs)
		for i := range out {
			if reqs[i].Block != nil {
				<-ctx.Done()
				return nil, ctx.Err()
			}
		}
		return out, err
	}}
}

// refusing says that it has no block although it has announced all.
func refusing(f *feed.Feed) Core {
	return patch{f, func(ctx context.Context, reqs []feed.Request) ([]feed.Proved, error) {
		out, err := f.Prove(ctx, reqs)
		for i := range out {
			if reqs[i].Block != nil {
				out[i] = feed.Proved{Err: feed.ErrNotAvailable}
			}
		}
		return out, err
	}}
}

// lying sends blocks that are not the feed's.
func lying(f *feed.Feed) Core {
	return patch{f, func(ctx context.Context, reqs []feed.Request) ([]feed.Proved, error) {
		out, err := f.Prove(ctx, reqs)
		for i := range out {
			if b := out[i].Proof; b != nil && b.Block != nil {
				b.Block.Value = bytes.Clone(b.Block.Value)
				b.Block.Value[0] ^= 1
			}
		}
		return out, err
	}}
}

// forgetHalf clears every other run of eight blocks.
func forgetHalf(t *testing.T, f *feed.Feed) {
	t.Helper()
	s := session(t, f)
	defer s.Close()
	for i := uint64(0); i < f.Info().Length; i += 16 {
		if _, err := s.Clear(context.Background(), feed.Range{Start: i, End: i + 8}); err != nil {
			t.Fatal(err)
		}
	}
}

// fetch has a new reader download everything from the holders, each over a path of its own, and returns how
// long that takes. A holder joins when its delay has passed.
func fetch(t *testing.T, blocks [][]byte, of *feed.Feed, from []holder) (took time.Duration, stats Stats) {
	t.Helper()
	r := reader(t, of)
	x := exchange(t, r, true)
	run := newRunner(t)
	start := time.Now()
	for _, h := range from {
		join := func() {
			run.connectOver(simnet.New(h.path, h.path), exchange(t, h.core, h.reads), x)
		}
		if h.joins == 0 {
			join()
			continue
		}
		timer := time.AfterFunc(h.joins, join)
		defer timer.Stop()
	}
	s := session(t, r)
	defer s.Close()
	if _, err := s.Update(timed(t)); err != nil {
		t.Fatal(err)
	}
	if err := s.Download(timed(t), feed.Range{End: uint64(len(blocks))}); err != nil {
		t.Fatal(err)
	}
	took = time.Since(start)
	sameBlocks(t, r, blocks)
	return took, x.Stats()
}

type holder struct {
	core  Core
	reads bool // it downloads too
	path  simnet.Path
	joins time.Duration
}

// Whatever the others do, a download takes at most twice the time that the one good peer needs alone.
func TestBadPeersCostABoundedShare(t *testing.T) {
	t.Parallel()
	slow := home
	slow.Bandwidth /= 50
	sizes := []int{1 << 10, 32 << 10}
	if testing.Short() {
		sizes = sizes[1:] // what is measured is the same at any speed
	}
	for _, size := range sizes {
		blocks := numbered(4<<20/size, size)
		for _, c := range []struct {
			name  string
			bad   func(f *feed.Feed) Core
			reads bool // the bad ones are readers which have half of the blocks
			path  simnet.Path
		}{
			{"slow", func(f *feed.Feed) Core { return f }, false, slow},
			{"silent", silent, false, home},
			{"mute", mute, false, home},
			{"refusing", refusing, false, home},
			{"lying", lying, false, home},
			{"slow readers", func(f *feed.Feed) Core { return f }, true, slow},
			{"mute readers", mute, true, home},
			{"refusing readers", refusing, true, home},
		} {
			t.Run(c.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					feeds := holders(t, 8, blocks)
					good := holder{core: feeds[0], path: home}
					alone, _ := fetch(t, blocks, feeds[0], []holder{good})
					all := []holder{good}
					for _, f := range feeds[1:] {
						if c.reads {
							forgetHalf(t, f)
						}
						all = append(all, holder{core: c.bad(f), reads: c.reads, path: c.path})
					}
					took, stats := fetch(t, blocks, feeds[0], all)
					t.Logf("blocks of %d: %v alone, %v with 7 bad ones, %+v", size, alone, took, stats)
					if took > 2*alone {
						t.Errorf("blocks of %d: %v alone, %v with 7 bad ones", size, alone, took)
					}
				})
			})
		}
	}
}

// Two peers bring twice as much as one, also when the second comes late; and none brings what the other does.
func TestAPeerThatJoinsMidwayShortensTheRest(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1 << 10, 32 << 10} {
		if testing.Short() && size == 1<<10 {
			continue
		}
		synctest.Test(t, func(t *testing.T) {
			blocks := numbered(4<<20/size, size)
			feeds := holders(t, 2, blocks)
			first, second := holder{core: feeds[0], path: home}, holder{core: feeds[1], path: home}
			alone, _ := fetch(t, blocks, feeds[0], []holder{first})
			both, stats := fetch(t, blocks, feeds[0], []holder{first, second})
			second.joins = alone / 2
			late, _ := fetch(t, blocks, feeds[0], []holder{first, second})
			t.Logf("blocks of %d: %v alone, %v with two, %v with one and a late one, %+v", size, alone, both, late, stats)
			if both > alone*6/10 || late > alone*8/10 {
				t.Errorf("blocks of %d: %v alone, %v with two, %v with one and a late one", size, alone, both, late)
			}
			if stats.Duplicates > uint64(len(blocks)/20) {
				t.Errorf("blocks of %d: %d of %d blocks were asked twice", size, stats.Duplicates, len(blocks))
			}
		})
	}
}
