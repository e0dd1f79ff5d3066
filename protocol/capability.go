package protocol

import (
	"crypto/subtle"

	"golang.org/x/crypto/blake2b"

	"github.com/p2pcore/p2pcore/feed"
)

// Names under which the two sides of a stream derive their capabilities.
var (
	replicateInitiator = namespace(1)
	replicateResponder = namespace(2)
)

// namespace is a constant of the package hypercore: H(H("hypercore") || index).
func namespace(index byte) [32]byte {
	name := blake2b.Sum256([]byte("hypercore"))
	return blake2b.Sum256(append(name[:], index))
}

// Capability is what one side of a stream sends to prove that it knows the key of a feed on this
// very stream: BLAKE2b-256, keyed with the binding of 16 to 64 bytes, over a constant for its role
// and the key. initiator is the role of the side that sends it. It panics for a binding of another size.
func Capability(key feed.Key, binding []byte, initiator bool) [32]byte {
	if len(binding) < minBinding || len(binding) > maxBinding {
		panic("protocol: binding must have 16 to 64 bytes")
	}
	h, err := blake2b.New256(binding)
	if err != nil {
		panic(err) // only for keys longer than 64 bytes
	}
	role := replicateResponder
	if initiator {
		role = replicateInitiator
	}
	h.Write(role[:])
	h.Write(key[:])
	return [32]byte(h.Sum(nil))
}

func sameCapability(a, b [32]byte) bool { return subtle.ConstantTimeCompare(a[:], b[:]) == 1 }
