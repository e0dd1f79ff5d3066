package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	// ballastShare of the reserve is in the ballast file: 16 MiB of 256. It must hold the writes to
	// the log that are under way when the disk is full, and a manifest.
	ballastShare = 16

	// smallShare of the reserve, 1 MiB of 256, is how much a batch may write where only what gives space
	// back is welcome: a tombstone, a shorter head, the bits of what is cleared.
	smallShare = 256

	// openBytes is what opening a database takes besides the replay of its log: a manifest, an
	// options file, a new log.
	openBytes = 1 << 20

	// askAgain is how old the answer of the filesystem may be, and askShare the part of the reserve
	// that may be written before it is asked again. A call takes two microseconds, a commit of small
	// blocks some hundred.
	askAgain = 100 * time.Millisecond
	askShare = 64
)

// space knows how much of the filesystem may still be used.
type space struct {
	// Set in newSpace.
	dir     string
	reserve uint64
	log     *slog.Logger

	full     chan struct{} // closed by the first write that found the disk full
	fullOnce sync.Once

	// Under mu, which is held while the filesystem is asked.
	mu       sync.Mutex
	asked    time.Time
	avail    uint64 // at that time
	written  uint64 // since then
	ballast  uint64 // bytes of the file, 0 if there is none
	readOnly bool
}

func newSpace(dir string, opts Options) *space {
	return &space{dir: dir, reserve: opts.Reserve, log: opts.Logger, full: make(chan struct{})}
}

func (s *space) ballastPath() string { return filepath.Join(s.dir, ballastName) }

func (s *space) ballastSize() uint64 { return s.reserve / ballastShare }

// prepare makes room for opening the database in path. It reports whether that must be read-only.
func (s *space) prepare(path string, wantReadOnly bool) (readOnly bool, err error) {
	if info, err := os.Stat(s.ballastPath()); err == nil {
		s.ballast = uint64(info.Size())
	}
	if wantReadOnly {
		return true, nil
	}
	logBytes, exists, err := logSize(path)
	if err != nil {
		return false, err
	}
	// The replay writes what is in the log into tables before the log may go.
	need := openBytes + logBytes + logBytes/4
	avail, err := s.ask()
	if err != nil {
		return false, err
	}
	if avail < need && s.ballast > 0 {
		s.dropBallast()
		if avail, err = s.ask(); err != nil {
			return false, err
		}
	}
	if avail >= need {
		return false, nil
	}
	if !exists {
		return false, fmt.Errorf("%w: %d bytes are free", ErrNoSpace, avail)
	}
	return true, nil
}

// watch begins to keep the ballast: the database is open.
func (s *space) watch(readOnly bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readOnly = readOnly
	if !readOnly {
		s.keepBallast()
	}
}

// keepBallast makes the ballast file if it is missing and does not cost what others may need. mu is
// held or the space is not shared yet.
func (s *space) keepBallast() {
	size := s.ballastSize()
	if s.ballast >= size {
		return
	}
	avail, err := s.ask()
	if err != nil || avail < s.reserve+size {
		return
	}
	if err := writeBallast(s.ballastPath(), size); err != nil {
		// Without it there is still the reserve.
		s.log.Warn("no ballast file", "err", errors.Join(err, os.Remove(s.ballastPath())))
		return
	}
	s.ballast = size
	s.asked = time.Time{}
}

// release is called by pebble's filesystem when a write has found the disk full, before the write is
// tried again. All other writes wait.
func (s *space) release() {
	s.mu.Lock()
	s.dropBallast()
	s.mu.Unlock()
	s.fullOnce.Do(func() {
		s.log.Error("the disk is full", "dir", s.dir)
		close(s.full)
	})
}

// dropBallast removes the ballast file. mu is held or the space is not shared yet.
func (s *space) dropBallast() {
	if err := os.Remove(s.ballastPath()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Error("the ballast file stays", "err", err)
	}
	s.ballast = 0
	s.asked = time.Time{}
}

// free returns how much may be used, beyond nothing: the reserve and the ballast are in it.
func (s *space) free() (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.asked) >= askAgain || s.written >= s.reserve/askShare {
		avail, err := s.ask()
		if err != nil {
			return 0, err
		}
		// After a full disk that has space again.
		if s.ballast == 0 && !s.readOnly && avail >= s.reserve+s.ballastSize() {
			s.keepBallast()
			if avail, err = s.ask(); err != nil {
				return 0, err
			}
		}
		s.avail, s.asked, s.written = avail, time.Now(), 0
	}
	return s.avail + s.ballast - min(s.avail+s.ballast, s.written), nil
}

// above returns how much of the free space lies above the reserve.
func (s *space) above() (uint64, error) {
	free, err := s.free()
	return free - min(free, s.reserve), err
}

// allow returns ErrNoSpace if n more bytes in the database would eat into the lower half of the
// reserve, or, where they are few, into its last eighth. They count twice, in the log and in a table.
// Otherwise they are counted as written. Feeds store nothing new when the reserve is touched, so that few
// bytes then come from what clears, truncates and deletes.
func (s *space) allow(n uint64) error {
	free, err := s.free()
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	keep := s.reserve / 2
	if n <= s.reserve/smallShare {
		keep = 2 * s.ballastSize()
	}
	if free < keep+2*n {
		return fmt.Errorf("%w: %d bytes are free, the reserve is %d", ErrNoSpace, free, s.reserve)
	}
	s.written += n
	return nil
}

// ask returns what the filesystem has for us.
func (s *space) ask() (uint64, error) { return available(s.dir) }

func available(dir string) (uint64, error) {
	usage, err := vfs.Default.GetDiskUsage(dir)
	if err != nil {
		return 0, fmt.Errorf("ask for free space: %w", err)
	}
	return usage.AvailBytes, nil
}

// roomForNew refuses to begin a store where the first write would be refused: nothing is left behind then.
func roomForNew(dir string, reserve uint64) error {
	for { // the nearest directory that exists
		if _, err := os.Stat(dir); err == nil || dir == filepath.Dir(dir) {
			break
		}
		dir = filepath.Dir(dir)
	}
	avail, err := available(dir)
	if err == nil && avail < reserve/2+openBytes {
		err = fmt.Errorf("%w: %d bytes are free, the reserve is %d", ErrNoSpace, avail, reserve)
	}
	return err
}

// logSize returns the bytes of the logs of the database in path, and whether there is one.
func logSize(path string) (n uint64, exists bool, err error) {
	entries, err := os.ReadDir(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	for _, e := range entries {
		exists = exists || strings.HasPrefix(e.Name(), "MANIFEST-")
		if !strings.HasSuffix(e.Name(), ".log") {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return 0, false, err
		}
		n += uint64(info.Size())
	}
	return n, exists, nil
}
