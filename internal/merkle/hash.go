package merkle

import (
	"encoding/binary"
	"hash"
	"sync"

	"github.com/p2pcore/p2pcore/internal/flattree"
	"golang.org/x/crypto/blake2b"
)

// Prefixes that keep leaves, parents and lists of roots apart (formats.md 3).
const (
	prefixLeaf   = 0
	prefixParent = 1
	prefixRoots  = 2
)

var states = sync.Pool{New: func() any {
	h, err := blake2b.New256(nil)
	if err != nil {
		panic(err) // only a key that is too long is refused
	}
	return &state{h: h}
}}

// state is a hash state to reuse, with the buffers that would otherwise escape through hash.Hash. For
// blocks of any size it is as fast as copying the block behind its prefix to hash it in one call.
type state struct {
	h      hash.Hash
	prefix [9]byte
	sum    Hash
}

// LeafNode returns the node of a block as it is stored: BLAKE2b-256 over 00, the 8 byte little
// endian length, and the bytes. The data is not kept. Safe for concurrent use.
func LeafNode(block uint64, data []byte) Node {
	n := Node{Index: flattree.Leaf(block), Size: uint64(len(data))}
	s := states.Get().(*state)
	s.h.Reset()
	s.prefix[0] = prefixLeaf
	binary.LittleEndian.PutUint64(s.prefix[1:], n.Size)
	s.h.Write(s.prefix[:]) // a hash never fails to write
	s.h.Write(data)
	s.h.Sum(s.sum[:0])
	n.Hash = s.sum
	states.Put(s)
	return n
}

// ParentNode returns the parent of two siblings, given in either order: BLAKE2b-256 over 01, the 8
// byte little endian sum of sizes, and both hashes, left to right. The sum must not exceed MaxSize.
func ParentNode(a, b Node) Node {
	if b.Index < a.Index {
		a, b = b, a
	}
	n := Node{Index: a.Index.Parent(), Size: a.Size + b.Size}
	var buf [9 + 2*len(a.Hash)]byte
	buf[0] = prefixParent
	binary.LittleEndian.PutUint64(buf[1:], n.Size)
	copy(buf[9:], a.Hash[:])
	copy(buf[9+len(a.Hash):], b.Hash[:])
	n.Hash = blake2b.Sum256(buf[:])
	return n
}

// TreeHash returns the hash of a tree, given its roots from left to right: BLAKE2b-256 over 02, and
// per root the hash, the 8 byte little endian index and the 8 byte little endian size.
func TreeHash(roots []Node) Hash {
	var buf [1 + (MaxDepth+1)*48]byte
	b := append(buf[:0], prefixRoots)
	for i := range roots {
		b = append(b, roots[i].Hash[:]...)
		b = binary.LittleEndian.AppendUint64(b, uint64(roots[i].Index))
		b = binary.LittleEndian.AppendUint64(b, roots[i].Size)
	}
	return blake2b.Sum256(b)
}
