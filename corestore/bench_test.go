package corestore_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"testing"

	datastore "github.com/ipfs/go-datastore"

	"github.com/p2pcore/p2pcore/corestore"
	"github.com/p2pcore/p2pcore/corestore/disk"
	"github.com/p2pcore/p2pcore/feed"
)

// manyFeeds is the number of feeds that a store is sized for being open at once.
const manyFeeds = 10_000

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

// BenchmarkManyFeeds opens a store of 10,000 feeds, lists it, and opens all feeds by discovery key, as
// peers do. One operation is one feed, but for open, where it is the store.
func BenchmarkManyFeeds(b *testing.B) {
	ctx := context.Background()
	ds := benchDatastore(b, disk.Options{})
	s := open(b, ds, corestore.Options{NoSync: true})
	dks := make([]feed.DiscoveryKey, manyFeeds)
	for i := range dks {
		session, err := s.Named(ctx, fmt.Sprint(i))
		if err != nil {
			b.Fatal(err)
		}
		dks[i] = session.DiscoveryKey()
		session.Close()
	}
	closeStore(b, s)

	b.Run("open", func(b *testing.B) {
		for b.Loop() {
			s, err := corestore.Open(ctx, ds, corestore.Options{})
			if err != nil {
				b.Fatal(err)
			}
			s.Close()
		}
	})
	b.Run("list", func(b *testing.B) {
		s := open(b, ds, corestore.Options{})
		b.ReportAllocs()
		n := 0
		for b.Loop() {
			if n%manyFeeds == 0 {
				n += len(list(b, s))
			}
			n--
			if n < 0 {
				b.Fatal("the list is empty")
			}
		}
	})
	b.Run("resolve", func(b *testing.B) {
		s := open(b, ds, corestore.Options{IdleTimeout: -1})
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			if i%manyFeeds == 0 && i > 0 { // all are open: again from a closed store
				closeStore(b, s)
				s = open(b, ds, corestore.Options{IdleTimeout: -1})
			}
			_, _, err := s.Resolve(ctx, dks[i%manyFeeds])
			if err != nil {
				b.Fatal(err)
			}
			i++
		}
	})
	b.Run("named", func(b *testing.B) {
		s := open(b, ds, corestore.Options{IdleTimeout: -1})
		b.ReportAllocs()
		for b.Loop() {
			session, err := s.Named(ctx, "7")
			if err != nil {
				b.Fatal(err)
			}
			session.Close()
		}
	})
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
