package wire

import (
	"fmt"

	"github.com/p2pcore/p2pcore/internal/compact"
)

// Handshake is what the open of a channel carries.
//
//	uint flags (1 Seeks), 32 bytes capability
type Handshake struct {
	Seeks      bool // the sender understands the seek part of a request
	Capability [32]byte
}

// Append appends the handshake to b.
func (h Handshake) Append(b []byte) []byte {
	b = compact.AppendUint(b, bit(h.Seeks, 1))
	return append(b, h.Capability[:]...)
}

// ParseHandshake reads a handshake. Bytes behind it are ignored. The error wraps ErrMalformed.
func ParseHandshake(b []byte) (Handshake, error) {
	d := compact.NewDecoder(b)
	h := Handshake{Seeks: d.Uint()&1 != 0, Capability: d.Fixed32()}
	if err := d.Err(); err != nil {
		return Handshake{}, fmt.Errorf("%w: handshake: %w", ErrMalformed, err)
	}
	return h, nil
}
