package feed

import (
	"bytes"
	"fmt"
	"io/fs"
	"iter"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// inDirectory opens the feed in a directory, or makes it, and closes all of it afterwards.
func inDirectory(t *testing.T, dir string, use func(t *testing.T, f *Feed, s *Session)) {
	t.Helper()
	t.Run("open", func(t *testing.T) { // so that the datastore is closed at the end
		f, err := openKilled(t, dir)
		if err != nil {
			t.Fatal(err)
		}
		use(t, f, session(t, f))
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func bytesIn(t *testing.T, dir string) (total int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			total += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return total
}

// TestDiskComesBack fills a directory, gives some of it up in each of the ways there are, and looks whether
// the directory is smaller when the datastore is closed.
func TestDiskComesBack(t *testing.T) {
	const blockBytes = 4 << 10
	length := uint64(64<<20) / blockBytes
	if testing.Short() {
		length /= 4
	}
	half := Range{Start: 0, End: length / 2}
	clear := func(t *testing.T, s *Session) {
		t.Helper()
		if cleared, err := s.Clear(t.Context(), half); err != nil || cleared != (Cleared{half.End, half.End * blockBytes}) {
			t.Fatalf("cleared %+v, %v", cleared, err)
		}
	}
	truncate := func(t *testing.T, s *Session, length uint64) {
		t.Helper()
		if _, err := s.Truncate(t.Context(), length, TruncateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name string
		left float64 // of the blocks
		give func(t *testing.T, s *Session)
	}{
		{"half is cleared", 1. / 2, clear},
		{"three quarters are truncated", 1. / 4, func(t *testing.T, s *Session) { truncate(t, s, length/4) }},
		{"both halves go under a snapshot", 0, func(t *testing.T, s *Session) {
			snapshot, err := s.Snapshot()
			if err != nil {
				t.Fatal(err)
			}
			clear(t, s)
			truncate(t, s, length/2)
			for i := range length {
				if b, err := snapshot.GetLocal(t.Context(), i); err != nil || len(b) != blockBytes {
					t.Fatalf("block %d of the snapshot: %d bytes, %v", i, len(b), err)
				}
			}
			if err := snapshot.Close(); err != nil {
				t.Fatal(err)
			}
		}},
		{"all of it is purged", 0, func(t *testing.T, s *Session) {
			if err := s.Feed().Purge(t.Context()); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			inDirectory(t, dir, func(t *testing.T, _ *Feed, s *Session) {
				random := rand.NewChaCha8([32]byte{1})
				blocks := make([][]byte, 1024)
				for at := uint64(0); at < length; at += uint64(len(blocks)) {
					for i := range blocks {
						blocks[i] = make([]byte, blockBytes)
						_, _ = random.Read(blocks[i])
					}
					appendBlocks(t, s, blocks...)
				}
			})
			before := bytesIn(t, dir)
			if before < int64(length)*blockBytes {
				t.Fatalf("%d blocks take %d bytes only", length, before)
			}
			inDirectory(t, dir, func(t *testing.T, _ *Feed, s *Session) { c.give(t, s) })
			after := bytesIn(t, dir)
			t.Logf("%d MiB, then %d MiB", before>>20, after>>20)
			// A tenth is for the tree, and for what a compaction leaves at its borders.
			if limit := int64((c.left + 0.1) * float64(before)); after > limit {
				t.Errorf("%d bytes of %d are left, want %d at most", after, before, limit)
			}
			inDirectory(t, dir, func(t *testing.T, f *Feed, _ *Session) {
				if err := f.Check(t.Context()); err != nil {
					t.Error(err)
				}
				assertNoGarbage(t, f)
			})
		})
	}
}

// scaleLengths are those of the feeds of the tests and benchmarks below. P2PCORE_LARGE=1 adds one.
func scaleLengths() []uint64 {
	lengths := []uint64{10_000, 100_000, 1_000_000}
	if testing.Short() {
		lengths = lengths[:2]
	}
	if os.Getenv("P2PCORE_LARGE") != "" {
		lengths = append(lengths, 10_000_000)
	}
	return lengths
}

// scaleBlock is a small block of its own for each index.
func scaleBlock(i uint64) []byte { return fmt.Appendf(nil, "block %d", i) }

// grown makes a feed of so many small blocks in a directory, fast, and closes it and its datastore.
func grown(t testing.TB, dir string, length uint64) {
	t.Helper()
	store, err := openPebble(dir, vfs.Default)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	ds := ableStore{store}
	pair := KeyPairFromSeed([32]byte{7})
	f, err := Create(t.Context(), ds, Options{Prefix: testPrefix, KeyPair: &pair, NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	s := session(t, f)
	blocks := make([][]byte, 0, 10_000)
	for i := range length {
		if blocks = append(blocks, scaleBlock(i)); len(blocks) == cap(blocks) || i+1 == length {
			appendBlocks(t, s, blocks...)
			blocks = blocks[:0]
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := ds.DB.Flush(); err != nil { // as a store that was closed long ago: no log to be read
		t.Fatal(err)
	}
}

// heap returns the bytes in use after a collection.
func heap() uint64 {
	runtime.GC()
	runtime.GC() // what finalizers of the first have let go
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestScale opens feeds of growing lengths: that takes no longer, and no more memory, and reading any block
// takes about as long. A sparse feed costs one bit for each block past the contiguous ones.
func TestScale(t *testing.T) {
	const (
		openTime    = time.Second // on the slowest machine; usual is a millisecond
		openBytes   = 200 << 10   // more than that of the shortest
		slowerReads = 16          // times the shortest, all of which is in the datastore's cache; usual is 5
	)
	var shortest struct{ heap, read float64 }
	for _, length := range scaleLengths() {
		t.Run(fmt.Sprint(length), func(t *testing.T) {
			dir := t.TempDir()
			grown(t, dir, length)
			ds := ableStore{pebbleStore(t, dir, vfs.Default)}
			open := func() *Feed {
				f, err := Open(t.Context(), ds, Options{Prefix: testPrefix})
				if err != nil {
					t.Fatal(err)
				}
				return f
			}
			open().Close() // the datastore has opened its files
			before := heap()
			start := time.Now()
			f := open()
			took := time.Since(start)
			used := float64(heap()) - float64(before)
			if f.Info().Length != length || f.Info().ContiguousLength != length {
				t.Fatalf("opened as %+v", f.Info())
			}
			read := readRandomly(t, f, length)
			t.Logf("opened in %v, %.0f bytes of heap, %.1f µs a read", took, used, read*1e6)
			if shortest.read == 0 {
				shortest.heap, shortest.read = used, read
			}
			if took > openTime || used > shortest.heap+openBytes || read > slowerReads*shortest.read {
				t.Errorf("too much; the shortest: %+v", shortest)
			}
			clearEvery64th(t, f, length)
			f.Close()
			before = heap()
			f = open()
			defer f.Close()
			used = float64(heap()) - float64(before)
			t.Logf("sparse: %.0f bytes of heap", used)
			// A bit for each block, and two in a hundred for the counts and the list of pages.
			if limit := shortest.heap + openBytes + float64(length)/8*1.02; used > limit {
				t.Errorf("a sparse feed takes %.0f bytes, want %.0f at most", used, limit)
			}
		})
	}
}

// readRandomly returns how many seconds a random block takes: of the fastest of some rounds.
func readRandomly(t testing.TB, f *Feed, length uint64) (seconds float64) {
	t.Helper()
	s := session(t, f)
	random := rand.New(rand.NewPCG(length, 1))
	seconds = math.Inf(1)
	for range 5 {
		const reads = 2000
		start := time.Now()
		for range reads {
			i := random.Uint64N(length)
			if b, err := s.GetLocal(t.Context(), i); err != nil || !bytes.Equal(b, scaleBlock(i)) {
				t.Fatalf("block %d: %q, %v", i, b, err)
			}
		}
		seconds = min(seconds, time.Since(start).Seconds()/reads)
	}
	return seconds
}

// clearEvery64th leaves no page of bits that is full.
func clearEvery64th(t *testing.T, f *Feed, length uint64) {
	t.Helper()
	cleared, err := f.clear(t.Context(), func() iter.Seq2[uint64, uint64] {
		return func(yield func(uint64, uint64) bool) {
			for i := uint64(0); i < length && yield(i, i+1); i += 64 {
			}
		}
	})
	if err != nil || cleared.Blocks != (length+63)/64 {
		t.Fatalf("cleared %+v, %v", cleared, err)
	}
}
