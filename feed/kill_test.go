package feed

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	killDirEnv  = "P2PCORE_FEED_KILL_DIR"
	killSeedEnv = "P2PCORE_FEED_KILL_SEED"
)

// killed is what a process that is killed does to a feed: it says each operation before and after, so that
// whoever reads it knows what must be there. Block i of fork f is killBlock(f, i), so a block is known by
// the fork at which it was appended.
type killed struct {
	blocks []killedBlock
	fork   uint64
}

type killedBlock struct {
	fork uint64
	held bool
}

func killBlock(fork, i uint64) string {
	return fmt.Sprintf("block %d of %d %s", i, fork, strings.Repeat("x", int((i*7+fork)%500)))
}

// do applies an operation as the child prints it: "append 5", "truncate 17", "clear 3 9", "commit 2".
func (k *killed) do(op string) error {
	var name string
	var a, b int
	if n, err := fmt.Sscan(op, &name, &a, &b); n < 2 {
		return fmt.Errorf("operation %q: %w", op, err)
	}
	switch name {
	case "append", "commit":
		for range a {
			k.blocks = append(k.blocks, killedBlock{k.fork, true})
		}
	case "truncate":
		k.blocks = k.blocks[:a:a]
		k.fork++
	case "clear":
		k.blocks = append([]killedBlock(nil), k.blocks...)
		for i := a; i < b; i++ {
			k.blocks[i].held = false
		}
	default:
		return fmt.Errorf("operation %q", op)
	}
	return nil
}

// run is the same on a feed.
func (k *killed) run(ctx context.Context, s *Session, op string) error {
	var name string
	var a, b uint64
	if n, err := fmt.Sscan(op, &name, &a, &b); n < 2 {
		return fmt.Errorf("operation %q: %w", op, err)
	}
	var blocks [][]byte
	if name == "append" || name == "commit" {
		for i := range a {
			blocks = append(blocks, []byte(killBlock(k.fork, uint64(len(k.blocks))+i)))
		}
	}
	var err error
	switch name {
	case "append":
		_, err = s.Append(ctx, blocks...)
	case "truncate":
		_, err = s.Truncate(ctx, a, TruncateOptions{})
	case "clear":
		_, err = s.Clear(ctx, Range{Start: a, End: b})
	case "commit":
		var branch *Session
		if branch, err = s.Branch(ctx, "b", BranchOptions{Overwrite: true}); err != nil {
			return err
		}
		if _, err = branch.Append(ctx, blocks...); err == nil {
			_, err = s.Commit(ctx, branch, CommitOptions{})
		}
		err = errors.Join(err, branch.Close())
	}
	return err
}

// next returns an operation.
func (k *killed) next(random *rand.Rand) string {
	length := len(k.blocks)
	switch n := random.IntN(20); {
	case n < 4 && length > 100:
		return fmt.Sprintf("truncate %d", length-random.IntN(min(length, 200)))
	case n < 8 && length > 10:
		start := random.IntN(length)
		return fmt.Sprintf("clear %d %d", start, start+random.IntN(min(length-start, 300)))
	case n < 9:
		return fmt.Sprintf("commit %d", 1+random.IntN(30))
	}
	return fmt.Sprintf("append %d", 1+random.IntN(40))
}

// openKilled opens the feed in a directory, or makes it.
func openKilled(t *testing.T, dir string) (*Feed, error) {
	pair := KeyPairFromSeed([32]byte{7})
	ds := ableStore{pebbleStore(t, dir, vfs.Default)}
	opts := Options{Prefix: testPrefix, KeyPair: &pair}
	f, err := Open(t.Context(), ds, opts)
	if errors.Is(err, ErrNotFound) {
		f, err = Create(t.Context(), ds, opts)
	}
	return f, err
}

// TestKillChild is the child of TestFeedSurvivesKill. It reads the operations that were done before, and
// goes on with others until it is killed: "try OPERATION" before each, "did OPERATION" after it.
func TestKillChild(t *testing.T) {
	dir := os.Getenv(killDirEnv)
	if dir == "" {
		return // nobody's child
	}
	seed, err := strconv.ParseUint(os.Getenv(killSeedEnv), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	k := &killed{}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		if err := k.do(lines.Text()); err != nil {
			t.Fatal(err)
		}
	}
	f, err := openKilled(t, dir)
	if err != nil {
		t.Fatal(err)
	}
	s := session(t, f)
	for random := rand.New(rand.NewPCG(seed, 1)); ; {
		op := k.next(random)
		fmt.Println("try", op)
		if err := k.run(t.Context(), s, op); err != nil {
			t.Fatalf("%s: %v", op, err)
		}
		if err := k.do(op); err != nil {
			t.Fatal(err)
		}
		fmt.Println("did", op)
	}
}

// TestFeedSurvivesKill kills a process that appends, truncates, clears and commits branches, at random
// moments, and looks whether all that it had acknowledged is so. What it was just doing is done or not.
func TestFeedSurvivesKill(t *testing.T) {
	kills := 200
	if testing.Short() {
		kills = 30
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	dir := t.TempDir()
	var ops []string
	for range kills {
		doing := killOnce(t, self, dir, random, &ops)
		verifyKilled(t, dir, &ops, doing)
		if t.Failed() {
			return
		}
	}
	if len(ops) < kills {
		t.Errorf("%d kills met %d operations only", kills, len(ops))
	}
}

// killOnce starts a process and kills it. It adds to ops what the process has acknowledged, and returns
// what it was doing.
func killOnce(t *testing.T, self, dir string, random *rand.Rand, ops *[]string) (doing string) {
	t.Helper()
	cmd := exec.Command(self, "-test.run=^TestKillChild$", "-test.count=1")
	cmd.Env = append(os.Environ(), killDirEnv+"="+dir, killSeedEnv+"="+strconv.FormatUint(random.Uint64(), 10))
	cmd.Stdin = strings.NewReader(strings.Join(*ops, "\n"))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// The moment of the kill is a number of operations and a bit of chance after it.
	after, pause := random.IntN(12), time.Duration(random.IntN(1500))*time.Microsecond
	killed := false
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		switch what, op, _ := strings.Cut(lines.Text(), " "); what {
		case "try":
			doing = op
		case "did":
			*ops, doing = append(*ops, op), ""
		default:
			rest, _ := io.ReadAll(out)
			t.Fatalf("the child says %q %s", lines.Text(), rest)
		}
		if after--; after < 0 && !killed {
			killed = true
			<-time.NewTimer(pause).C
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil || !killed {
		t.Fatalf("the child ended by itself: %v", err)
	}
	return doing
}

// verifyKilled opens what a killed process has left, and adds to ops what it was doing if that is done.
func verifyKilled(t *testing.T, dir string, ops *[]string, doing string) {
	t.Helper()
	t.Run("verify", func(t *testing.T) { // so that the datastore is closed again
		k := &killed{}
		for _, op := range *ops {
			if err := k.do(op); err != nil {
				t.Fatal(err)
			}
		}
		f, err := openKilled(t, dir)
		if err != nil {
			t.Fatal(err)
		}
		checkAtEnd(t, f)
		err = k.compare(t, f)
		if err != nil && doing != "" {
			if err := k.do(doing); err != nil {
				t.Fatal(err)
			}
			if again := k.compare(t, f); again == nil {
				*ops, err = append(*ops, doing), nil
			}
		}
		if err != nil {
			t.Fatalf("after %d operations, doing %q: %v", len(*ops), doing, err)
		}
	})
}

func (k *killed) compare(t *testing.T, f *Feed) error {
	t.Helper()
	s := session(t, f)
	info := f.Info()
	if info.Length != uint64(len(k.blocks)) || info.Fork != k.fork {
		return fmt.Errorf("length %d, fork %d; want %d, %d", info.Length, info.Fork, len(k.blocks), k.fork)
	}
	for i, want := range k.blocks {
		b, err := s.GetLocal(t.Context(), uint64(i))
		switch {
		case want.held && (err != nil || string(b) != killBlock(want.fork, uint64(i))):
			return fmt.Errorf("block %d: %q, %w", i, b, err)
		case !want.held && !errors.Is(err, ErrNotAvailable):
			return fmt.Errorf("block %d, which was cleared: %q, %w", i, b, err)
		}
	}
	return nil
}
