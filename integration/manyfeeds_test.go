package integration

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/p2pcore/p2pcore/corestore"
	"github.com/p2pcore/p2pcore/corestore/disk"
	"github.com/p2pcore/p2pcore/feed"
)

// heap returns the bytes that are in use on the heap. Nothing else may run.
func heap() int64 {
	runtime.GC()
	runtime.GC() // what has finalizers, and what was in pools
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// openStore opens a store on the embedded datastore; end closes both.
func openStore(t *testing.T, dir string, opts corestore.Options) (s *corestore.Store, end func()) {
	t.Helper()
	d, err := disk.Open(dir, disk.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s, err = corestore.Open(t.Context(), d.Datastore(), opts)
	if err != nil {
		d.Close()
		t.Fatal(err)
	}
	return s, func() {
		t.Helper()
		if err := errors.Join(s.Close(), d.Close()); err != nil {
			t.Error(err)
		}
	}
}

// numbered opens the feed whose name is a number, or makes it.
func numbered(t *testing.T, s *corestore.Store, i int) *feed.Session {
	t.Helper()
	f, err := s.Named(t.Context(), fmt.Sprint(i))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestManyFeedsOpenInASecondAndThoseOpenAloneCostMemory opens a store of 10,000 feeds, with P2PCORE_LARGE=1 of 100,000.
func TestManyFeedsOpenInASecondAndThoseOpenAloneCostMemory(t *testing.T) {
	const (
		tries      = 3           // of opening; the fastest counts, as the machine may be busy with other things
		inTime     = time.Second // for opening
		someOpened = 1000        // feeds
		perFeed    = 32 << 10    // bytes of an open one; it was 7,000 when this was written
		noise      = 1 << 20     // bytes that do not grow with the number of feeds: buffers, and what the datastore knows of its files
	)
	n := 10_000
	if os.Getenv("P2PCORE_LARGE") != "" {
		n = 100_000
	}
	dir := t.TempDir()
	s, end := openStore(t, dir, corestore.Options{NoSync: true, IdleTimeout: time.Nanosecond})
	for i := range n {
		f := numbered(t, s, i)
		if _, err := f.Append(t.Context(), []byte("block")); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	end()
	fastest := time.Hour
	for range tries {
		began := time.Now()
		_, end := openStore(t, dir, corestore.Options{})
		fastest = min(fastest, time.Since(began))
		end()
	}
	if fastest > inTime {
		t.Errorf("a store of %d feeds took %v to open, want at most %v", n, fastest, inTime)
	}

	before := heap()
	s, end = openStore(t, dir, corestore.Options{})
	defer end()
	empty := heap()
	listed := 0
	for _, err := range s.List(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		listed++
	}
	if listed != n {
		t.Fatalf("%d feeds listed, want %d", listed, n)
	}
	all := heap()
	var sessions []*feed.Session
	for i := range someOpened {
		sessions = append(sessions, numbered(t, s, i))
	}
	with := heap()
	for _, session := range sessions {
		if err := session.Close(); err != nil {
			t.Fatal(err)
		}
	}
	sessions = nil
	if err := s.Suspend(t.Context()); err != nil {
		t.Fatal(err)
	}
	after := heap()
	t.Logf("%d feeds: opened in %v; heap: %d bytes of the store, %d more after a list, %d for each of %d open feeds, %d more when they have closed",
		n, fastest, empty-before, all-empty, (with-all)/someOpened, someOpened, after-all)
	if all-before > noise {
		t.Errorf("the store takes %d bytes while all %d feeds are closed, want at most %d", all-before, n, noise)
	}
	if each := (with - all) / someOpened; each > perFeed {
		t.Errorf("an open feed takes %d bytes, want at most %d", each, perFeed)
	}
	if after-all > noise {
		t.Errorf("%d feeds that have closed leave %d bytes, want at most %d", someOpened, after-all, noise)
	}
}
