package node

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/p2pcore/p2pcore/corestore"
	"github.com/p2pcore/p2pcore/feed"
)

// BenchmarkReplicateManyFeeds fetches 1,000 of the 10,000 feeds of a store, which has none of them open, over one stream of
// JavaScript's in memory. Both stores are on disk. One operation is all of it, from the handshake to the last block.
func BenchmarkReplicateManyFeeds(b *testing.B) {
	const stored, shared = 10_000, 1_000
	from, err := corestore.Open(b.Context(), onDisk(b), corestore.Options{NoSync: true, IdleTimeout: time.Nanosecond})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { from.Close() })
	keys := make([]feed.Key, stored)
	for i := range keys {
		f, err := from.Named(b.Context(), fmt.Sprint(i))
		if err != nil {
			b.Fatal(err)
		}
		appendBlocks(b, f, "block")
		keys[i] = f.Key()
		f.Close()
	}
	served := NewReplicator(from, ReplicatorOptions{})
	defer served.Close()

	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		to := benchStore(b, onDisk)
		copies := make([]*feed.Session, shared)
		for i := range copies {
			copies[i] = keyed(b, to, keys[i])
		}
		r := NewReplicator(to, ReplicatorOptions{})
		here, there := net.Pipe()
		var ends sync.WaitGroup
		b.StartTimer()
		ends.Go(func() { served.RunNoise(context.Background(), there, NoiseConversation{}) })
		ends.Go(func() { r.RunNoise(context.Background(), here, NoiseConversation{Initiator: true}) })
		var waits sync.WaitGroup
		for _, f := range copies {
			waits.Go(func() {
				if _, err := f.Get(b.Context(), 0); err != nil {
					b.Error(err)
				}
			})
		}
		waits.Wait()
		b.StopTimer()
		r.Close()
		ends.Wait()
		b.StartTimer()
	}
	b.ReportMetric(shared*float64(b.N)/b.Elapsed().Seconds(), "feeds/s")
}
