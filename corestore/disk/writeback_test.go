package disk

import (
	"slices"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/p2pcore/p2pcore/internal/lifecycle"
)

// TestLogsAreWrittenBackWhileTheyGrow follows what the system is asked for: the parts of a log, one after the other and
// each once, and of nothing that is closed, whoever closes it meanwhile.
func TestLogsAreWrittenBackWhileTheyGrow(t *testing.T) {
	var group lifecycle.Group
	defer group.Close()
	var mu sync.Mutex
	var asked [][2]int64
	heard := make(chan int64, 64)
	fs := newWritebackFS(vfs.NewMem(), &group, func(_ uintptr, start, end int64) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, [2]int64{start, end})
		heard <- end
	})
	write := func(f vfs.File, n int) {
		if _, err := f.Write(make([]byte, n)); err != nil {
			t.Fatal(err)
		}
	}
	for _, create := range []func() (vfs.File, error){
		func() (vfs.File, error) { return fs.Create("000001.log", "test") },
		func() (vfs.File, error) { return fs.ReuseForWrite("000001.log", "000002.log", "test") },
	} {
		asked = nil
		f, err := create()
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			write(f, writebackStep/2)
			write(f, writebackStep/2)
			<-heard
		}
		write(f, writebackStep-1)
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		want := [][2]int64{{0, writebackStep}, {writebackStep, 2 * writebackStep}, {2 * writebackStep, 3 * writebackStep}}
		if !slices.Equal(asked, want) {
			t.Errorf("asked for %v, want %v", asked, want)
		}
	}

	table, err := fs.Create("000003.sst", "test")
	if err != nil {
		t.Fatal(err)
	}
	if _, watched := table.(*logFile); watched {
		t.Error("a table is taken for a log")
	}
	log, err := fs.Create("000004.log", "test")
	if err != nil {
		t.Fatal(err)
	}
	mu.Lock() // whoever is asked is slow now
	for range 8 {
		write(log, writebackStep) // and does not hold the log up
	}
	asked = nil
	mu.Unlock()
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	n := len(asked)
	mu.Unlock()
	group.Close()
	if len(asked) != n {
		t.Errorf("asked for %v after the log was closed", asked[n:])
	}
}
