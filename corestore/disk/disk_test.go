package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	datastore "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"

	"github.com/p2pcore/p2pcore/feed"
)

// small are options for tests: little memory, a reserve that the machine surely has.
func small() Options {
	return Options{MemTableBytes: 1 << 20, CacheBytes: 1 << 20, Reserve: 4 << 20}
}

func mustOpen(t *testing.T, dir string, opts Options) *Disk {
	t.Helper()
	d, err := Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return d
}

func TestOpenMakesAStoreThatReopens(t *testing.T) {
	ctx := t.Context()
	dir := filepath.Join(t.TempDir(), "a", "store")
	if Exists(dir) {
		t.Error("Exists before Open")
	}
	d := mustOpen(t, dir, small())
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v; want 0700", info.Mode(), err)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "FORMAT")); err != nil || string(text) != "p2pcore store 1\n" {
		t.Errorf("FORMAT is %q, %v", text, err)
	}
	key := datastore.NewKey("/x/1")
	if err := d.Datastore().Put(ctx, key, []byte("one")); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if !Exists(dir) {
		t.Error("Exists is false after Open")
	}
	d = mustOpen(t, dir, small())
	if v, err := d.Datastore().Get(ctx, key); err != nil || string(v) != "one" {
		t.Errorf("after reopening: %q, %v", v, err)
	}
}

func TestOpenRefusesAForeignDirectory(t *testing.T) {
	for _, tc := range []struct{ name, file, text, says string }{
		{"file of another program", "notes.txt", "mine", "notes.txt"},
		{"a leveldb", "CURRENT", "MANIFEST-000001\n", "CURRENT"},
		{"lock of another program", "LOCK", "not json", "LOCK"},
		{"format of another program", "FORMAT", "zip 3\n", `"zip 3\n"`},
		{"a newer store", "FORMAT", "p2pcore store 2\n", `"p2pcore store 2"`},
		{"half a format", "FORMAT", "p2pcore st", `"p2pcore st"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, tc.file), []byte(tc.text), 0o644); err != nil {
				t.Fatal(err)
			}
			_, err := Open(dir, small())
			if !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %v, want ErrForeign with %s", err, tc.says)
			}
			entries, err := os.ReadDir(dir)
			if err != nil || len(entries) != 1 {
				t.Errorf("directory now holds %v, %v", entries, err)
			}
			if text, _ := os.ReadFile(filepath.Join(dir, tc.file)); string(text) != tc.text {
				t.Errorf("%s now says %q", tc.file, text)
			}
		})
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(file, small()); !errors.Is(err, ErrForeign) {
		t.Errorf("a file: got %v, want ErrForeign", err)
	}
}

// A process that died while it made the store leaves one of these.
func TestOpenTakesOverAHalfMadeStore(t *testing.T) {
	for _, files := range []map[string]string{
		{"LOCK": ""},
		{"LOCK": `{"pid":1,"started":"2020-01-01T00:00:00Z"}`, "FORMAT.new": "p2pcore"},
		{"LOCK": "", "FORMAT": formatText},
	} {
		dir := t.TempDir()
		for name, text := range files {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		mustOpen(t, dir, small())
	}
}

func TestReadOnly(t *testing.T) {
	ctx := t.Context()
	opts := small()
	opts.ReadOnly = true
	if _, err := Open(filepath.Join(t.TempDir(), "none"), opts); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no store: got %v, want ErrNotExist", err)
	}
	if _, err := Open(t.TempDir(), opts); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("empty directory: got %v, want ErrNotExist", err)
	}
	dir := t.TempDir()
	d := mustOpen(t, dir, small())
	key := datastore.NewKey("/x")
	if err := d.Datastore().Put(ctx, key, []byte("one")); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d = mustOpen(t, dir, opts)
	ds := d.Datastore()
	if v, err := ds.Get(ctx, key); err != nil || string(v) != "one" || !d.ReadOnly() {
		t.Errorf("got %q, %v, read-only %v", v, err, d.ReadOnly())
	}
	_, batchErr := ds.Batch(ctx)
	for what, err := range map[string]error{
		"Put":         ds.Put(ctx, key, nil),
		"Delete":      ds.Delete(ctx, key),
		"DeleteRange": ds.DeleteRange(ctx, "/a", "/z"),
		"Compact":     ds.Compact(ctx, "/a", "/z"),
		"Batch":       batchErr,
	} {
		if !errors.Is(err, ErrReadOnly) {
			t.Errorf("%s: got %v, want ErrReadOnly", what, err)
		}
	}
	if err := ds.Sync(ctx, datastore.NewKey("/")); err != nil {
		t.Errorf("Sync: %v", err)
	}
}

func TestDatastore(t *testing.T) {
	ctx := t.Context()
	d := mustOpen(t, t.TempDir(), small())
	var ds datastore.Batching = d.Datastore()
	if a, ok := ds.(interface{ AtomicBatch() bool }); !ok || !a.AtomicBatch() {
		t.Error("batches are not atomic")
	}
	b, err := ds.Batch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []string{"/a/1", "/a/2", "/a/3", "/b/1"} {
		if err := b.Put(ctx, datastore.NewKey(k), []byte(k)); err != nil {
			t.Fatal(err)
		}
	}
	if has, _ := ds.Has(ctx, datastore.NewKey("/a/1")); has {
		t.Error("a batch is visible before its Commit")
	}
	if err := b.Delete(ctx, datastore.NewKey("/a/3")); err != nil {
		t.Fatal(err)
	}
	if err := b.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	if err := b.Commit(ctx); err == nil {
		t.Error("a batch was committed twice")
	}
	if err := b.Put(ctx, datastore.NewKey("/c"), nil); err == nil {
		t.Error("a put into a committed batch succeeded")
	}
	if err := ds.Sync(ctx, datastore.NewKey("/")); err != nil {
		t.Fatal(err)
	}
	if got, want := readRange(t, d, "/a/1", "/b/1"), []string{"/a/1=/a/1", "/a/2=/a/2"}; !slices.Equal(got, want) {
		t.Errorf("ReadRange: %v, want %v", got, want)
	}
	if err := d.Datastore().DeleteRange(ctx, "/a/1", "/a/2"); err != nil {
		t.Fatal(err)
	}
	if err := d.Datastore().Compact(ctx, "/a", "/b"); err != nil {
		t.Fatal(err)
	}
	results, err := ds.Query(ctx, query.Query{KeysOnly: true, Orders: []query.Order{query.OrderByKey{}}})
	if err != nil {
		t.Fatal(err)
	}
	entries, err := results.Rest()
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, e := range entries {
		keys = append(keys, e.Key)
	}
	if want := []string{"/a/2", "/b/1"}; !slices.Equal(keys, want) {
		t.Errorf("keys %v, want %v", keys, want)
	}
	free, err := d.FreeSpace()
	if err != nil || free == 0 {
		t.Errorf("FreeSpace: %d, %v", free, err)
	}
}

// readRange returns what ReadRange calls its function with.
func readRange(t *testing.T, d *Disk, start, end string) (records []string) {
	t.Helper()
	err := d.Datastore().ReadRange(t.Context(), start, end, func(key, value []byte) error {
		records = append(records, string(key)+"="+string(value))
		return nil
	})
	if err != nil {
		t.Errorf("ReadRange: %v", err)
	}
	return records
}

func TestReadRangeEndsWithTheFirstError(t *testing.T) {
	d := mustOpen(t, t.TempDir(), small())
	for _, k := range []string{"/a", "/b"} {
		if err := d.Datastore().Put(t.Context(), datastore.NewKey(k), nil); err != nil {
			t.Fatal(err)
		}
	}
	enough, calls := errors.New("enough"), 0
	err := d.Datastore().ReadRange(t.Context(), "/", "/z", func(key, value []byte) error {
		calls++
		return enough
	})
	if !errors.Is(err, enough) || calls != 1 {
		t.Errorf("ReadRange: %v after %d calls, want %v after one", err, calls, enough)
	}
}

func TestBatchCopiesWhatItIsGiven(t *testing.T) {
	ctx := t.Context()
	d := mustOpen(t, t.TempDir(), small())
	b, err := d.Datastore().Batch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	b.(feed.CopyingBatch).Grow(1, 2) // less than follows
	want := bytes.Repeat([]byte("v"), 5000)
	value := bytes.Clone(want)
	for i := range 3 {
		if err := b.Put(ctx, datastore.NewKey(fmt.Sprint("/", i)), value); err != nil {
			t.Fatal(err)
		}
	}
	clear(value)
	if err := b.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if got, err := d.Datastore().Get(ctx, datastore.NewKey(fmt.Sprint("/", i))); err != nil || !bytes.Equal(got, want) {
			t.Errorf("value %d: %d bytes, %v, not what was put", i, len(got), err)
		}
	}
}

// With a reserve larger than the filesystem nothing can be stored but small records.
func TestReserveRefusesBatches(t *testing.T) {
	ctx := t.Context()
	opts := small()
	dir := t.TempDir()
	d := mustOpen(t, dir, opts)
	if err := d.Datastore().Put(ctx, datastore.NewKey("/x"), []byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	opts.Reserve = 1 << 62
	d = mustOpen(t, dir, opts)
	if free, err := d.FreeSpace(); err != nil || free != 0 {
		t.Errorf("FreeSpace: %d, %v; want 0", free, err)
	}
	if err := d.Datastore().Put(ctx, datastore.NewKey("/y"), []byte("y")); !errors.Is(err, feed.ErrNoSpace) {
		t.Errorf("Put: %v, want ErrNoSpace", err)
	}
	b, err := d.Datastore().Batch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Delete(ctx, datastore.NewKey("/x")); err != nil {
		t.Fatal(err)
	}
	if err := b.Commit(ctx); err != nil {
		t.Errorf("a batch that deletes: %v", err)
	}
	if err := b.Commit(ctx); err == nil {
		t.Error("a batch was committed twice")
	}
}

// TestMemory holds the store to what Options say of its write buffers, while it writes forty times as much.
func TestMemory(t *testing.T) {
	d := mustOpen(t, t.TempDir(), small())
	value := bytes.Repeat([]byte{'v'}, 64<<10)
	var most uint64
	for i := range 40 << 20 / len(value) {
		if err := d.Datastore().Put(t.Context(), datastore.NewKey(fmt.Sprint("/", i)), value); err != nil {
			t.Fatal(err)
		}
		_, tables := d.Memory()
		most = max(most, tables)
	}
	if most < 1<<20 || most > 4<<20 {
		t.Errorf("write buffers hold %d bytes, want those of one to four buffers of 1 MiB", most)
	}
	if _, err := d.Datastore().Get(t.Context(), datastore.NewKey("/0")); err != nil { // from a table on the disk
		t.Fatal(err)
	}
	if cache, _ := d.Memory(); cache < uint64(len(value)) {
		t.Errorf("the cache holds %d bytes after a block of %d was read", cache, len(value))
	}
}

func TestLoggerDropsRepeatedLines(t *testing.T) {
	var out bytes.Buffer
	l := newLogger(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})), nil)
	for range 100 {
		l.Errorf("flush failed:\n%v", errors.New("no space"))
		l.Infof("other")
	}
	if n := strings.Count(out.String(), "\n"); n != 2 {
		t.Errorf("%d lines, want 2:\n%s", n, out.String())
	}
	for i := range 10 * maxRecent {
		l.Infof("line %d", i)
	}
	if len(l.recent) > maxRecent {
		t.Errorf("%d lines remembered, want at most %d", len(l.recent), maxRecent)
	}
}

func TestFatalEndsTheProcess(t *testing.T) {
	for _, tc := range []struct {
		name    string
		arg     error
		onFatal bool
		code    int
		noSpace bool
	}{
		{"full disk", &fs.PathError{Op: "write", Path: "000002.log", Err: syscall.ENOSPC}, false, 30, true},
		{"broken disk", syscall.EIO, false, 1, false},
		{"callback returns", syscall.ENOSPC, true, 1, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			fatal := make(chan error, 1)
			var onFatal func(error)
			if tc.onFatal {
				onFatal = func(err error) { fatal <- err }
			}
			l := newLogger(slog.New(slog.DiscardHandler), onFatal)
			exited := make(chan int)
			l.exit = func(code int) { exited <- code }
			ctx, cancel := context.WithCancel(context.Background())
			go func() {
				defer cancel()
				l.Fatalf("commit: %v", tc.arg)
			}()
			if code := <-exited; code != tc.code {
				t.Errorf("exit code %d, want %d", code, tc.code)
			}
			if tc.onFatal {
				if err := <-fatal; errors.Is(err, feed.ErrNoSpace) != tc.noSpace {
					t.Errorf("callback got %v", err)
				}
			}
			if ctx.Err() != nil {
				t.Error("Fatalf returned")
			}
		})
	}
}
