package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/p2pcore/p2pcore/cmd/p2pcore/internal/holder"
	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/node/api"
)

func TestResultName(t *testing.T) {
	key := feed.Key{7}
	for name, want := range map[string]string{
		"":               key.String()[:8] + ".bin",
		"a file.txt":     "a file.txt",
		"/etc/passwd":    "passwd",
		`C:\dir\x.bin`:   "x.bin",
		"../../up":       "up",
		"..":             "",
		".bashrc":        "",
		"dir/.hidden":    "",
		"dir/":           "",
		"tab\tname":      "",
		"esc\x1b[2Jname": "",
	} {
		got, err := resultName(api.Link{Key: key, Name: name})
		if got != want || (err == nil) != (want != "") {
			t.Errorf("name %q becomes %q, %v; want %q", name, got, err, want)
		}
	}
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int{"1": 1, "4096": 4096, "64KiB": 65536, "64K": 65536, "1MiB": 1 << 20, "2kB": 2000, "15MiB": 15 << 20, "9 B": 9} {
		if got, err := parseSize(text); err != nil || got != want {
			t.Errorf("%q: got %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "0", "-1", "KiB", "1GiB", "16MiB", "99999999999999999999", "1.5MiB"} {
		if got, err := parseSize(text); err == nil {
			t.Errorf("%q: got %d, want an error", text, got)
		}
	}
}

func TestSplittingSendsOnlyWhatCannotChange(t *testing.T) {
	for _, c := range []struct {
		s    splitting
		in   string
		want int
	}{
		{splitting{lines: true}, "a\nb", 2}, {splitting{lines: true}, "ab", 0}, {splitting{lines: true}, "a\nb\n", 4},
		{splitting{chunk: 3}, "abcdefgh", 6}, {splitting{chunk: 3}, "ab", 0}, {splitting{whole: true}, "a\n", 0},
	} {
		if got := c.s.complete([]byte(c.in)); got != c.want {
			t.Errorf("%+v of %q: got %d, want %d", c.s, c.in, got, c.want)
		}
	}
}

func TestSocketPath(t *testing.T) {
	run := t.TempDir()
	t.Setenv("XDG_RUNTIME_DIR", run)
	short := filepath.Join(os.TempDir(), "s")
	if got, err := holder.SocketPath(short); err != nil || got != filepath.Join(short, "api.sock") {
		t.Errorf("short path: %q, %v", got, err)
	}
	long := filepath.Join(os.TempDir(), strings.Repeat("long", 30))
	got, err := holder.SocketPath(long)
	if err != nil || len(got) > 100 {
		t.Fatalf("long path: %q, %v", got, err)
	}
	if again, _ := holder.SocketPath(long); again != got {
		t.Errorf("the socket of one store is %q and %q", got, again)
	}
	if other, _ := holder.SocketPath(long + "x"); other == got {
		t.Error("two stores have one socket")
	}
	if info, err := os.Stat(filepath.Dir(got)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the socket's directory: %v, %v", info.Mode(), err)
	}
}

func TestCodesHaveTheirNumbers(t *testing.T) {
	for code, name := range map[api.Code]string{
		0: "ok", 1: "error", 2: "usage", 3: "partial", 10: "no-store", 11: "store-locked", 12: "unknown-key", 13: "not-writable",
		14: "verification-failed", 20: "no-peers", 21: "timeout", 22: "denied", 30: "disk-full", 130: "interrupted",
	} {
		if code.String() != name {
			t.Errorf("code %d is %q, want %q", int(code), code, name)
		}
	}
	for err, want := range map[error]api.Code{
		feed.ErrNoSpace: 30, feed.ErrNotWritable: 13, feed.ErrMalformedKey: 12, feed.ErrCorrupt: 14, feed.ErrClosed: 12, os.ErrPermission: 1,
	} {
		if got := api.ProblemOf(err).Code; got != want {
			t.Errorf("%v has code %d, want %d", err, got, want)
		}
	}
}

// TestReadErrorKeepsWhatIsKnown: a proof that is too large is a proof that does not hold, and not a file that cannot be read.
func TestReadErrorKeepsWhatIsKnown(t *testing.T) {
	_, err := api.ReadProof(io.LimitReader(zeros{}, 32<<20))
	var p *api.Problem
	if !errors.As(readError("proof", err), &p) || p.Code != api.CodeVerification {
		t.Errorf("got %v", err)
	}
	if !errors.As(readError("proof", io.ErrUnexpectedEOF), &p) || p.Code != api.CodeError {
		t.Errorf("got %v", p)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
