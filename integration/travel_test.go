package integration

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// bigFileBytes is the least size of the file that travels.
const bigFileBytes = 200 << 20

// bigFile makes an archive of the Go tool chain, which every machine that builds this
// project has, and returns its path and SHA-256.
func bigFile(t *testing.T) (path, sum string) {
	t.Helper()
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "go tool chain.tar")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	written := &counter{}
	to := io.MultiWriter(f, h, written)
	for n := 0; written.n < bigFileBytes; n++ { // a second copy if the tool chain is a lean one
		w := tar.NewWriter(to)
		if err := w.AddFS(os.DirFS(strings.TrimSpace(string(root)))); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		if n > 8 {
			t.Fatal("the tool chain is too small")
		}
	}
	return path, hex.EncodeToString(h.Sum(nil))
}

type counter struct{ n int64 }

func (c *counter) Write(b []byte) (int, error) { c.n += int64(len(b)); return len(b), nil }

func fileSum(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// share starts sharing and returns the running process and what it printed.
func (n *machine) share(stdin io.Reader, args ...string) (*process, shared) {
	n.t.Helper()
	p := n.start(stdin, append([]string{"share", "--json"}, args...)...)
	var s shared
	p.object(&s)
	if len(s.Addrs) == 0 || s.PeerID == "" || s.Link == "" {
		n.t.Fatalf("share printed %+v", s)
	}
	return p, s
}

// get fetches and returns what get printed.
func (n *machine) get(args ...string) fetched {
	n.t.Helper()
	var f fetched
	out := n.must(nil, append([]string{"get", "--json"}, args...)...)
	if err := json.Unmarshal([]byte(out), &f); err != nil {
		n.t.Fatalf("get printed %q: %v", out, err)
	}
	return f
}

func TestBigFileTravelsByKeyAlone(t *testing.T) {
	if testing.Short() {
		t.Skip("moves 200 MB")
	}
	path, sum := bigFile(t)
	network := bootstrapped(t)
	p, s := newMachine(t, network...).share(nil, path)

	reader := newMachine(t, network...)
	out := filepath.Join(t.TempDir(), "out")
	got := reader.get(s.Key, "-o", out)
	if have := fileSum(t, out); have != sum {
		t.Errorf("SHA-256 of the fetched file is %s, want %s", have, sum)
	}
	if got.BlocksFetched != s.Length || got.BlocksLocal != 0 || got.ByteLength != s.ByteLength {
		t.Errorf("get says %+v of %+v", got, s)
	}
	reader.must(nil, "verify", s.Key)
	if code := p.interrupt(); code != 0 {
		t.Errorf("share ended with %d after Ctrl-C", code)
	}
}

func TestBigFileTravelsFromAKnownPeer(t *testing.T) {
	if testing.Short() {
		t.Skip("moves 200 MB")
	}
	path, sum := bigFile(t)
	_, s := newMachine(t, alone...).share(nil, path)
	for _, addr := range s.Addrs {
		if !strings.Contains(addr, "127.0.0.1") {
			continue
		}
		transport := "tcp"
		if strings.Contains(addr, "/udp/") {
			transport = "quic"
		}
		t.Run(transport, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "out")
			newMachine(t, alone...).get(s.Key, "--peer", addr, "-o", out)
			if have := fileSum(t, out); have != sum {
				t.Errorf("SHA-256 of the fetched file is %s, want %s", have, sum)
			}
		})
	}
}

func TestSmallContentsTravel(t *testing.T) {
	random := make([]byte, 300_000)
	rng := rand.NewChaCha8([32]byte{1})
	rng.Read(random)
	for name, content := range map[string][]byte{
		"empty":        {},
		"one-byte":     {7},
		"one-chunk":    random[:64<<10],
		"a-byte-more":  random[:64<<10+1],
		"several":      random,
		"with-newline": []byte("\n"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			from := filepath.Join(t.TempDir(), name)
			if err := os.WriteFile(from, content, 0o644); err != nil {
				t.Fatal(err)
			}
			for _, way := range []string{"file", "stdin"} {
				n := newMachine(t, alone...)
				var s shared
				if way == "file" {
					_, s = n.share(nil, from)
				} else {
					_, s = n.share(bytes.NewReader(content), "-", "--name", name)
				}
				out := filepath.Join(t.TempDir(), "out")
				newMachine(t, alone...).get(s.Link, "-o", out)
				got, err := os.ReadFile(out)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got, content) {
					t.Errorf("from %s: got %d bytes, want %d that are equal", way, len(got), len(content))
				}
				// To stdout the result line moves to stderr and the bytes stay clean.
				r := newMachine(t, alone...).run(nil, "get", "--json", s.Link, "-o", "-")
				if r.code != 0 || r.stdout != string(content) {
					t.Errorf("from %s to stdout: exit %d, %d bytes\n%s", way, r.code, len(r.stdout), r.stderr)
				}
			}
		})
	}
}

// TestKilledGetResumes kills get -9 when about half of the file is there, and runs it again.
func TestKilledGetResumes(t *testing.T) {
	if testing.Short() {
		t.Skip("moves 200 MB")
	}
	path, sum := bigFile(t)
	_, s := newMachine(t, alone...).share(nil, path)
	reader := newMachine(t, alone...)
	dir := t.TempDir()
	out := filepath.Join(dir, "out")

	p := reader.start(nil, "get", "--json", "--progress", "json", s.Link, "-o", out)
	if !p.until(func(line string) bool { return progress(line) >= s.Length/2 }) {
		t.Fatalf("get ended before it could be killed:\n%s", p.said())
	}
	p.kill()
	if _, err := os.Stat(out); !os.IsNotExist(err) {
		t.Fatalf("the file bears its final name although get was killed (%v)", err)
	}

	reader.must(nil, "verify", s.Key)
	got := reader.get(s.Link, "-o", out)
	if have := fileSum(t, out); have != sum {
		t.Errorf("SHA-256 of the fetched file is %s, want %s", have, sum)
	}
	// Downloaded blocks are not synced: what the database had not yet handed to the system dies with the process.
	// That is at most one memtable of 64 MiB, usually nothing, or a few blocks.
	const unsynced = 64 << 20 / (64 << 10)
	if got.BlocksLocal+unsynced < s.Length/2 || got.BlocksFetched+got.BlocksLocal != s.Length {
		t.Errorf("after %d of %d blocks were reported, the second get says %d local and %d fetched",
			s.Length/2, s.Length, got.BlocksLocal, got.BlocksFetched)
	}
	reader.must(nil, "verify", s.Key)
	left, err := filepath.Glob(filepath.Join(dir, "*.part"))
	if err != nil || len(left) != 0 {
		t.Errorf("partial files are left behind: %v (%v)", left, err)
	}
}

// progress is the number of blocks that a progress line says are done, 0 for another line.
func progress(line string) uint64 {
	var ev struct {
		Event string
		Done  uint64
	}
	if json.Unmarshal([]byte(line), &ev) != nil || ev.Event != "progress" {
		return 0
	}
	return ev.Done
}

func TestHundredThousandLines(t *testing.T) {
	var lines bytes.Buffer
	rng := rand.New(rand.NewPCG(3, 4))
	for i := range 100_000 {
		fmt.Fprintf(&lines, "%d %s\n", i, strings.Repeat("x", rng.IntN(60)))
	}
	writer := newMachine(t, alone...)
	writer.must(nil, "create", "lines")
	out := writer.must(bytes.NewReader(lines.Bytes()), "append", "lines", "-", "--lines", "--json")
	var appended struct{ Start, Length, ByteLength uint64 }
	if err := json.Unmarshal([]byte(out), &appended); err != nil || appended.Length != 100_000 {
		t.Fatalf("append printed %q (%v)", out, err)
	}
	p, s := writer.share(nil, filepath.Join(fsRoot(t), "go.mod")) // keeps the node up; the lines are served from the same store
	var info struct{ Key string }
	if err := json.Unmarshal([]byte(writer.must(nil, "info", "lines", "--json")), &info); err != nil {
		t.Fatal(err)
	}
	reader := newMachine(t, append(alone, peers(s)...)...)
	r := reader.run(nil, "cat", info.Key, "--end", "100000", "--format", "lines")
	if r.code != 0 {
		t.Fatalf("cat: exit %d\n%s", r.code, r.stderr)
	}
	if r.stdout != lines.String() {
		t.Errorf("cat gave %d bytes, want the %d of the file", len(r.stdout), lines.Len())
	}
	if code := p.interrupt(); code != 0 {
		t.Errorf("share ended with %d", code)
	}
}

// peers are the flags that dial the sharing node.
func peers(s shared) []string {
	var flags []string
	for _, a := range s.Addrs {
		flags = append(flags, "--peer", a)
	}
	return flags
}

// fsRoot is the module's folder.
func fsRoot(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fs.Stat(os.DirFS(dir), "go.mod"); err != nil {
		t.Fatal(err)
	}
	return dir
}
