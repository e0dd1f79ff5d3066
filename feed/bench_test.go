package feed

import (
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	datastore "github.com/ipfs/go-datastore"
)

func diskStore(b *testing.B) datastore.Batching {
	return ableStore{pebbleStore(b, b.TempDir(), vfs.Default)}
}

func BenchmarkAppend(b *testing.B) {
	for _, bc := range []struct {
		name   string
		batch  int
		noSync bool
	}{{"batch100/durable", 100, false}, {"batch100/NoSync", 100, true}, {"one/durable", 1, false}, {"one/NoSync", 1, true}} {
		b.Run(bc.name, func(b *testing.B) {
			pair := KeyPairFromSeed([32]byte{7})
			f, err := Create(b.Context(), diskStore(b), Options{Prefix: testPrefix, KeyPair: &pair, NoSync: bc.noSync})
			if err != nil {
				b.Fatal(err)
			}
			defer f.Close()
			s := session(b, f)
			blocks := make([][]byte, bc.batch)
			for i := range blocks {
				blocks[i] = make([]byte, 1024)
				for j := range blocks[i] {
					blocks[i][j] = byte(i * j)
				}
			}
			b.SetBytes(int64(bc.batch) * 1024)
			b.ReportAllocs()
			for b.Loop() {
				blocks[0][0]++
				appendBlocks(b, s, blocks...)
			}
			b.ReportMetric(float64(b.N*bc.batch)/b.Elapsed().Seconds(), "blocks/s")
		})
	}
}

// BenchmarkAppendConcurrently appends blocks of 1 KiB one by one to many feeds of one store at once, durably:
// the calls share syncs of the disk.
func BenchmarkAppendConcurrently(b *testing.B) {
	for _, n := range []int{1, 16} {
		b.Run(fmt.Sprintf("%dfeeds", n), func(b *testing.B) {
			ds := diskStore(b)
			sessions := make([]*Session, n)
			for i := range sessions {
				pair := KeyPairFromSeed([32]byte{byte(i)})
				f, err := Create(b.Context(), ds, Options{Prefix: fmt.Sprintf("/%08x", i), KeyPair: &pair})
				if err != nil {
					b.Fatal(err)
				}
				defer f.Close()
				sessions[i] = session(b, f)
			}
			var next atomic.Int64
			b.SetBytes(1024)
			b.ReportAllocs()
			b.SetParallelism((n + runtime.GOMAXPROCS(0) - 1) / runtime.GOMAXPROCS(0))
			b.RunParallel(func(pb *testing.PB) {
				s := sessions[int(next.Add(1))%n]
				block := make([]byte, 1024)
				for pb.Next() {
					block[0]++
					appendBlocks(b, s, block)
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "blocks/s")
		})
	}
}

func benchFeed(b *testing.B, length int) (*Feed, *Session) {
	b.Helper()
	pair := KeyPairFromSeed([32]byte{7})
	f, err := Create(b.Context(), diskStore(b), Options{Prefix: testPrefix, KeyPair: &pair, NoSync: true})
	if err != nil {
		b.Fatal(err)
	}
	s := session(b, f)
	block := make([]byte, 1024)
	blocks := make([][]byte, 1000)
	for i := range blocks {
		blocks[i] = block
	}
	for range length / len(blocks) {
		appendBlocks(b, s, blocks...)
	}
	return f, s
}

func BenchmarkGet(b *testing.B) {
	const length = 100_000
	f, s := benchFeed(b, length)
	defer f.Close()
	b.SetBytes(1024)
	b.ReportAllocs()
	for i := uint64(0); b.Loop(); i++ {
		if _, err := s.Get(b.Context(), i*7919%length); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRead reads blocks of 1 KiB in order, as blocks and as bytes.
func BenchmarkRead(b *testing.B) {
	const length = 100_000
	f, s := benchFeed(b, length)
	defer f.Close()
	b.Run("Get", func(b *testing.B) {
		b.SetBytes(1024)
		b.ReportAllocs()
		for i := uint64(0); b.Loop(); i++ {
			if _, err := s.Get(b.Context(), i%length); err != nil {
				b.Fatal(err)
			}
		}
	})
	for _, size := range []int{100, 1024, 64 << 10} {
		b.Run(fmt.Sprintf("Reader/%dbytes", size), func(b *testing.B) {
			r, err := s.NewReader(b.Context(), ReaderOptions{})
			if err != nil {
				b.Fatal(err)
			}
			defer r.Close()
			p := make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				_, err := io.ReadFull(r, p)
				if err == io.EOF || err == io.ErrUnexpectedEOF {
					_, err = r.Seek(0, io.SeekStart)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkApply takes 1 KiB blocks in order, as a download does: in commits of a number of proofs.
func BenchmarkApply(b *testing.B) {
	const length = 100_000
	w, _ := benchFeed(b, length)
	defer w.Close()
	for _, n := range []int{1, 16, 128} {
		b.Run(fmt.Sprintf("%dx1KiB", n), func(b *testing.B) {
			key := w.Key()
			var r *Feed
			at := uint64(length)
			b.SetBytes(int64(n) * 1024)
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				if at+uint64(n) > length {
					if r != nil {
						r.Close()
					}
					var err error
					if r, err = Create(b.Context(), diskStore(b), Options{Prefix: testPrefix, Key: &key}); err != nil {
						b.Fatal(err)
					}
					upgrade(b, w, r)
					at = 0
				}
				ps := proofsFor(b, w, r, at, n)
				b.StartTimer()
				apply(b, r, ps...)
				at += uint64(n)
			}
			b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "blocks/s")
			r.Close()
		})
	}
}

// proofsFor asks as a downloader does: with the nodes that are missing when it asks.
func proofsFor(t testing.TB, w, r *Feed, start uint64, n int) (ps []*Proof) {
	t.Helper()
	blocks := make([]uint64, n)
	for i := range blocks {
		blocks[i] = start + uint64(i)
	}
	nodes, err := r.Plan(t.Context(), blocks)
	if err != nil {
		t.Fatal(err)
	}
	reqs := make([]Request, n)
	for i := range reqs {
		reqs[i].Block = &BlockRequest{Index: blocks[i], Nodes: nodes[i]}
	}
	proved, err := w.Prove(t.Context(), reqs)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range proved {
		if p.Err != nil {
			t.Fatal(p.Err)
		}
		ps = append(ps, p.Proof)
	}
	return ps
}

// BenchmarkProve serves 1 KiB blocks in order.
func BenchmarkProve(b *testing.B) {
	const length = 100_000
	w, _ := benchFeed(b, length)
	defer w.Close()
	for _, n := range []int{1, 16, 128} {
		b.Run(fmt.Sprintf("%dx1KiB", n), func(b *testing.B) {
			reqs := make([]Request, n)
			at := uint64(0)
			b.SetBytes(int64(n) * 1024)
			b.ReportAllocs()
			for b.Loop() {
				for i := range reqs {
					reqs[i].Block = &BlockRequest{Index: at % length, Nodes: 1}
					at++
				}
				if _, err := w.Prove(b.Context(), reqs); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "blocks/s")
		})
	}
}

// scaled runs a benchmark on feeds of growing lengths; P2PCORE_LARGE=1 adds one of 10,000,000 blocks.
func scaled(b *testing.B, bench func(b *testing.B, ds datastore.Batching, length uint64)) {
	for _, length := range scaleLengths() {
		dir := b.TempDir()
		grown(b, dir, length)
		b.Run(fmt.Sprintf("%dblocks", length), func(b *testing.B) {
			bench(b, ableStore{pebbleStore(b, dir, vfs.Default)}, length)
		})
	}
}

// BenchmarkOpen opens a feed and closes it.
func BenchmarkOpen(b *testing.B) {
	scaled(b, func(b *testing.B, ds datastore.Batching, _ uint64) {
		b.ReportAllocs()
		for b.Loop() {
			f, err := Open(b.Context(), ds, Options{Prefix: testPrefix})
			if err != nil {
				b.Fatal(err)
			}
			f.Close()
		}
	})
}

// BenchmarkRandomRead reads small blocks in no order.
func BenchmarkRandomRead(b *testing.B) {
	scaled(b, func(b *testing.B, ds datastore.Batching, length uint64) {
		f, err := Open(b.Context(), ds, Options{Prefix: testPrefix})
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		s := session(b, f)
		random := rand.New(rand.NewPCG(length, 1))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := s.GetLocal(b.Context(), random.Uint64N(length)); err != nil {
				b.Fatal(err)
			}
		}
	})
}
