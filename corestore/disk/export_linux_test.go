package disk

import (
	"fmt"
	"syscall"
	"testing"
	"time"
)

// OnTmpfs is onTmpfs for tests outside the package.
func OnTmpfs(t *testing.T, size int, body func(t *testing.T, root string)) {
	t.Helper()
	onTmpfs(t, size, body)
}

// GrowTmpfs gives the filesystem of onTmpfs another size.
func GrowTmpfs(t *testing.T, root string, size int) {
	t.Helper()
	if err := syscall.Mount("tmpfs", root, "tmpfs", syscall.MS_REMOUNT, fmt.Sprintf("size=%d", size)); err != nil {
		t.Fatal(err)
	}
}

// Eat writes a file of another program until leave bytes are left.
func Eat(t *testing.T, path string, leave uint64) {
	t.Helper()
	eat(t, path, leave)
}

// WaitForSpace waits until something can be stored again.
func WaitForSpace(t *testing.T, d *Disk) {
	t.Helper()
	waitForSpace(t, d)
}

// AskAgain makes d forget how much space there was.
func AskAgain(d *Disk) {
	d.space.mu.Lock()
	defer d.space.mu.Unlock()
	d.space.asked = time.Time{}
}
