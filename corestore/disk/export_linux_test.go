package disk

import (
	"fmt"
	"syscall"
	"testing"
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
