package protocol

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/p2pcore/p2pcore/feed"
)

// Anybody can make the manifest of a compat feed, so one that comes with a good proof says nothing.
func TestAForgedCompatManifestDoesNotStopAnHonestPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		blocks := numbered(200, 30)
		w := writer(t, 1, blocks...)
		r := reader(t, w)
		rx := exchange(t, r, true)
		run := newRunner(t)
		l := &liar{Feed: w, spoil: func(p *feed.Proof) bool {
			p.Manifest = feed.DefaultManifest(w.Key()).Append(nil)
			return true
		}}
		run.connect([]*Exchange{exchange(t, l, false)}, []*Exchange{rx})
		done := make(chan error, 1)
		s := session(t, r)
		defer s.Close()
		ctx := timed(t)
		go func() { done <- s.Download(ctx, feed.Range{End: uint64(len(blocks))}) }()
		time.Sleep(time.Second)
		if l.lies.Load() == 0 {
			t.Error("no lies were told")
		}
		run.connect([]*Exchange{exchange(t, w, false)}, []*Exchange{rx})
		if err := <-done; err != nil {
			t.Errorf("with an honest peer: %v; %+v", err, rx.Stats())
		}
	})
}

// A peer that moves bytes from one of the two lowest nodes of a proof to the other changes no hash.
func TestShiftedSizesDoNotMisleadSeek(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n, size = 64, 100
		var blocks [][]byte
		for i := range n {
			blocks = append(blocks, make([]byte, size))
			blocks[i][0] = byte(i)
		}
		w := writer(t, 1, blocks...)
		r := reader(t, w)
		rx := exchange(t, r, true)
		run := newRunner(t)
		shift := func(nodes []feed.Node) bool {
			if len(nodes) < 2 || nodes[0].Size < size/2 {
				return false
			}
			nodes[0].Size -= size / 2
			nodes[1].Size += size / 2
			return true
		}
		l := &liar{Feed: w, spoil: func(p *feed.Proof) bool {
			lied := p.Seek != nil && shift(p.Seek.Nodes)
			return p.Hash != nil && shift(p.Hash.Nodes) || lied
		}}
		run.connect([]*Exchange{exchange(t, l, false)}, []*Exchange{rx})
		s := session(t, r)
		defer s.Close()
		ctx := timed(t)
		if _, err := s.Update(ctx); err != nil {
			t.Fatal(err)
		}
		for _, at := range []uint64{3333, 3380, 150, 160, 6000, 777, 1, 6399, 4099, 4100} {
			index, offset, err := s.Seek(ctx, at)
			if err != nil || index != at/size || offset != at%size {
				t.Errorf("byte %d: block %d offset %d, %v; want %d, %d", at, index, offset, err, at/size, at%size)
			}
		}
		if l.lies.Load() == 0 {
			t.Error("no lies were told")
		}
		// What is stored serves others, and is sound.
		if err := r.Check(ctx); err != nil {
			t.Error(err)
		}
		third := reader(t, w)
		run.connect([]*Exchange{exchange(t, r, false)}, []*Exchange{exchange(t, third, true)})
		ts := session(t, third)
		defer ts.Close()
		passed := 0
		for i := range uint64(n) {
			if r.Has(feed.Range{Start: i, End: i + 1}) {
				if b, err := ts.Get(ctx, i); err != nil || b[0] != byte(i) {
					t.Errorf("block %d from who was lied to: %v", i, err)
				}
				passed++
			}
		}
		if passed == 0 {
			t.Error("nothing was stored")
		}
	})
}
