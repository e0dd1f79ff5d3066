package merkle

import (
	"context"

	"github.com/p2pcore/p2pcore/internal/flattree"
)

// Bounds on what a peer can make the arithmetic of this package reach. Both come from the wire,
// which carries no integer above 2^53-1.
const (
	// MaxSize is the largest byte length of a tree, or of a node.
	MaxSize uint64 = 1<<53 - 1
	// MaxLength is the largest number of blocks of a tree; every tree index then fits 53 bits.
	MaxLength uint64 = 1 << 52
	// MaxDepth is the depth of the largest possible root.
	MaxDepth = 52
)

// SizeUnproven is added to the size of a node by a NodeReader that knows only the hash to be right.
const SizeUnproven uint64 = 1 << 63

// Hash is a BLAKE2b-256 digest. The zero Hash stands for "none".
type Hash [32]byte

// Node is one node of the tree. Size is the number of bytes of all blocks below it.
type Node struct {
	Index flattree.Index
	Size  uint64
	Hash  Hash
}

// Missing reports whether the node is one that a NodeReader did not find.
func (n Node) Missing() bool { return n.Hash == Hash{} }

// Head is what a writer signs: the state of a feed in four values. ByteLength is not signed by
// itself, the tree hash commits to it.
type Head struct {
	Fork, Length, ByteLength uint64
	Hash                     Hash
}

// Range is the half-open range [Start, End) of block indexes.
type Range struct{ Start, End uint64 }

// Len is the number of blocks in the range; 0 if End is not past Start.
func (r Range) Len() uint64 {
	if r.End <= r.Start {
		return 0
	}
	return r.End - r.Start
}

// BlockRequest asks for a block and for as many siblings above it as the reader lacks.
type BlockRequest struct{ Index, Nodes uint64 }

// HashRequest asks for the node at a tree index and for as many siblings above it as the reader lacks.
type HashRequest struct {
	Index flattree.Index
	Nodes uint64
}

// SeekRequest asks for the nodes that lead to the block in which byte number Bytes lies. Padding is
// the number of bytes of each block that do not count.
type SeekRequest struct{ Bytes, Padding uint64 }

// UpgradeRequest asks for the nodes that lead from length Start to length Start+Length.
type UpgradeRequest struct{ Start, Length uint64 }

// Request is what a reader asks of another: up to four parts, at most one of Block and Hash (if both
// are set, Hash is ignored), and whether the manifest is wanted too.
type Request struct {
	Fork     uint64
	Block    *BlockRequest
	Hash     *HashRequest
	Seek     *SeekRequest
	Upgrade  *UpgradeRequest
	Manifest bool
}

// BlockProof is a block and the siblings on the way up from it. Tree.Prove leaves Value nil.
type BlockProof struct {
	Index uint64
	Value []byte
	Nodes []Node

	// Set by Prehash.
	hash   Hash   // of the leaf
	hashed []byte // the Value it is of
}

// Prehash computes the hash of Value, so that the verification need not: for whoever can do so beside it. The bytes of
// Value must not be changed afterwards. Whatever else is put into Value is hashed as ever.
func (p *BlockProof) Prehash() { p.hash, p.hashed = LeafNode(p.Index, p.Value).Hash, p.Value }

// leaf returns the node of the block.
func (p *BlockProof) leaf() Node {
	if n := len(p.Value); n == 0 || n != len(p.hashed) || &p.Value[0] != &p.hashed[0] {
		return LeafNode(p.Index, p.Value)
	}
	return Node{Index: flattree.Leaf(p.Index), Size: uint64(len(p.Value)), Hash: p.hash}
}

// HashProof is a node, the first of Nodes, and the siblings on the way up from it.
type HashProof struct {
	Index flattree.Index
	Nodes []Node
}

// SeekProof is the node at which the search by bytes ends, and the siblings on the way up from it.
type SeekProof struct {
	Bytes uint64
	Nodes []Node
}

// UpgradeProof leads from length Start to Start+Length by Nodes, and from there to the signed length
// by Additional. Signature is that of the prover's whole tree; Tree.Prove leaves it nil.
type UpgradeProof struct {
	Start, Length     uint64
	Nodes, Additional []Node
	Signature         []byte
}

// End is the length that the upgrade leads to with its additional nodes, if it is right; MaxLength at most.
func (u *UpgradeProof) End() uint64 {
	end := min(u.Start, MaxLength) + min(u.Length, MaxLength)
	for i := range u.Additional {
		if end >= MaxLength || u.Additional[i].Index > maxIndex {
			return MaxLength
		}
		end += u.Additional[i].Index.Leaves()
	}
	return min(end, MaxLength)
}

// Proof answers a Request. Manifest is in encoded form, nil if there is none.
type Proof struct {
	Fork     uint64
	Block    *BlockProof
	Hash     *HashProof
	Seek     *SeekProof
	Upgrade  *UpgradeProof
	Manifest []byte
}

// Prologue pins the tree of the first Length blocks, whoever signs the rest (formats.md 11.1, 11.3).
type Prologue struct {
	Length uint64
	Hash   Hash
}

// NodeReader reads stored nodes.
//
// ReadNodes sets dst[i] to the node at at[i], or to a node that is Missing when it is not stored;
// len(dst) == len(at), and the same index may occur twice. An error means that the machine failed.
// It may block on the datastore.
type NodeReader interface {
	ReadNodes(ctx context.Context, at []flattree.Index, dst []Node) error
}

// SigVerifier judges the signature of a head. The roots are those of the head, for multi signatures
// whose signers signed a longer tree (Tree.Extend); they must not be kept or changed. An error means
// that the signature does not hold; it is wrapped in ErrInvalidSignature.
type SigVerifier interface {
	VerifyHead(h Head, roots []Node, signature []byte) error
}
