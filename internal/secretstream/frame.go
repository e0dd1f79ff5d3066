package secretstream

import (
	"errors"
	"fmt"
	"io"
)

// lengthSize is the size of a frame's length, little endian.
const lengthSize = 3

func putLength(b []byte, n int) { b[0], b[1], b[2] = byte(n), byte(n>>8), byte(n>>16) }

// readFrame reads the next frame into the memory of b, or other if that is too small. The result is room bytes of
// anything and the body. Memory is taken as the body arrives. A body above limit is an error that wraps ErrFrame.
func readFrame(r io.Reader, b []byte, room, limit int) ([]byte, error) {
	b = grow(b[:0], lengthSize)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, err
	}
	n := int(b[0]) | int(b[1])<<8 | int(b[2])<<16
	if n > limit {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrFrame, n, limit)
	}
	at, end := room, room+n
	for b = grow(b, min(end, at+frameStep)); ; b = grow(b, min(end, 2*len(b))) {
		if _, err := io.ReadFull(r, b[at:]); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		if at = len(b); at == end {
			return b, nil
		}
	}
}

// grow returns b with length n.
func grow(b []byte, n int) []byte {
	if n <= cap(b) {
		return b[:n]
	}
	return append(b, make([]byte, n-len(b))...)
}
