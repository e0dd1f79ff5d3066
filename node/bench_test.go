package node

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"

	datastore "github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/p2pcore/p2pcore/corestore"
	"github.com/p2pcore/p2pcore/corestore/disk"
	"github.com/p2pcore/p2pcore/feed"
)

// BenchmarkReplicate measures how fast a feed that one node has gets into another one's store, over loopback in one
// process: two hosts, two stores, every block proven, verified and written. An operation is a block.
func BenchmarkReplicate(b *testing.B) {
	for _, transport := range []struct{ name, addr string }{{"TCP", loopbackTCP}, {"QUIC", loopbackQUIC}} {
		for _, storage := range []struct {
			name string
			open func(b *testing.B) datastore.Batching
		}{{"memory", memory}, {"disk", onDisk}} {
			for _, size := range []int{1 << 10, 64 << 10} {
				b.Run(fmt.Sprintf("%s/%s/%dKiB", transport.name, storage.name, size>>10), func(b *testing.B) {
					replicate(b, transport.addr, storage.open, size)
				})
			}
		}
	}
}

func replicate(b *testing.B, addr string, open func(*testing.B) datastore.Batching, size int) {
	listen := WithListenAddrs(ma.StringCast(addr))
	sa, sb := benchStore(b, open), benchStore(b, open)
	na, nb := newNode(b, sa, listen), newNode(b, sb, listen)
	w := named(b, sa, "log")
	connect(b, nb, na)
	r := keyed(b, sb, w.Key())
	blocks := make([][]byte, min(b.N, max(1, 1<<20/size)))
	random := rand.NewChaCha8([32]byte{})
	for i := range blocks {
		blocks[i] = make([]byte, size)
		random.Read(blocks[i])
	}
	for left := b.N; left > 0; {
		n := min(left, len(blocks))
		if _, err := w.Append(b.Context(), blocks[:n]...); err != nil {
			b.Fatal(err)
		}
		left -= n
	}
	b.SetBytes(int64(size))
	b.ReportAllocs()
	b.ResetTimer()
	if err := r.Download(b.Context(), feed.Range{Start: 0, End: uint64(b.N)}); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "blocks/s")
}

func benchStore(b *testing.B, open func(*testing.B) datastore.Batching) *corestore.Store {
	b.Helper()
	store, err := corestore.Open(b.Context(), open(b), corestore.Options{NoSync: true})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { store.Close() })
	return store
}

func memory(*testing.B) datastore.Batching { return dssync.MutexWrap(datastore.NewMapDatastore()) }

func onDisk(b *testing.B) datastore.Batching {
	b.Helper()
	d, err := disk.Open(filepath.Join(b.TempDir(), "store"), disk.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { d.Close() })
	return d.Datastore()
}
