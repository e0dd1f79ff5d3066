package disk

import (
	"context"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/p2pcore/p2pcore/internal/lifecycle"
)

// writebackStep is how much of a log is written before the system is asked to bring it to the disk. A log that has
// grown for a whole memtable without that is brought there while it is closed, and every commit waits: 170 ms for
// 64 MiB at 400 MB/s.
const writebackStep = 1 << 20

// writebackFS asks the system to bring logs to the disk while they grow. It promises nothing: what has to be durable is
// synced as ever. pebble can do the same (WALBytesPerSync), but on the goroutine that hands the log to the system.
// Meanwhile the log grows in this process, and kill -9 takes megabytes of blocks that were downloaded.
type writebackFS struct {
	vfs.FS
	ask  func(fd uintptr, start, end int64)
	todo chan writebackJob
}

type writebackJob struct {
	file       *logFile
	start, end int64
}

// newWritebackFS lays itself over fs, and calls ask, which may take as long as the disk does, for the parts of logs. Its
// goroutine ends with the group.
func newWritebackFS(fs vfs.FS, group *lifecycle.Group, ask func(fd uintptr, start, end int64)) *writebackFS {
	w := &writebackFS{FS: fs, ask: ask, todo: make(chan writebackJob, 1)}
	group.Go(w.run)
	return w
}

func (w *writebackFS) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case j := <-w.todo:
			j.file.writeBack(j.start, j.end)
		}
	}
}

func (w *writebackFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := w.FS.Create(name, category)
	return w.watch(name, f, err)
}

func (w *writebackFS) ReuseForWrite(oldName, name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := w.FS.ReuseForWrite(oldName, name, category)
	return w.watch(name, f, err)
}

// Unwrap lets pebble see what it is laid over.
func (w *writebackFS) Unwrap() vfs.FS { return w.FS }

func (w *writebackFS) watch(name string, f vfs.File, err error) (vfs.File, error) {
	if err != nil || !strings.HasSuffix(name, ".log") {
		return f, err
	}
	return &logFile{File: f, fs: w}, nil
}

// logFile is a log that is written from its beginning to its end by one goroutine.
type logFile struct {
	vfs.File
	fs *writebackFS

	// Of the goroutine that writes.
	size, asked int64

	// Under mu, which is held while the file is written back, so that its descriptor stays its own.
	mu     sync.Mutex
	closed bool
}

func (f *logFile) Write(b []byte) (int, error) {
	n, err := f.File.Write(b)
	f.size += int64(n)
	if f.size-f.asked >= writebackStep {
		select {
		case f.fs.todo <- writebackJob{f, f.asked, f.size}:
			f.asked = f.size
		default: // what is before it is still being handed over
		}
	}
	return n, err
}

func (f *logFile) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	return f.File.Close()
}

func (f *logFile) writeBack(start, end int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.closed {
		f.fs.ask(f.Fd(), start, end)
	}
}
