package corestore_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	datastore "github.com/ipfs/go-datastore"

	"github.com/p2pcore/p2pcore/corestore"
	"github.com/p2pcore/p2pcore/corestore/disk"
	"github.com/p2pcore/p2pcore/feed"
)

// manyFeeds is the number of feeds that a store is sized for being open at once.
const manyFeeds = 10_000

// makeFeeds makes n feeds of one block each, named by their numbers.
func makeFeeds(tb testing.TB, ds datastore.Batching, n int) []feed.DiscoveryKey {
	tb.Helper()
	s := open(tb, ds, corestore.Options{NoSync: true, IdleTimeout: time.Nanosecond})
	defer closeStore(tb, s)
	dks := make([]feed.DiscoveryKey, n)
	for i := range dks {
		session := must(tb)(s.Named(tb.Context(), fmt.Sprint(i)))
		appendText(tb, session, "block")
		dks[i] = session.DiscoveryKey()
		if err := session.Close(); err != nil {
			tb.Fatal(err)
		}
	}
	return dks
}

// openFeeds opens all feeds that makeFeeds has made.
func openFeeds(tb testing.TB, s *corestore.Store) (sessions []*feed.Session) {
	tb.Helper()
	for i := range manyFeeds {
		sessions = append(sessions, must(tb)(s.Named(tb.Context(), fmt.Sprint(i))))
	}
	return sessions
}

// heap returns the bytes that are in use on the heap. Nothing else may run.
func heap() int64 {
	runtime.GC()
	runtime.GC() // what has finalizers, and what was in pools
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// BenchmarkManyFeeds opens a store of 10,000 feeds (start: its datastore too), lists it, and opens all feeds by discovery
// key, as peers do. One operation is one feed, but for start and open, where it is the store. memory tells what the store with its feeds closed,
// after a list, and what each open feed takes of the heap.
func BenchmarkManyFeeds(b *testing.B) {
	ctx := context.Background()
	dir := b.TempDir()
	openDisk := func(b *testing.B) *disk.Disk {
		d, err := disk.Open(dir, disk.Options{})
		if err != nil {
			b.Fatal(err)
		}
		return d
	}
	d := openDisk(b)
	dks := makeFeeds(b, d.Datastore(), manyFeeds)
	d.Close()

	b.Run("start", func(b *testing.B) {
		for b.Loop() {
			d := openDisk(b)
			s, err := corestore.Open(ctx, d.Datastore(), corestore.Options{})
			if err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			s.Close()
			d.Close()
			b.StartTimer()
		}
	})
	d = openDisk(b)
	defer d.Close()
	ds := d.Datastore()
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
	b.Run("memory", func(b *testing.B) {
		for b.Loop() {
			before := heap()
			s := open(b, ds, corestore.Options{IdleTimeout: -1})
			list(b, s)
			closed := heap()
			sessions := openFeeds(b, s)
			opened := heap()
			runtime.KeepAlive(sessions)
			closeStore(b, s)
			b.ReportMetric(float64(max(closed-before, 0))/manyFeeds, "B/closed-feed")
			b.ReportMetric(float64(opened-closed)/manyFeeds, "B/open-feed")
		}
	})
}
