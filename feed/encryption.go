package feed

import (
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"

	"golang.org/x/crypto/blake2b"
	"golang.org/x/crypto/salsa20"
)

// Encryption turns the blocks that an application sees into those that are stored, hashed, signed and
// sent to peers, and back. A session is given one; the feed itself and everybody without the key
// handle what is stored. Nothing here authenticates: the Merkle tree does, over the stored form.
//
// All methods are called by several goroutines at once. They may be called under the feed's turn, so
// they must not call the feed, and one that asks somebody else for a key must bound the wait.
type Encryption interface {
	// Padding returns the bytes that each block grows by, a few. It never changes: byte lengths and seek
	// offsets of the application are those of the tree less Padding for each block before.
	Padding() uint64

	// Encrypt returns the stored form of the block: a new slice of Padding()+len(block) bytes, the
	// caller's to keep. It neither changes nor keeps block, which may be empty.
	//
	// fork is any number: an append draws one by chance, where JavaScript takes the feed's fork. Two different blocks
	// must not be encrypted with the same index and fork: whoever sees both learns their difference.
	Encrypt(index, fork uint64, block []byte) ([]byte, error)

	// Decrypt returns the block that is stored as block index: a slice of at most len(stored) bytes,
	// usually Padding() less. stored is Decrypt's to overwrite, and the result may be a part of it, so
	// the caller hands in a slice that nobody else reads.
	//
	// stored may be anything, such as a block that its writer has not encrypted, or with another key.
	// What can be seen to be wrong, a block shorter than Padding() above all, is an error that wraps
	// ErrDecrypt; it must not panic. Another key usually cannot be seen: it gives noise.
	Decrypt(index uint64, stored []byte) ([]byte, error)
}

// plain stores blocks as they are.
type plain struct{}

func (plain) Padding() uint64 { return 0 }

func (plain) Encrypt(_, _ uint64, block []byte) ([]byte, error) {
	return append(make([]byte, 0, len(block)), block...), nil
}

func (plain) Decrypt(_ uint64, stored []byte) ([]byte, error) { return stored, nil }

// Plain is no encryption: a session with it reads encrypted blocks as they are stored.
var Plain Encryption = plain{}

// blockPadding is what a block grows by in both forms of encryption (formats.md 7).
const blockPadding = 8

// BlockEncryption is the encryption that all of the network knows. A block is stored as
//
//	8 bytes   the fork, little-endian, XOR XSalsa20 with the blinding key
//	n bytes   the block, XOR XSalsa20 with the block key
//
// The nonces are the index (8 bytes, little-endian) and zeros for the first part; the index, the first
// part as stored and zeros for the second. So the block key alone decrypts, and the blinding key, its
// BLAKE2b-256, only hides the fork from those who have no key. Nobody reads the fork. See formats.md 7.
type BlockEncryption struct {
	block, blinding [32]byte // set in New…
}

var _ Encryption = (*BlockEncryption)(nil)

// NewBlockEncryption returns the encryption of the feed called key with the key that DeriveBlockKey
// derives from k. compat is the feed's Info.Compat; where that is not known yet, because a reader has only
// the key of the feed, see NewLateBlockEncryption.
func NewBlockEncryption(key Key, compat bool, k EncryptionKey) *BlockEncryption {
	return NewBlockKeyEncryption(DeriveBlockKey(key, compat, k))
}

// NewBlockKeyEncryption returns the encryption of a feed whose block key is k itself, as of someone who
// was given the key of one feed only.
func NewBlockKeyEncryption(k EncryptionKey) *BlockEncryption {
	return &BlockEncryption{block: k, blinding: blake2b.Sum256(k[:])}
}

// lateEncryption is the encryption of a feed that may turn out to be a compat one.
type lateEncryption struct {
	compat       func() bool
	current, old *BlockEncryption
}

// NewLateBlockEncryption is NewBlockEncryption for a feed whose manifest may not be known yet. compat is
// called for each block and returns the feed's Info.Compat at that time: before there is a manifest there
// are no blocks, after that it never changes. It must be fast and safe for concurrent use.
func NewLateBlockEncryption(key Key, compat func() bool, k EncryptionKey) Encryption {
	return &lateEncryption{compat, NewBlockEncryption(key, false, k), NewBlockEncryption(key, true, k)}
}

func (e *lateEncryption) now() *BlockEncryption {
	if e.compat() {
		return e.old
	}
	return e.current
}

func (e *lateEncryption) Padding() uint64 { return blockPadding }

func (e *lateEncryption) Encrypt(index, fork uint64, block []byte) ([]byte, error) {
	return e.now().Encrypt(index, fork, block)
}

func (e *lateEncryption) Decrypt(index uint64, stored []byte) ([]byte, error) {
	return e.now().Decrypt(index, stored)
}

func (e *lateEncryption) Format(s fmt.State, verb rune) { e.current.Format(s, verb) }

func (e *lateEncryption) LogValue() slog.Value { return e.current.LogValue() }

// Padding returns 8.
func (e *BlockEncryption) Padding() uint64 { return blockPadding }

// Encrypt is as Encryption says. The error is always nil.
func (e *BlockEncryption) Encrypt(index, fork uint64, block []byte) ([]byte, error) {
	stored := make([]byte, blockPadding+len(block))
	padding := stored[:blockPadding]
	binary.LittleEndian.PutUint64(padding, fork)
	nonce := blockNonce(index, nil)
	salsa20.XORKeyStream(padding, padding, nonce[:], &e.blinding)
	nonce = blockNonce(index, padding)
	salsa20.XORKeyStream(stored[blockPadding:], block, nonce[:], &e.block)
	return stored, nil
}

// Decrypt is as Encryption says, in place: the result is stored without its first 8 bytes. The error is
// ErrDecrypt for a block shorter than that, which is then unchanged.
func (e *BlockEncryption) Decrypt(index uint64, stored []byte) ([]byte, error) {
	if len(stored) < blockPadding {
		return nil, tooShort(index, stored)
	}
	nonce := blockNonce(index, stored[:blockPadding])
	block := stored[blockPadding:]
	salsa20.XORKeyStream(block, block, nonce[:], &e.block)
	return block, nil
}

// blockNonce returns the nonce of XSalsa20: index, padding (nil: zeros), zeros.
func blockNonce(index uint64, padding []byte) (nonce [24]byte) {
	binary.LittleEndian.PutUint64(nonce[:], index)
	copy(nonce[8:8+blockPadding], padding)
	return nonce
}

func tooShort(index uint64, stored []byte) error {
	return fmt.Errorf("%w: block %d has %d bytes, less than its padding", ErrDecrypt, index, len(stored))
}

// Format keeps the keys out of every verb of fmt.
func (e *BlockEncryption) Format(s fmt.State, _ rune) {
	_, _ = io.WriteString(s, "feed.BlockEncryption{…}")
}

// LogValue keeps the keys out of logs.
func (e *BlockEncryption) LogValue() slog.Value { return slog.StringValue("feed.BlockEncryption{…}") }
