package disk

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

const (
	// repeatAfter is how long a line of pebble's is not logged again: a flush that finds no space is
	// tried again at once, for ever, and says so each time.
	repeatAfter = time.Second

	// maxRecent bounds the lines remembered for that.
	maxRecent = 64

	exitDiskFull = 30 // the program's exit code of that name
	exitError    = 1
)

// logger gives pebble's lines to slog. What it calls information is our debugging.
type logger struct {
	// Set in newLogger.
	slog    *slog.Logger
	onFatal func(error)
	exit    func(code int)
	fatal   sync.Once

	mu     sync.Mutex
	recent map[string]time.Time // when a line was logged last
}

var _ pebble.Logger = (*logger)(nil)

func newLogger(l *slog.Logger, onFatal func(error)) *logger {
	return &logger{slog: l, onFatal: onFatal, exit: os.Exit, recent: make(map[string]time.Time)}
}

func (l *logger) Infof(format string, args ...any) {
	if text, ok := l.line(format, args); ok {
		l.slog.Debug("pebble", "text", text)
	}
}

func (l *logger) Errorf(format string, args ...any) {
	if text, ok := l.line(format, args); ok {
		l.slog.Error("pebble", "text", text)
	}
}

// Fatalf never returns. Pebble calls it with its locks held, in the goroutine of whoever commits, when
// what it has promised can no longer be kept; nothing of the database may be used after it.
func (l *logger) Fatalf(format string, args ...any) {
	l.fatal.Do(func() {
		err := fmt.Errorf("disk: the database cannot go on: %s", oneLine(format, args))
		code := exitError
		if full(args) {
			err = fmt.Errorf("%w: %w", ErrNoSpace, err)
			code = exitDiskFull
		}
		if l.onFatal != nil {
			l.onFatal(err)
			code = exitError
		} else {
			fmt.Fprintln(os.Stderr, err)
		}
		l.exit(code)
	})
	select {} // another goroutine is ending the process
}

// line returns the text of a line, ok false if it was logged less than repeatAfter ago.
func (l *logger) line(format string, args []any) (text string, ok bool) {
	text = oneLine(format, args)
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if last, seen := l.recent[text]; seen && now.Sub(last) < repeatAfter {
		return "", false
	}
	if len(l.recent) >= maxRecent {
		for line, at := range l.recent {
			if now.Sub(at) >= repeatAfter {
				delete(l.recent, line)
			}
		}
		if len(l.recent) >= maxRecent {
			clear(l.recent)
		}
	}
	l.recent[text] = now
	return text, true
}

func oneLine(format string, args []any) string {
	return strings.Join(strings.Fields(fmt.Sprintf(format, args...)), " ")
}

// full reports whether one of the values of a line is the error of a full disk.
func full(args []any) bool {
	for _, arg := range args {
		if err, ok := arg.(error); ok && errors.Is(err, syscall.ENOSPC) {
			return true
		}
	}
	return false
}
