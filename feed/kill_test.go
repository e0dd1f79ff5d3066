package feed

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	killDirEnv    = "P2PCORE_FEED_KILL_DIR"
	killSerialEnv = "P2PCORE_FEED_KILL_SERIAL"
)

// kills is how often the process is killed.
const kills = 200

// killBlock is the block of a serial number: no two are alike.
func killBlock(serial int) []byte {
	return fmt.Appendf(nil, "block %d %s", serial, strings.Repeat("x", serial%500))
}

// killed is the model of the feed whose process is killed: for each block its serial number, and whether it is stored.
type killed struct {
	serials []int
	held    []bool
}

func (k killed) clone() killed { return killed{slices.Clone(k.serials), slices.Clone(k.held)} }

// apply does what a line of the child announces: "append SERIAL N", "truncate LENGTH", "clear START END",
// "commit SERIAL N".
func (k killed) apply(t *testing.T, line string) killed {
	t.Helper()
	words := strings.Fields(line)
	var n [2]int
	for i, w := range words[1:] {
		var err error
		if n[i], err = strconv.Atoi(w); err != nil {
			t.Fatalf("the child says %q", line)
		}
	}
	k = k.clone()
	switch words[0] {
	case "append", "commit":
		for i := range n[1] {
			k.serials, k.held = append(k.serials, n[0]+i), append(k.held, true)
		}
	case "truncate":
		k.serials, k.held = k.serials[:n[0]], k.held[:n[0]]
	case "clear":
		for i := n[0]; i < n[1]; i++ {
			k.held[i] = false
		}
	default:
		t.Fatalf("the child says %q", line)
	}
	return k
}

func (k killed) equals(t *testing.T, f *Feed) bool {
	t.Helper()
	if f.Info().Length != uint64(len(k.serials)) {
		return false
	}
	s := session(t, f)
	defer s.Close()
	for i, serial := range k.serials {
		if s.Has(uint64(i)) != k.held[i] {
			return false
		}
		if !k.held[i] {
			continue
		}
		if b, err := s.GetLocal(t.Context(), uint64(i)); err != nil || string(b) != string(killBlock(serial)) {
			return false
		}
	}
	return true
}

// TestKillChild is the child of TestFeedSurvivesKill: it changes a feed until it is killed. It says what it
// is about to do, and then that it is done.
func TestKillChild(t *testing.T) {
	dir := os.Getenv(killDirEnv)
	if dir == "" {
		return // nobody's child
	}
	serial, err := strconv.Atoi(os.Getenv(killSerialEnv))
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	f, err := Open(ctx, ableStore{pebbleStore(t, dir, vfs.Default)}, Options{Prefix: testPrefix})
	if err != nil {
		t.Fatal(err)
	}
	s := session(t, f)
	random := rand.New(rand.NewPCG(uint64(serial), 5))
	say := func(format string, args ...any) { fmt.Printf("kill: "+format+"\n", args...) }
	blocks := func() (blocks [][]byte) {
		n := 1 + random.IntN(20)
		for i := range n {
			blocks = append(blocks, killBlock(serial+i))
		}
		return blocks
	}
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	for {
		length := int(f.Info().Length)
		switch k := random.IntN(10); {
		case k < 5 || length < 50:
			b := blocks()
			say("append %d %d", serial, len(b))
			_, err := s.Append(ctx, b...)
			must(err)
			serial += len(b)
		case k < 7 || length > 600:
			to := length - random.IntN(min(length, 60))
			if length > 600 {
				to = random.IntN(300)
			}
			say("truncate %d", to)
			_, err := s.Truncate(ctx, uint64(to), TruncateOptions{})
			must(err)
		case k < 9:
			start := random.IntN(length)
			end := min(length, start+random.IntN(40))
			say("clear %d %d", start, end)
			_, err := s.Clear(ctx, Range{Start: uint64(start), End: uint64(end)})
			must(err)
		default:
			branch, err := s.Branch(ctx, "b", BranchOptions{Overwrite: true})
			must(err)
			b := blocks()
			_, err = branch.Append(ctx, b...)
			must(err)
			say("commit %d %d", serial, len(b))
			_, err = s.Commit(ctx, branch, CommitOptions{})
			must(err)
			must(branch.Close())
			serial += len(b)
		}
		say("done")
	}
}

// TestFeedSurvivesKill kills a process that appends to a feed, clears and truncates it, and commits branches, at random
// moments, 200 times. Each time the feed opens and checks clean, and everything is there that was
// acknowledged; of what was going on, all or nothing.
func TestFeedSurvivesKill(t *testing.T) {
	n := kills
	if testing.Short() {
		n = 10
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	t.Run("create", func(t *testing.T) {
		pair := KeyPairFromSeed([32]byte{7})
		f, err := Create(t.Context(), ableStore{pebbleStore(t, dir, vfs.Default)}, Options{Prefix: testPrefix, KeyPair: &pair})
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	})
	model, serial, acknowledged := killed{}, 0, 0
	for range n {
		cmd := exec.Command(self, "-test.run=^TestKillChild$", "-test.count=1")
		cmd.Env = append(os.Environ(), killDirEnv+"="+dir, killSerialEnv+"="+fmt.Sprint(serial))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// The moment of the kill is a number of lines and a bit of chance after it.
		after, pause := rand.IntN(40), time.Duration(rand.IntN(2000))*time.Microsecond
		dead, pending := false, ""
		for lines := bufio.NewScanner(out); lines.Scan(); {
			text, ok := strings.CutPrefix(lines.Text(), "kill: ")
			switch {
			case !ok:
				t.Fatalf("the child says %q", lines.Text())
			case text == "done":
				model, pending = model.apply(t, pending), ""
				acknowledged++
			default:
				pending = text
			}
			if after--; after < 0 && !dead {
				dead = true
				timer := time.NewTimer(pause)
				<-timer.C
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := cmd.Wait(); err == nil || !dead {
			t.Fatalf("the child ended by itself: %v", err)
		}
		t.Run("verify", func(t *testing.T) { // so that the datastore is closed again
			f, err := Open(t.Context(), ableStore{pebbleStore(t, dir, vfs.Default)}, Options{Prefix: testPrefix})
			if err != nil {
				t.Fatal(err)
			}
			checkAtEnd(t, f)
			if model.equals(t, f) {
				return
			}
			if pending != "" {
				if model = model.apply(t, pending); model.equals(t, f) {
					return
				}
			}
			t.Errorf("%d blocks, and not what was acknowledged, with or without %q", f.Info().Length, pending)
		})
		if t.Failed() {
			return
		}
		// Serials are not used again, also of what was lost.
		serial += 10_000
	}
	if acknowledged < n {
		t.Errorf("only %d operations were acknowledged", acknowledged)
	}
}
