package feed

import (
	"bytes"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/p2pcore/p2pcore/internal/vectors"
)

// blockVector is a block as JavaScript stores it.
type blockVector struct {
	Index, Fork   uint64
	Plain, Cipher vectors.Hex
}

// check checks both directions.
func (v blockVector) check(t *testing.T, name string, e Encryption) {
	t.Helper()
	name = fmt.Sprintf("%s, block %d of fork %d", name, v.Index, v.Fork)
	plain := bytes.Clone(v.Plain)
	stored, err := e.Encrypt(v.Index, v.Fork, plain)
	if err != nil || !bytes.Equal(stored, v.Cipher) {
		t.Errorf("%s: stored %x, %v, want %v", name, stored, err, v.Cipher)
	}
	if !bytes.Equal(plain, v.Plain) {
		t.Errorf("%s: Encrypt changes its input", name)
	}
	block, err := e.Decrypt(v.Index, bytes.Clone(v.Cipher))
	if err != nil || !bytes.Equal(block, v.Plain) {
		t.Errorf("%s: decrypted %x, %v, want %v", name, block, err, v.Plain)
	}
}

// blockEncryptionVector is what a block encryption is made of.
type blockEncryptionVector struct {
	EncryptionKey, BlockKey, BlindingKey vectors.Hex
}

func (v blockEncryptionVector) encryption(t *testing.T, name string, core Key, isBlockKey, compat bool) *BlockEncryption {
	t.Helper()
	k := EncryptionKey(v.EncryptionKey)
	e := NewBlockKeyEncryption(k)
	if !isBlockKey {
		if got := DeriveBlockKey(core, compat, k); !bytes.Equal(got[:], v.BlockKey) {
			t.Errorf("%s: block key %x, want %v", name, [32]byte(got), v.BlockKey)
		}
		e = NewBlockEncryption(core, compat, k)
	}
	if !bytes.Equal(e.block[:], v.BlockKey) || !bytes.Equal(e.blinding[:], v.BlindingKey) {
		t.Errorf("%s: keys %x, %x, want %v, %v", name, e.block, e.blinding, v.BlockKey, v.BlindingKey)
	}
	return e
}

type treeVector struct {
	Length     uint64
	Unpadded   uint64      `json:"byteLength_unpadded"`
	ByteLength uint64      `json:"byteLength_tree"`
	TreeHash   vectors.Hex `json:"treeHash"`
}

// check checks the tree of the stored blocks.
func (v treeVector) check(t *testing.T, name string, stored [][]byte, padding uint64) {
	t.Helper()
	if uint64(len(stored)) != v.Length {
		t.Fatalf("%s: %d blocks, want %d", name, len(stored), v.Length)
	}
	pair := KeyPairFromSeed([32]byte{1})
	f := create(t, memoryStore(), Options{KeyPair: &pair})
	appendBlocks(t, session(t, f), stored...)
	head := f.Info().Head
	if head.ByteLength != v.ByteLength || !bytes.Equal(head.Hash[:], v.TreeHash) {
		t.Errorf("%s: head is %+v, want %+v", name, head, v)
	}
	if got := head.ByteLength - padding*head.Length; got != v.Unpadded {
		t.Errorf("%s: %d bytes without padding, want %d", name, got, v.Unpadded)
	}
}

func TestVectorsEncryption(t *testing.T) {
	var v struct {
		Cores []struct {
			Mode                  string
			PublicKey, Key        vectors.Hex
			EncryptionKey         vectors.Hex
			BlockKey, BlindingKey vectors.Hex
			IsBlockKey, IsCompat  bool
			Padding               uint64
			Rows                  []blockVector
			BeforeTruncate        treeVector `json:"before_truncate"`
			After                 treeVector
			Seek                  []struct {
				Bytes  uint64
				Result [2]uint64
			}
		}
		Primitives []struct {
			EncryptionKey, CoreKey vectors.Hex
			BlockKey, BlindingKey  vectors.Hex
			Compat, Block          bool
			blockVector
		}
		BlockEncryptionKey struct{ CoreKey, EncryptionKey, BlockKey vectors.Hex } `json:"block_encryption_key"`
	}
	vectors.Load(t, "encryption.json", &v)
	for _, c := range v.Cores {
		key := Key(c.Key)
		if got := DefaultManifest([32]byte(c.PublicKey)); !got.belongs(key) || got.compat(key) != c.IsCompat {
			t.Errorf("%s: key %v is not that of the manifest", c.Mode, key)
		}
		e := blockEncryptionVector{c.EncryptionKey, c.BlockKey, c.BlindingKey}.encryption(t, c.Mode, key, c.IsBlockKey, c.IsCompat)
		if e.Padding() != c.Padding {
			t.Errorf("%s: padding %d, want %d", c.Mode, e.Padding(), c.Padding)
		}
		late := NewLateBlockEncryption(key, func() bool { return c.IsCompat }, EncryptionKey(c.EncryptionKey))
		// The rows are in the order of appending: a row of an index that was there before comes after a
		// truncation.
		var stored [][]byte
		for i, row := range c.Rows {
			row.check(t, c.Mode, e)
			if !c.IsBlockKey {
				row.check(t, c.Mode+", late", late)
			}
			if uint64(i) == c.BeforeTruncate.Length {
				c.BeforeTruncate.check(t, c.Mode+" before", stored, c.Padding)
			}
			block, err := e.Encrypt(row.Index, row.Fork, row.Plain)
			if err != nil {
				t.Fatal(err)
			}
			stored = append(stored[:row.Index], block)
		}
		c.After.check(t, c.Mode+" after", stored, c.Padding)
		pair := KeyPairFromSeed([32]byte{2})
		f := create(t, memoryStore(), Options{KeyPair: &pair})
		appendBlocks(t, session(t, f), stored...)
		for _, s := range c.Seek {
			at, err := f.Locate(t.Context(), s.Bytes, e.Padding())
			if err != nil || !at.Found || at.Block != s.Result[0] || at.Offset != s.Result[1] {
				t.Errorf("%s: byte %d is at %+v, %v, want %v", c.Mode, s.Bytes, at, err, s.Result)
			}
		}
	}
	for i, c := range v.Primitives {
		name := fmt.Sprintf("primitive %d", i)
		e := blockEncryptionVector{c.EncryptionKey, c.BlockKey, c.BlindingKey}.encryption(t, name, Key(c.CoreKey), c.Block, c.Compat)
		c.check(t, name, e)
	}
	d := v.BlockEncryptionKey
	if got := DeriveBlockKey(Key(d.CoreKey), false, EncryptionKey(d.EncryptionKey)); !bytes.Equal(got[:], d.BlockKey) {
		t.Errorf("block key %x, want %v", [32]byte(got), d.BlockKey)
	}
}

// ring is a KeyRing of a test; it counts how often it is asked.
type ring struct {
	latest  uint32
	keys    map[uint32]EncryptionKey
	lookups atomic.Int64
}

var errNoSuchKey = errors.New("no such key")

func (r *ring) Latest() (uint32, EncryptionKey, error) {
	k, ok := r.keys[r.latest]
	if !ok {
		return 0, EncryptionKey{}, errNoSuchKey
	}
	return r.latest, k, nil
}

func (r *ring) Lookup(id uint32) (EncryptionKey, error) {
	r.lookups.Add(1)
	k, ok := r.keys[id]
	if !ok {
		return EncryptionKey{}, errNoSuchKey
	}
	return k, nil
}

func TestVectorsHypercoreEncryption(t *testing.T) {
	var v struct {
		Rows []struct {
			KeyID         uint32
			EncryptionKey vectors.Hex
			blockVector
		} `json:"hypercore_encryption"`
	}
	vectors.Load(t, "encryption.json", &v)
	if len(v.Rows) == 0 {
		t.Fatal("no vectors")
	}
	all := &ring{keys: map[uint32]EncryptionKey{}}
	together := NewHypercoreEncryption(all, HypercoreOptions{})
	for _, c := range v.Rows {
		name := fmt.Sprintf("key %d", c.KeyID)
		one := &ring{latest: c.KeyID, keys: map[uint32]EncryptionKey{c.KeyID: EncryptionKey(c.EncryptionKey)}}
		c.check(t, name, NewHypercoreEncryption(one, HypercoreOptions{}))
		// A reader that never encrypts looks the key up.
		c.Fork = 7
		all.latest, all.keys[c.KeyID] = c.KeyID, EncryptionKey(c.EncryptionKey)
		block, err := together.Decrypt(c.Index, bytes.Clone(c.Cipher))
		if err != nil || !bytes.Equal(block, c.Plain) {
			t.Errorf("%s: decrypted %x, %v, want %v", name, block, err, c.Plain)
		}
		c.check(t, name+", other fork", together)
	}
}
