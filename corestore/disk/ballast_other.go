//go:build !linux

package disk

import (
	"errors"
	"os"
)

// writeBallast makes a file that takes up size bytes.
func writeBallast(path string, size uint64) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(fill(f, size), f.Close())
}
