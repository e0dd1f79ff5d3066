package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	datastore "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"

	"github.com/p2pcore/p2pcore/feed"
)

// namespaceEnv tells the test binary that it runs in a mount namespace of its own.
const namespaceEnv = "P2PCORE_TEST_NAMESPACE"

// onTmpfs runs body with the directory of a filesystem of size bytes.
//
// The whole test runs again in a process with a mount namespace of its own, and its verdict counts. However that
// process ends, or this one, the filesystem goes with it. Who may not mount does so in a user namespace.
func onTmpfs(t *testing.T, size int, body func(t *testing.T, root string)) {
	t.Helper()
	if os.Getenv(namespaceEnv) == "" {
		inNamespace(t)
		return
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0700", size)); err != nil {
		t.Fatalf("mount: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	body(t, dir)
}

func inNamespace(t *testing.T) {
	t.Helper()
	// As root it needs no user namespace, which a container may forbid, and as another user it cannot do without.
	kinds := []*syscall.SysProcAttr{
		{Unshareflags: syscall.CLONE_NEWNS},
		{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		},
	}
	var refused []error
	for _, attr := range kinds {
		cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=5m")
		cmd.Env = append(os.Environ(), namespaceEnv+"=1", "TMPDIR="+t.TempDir())
		cmd.SysProcAttr = attr
		attr.Pdeathsig = syscall.SIGKILL
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			refused = append(refused, err)
			continue
		}
		err := cmd.Wait()
		t.Logf("%s", &out)
		if err != nil || !strings.Contains(out.String(), "--- PASS: "+t.Name()) {
			t.Fatalf("THE FULL DISK TEST FAILED in a namespace: %v", err)
		}
		return
	}
	t.Fatalf("THE FULL DISK IS NOT TESTED: a tmpfs can be mounted neither as this user nor in a user namespace: %v", errors.Join(refused...))
}

// tiny are options for a filesystem of some 30 MB.
func tiny() Options {
	return Options{MemTableBytes: 1 << 20, CacheBytes: 1 << 20, Reserve: 8 << 20}
}

// eat writes a file of another program until the filesystem is full or, with leave > 0, that many
// bytes are left.
func eat(t *testing.T, path string, leave uint64) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	chunk := make([]byte, 4096)
	for leave == 0 || freeBytes(t, path) > leave {
		if _, err := f.Write(chunk); errors.Is(err, syscall.ENOSPC) && leave == 0 {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

func freeBytes(t *testing.T, path string) uint64 {
	t.Helper()
	var st syscall.Statfs_t
	if err := syscall.Statfs(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Bavail * uint64(st.Bsize)
}

// fillUp puts values of 64 KiB in batches of 16, each made durable, until one is refused. It returns
// how many batches were taken, from first on.
func fillUp(t *testing.T, d *Disk, first int) (end int) {
	t.Helper()
	ds, ctx := d.Datastore(), t.Context()
	for i := first; i < first+10_000; i++ {
		err := putBatch(ctx, ds, i)
		if errors.Is(err, feed.ErrNoSpace) {
			return i
		}
		if err != nil {
			t.Fatalf("batch %d: %v", i, err)
		}
	}
	t.Fatal("the disk never gets full")
	return 0
}

func putBatch(ctx context.Context, ds *Datastore, i int) error {
	if free, err := ds.FreeSpace(); err != nil || free == 0 {
		return errors.Join(err, feed.ErrNoSpace)
	}
	b, err := ds.Batch(ctx)
	if err != nil {
		return err
	}
	for k := range 16 {
		if err := b.Put(ctx, datastore.NewKey(fmt.Sprintf("/full/%06d/%02d", i, k)), value(i, k)); err != nil {
			return err
		}
	}
	if err := b.Commit(ctx); err != nil {
		return err
	}
	return ds.Sync(ctx, datastore.NewKey("/"))
}

// value is 64 KiB that do not compress.
func value(i, k int) []byte {
	b := make([]byte, 64<<10)
	x := uint64(i)<<8 | uint64(k) | 1<<40
	for at := range b {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[at] = byte(x)
	}
	return b
}

func checkValues(t *testing.T, d *Disk, end int) {
	t.Helper()
	ds, ctx := d.Datastore(), t.Context()
	for i := range end {
		for k := range 16 {
			got, err := ds.Get(ctx, datastore.NewKey(fmt.Sprintf("/full/%06d/%02d", i, k)))
			if err != nil || string(got) != string(value(i, k)) {
				t.Fatalf("batch %d value %d: %d bytes, %v", i, k, len(got), err)
			}
		}
	}
	results, err := ds.Query(ctx, query.Query{Prefix: "/full", KeysOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	entries, err := results.Rest()
	if err != nil || len(entries) != 16*end {
		t.Errorf("%d values, %v; want %d", len(entries), err, 16*end)
	}
}

func TestFullDiskKeepsTheReserve(t *testing.T) { onTmpfs(t, 48<<20, testFullDiskKeepsTheReserve) }

func testFullDiskKeepsTheReserve(t *testing.T, root string) {
	dir := filepath.Join(root, "store")
	opts := tiny()
	opts.OnFatal = func(err error) { panic(err) }
	d := mustOpen(t, dir, opts)
	n := fillUp(t, d, 0)
	if n == 0 {
		t.Fatal("nothing could be stored")
	}
	if free := freeBytes(t, root); free < opts.Reserve/2 {
		t.Errorf("%d bytes are free when the store says no, the reserve is %d", free, opts.Reserve)
	}
	checkValues(t, d, n)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	// Deleting works when nothing else does, and gives the space back.
	d = mustOpen(t, dir, opts)
	if d.ReadOnly() {
		t.Fatal("the reserve is not enough for opening")
	}
	checkValues(t, d, n)
	ctx, ds := t.Context(), d.Datastore()
	if err := ds.DeleteRange(ctx, fmt.Sprintf("/full/%06d", n/2), "/full/a"); err != nil {
		t.Fatal(err)
	}
	if err := ds.Compact(ctx, "/full", "/full/a"); err != nil {
		t.Fatal(err)
	}
	waitForSpace(t, d)
	m := fillUp(t, d, n/2)
	if m <= n/2 {
		t.Error("nothing can be stored after deleting")
	}
	checkValues(t, d, m)
}

// waitForSpace waits until pebble has removed files and the answer is new.
func waitForSpace(t *testing.T, d *Disk) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; pause(20 * time.Millisecond) {
		free, err := d.FreeSpace()
		if err != nil {
			t.Fatal(err)
		}
		if free > 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the space does not come back")
		}
	}
}

// Another program eats everything, the reserve too, while the store writes.
func TestLateDiskFull(t *testing.T) { onTmpfs(t, 48<<20, testLateDiskFull) }

func testLateDiskFull(t *testing.T, root string) {
	dir := filepath.Join(root, "store")
	opts := tiny()
	opts.OnFatal = func(err error) { panic(err) }
	d := mustOpen(t, dir, opts)
	ctx, ds := t.Context(), d.Datastore()
	for i := range 3 {
		if err := putBatch(ctx, ds, i); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := ds.FreeSpace(); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(root, "other")
	eat(t, other, 0)
	// The filesystem was asked before the other program took it all, and the answer is not old yet, however
	// long the machine stalls here: it counts until enough has been written.
	d.space.mu.Lock()
	d.space.asked = time.Now().Add(time.Hour)
	d.space.mu.Unlock()
	n := 0
	for ; n < 1000; n++ {
		err := ds.Put(ctx, datastore.NewKey(fmt.Sprintf("/late/%04d", n)), value(n, 0)[:4096])
		if errors.Is(err, feed.ErrNoSpace) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := ds.Sync(ctx, datastore.NewKey("/")); err != nil {
			t.Fatal(err)
		}
	}
	if n == 1000 {
		t.Fatal("the full disk is never noticed")
	}
	// The log has its space beforehand; tables have not.
	if _, err := ds.DB.AsyncFlush(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-d.space.full:
	case <-time.After(10 * time.Second):
		t.Fatal("no write has met the full disk: this test shows nothing")
	}
	d.space.mu.Lock()
	ballast := d.space.ballast
	d.space.mu.Unlock()
	if ballast != 0 {
		t.Errorf("the ballast still has %d bytes", ballast)
	}
	checkValues(t, d, 3)
	start := time.Now()
	if err := d.Close(); err != nil {
		t.Fatalf("close on a full disk: %v", err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("close on a full disk took %v", took)
	}

	// No byte is left. What was acknowledged can be read, nothing can be written.
	eat(t, other+"2", 0)
	start = time.Now()
	d = mustOpen(t, dir, opts)
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("opening on a full disk took %v", took)
	}
	if !d.ReadOnly() {
		t.Error("opened for writing without a byte of space")
	}
	checkValues(t, d, 3)
	for i := range n {
		got, err := d.Datastore().Get(ctx, datastore.NewKey(fmt.Sprintf("/late/%04d", i)))
		if err != nil || string(got) != string(value(i, 0)[:4096]) {
			t.Fatalf("late value %d: %v", i, err)
		}
	}
	if err := d.Datastore().Put(ctx, datastore.NewKey("/x"), []byte("x")); !errors.Is(err, feed.ErrNoSpace) {
		t.Errorf("Put on a full disk: %v, want ErrNoSpace", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}

	// Space again.
	for _, name := range []string{other, other + "2"} {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	d = mustOpen(t, dir, opts)
	if d.ReadOnly() {
		t.Error("still read-only with space")
	}
	checkValues(t, d, 3)
	if err := putBatch(ctx, d.Datastore(), 3); err != nil {
		t.Fatal(err)
	}
	checkValues(t, d, 4)
}

func TestNewStoreOnAFullDisk(t *testing.T) { onTmpfs(t, 16<<20, testNewStoreOnAFullDisk) }

func testNewStoreOnAFullDisk(t *testing.T, root string) {
	if err := os.Mkdir(filepath.Join(root, "store"), 0o700); err != nil {
		t.Fatal(err)
	}
	eat(t, filepath.Join(root, "other"), 0)
	for _, dir := range []string{"store", "new"} {
		start := time.Now()
		_, err := Open(filepath.Join(root, dir), tiny())
		if !errors.Is(err, feed.ErrNoSpace) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, want one line with ErrNoSpace", dir, err)
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("%s: took %v", dir, took)
		}
	}
	if _, err := os.Stat(filepath.Join(root, "new")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what could not be made has left a directory: %v", err)
	}
	if err := os.Remove(filepath.Join(root, "other")); err != nil {
		t.Fatal(err)
	}
	opts := tiny()
	mustOpen(t, filepath.Join(root, "store"), opts)
}
