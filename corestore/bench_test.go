package corestore_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"testing"

	datastore "github.com/ipfs/go-datastore"

	"github.com/p2pcore/p2pcore/corestore"
	"github.com/p2pcore/p2pcore/corestore/disk"
)

func benchDatastore(b *testing.B, opts disk.Options) datastore.Batching {
	b.Helper()
	d, err := disk.Open(b.TempDir(), opts)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { d.Close() })
	return d.Datastore()
}

// BenchmarkFresh makes feeds, durably and not, on the embedded store.
func BenchmarkFresh(b *testing.B) {
	for _, noSync := range []bool{false, true} {
		b.Run(fmt.Sprintf("nosync=%v", noSync), func(b *testing.B) {
			ctx := context.Background()
			s := open(b, benchDatastore(b, disk.Options{}), corestore.Options{NoSync: noSync})
			b.ReportAllocs()
			for b.Loop() {
				session, err := s.Fresh(ctx)
				if err != nil {
					b.Fatal(err)
				}
				session.Close()
			}
		})
	}
}

// BenchmarkAppend appends blocks of 1 KiB on the embedded store, 100 per call and one per call. One
// operation is one call.
func BenchmarkAppend(b *testing.B) {
	for _, n := range []int{100, 1} {
		for _, noSync := range []bool{false, true} {
			b.Run(fmt.Sprintf("blocks=%d,nosync=%v", n, noSync), func(b *testing.B) {
				ctx := context.Background()
				s := open(b, benchDatastore(b, disk.Options{}), corestore.Options{NoSync: noSync})
				session := must(b)(s.Fresh(ctx))
				blocks := make([][]byte, n)
				for i := range blocks {
					blocks[i] = make([]byte, 1<<10)
					rand.Read(blocks[i])
				}
				b.SetBytes(int64(n) << 10)
				b.ReportAllocs()
				for b.Loop() {
					if _, err := session.Append(ctx, blocks...); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "blocks/s")
			})
		}
	}
}
