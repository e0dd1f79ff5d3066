package disk

import (
	"crypto/rand"
	"os"
)

// fill writes size bytes that no filesystem can store in less.
func fill(f *os.File, size uint64) error {
	chunk := make([]byte, 256<<10)
	rand.Read(chunk)
	for size > 0 {
		n, err := f.Write(chunk[:min(size, uint64(len(chunk)))])
		if err != nil {
			return err
		}
		size -= uint64(n)
	}
	return nil
}
