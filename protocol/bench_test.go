package protocol

import (
	"context"
	"fmt"
	"testing"

	"github.com/p2pcore/p2pcore/feed"
)

// BenchmarkReplicate downloads a feed over a stream in memory, both ends in this process, feeds in
// an in-memory datastore.
func BenchmarkReplicate(b *testing.B) {
	for _, c := range []struct{ size, blocks int }{{1 << 10, 20_000}, {64 << 10, 1000}} {
		b.Run(fmt.Sprintf("block=%d", c.size), func(b *testing.B) {
			blocks := make([][]byte, c.blocks)
			for i := range blocks {
				blocks[i] = make([]byte, c.size)
				blocks[i][0], blocks[i][1] = byte(i), byte(i>>8)
			}
			pair := feed.KeyPairFromSeed([32]byte{1})
			w, err := feed.Create(context.Background(), memory(), feed.Options{Prefix: "/00000001", KeyPair: &pair})
			if err != nil {
				b.Fatal(err)
			}
			for i := 0; i < len(blocks); i += 100 {
				appendBlocks(b, w, blocks[i:min(i+100, len(blocks))]...)
			}
			wx := NewExchange(w, ExchangeOptions{})
			defer wx.Close()
			key := w.Key()
			b.SetBytes(int64(c.size * c.blocks))
			b.ReportAllocs()
			for b.Loop() {
				r, err := feed.Create(context.Background(), memory(), feed.Options{Prefix: "/00000001", Key: &key})
				if err != nil {
					b.Fatal(err)
				}
				rx := NewExchange(r, ExchangeOptions{Downloading: true})
				run := &runner{t: b}
				run.connect([]*Exchange{wx}, []*Exchange{rx})
				s := session(b, r)
				if err := s.Download(context.Background(), feed.Range{End: uint64(c.blocks)}); err != nil {
					b.Fatal(err)
				}
				_ = s.Close()
				_ = rx.Close()
				run.group.Close()
				_ = r.Close()
			}
			b.ReportMetric(float64(c.blocks*b.N)/b.Elapsed().Seconds(), "blocks/s")
		})
	}
}
