package disk

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// writeBallast makes a file that takes up size bytes.
func writeBallast(path string, size uint64) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	err = unix.Fallocate(int(f.Fd()), 0, 0, int64(size))
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		err = fill(f, size)
	}
	return errors.Join(err, f.Close())
}
