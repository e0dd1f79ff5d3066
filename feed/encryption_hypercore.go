package feed

import (
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"sync"

	"golang.org/x/crypto/blake2b"
	"golang.org/x/crypto/salsa20"
)

// KeyRing is where a HypercoreEncryption takes its keys from. Its methods are called by several
// goroutines at once, also under the feed's turn: they must bound how long they wait.
type KeyRing interface {
	// Latest returns the key for new blocks and its id. It is asked for every block.
	Latest() (id uint32, k EncryptionKey, err error)
	// Lookup returns the key called id, which stands in a block. The id is whatever the writer wrote:
	// an unknown one is an error. What an id means must not change: keys are cached.
	Lookup(id uint32) (EncryptionKey, error)
}

// HypercoreKeys are what blocks are encrypted with by a HypercoreEncryption. The two must differ.
type HypercoreKeys struct {
	Block EncryptionKey // encrypts
	Hash  EncryptionKey // keys the hash of a block that its padding is made of; not needed to decrypt
}

// HypercoreOptions of NewHypercoreEncryption. The zero value is that of the JavaScript package.
type HypercoreOptions struct {
	// Derive makes the keys of this feed from one of the ring. It is pure, and called by several
	// goroutines at once. nil: the key of the ring itself encrypts, and the hash key is BLAKE2b-256 over a
	// namespace and it.
	Derive func(EncryptionKey) HypercoreKeys
	// Compat returns the encryption of block index if it has another form, such as a BlockEncryption
	// for the blocks that are older than the ring; nil if it has not. Its padding must be 8 bytes. nil: no
	// block has.
	Compat func(index uint64) Encryption
}

// The forms of a block, its first byte.
const (
	formPlain     = 0 // the rest of the padding means nothing, the block is not encrypted
	formEncrypted = 1
)

// ringNamespace separates hash keys from other hashes (formats.md 3).
var ringNamespace = namespace("hypercore-encryption", 0)

// HypercoreEncryption is the encryption of the JavaScript package hypercore-encryption, whose keys can
// be replaced in the life of a feed. BlockEncryption cannot read it, nor the other way round. A block
// is stored as
//
//	1 byte    01
//	3 bytes   the second to fourth byte of BLAKE2b-128 over the block, keyed with the hash key
//	4 bytes   the id of the key, little-endian
//	n bytes   the block, XOR XSalsa20 with the block key
//
// The nonce is the index (8 bytes, little-endian), the 8 bytes before the block, and zeros. Only 24 bits of
// hash keep two blocks apart that have the same index and key, after a truncation: change the key then.
// See formats.md 7.
type HypercoreEncryption struct {
	ring   KeyRing                           // set in New
	derive func(EncryptionKey) HypercoreKeys // set in New
	compat func(index uint64) Encryption     // set in New

	mu   sync.Mutex
	keys map[uint32]ringKeys // under mu; at most maxCachedKeys
}

// ringKeys are the keys derived from one of the ring.
type ringKeys struct {
	ring EncryptionKey
	HypercoreKeys
}

var _ Encryption = (*HypercoreEncryption)(nil)

// NewHypercoreEncryption returns the encryption with the keys of the ring.
func NewHypercoreEncryption(ring KeyRing, o HypercoreOptions) *HypercoreEncryption {
	if o.Derive == nil {
		o.Derive = defaultHypercoreKeys
	}
	if o.Compat == nil {
		o.Compat = func(uint64) Encryption { return nil }
	}
	return &HypercoreEncryption{ring: ring, derive: o.Derive, compat: o.Compat, keys: map[uint32]ringKeys{}}
}

func defaultHypercoreKeys(k EncryptionKey) HypercoreKeys {
	var b [2 * 32]byte
	copy(b[:], ringNamespace[:])
	copy(b[32:], k[:])
	return HypercoreKeys{Block: k, Hash: blake2b.Sum256(b[:])}
}

// Padding returns 8.
func (e *HypercoreEncryption) Padding() uint64 { return blockPadding }

// Encrypt is as Encryption says, with the ring's latest key. fork is not used, unless by Compat. The
// error is the ring's.
func (e *HypercoreEncryption) Encrypt(index, fork uint64, block []byte) ([]byte, error) {
	if other, err := e.other(index); err != nil || other != nil {
		if err != nil {
			return nil, err
		}
		return other.Encrypt(index, fork, block)
	}
	id, k, err := e.ring.Latest()
	if err != nil {
		return nil, fmt.Errorf("feed: latest encryption key: %w", err)
	}
	keys := e.derived(id, k)
	h, err := blake2b.New(16, keys.Hash[:])
	if err != nil {
		panic(err) // only for keys longer than 64 bytes
	}
	h.Write(block)
	stored := make([]byte, blockPadding+len(block))
	copy(stored[:blockPadding], h.Sum(stored[:0])) // written to its place, unless the block is too small
	stored[0] = formEncrypted
	binary.LittleEndian.PutUint32(stored[4:], id)
	nonce := blockNonce(index, stored[:blockPadding])
	salsa20.XORKeyStream(stored[blockPadding:], block, nonce[:], (*[32]byte)(&keys.Block))
	return stored, nil
}

// Decrypt is as Encryption says, in place: the result is stored without its first 8 bytes. The error
// wraps ErrDecrypt for a block that is too short or of an unknown form, or whose key the ring does not give,
// then also the ring's error; stored is then unchanged.
func (e *HypercoreEncryption) Decrypt(index uint64, stored []byte) ([]byte, error) {
	if other, err := e.other(index); err != nil || other != nil {
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrDecrypt, err)
		}
		return other.Decrypt(index, stored)
	}
	if len(stored) < blockPadding {
		return nil, tooShort(index, stored)
	}
	block := stored[blockPadding:]
	switch stored[0] {
	case formPlain:
		return block, nil
	case formEncrypted:
	default:
		return nil, fmt.Errorf("%w: block %d has the unknown form %d", ErrDecrypt, index, stored[0])
	}
	keys, err := e.lookup(binary.LittleEndian.Uint32(stored[4:]))
	if err != nil {
		return nil, fmt.Errorf("%w: block %d: %w", ErrDecrypt, index, err)
	}
	nonce := blockNonce(index, stored[:blockPadding])
	salsa20.XORKeyStream(block, block, nonce[:], (*[32]byte)(&keys.Block))
	return block, nil
}

// Forget drops the cached keys. A call that is under way may bring one back.
func (e *HypercoreEncryption) Forget() {
	e.mu.Lock()
	defer e.mu.Unlock()
	clear(e.keys)
}

// other returns the encryption of block index if it is not ours; else nil.
func (e *HypercoreEncryption) other(index uint64) (Encryption, error) {
	other := e.compat(index)
	if other != nil && other.Padding() != blockPadding {
		return nil, fmt.Errorf("feed: the encryption that Compat gives for block %d has a padding of %d bytes, not %d",
			index, other.Padding(), blockPadding)
	}
	return other, nil
}

// lookup returns the keys called id, and asks the ring if they are not cached.
func (e *HypercoreEncryption) lookup(id uint32) (HypercoreKeys, error) {
	e.mu.Lock()
	cached, ok := e.keys[id]
	e.mu.Unlock()
	if ok {
		return cached.HypercoreKeys, nil
	}
	k, err := e.ring.Lookup(id)
	if err != nil {
		return HypercoreKeys{}, fmt.Errorf("encryption key %d: %w", id, err)
	}
	return e.derived(id, k), nil
}

// derived returns the keys that k, called id, stands for, and caches them.
func (e *HypercoreEncryption) derived(id uint32, k EncryptionKey) HypercoreKeys {
	e.mu.Lock()
	cached, ok := e.keys[id]
	e.mu.Unlock()
	if ok && cached.ring == k {
		return cached.HypercoreKeys
	}
	keys := e.derive(k)
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.keys) >= maxCachedKeys {
		clear(e.keys)
	}
	e.keys[id] = ringKeys{ring: k, HypercoreKeys: keys}
	return keys
}

// Format keeps the keys out of every verb of fmt.
func (e *HypercoreEncryption) Format(s fmt.State, _ rune) {
	_, _ = io.WriteString(s, "feed.HypercoreEncryption{…}")
}

// LogValue keeps the keys out of logs.
func (e *HypercoreEncryption) LogValue() slog.Value {
	return slog.StringValue("feed.HypercoreEncryption{…}")
}
