package disk

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gofrs/flock"
	datastore "github.com/ipfs/go-datastore"
)

// childEnv makes the test binary a process that holds the store in the directory it names.
const childEnv = "P2PCORE_TEST_HOLD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		if err := hold(dir); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
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
	_, err = bufio.NewReader(os.Stdin).ReadString('\n')
	return errors.Join(err, d.Close())
}

func startHolder(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+dir)
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
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil || line != "holding\n" {
		t.Fatalf("child says %q, %v", line, err)
	}
	return cmd
}

func TestLockNamesItsHolder(t *testing.T) {
	dir := t.TempDir()
	child := startHolder(t, dir)
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
	child := startHolder(t, dir)
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
