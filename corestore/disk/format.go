package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// ErrForeign: the directory holds something that is not a store of this program.
var ErrForeign = errors.New("disk: not a p2pcore store")

const (
	formatName  = "FORMAT"
	formatText  = "p2pcore store 1\n"
	formatDraft = "FORMAT.new" // renamed when it is durable
	lockName    = "LOCK"
	dbName      = "db"
	ballastName = "ballast"
)

// prepare makes dir, or looks at what it is, without changing anything in it.
func prepare(dir string, readOnly bool, reserve uint64) error {
	if readOnly {
		return inspect(dir, true)
	}
	err := inspect(dir, false)
	if !Exists(dir) && (err == nil || errors.Is(err, fs.ErrNotExist)) {
		if err := roomForNew(dir, reserve); err != nil {
			return err
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return os.MkdirAll(dir, 0o700)
	}
	return err
}

// inspect returns ErrForeign unless dir is a store or, if it need not exist yet, an empty directory.
func inspect(dir string, mustExist bool) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%w: it is a file", ErrForeign)
	}
	text, err := readHead(filepath.Join(dir, formatName), 64)
	switch {
	case err == nil && text == formatText:
		return nil
	case err == nil && strings.HasPrefix(text, "p2pcore store "):
		return fmt.Errorf("%w of this version: its %s says %q", ErrForeign, formatName, strings.TrimSpace(text))
	case err == nil:
		return fmt.Errorf("%w: its file %s says %q", ErrForeign, formatName, text)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	case mustExist:
		return fmt.Errorf("no store there: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !harmless(dir, e) {
			return fmt.Errorf("%w: it holds %s", ErrForeign, e.Name())
		}
	}
	return nil
}

// harmless reports whether a file may lie in a directory that becomes a store: what a store that is
// just being made consists of, and what filesystems put into their root.
func harmless(dir string, e fs.DirEntry) bool {
	switch e.Name() {
	case lockName:
		text, err := readHead(filepath.Join(dir, lockName), lockBytes)
		return err == nil && ourLock(text)
	case formatDraft:
		text, err := readHead(filepath.Join(dir, formatDraft), 64)
		return err == nil && strings.HasPrefix(formatText, text)
	case "lost+found":
		return e.IsDir()
	}
	return false
}

// claim makes dir a store if it is none yet. The lock is held.
func claim(dir string, readOnly bool) error {
	if err := inspect(dir, readOnly); err != nil {
		return err
	}
	if Exists(dir) || readOnly {
		return nil
	}
	// The directory may have been there, empty, with another mode.
	if err := os.Chmod(dir, 0o700); err != nil {
		return err
	}
	draft := filepath.Join(dir, formatDraft)
	if err := writeDurably(draft, formatText); err != nil {
		return errors.Join(err, os.Remove(draft))
	}
	if err := os.Rename(draft, filepath.Join(dir, formatName)); err != nil {
		return err
	}
	return syncDir(dir)
}

func writeDurably(name, text string) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.WriteString(f, text)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// readHead returns at most the first n bytes of a file.
func readHead(name string, n int64) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, n))
	return string(b), err
}
