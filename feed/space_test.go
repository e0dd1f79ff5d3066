package feed

import (
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// onDisk opens the datastore in dir and the feed in it, lets use work on it, closes both, and returns how many
// bytes the directory takes then.
func onDisk(t *testing.T, dir string, use func(f *Feed, s *Session)) (bytes int64) {
	t.Helper()
	ds := pebbleStore(t, dir, vfs.Default)
	pair := KeyPairFromSeed([32]byte{7})
	opts := Options{Prefix: testPrefix, KeyPair: &pair}
	f, err := Open(t.Context(), ableStore{ds}, opts)
	if err != nil {
		if f, err = Create(t.Context(), ableStore{ds}, opts); err != nil {
			t.Fatal(err)
		}
	}
	s := session(t, f)
	use(f, s)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := ds.Close(); err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			bytes += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return bytes
}

// Disk comes back: what is cleared, truncated and purged is not there any more when the store is closed.
func TestDiskComesBack(t *testing.T) {
	const blocks, size = 12 << 10, 4 << 10 // 48 MiB
	fill := func(t *testing.T, s *Session) {
		random := rand.NewChaCha8([32]byte{1})
		batch := make([][]byte, 256)
		for range blocks / len(batch) {
			for i := range batch {
				batch[i] = make([]byte, size)
				_, _ = random.Read(batch[i])
			}
			appendBlocks(t, s, batch...)
		}
	}
	less := func(t *testing.T, what string, before, after int64, fraction float64) {
		t.Helper()
		t.Logf("%s: %d MB, was %d MB", what, after>>20, before>>20)
		if float64(after) > fraction*float64(before) {
			t.Errorf("%s: %d bytes, was %d", what, after, before)
		}
	}
	t.Run("clear", func(t *testing.T) {
		dir := t.TempDir()
		full := onDisk(t, dir, func(_ *Feed, s *Session) { fill(t, s) })
		half := onDisk(t, dir, func(_ *Feed, s *Session) {
			snap, err := s.Snapshot() // which keeps everything until it is closed
			if err != nil {
				t.Fatal(err)
			}
			cleared, err := s.Clear(t.Context(), Range{Start: blocks / 4, End: 3 * blocks / 4})
			if err != nil || cleared != (Cleared{blocks / 2, blocks / 2 * size}) {
				t.Fatalf("%+v, %v", cleared, err)
			}
			if _, err := snap.GetLocal(t.Context(), blocks/2); err != nil {
				t.Fatal(err)
			}
			if err := snap.Close(); err != nil {
				t.Fatal(err)
			}
		})
		less(t, "half of it cleared", full, half, 0.6)
		gone := onDisk(t, dir, func(f *Feed, _ *Session) {
			if err := f.Purge(t.Context()); err != nil {
				t.Fatal(err)
			}
		})
		less(t, "purged", full, gone, 0.05)
	})
	t.Run("truncate", func(t *testing.T) {
		dir := t.TempDir()
		full := onDisk(t, dir, func(_ *Feed, s *Session) { fill(t, s) })
		quarter := onDisk(t, dir, func(f *Feed, s *Session) {
			if _, err := s.Truncate(t.Context(), blocks/4, TruncateOptions{}); err != nil {
				t.Fatal(err)
			}
			if err := f.Check(t.Context()); err != nil {
				t.Fatal(err)
			}
		})
		less(t, "truncated to a quarter", full, quarter, 0.35)
	})
}
