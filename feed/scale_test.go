package feed

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/p2pcore/p2pcore/internal/flattree"
	"github.com/p2pcore/p2pcore/internal/merkle"
)

// largeEnv asks for feeds of 10^7 blocks as well.
const largeEnv = "P2PCORE_LARGE"

func scales() []uint64 {
	sizes := []uint64{1e4, 1e5, 1e6}
	if os.Getenv(largeEnv) != "" {
		sizes = append(sizes, 1e7)
	}
	return sizes
}

// grown makes a feed of n blocks of 16 bytes in dir.
func grown(t testing.TB, dir string, n uint64) {
	t.Helper()
	ds := pebbleStore(t, dir, vfs.Default)
	pair := KeyPairFromSeed([32]byte{7})
	f, err := Create(context.Background(), ableStore{ds}, Options{Prefix: testPrefix, KeyPair: &pair, NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	s := session(t, f)
	const batch = 10_000
	blocks := make([][]byte, batch)
	memory := make([]byte, 16*batch)
	for i := range blocks {
		blocks[i] = memory[16*i : 16*i+16]
	}
	for at := uint64(0); at < n; at += batch {
		for i := range blocks {
			binary.LittleEndian.PutUint64(blocks[i], at+uint64(i))
		}
		if _, err := s.Append(context.Background(), blocks...); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := ds.Close(); err != nil {
		t.Fatal(err)
	}
}

// heap returns the bytes in use.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A feed of any length opens at once and takes the same memory while it is contiguous; beyond the contiguous
// prefix it takes one bit for each block.
func TestLongFeedIsCheapToHave(t *testing.T) {
	if testing.Short() {
		t.Skip("makes a feed of a million blocks")
	}
	for _, n := range scales() {
		dir := t.TempDir()
		grown(t, dir, n)
		ds := ableStore{pebbleStore(t, dir, vfs.Default)}
		before := heap()
		start := time.Now()
		f, err := Open(t.Context(), ds, Options{Prefix: testPrefix})
		took := time.Since(start)
		if err != nil {
			t.Fatal(err)
		}
		opened := heap() - before
		t.Logf("%d blocks: opened in %v, %d bytes", n, took, opened)
		if took > 500*time.Millisecond {
			t.Errorf("%d blocks: opening took %v", n, took)
		}
		// The same for every length: pages, head, and what the datastore caches on the way.
		if opened > 512<<10 {
			t.Errorf("%d blocks: %d bytes in memory", n, opened)
		}
		// With block 0 gone, all others lie past the contiguous prefix, and a hole in each page makes the
		// pages as expensive as they get.
		s := session(t, f)
		for at := uint64(0); at < n; at += 16 << 10 {
			if _, err := s.Clear(t.Context(), Range{Start: at, End: at + 1}); err != nil {
				t.Fatal(err)
			}
		}
		if size := uint64(f.bits.Size()); size > n/8+n/100+16<<10 {
			t.Errorf("%d blocks, not contiguous: %d bytes, more than a bit for each", n, size)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		start = time.Now()
		if f, err = Open(t.Context(), ds, Options{Prefix: testPrefix}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took > 500*time.Millisecond {
			t.Errorf("%d blocks, not contiguous: opening took %v", n, took)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// BenchmarkLong opens feeds of many blocks, and reads blocks of them in random order.
func BenchmarkLong(b *testing.B) {
	for _, n := range scales() {
		dir := b.TempDir()
		grown(b, dir, n)
		ds := ableStore{pebbleStore(b, dir, vfs.Default)}
		b.Run(fmt.Sprintf("open/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				f, err := Open(b.Context(), ds, Options{Prefix: testPrefix})
				if err != nil {
					b.Fatal(err)
				}
				if err := f.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
		f, err := Open(context.Background(), ds, Options{Prefix: testPrefix})
		if err != nil {
			b.Fatal(err)
		}
		s := session(b, f)
		b.Run(fmt.Sprintf("get/%d", n), func(b *testing.B) {
			random := rand.New(rand.NewPCG(1, 1))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.GetLocal(b.Context(), random.Uint64N(n)); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("prove/%d", n), func(b *testing.B) {
			random := rand.New(rand.NewPCG(1, 1))
			b.ReportAllocs()
			for b.Loop() {
				i := random.Uint64N(n)
				nodes := merkle.MaxMissingNodes(flattree.Leaf(i), n)
				if p, err := f.Prove(b.Context(), []Request{{Block: &BlockRequest{Index: i, Nodes: nodes}}}); err != nil || p[0].Err != nil {
					b.Fatal(p, err)
				}
			}
		})
		if err := f.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
