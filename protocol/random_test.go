package protocol

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/internal/merkle"
	"github.com/p2pcore/p2pcore/internal/wire"
)

// TestRandomConversations sends all kinds of messages at all moments, right and wrong.
func TestRandomConversations(t *testing.T) {
	t.Parallel()
	w := writer(t, 1, numbered(20, 10)...)
	key := w.Key()
	for seed := range uint64(150) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 2))
			core := createFeed(t, feed.Options{Key: &key})
			if seed%3 == 0 {
				core = writer(t, 1, numbered(20, 10)...)
			}
			x := exchange(t, core, seed%2 == 0)
			c, r, done := victim(t, Config{}, x)
			capability := Capability(key, testBinding, true)
			if seed%5 != 0 {
				_ = r.open(1, core.DiscoveryKey(), capability)
			}
			small := func() uint64 { return rng.Uint64N(24) }
			huge := func() uint64 {
				if rng.IntN(3) == 0 {
					return rng.Uint64N(1 << 53)
				}
				return small()
			}
			proof := func() merkle.Proof {
				reqs := []feed.Request{{Fork: 0, Manifest: rng.IntN(2) == 0}}
				if rng.IntN(2) == 0 {
					reqs[0].Upgrade = &merkle.UpgradeRequest{Start: 0, Length: 20}
				} else {
					reqs[0].Block = &merkle.BlockRequest{Index: rng.Uint64N(20), Nodes: rng.Uint64N(4)}
				}
				out, err := w.Prove(context.Background(), reqs)
				if err != nil || out[0].Proof == nil {
					return merkle.Proof{Fork: small()}
				}
				return *cloneProof(out[0].Proof)
			}
			for range 120 {
				var m wire.Message
				switch rng.IntN(13) {
				case 0:
					m = &wire.Sync{Fork: small() / 20, Length: huge(), RemoteLength: small(), CanUpgrade: true, Uploading: true, Downloading: rng.IntN(2) == 0, HasManifest: true}
				case 1:
					m = &wire.Request{ID: small(), Request: merkle.Request{Block: &merkle.BlockRequest{Index: huge(), Nodes: huge()}}}
				case 2:
					m = &wire.Request{ID: small(), Request: merkle.Request{Upgrade: &merkle.UpgradeRequest{Start: huge(), Length: huge()}, Seek: &merkle.SeekRequest{Bytes: huge()}}}
				case 3:
					m = &wire.Cancel{ID: small()}
				case 4, 5, 6:
					m = &wire.Data{ID: small(), Proof: proof()}
				case 7:
					m = &wire.NoData{ID: small(), Reason: small()}
				case 8:
					m = &wire.Want{Start: huge(), Length: huge(), Any: rng.IntN(2) == 0}
				case 9:
					m = &wire.Unwant{Start: huge(), Length: huge()}
				case 10:
					m = &wire.Bitfield{Start: huge(), Words: make([]uint32, small())}
				case 11:
					m = &wire.Range{Drop: rng.IntN(2) == 0, Start: huge(), Length: huge()}
				case 12:
					if rng.IntN(4) == 0 {
						_ = r.frame([]byte{0, 3, 1}) // close, and open again
						_ = r.open(1, core.DiscoveryKey(), capability)
					}
					m = &wire.Extension{Name: "x", Message: []byte("y")}
				}
				_ = r.send(1, m)
				if rng.IntN(10) == 0 {
					r.read()
				}
			}
			r.read()
			time.Sleep(time.Second)
			_ = c.Close()
			<-done
		})
	}
}

// slow is a feed whose disk takes its time, until it is told to go on.
type slow struct {
	*feed.Feed
	gate    chan struct{}
	largest atomic.Int64 // bytes in one Apply
}

func (s *slow) Apply(ctx context.Context, ps []*feed.Proof) ([]feed.Applied, error) {
	<-s.gate
	var n int64
	for _, p := range ps {
		if p.Block != nil {
			n += int64(len(p.Block.Value))
		}
	}
	s.largest.Store(max(s.largest.Load(), n))
	return s.Feed.Apply(ctx, ps)
}

func TestASlowDiskHoldsTheReaderBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		blocks := numbered(200, 32<<10)
		w := writer(t, 1, blocks...)
		core := &slow{Feed: reader(t, w), gate: make(chan struct{}, 1)}
		rx := exchange(t, core, true)
		newRunner(t).connect([]*Exchange{exchange(t, w, false)}, []*Exchange{rx})
		s := session(t, core.Feed)
		defer s.Close()
		done := make(chan error, 1)
		ctx := timed(t)
		go func() { done <- s.Download(ctx, feed.Range{End: uint64(len(blocks))}) }()
		for {
			select {
			case err := <-done:
				if err != nil {
					t.Fatal(err)
				}
				sameBlocks(t, core.Feed, blocks)
				if n := core.largest.Load(); n > maxApplyBytes+64<<10 {
					t.Errorf("%d bytes in one Apply", n)
				}
				close(core.gate)
				return
			case core.gate <- struct{}{}:
				synctest.Wait()
			}
		}
	})
}
