package disk

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gofrs/flock"

	datastore "github.com/ipfs/go-datastore"
	"github.com/p2pcore/p2pcore/corestore"
)

// childEnv makes the test binary a process that holds the store in the directory it names.
const childEnv = "P2PCORE_TEST_HOLD"

// appendEnv makes that process append to a feed until it is killed.
const appendEnv = "P2PCORE_TEST_APPEND"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		if err := hold(dir); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// hold opens the store, makes one value durable, says so, and waits to be killed.
func hold(dir string) error {
	d, err := Open(dir, small())
	if err != nil {
		return err
	}
	if err := d.SetSocket("/run/test.sock"); err != nil {
		return err
	}
	ctx, ds := context.Background(), d.Datastore()
	if err := ds.Put(ctx, datastore.NewKey("/kept"), []byte("kept")); err != nil {
		return err
	}
	if err := ds.Sync(ctx, datastore.NewKey("/")); err != nil {
		return err
	}
	fmt.Println("holding")
	if os.Getenv(appendEnv) != "" {
		return appendForEver(ctx, ds)
	}
	_, err = bufio.NewReader(os.Stdin).ReadString('\n')
	return errors.Join(err, d.Close())
}

// appendForEver appends blocks that hold their index and prints the length after each call.
func appendForEver(ctx context.Context, ds datastore.Batching) error {
	s, err := corestore.Open(ctx, ds, corestore.Options{})
	if err != nil {
		return err
	}
	session, err := s.Named(ctx, "a")
	if err != nil {
		return err
	}
	for i := session.Info().Length; ; i += 3 {
		info, err := session.Append(ctx, numbered(i), numbered(i+1), numbered(i+2))
		if err != nil {
			return err
		}
		fmt.Println(info.Length)
	}
}

// numbered is block i, of some length.
func numbered(i uint64) []byte {
	return bytes.Repeat(fmt.Appendf(nil, "%d;", i), int(i*i%997)+1)
}

func startHolder(t *testing.T, dir string, env ...string) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), childEnv+"="+dir), env...)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		cmd.Process.Kill()
		cmd.Wait()
	})
	out := bufio.NewReader(stdout)
	line, err := out.ReadString('\n')
	if err != nil || line != "holding\n" {
		t.Fatalf("child says %q, %v", line, err)
	}
	return cmd, out
}

func TestLockNamesItsHolder(t *testing.T) {
	dir := t.TempDir()
	child, _ := startHolder(t, dir)
	_, err := Open(dir, small())
	var locked *LockedError
	if !errors.As(err, &locked) || !errors.Is(err, ErrLocked) {
		t.Fatalf("got %v, want a LockedError", err)
	}
	if locked.PID != child.Process.Pid || locked.Socket != "/run/test.sock" || time.Since(locked.Started) > time.Hour {
		t.Errorf("got %+v, want process %d", locked, child.Process.Pid)
	}
	if text := err.Error(); strings.Contains(text, "\n") || !strings.Contains(text, fmt.Sprint(child.Process.Pid)) {
		t.Errorf("error %q is not one line with the process", text)
	}
	if info, held, err := Holder(dir); err != nil || !held || info.PID != child.Process.Pid {
		t.Errorf("Holder: %+v, %v, %v", info, held, err)
	}
}

func TestKilledHolderLeavesTheStoreToTheNext(t *testing.T) {
	dir := t.TempDir()
	child, _ := startHolder(t, dir)
	if err := child.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	child.Wait()
	if info, held, err := Holder(dir); err != nil || held {
		t.Errorf("Holder after kill: %+v, %v, %v", info, held, err)
	}
	d := mustOpen(t, dir, small())
	if v, err := d.Datastore().Get(t.Context(), datastore.NewKey("/kept")); err != nil || string(v) != "kept" {
		t.Errorf("what was synced: %q, %v", v, err)
	}
}

// Killed again and again in the middle of its work, the store has all that it has acknowledged.
func TestAcknowledgedAppendsSurviveKill(t *testing.T) {
	dir := t.TempDir()
	last := uint64(0)
	for round := range 5 {
		child, out := startHolder(t, dir, appendEnv+"=1")
		for range 20 * (round + 1) {
			line, err := out.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if last, err = strconv.ParseUint(strings.TrimSpace(line), 10, 64); err != nil {
				t.Fatal(err)
			}
		}
		if err := child.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		child.Wait()
		d := mustOpen(t, dir, small())
		s, err := corestore.Open(t.Context(), d.Datastore(), corestore.Options{})
		if err != nil {
			t.Fatal(err)
		}
		session, err := s.Named(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		length := session.Info().Length
		if length < last || length%3 != 0 {
			t.Errorf("round %d: length %d, %d were acknowledged, three at a time", round, length, last)
		}
		for i := range length {
			if got, err := session.GetLocal(t.Context(), i); err != nil || string(got) != string(numbered(i)) {
				t.Fatalf("round %d: block %d: %.20q, %v", round, i, got, err)
			}
		}
		if err := session.Feed().Check(t.Context()); err != nil {
			t.Errorf("round %d: %v", round, err)
		}
		if err := errors.Join(s.Close(), d.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLockWithinOneProcess(t *testing.T) {
	dir := t.TempDir()
	if info, held, err := Holder(dir); err != nil || held {
		t.Errorf("Holder of nothing: %+v, %v, %v", info, held, err)
	}
	d := mustOpen(t, dir, small())
	var locked *LockedError
	if _, err := Open(dir, small()); !errors.As(err, &locked) || locked.PID != os.Getpid() || locked.Socket != "" {
		t.Errorf("second Open: %v", err)
	}
	if err := d.SetSocket(strings.Repeat("x", lockBytes)); err == nil {
		t.Error("a socket path that does not fit was taken")
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if info, held, err := Holder(dir); err != nil || held {
		t.Errorf("Holder after Close: %+v, %v, %v", info, held, err)
	}
	mustOpen(t, dir, small())
}

// A holder that is just starting has the lock and has not written, or has half written, who it is.
func TestLockOfAnUnknownHolder(t *testing.T) {
	for _, text := range []string{"", `{"pid":12`, `{"pid":0}`} {
		dir := t.TempDir()
		path := filepath.Join(dir, lockName)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		other := flock.New(path)
		if held, err := other.TryLock(); err != nil || !held {
			t.Fatal(held, err)
		}
		var locked *LockedError
		if _, err := Open(dir, small()); !errors.As(err, &locked) || locked.PID != 0 {
			t.Errorf("text %q: got %v, want a LockedError without a process", text, err)
		}
		if err := other.Close(); err != nil {
			t.Fatal(err)
		}
		mustOpen(t, dir, small())
	}
}
