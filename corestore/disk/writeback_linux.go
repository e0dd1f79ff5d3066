package disk

import (
	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"
)

// writeBack asks the system to begin to bring a part of a file to the disk. A filesystem that cannot does nothing.
func writeBack(fd uintptr, start, end int64) {
	if fd != vfs.InvalidFd {
		_ = unix.SyncFileRange(int(fd), start, end-start, unix.SYNC_FILE_RANGE_WRITE)
	}
}
