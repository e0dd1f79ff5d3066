package main

import (
	"errors"
	"os"
	"path/filepath"
	"unicode/utf8"

	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/node/api"
)

// maxFileName is what filesystems take for the name of a file, in bytes.
const maxFileName = 255

// partName is where the content of file is gathered: FILE.KEY8.part beside it, with FILE cut if need be.
func partName(file string, key feed.Key) string {
	dir, base := filepath.Split(file)
	suffix := "." + key.String()[:keyDigits] + ".part"
	for len(base)+len(suffix) > maxFileName {
		_, last := utf8.DecodeLastRuneInString(base)
		base = base[:len(base)-last]
	}
	return dir + base + suffix
}

// openPart opens the part file, empty. Two gets of the same content to the same file must not write at the same
// time: one would put in place what the other has just cut off. The file stays ours until it is closed.
func openPart(path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o666)
		if err != nil {
			return nil, writeError(path, err)
		}
		if !lockFile(f) {
			return nil, errors.Join(api.Errorf(api.CodeError, "another process is writing %s; wait for it, or choose another file with -o", path), f.Close())
		}
		if !lies(f, path) {
			f.Close() // it has become the result of another get before we locked it
			continue
		}
		if err := f.Truncate(0); err != nil {
			return nil, errors.Join(writeError(path, err), f.Close())
		}
		return f, nil
	}
}

// lies tells whether path is still the name of f.
func lies(f *os.File, path string) bool {
	open, errOpen := f.Stat()
	named, errNamed := os.Lstat(path)
	return errOpen == nil && errNamed == nil && os.SameFile(open, named)
}

// shorten cuts foreign text for a message.
func shorten(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}
