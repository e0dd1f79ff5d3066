package disk

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/gofrs/flock"
)

// ErrLocked: another process holds the store. *LockedError wraps it.
var ErrLocked = errors.New("disk: store is locked")

// LockInfo is what the lock file says of the process that holds the store.
type LockInfo struct {
	PID     int       `json:"pid"`              // 0 if not known
	Socket  string    `json:"socket,omitempty"` // where it can be talked to, "" before it listens
	Started time.Time `json:"started"`          // when it took the lock
}

// LockedError says who holds the store.
type LockedError struct{ LockInfo }

func (e *LockedError) Error() string {
	switch {
	case e.PID == 0:
		return ErrLocked.Error() + " by another process"
	case e.Socket == "":
		return fmt.Sprintf("%v by process %d", ErrLocked, e.PID)
	}
	return fmt.Sprintf("%v by process %d, which listens on %s", ErrLocked, e.PID, e.Socket)
}

func (e *LockedError) Unwrap() error { return ErrLocked }

const (
	// lockBytes is the fixed size of the lock file. It is rewritten in place, so that it needs no
	// space on a full disk, and never replaced: the lock is on the file, not on its name.
	lockBytes = 1024

	// lockTimeout bounds the wait while the lock's holder is not known: a process that is just
	// starting or ending, or one that looks who the holder is.
	lockTimeout = time.Second
	lockRetry   = 10 * time.Millisecond
)

// lock is the held lock of a store.
type lock struct {
	flock *flock.Flock // set in acquireLock
	path  string       // set in acquireLock

	mu   sync.Mutex // held for a rewrite of the file
	info LockInfo
}

// acquireLock takes the lock of the store in dir. The error is a *LockedError if a process that
// lives holds it.
func acquireLock(dir string) (*lock, error) {
	l := &lock{path: filepath.Join(dir, lockName)}
	l.flock = flock.New(l.path, flock.SetPermissions(0o600))
	deadline := time.Now().Add(lockTimeout)
	for {
		held, err := l.flock.TryLock()
		if err != nil {
			return nil, err
		}
		if held {
			break
		}
		info := readLock(l.path)
		if running(info.PID) || time.Now().After(deadline) {
			return nil, errors.Join(&LockedError{info}, l.flock.Close())
		}
		pause(lockRetry)
	}
	l.info = LockInfo{PID: os.Getpid(), Started: time.Now().Round(0)}
	// On a full disk a first write may fail. The lock is held all the same, by nobody known.
	if err := l.write(l.info); err != nil && !errors.Is(err, syscall.ENOSPC) {
		return nil, errors.Join(err, l.release())
	}
	return l, nil
}

func (l *lock) setSocket(path string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	info := l.info
	info.Socket = path
	if err := l.write(info); err != nil {
		return err
	}
	l.info = info
	return nil
}

// write puts info into the lock file with one write, padded with spaces.
func (l *lock) write(info LockInfo) error {
	text, err := json.Marshal(info)
	if err != nil {
		return err
	}
	if len(text) >= lockBytes {
		return fmt.Errorf("disk: the socket's path is too long for the lock file: %d bytes", len(info.Socket))
	}
	return l.writeText(text)
}

func (l *lock) writeText(text []byte) error {
	page := bytes.Repeat([]byte{' '}, lockBytes)
	copy(page, text)
	page[lockBytes-1] = '\n'
	f, err := os.OpenFile(l.path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(page, 0)
	return errors.Join(err, f.Close())
}

// release empties the lock file and gives the lock back.
func (l *lock) release() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	// The text is for people and for waiting processes; without it they find a dead process.
	_ = l.writeText(nil)
	return l.flock.Close()
}

// readLock returns what the lock file says. A file that is empty, or half-written because its holder
// is at it, says nothing.
func readLock(path string) LockInfo {
	text, err := readHead(path, lockBytes)
	if err != nil {
		return LockInfo{}
	}
	var info LockInfo
	if json.Unmarshal([]byte(text), &info) != nil {
		return LockInfo{}
	}
	return info
}

// ourLock reports whether text may stand in a lock file of ours.
func ourLock(text string) bool {
	text = strings.TrimSpace(text)
	return text == "" || strings.HasPrefix(text, `{"pid":`)
}

// Holder returns who holds the store in dir; ok is false if nobody does. A PID of 0 is a holder that
// has not said who it is, yet.
func Holder(dir string) (info LockInfo, ok bool, err error) {
	path := filepath.Join(dir, lockName)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return LockInfo{}, false, nil
	}
	probe := flock.New(path, flock.SetPermissions(0o600))
	free, err := probe.TryRLock()
	if err != nil {
		return LockInfo{}, false, err
	}
	if free {
		return LockInfo{}, false, probe.Close()
	}
	return readLock(path), true, probe.Close()
}

// running reports whether a process of that number exists, as far as can be seen.
func running(pid int) bool {
	return pid > 0 && !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
}

func pause(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	<-t.C
}
