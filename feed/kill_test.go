package feed

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

const killDirEnv = "P2PCORE_FEED_KILL_DIR"

// killBlock is block i of the feed that is killed while it grows.
func killBlock(i uint64) []byte {
	return fmt.Appendf(nil, "block %d %s", i, strings.Repeat("x", int(i%500)))
}

// TestKillChild is the child of TestAppendSurvivesKill: it appends until it is killed, and prints the
// length after each append.
func TestKillChild(t *testing.T) {
	dir := os.Getenv(killDirEnv)
	if dir == "" {
		return // nobody's child
	}
	pair := KeyPairFromSeed([32]byte{7})
	ds := atomicStore{pebbleStore(t, dir, vfs.Default)}
	opts := Options{Prefix: testPrefix, KeyPair: &pair}
	f, err := Open(t.Context(), ds, opts)
	if errors.Is(err, ErrNotFound) {
		f, err = Create(t.Context(), ds, opts)
	}
	if err != nil {
		t.Fatal(err)
	}
	s := session(t, f)
	for n := uint64(1); ; n = n*5%37 + 1 {
		length := f.Info().Length
		var blocks [][]byte
		for i := range n {
			blocks = append(blocks, killBlock(length+i))
		}
		info, err := s.Append(t.Context(), blocks...)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println("acknowledged", info.Length)
	}
}

// TestAppendSurvivesKill kills a process that appends, at random moments, and looks whether everything
// that it had acknowledged is there.
func TestAppendSurvivesKill(t *testing.T) {
	if testing.Short() {
		t.Skip("starts twenty processes")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	acknowledged := uint64(0)
	for range 20 {
		cmd := exec.Command(self, "-test.run=^TestKillChild$", "-test.count=1")
		cmd.Env = append(os.Environ(), killDirEnv+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// The moment of the kill is a number of acknowledgements and a bit of chance after it.
		after, pause := rand.IntN(30), time.Duration(rand.IntN(3000))*time.Microsecond
		killed := false
		for lines := bufio.NewScanner(out); lines.Scan(); {
			text, ok := strings.CutPrefix(lines.Text(), "acknowledged ")
			if !ok {
				t.Fatalf("the child says %q", lines.Text())
			}
			if acknowledged, err = strconv.ParseUint(text, 10, 64); err != nil {
				t.Fatal(err)
			}
			if after--; after < 0 && !killed {
				killed = true
				timer := time.NewTimer(pause)
				<-timer.C
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := cmd.Wait(); err == nil || !killed {
			t.Fatalf("the child ended by itself: %v", err)
		}
		verifyKilled(t, dir, acknowledged)
	}
	if acknowledged == 0 {
		t.Error("nothing was ever acknowledged")
	}
}

func verifyKilled(t *testing.T, dir string, acknowledged uint64) {
	t.Helper()
	t.Run("verify", func(t *testing.T) { // so that the datastore is closed again
		ds := atomicStore{pebbleStore(t, dir, vfs.Default)}
		f, err := Open(t.Context(), ds, Options{Prefix: testPrefix})
		if err != nil {
			t.Fatal(err)
		}
		checkAtEnd(t, f)
		length := f.Info().Length
		if length < acknowledged {
			t.Fatalf("%d blocks are there, %d were acknowledged", length, acknowledged)
		}
		s := session(t, f)
		for i := range length {
			if b, err := s.Get(t.Context(), i); err != nil || string(b) != string(killBlock(i)) {
				t.Fatalf("block %d: %q, %v", i, b, err)
			}
		}
	})
}
