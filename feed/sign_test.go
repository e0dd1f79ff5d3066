package feed

import (
	"bytes"
	"errors"
	"testing"

	"github.com/p2pcore/p2pcore/internal/vectors"
)

func TestVectorsVerifyEdge(t *testing.T) {
	var v struct {
		VerifyEdge []struct {
			Name                          string
			PublicKey, Message, Signature vectors.Hex
			Valid                         bool
		} `json:"verify_edge"`
	}
	vectors.Load(t, "keys.json", &v)
	for _, c := range v.VerifyEdge {
		valid := len(c.PublicKey) == 32 && verifyEd25519([32]byte(c.PublicKey), c.Message, c.Signature)
		if valid != c.Valid {
			t.Errorf("%s: valid = %v", c.Name, valid)
		}
	}
}

func TestVectorsNamespaces(t *testing.T) {
	var v struct {
		Namespaces []struct {
			Name string
			IDs  []vectors.Hex
		}
	}
	vectors.Load(t, "keys.json", &v)
	for _, c := range v.Namespaces {
		for i, want := range c.IDs {
			if got := namespace(c.Name, byte(i)); !bytes.Equal(got[:], want) {
				t.Errorf("%s %d: %x, want %v", c.Name, i, got, want)
			}
		}
	}
}

func TestVectorsZ32(t *testing.T) {
	var v struct {
		Z32 []struct {
			Bytes vectors.Hex
			Z32   string
		}
	}
	vectors.Load(t, "keys.json", &v)
	for _, c := range v.Z32 {
		if got := z32.EncodeToString(c.Bytes); got != c.Z32 {
			t.Errorf("%v: %q, want %q", c.Bytes, got, c.Z32)
		}
		if got, err := z32.DecodeString(c.Z32); err != nil || !bytes.Equal(got, c.Bytes) {
			t.Errorf("%q: %x, %v, want %v", c.Z32, got, err, c.Bytes)
		}
	}
}

func TestVectorsSignatures(t *testing.T) {
	var v struct {
		TreeNamespace vectors.Hex `json:"tree_namespace"`
		Cases         []struct {
			Mode                string
			Key, Manifest, Seed vectors.Hex
			PublicKey           vectors.Hex
			Length, Fork        uint64
			TreeHash, Signable  vectors.Hex
			Ed25519, Signature  vectors.Hex
			Verifies            bool
		}
	}
	vectors.Load(t, "signatures.json", &v)
	if !bytes.Equal(treeNamespace[:], v.TreeNamespace) {
		t.Errorf("tree namespace %x, want %v", treeNamespace, v.TreeNamespace)
	}
	for _, c := range v.Cases {
		pair := KeyPairFromSeed([32]byte(c.Seed))
		if public := pair.Public(); !bytes.Equal(public[:], c.PublicKey) {
			t.Errorf("%s, length %d: public key %x, want %v", c.Mode, c.Length, public, c.PublicKey)
		}
		h := Head{Fork: c.Fork, Length: c.Length, Hash: Hash(c.TreeHash)}
		if c.Mode == "compat legacy (no header)" {
			// Nothing is signed like this any more.
			signable := LegacySignable(h)
			if !bytes.Equal(signable, c.Signable) || !bytes.Equal(pair.Sign(signable), c.Signature) {
				t.Errorf("legacy, length %d: signable %x, want %v", c.Length, signable, c.Signable)
			}
			if err := VerifyLegacyHead(Key(c.Key), h, c.Signature); (err == nil) != c.Verifies {
				t.Errorf("legacy, length %d: %v", c.Length, err)
			}
			for bit := 0; bit < len(c.Signature)*8; bit += 11 {
				bad := bytes.Clone(c.Signature)
				bad[bit/8] ^= 1 << (bit % 8)
				if err := VerifyLegacyHead(Key(c.Key), h, bad); !errors.Is(err, ErrInvalidSignature) {
					t.Errorf("legacy, length %d: bit %d flipped: %v", c.Length, bit, err)
				}
			}
			if err := assumedAuthority(Key(c.Key)).VerifyHead(h, nil, c.Signature); err == nil {
				t.Errorf("legacy, length %d: accepted as a signature of today", c.Length)
			}
			continue
		}
		m := DefaultManifest(pair.Public())
		if c.Manifest != nil {
			var err error
			if m, err = ParseManifest(c.Manifest); err != nil {
				t.Fatal(err)
			}
		}
		who, err := newAuthority(Key(c.Key), m)
		if err != nil {
			t.Fatal(err)
		}
		if got := Signable(Key(c.Key), m, 0, h); !bytes.Equal(got, c.Signable) {
			t.Errorf("%s, length %d: signable %x, want %v", c.Mode, c.Length, got, c.Signable)
		}
		if got := pair.Sign(who.signable(h, 0)); !bytes.Equal(got, c.Ed25519) {
			t.Errorf("%s, length %d: ed25519 %x, want %v", c.Mode, c.Length, got, c.Ed25519)
		}
		if got, err := who.sign(pair, h); err != nil || !bytes.Equal(got, c.Signature) {
			t.Errorf("%s, length %d: signature %x, %v, want %v", c.Mode, c.Length, got, err, c.Signature)
		}
		if got, err := UnwrapSignature(c.Signature); err != nil || !bytes.Equal(got[:], c.Ed25519) {
			t.Errorf("%s, length %d: unwrapped %x, %v, want %v", c.Mode, c.Length, got, err, c.Ed25519)
		}
		part, err := SignPartial(pair, Key(c.Key), m, h)
		if err != nil || part.Signer != 0 || !bytes.Equal(part.Signature[:], c.Ed25519) {
			t.Errorf("%s, length %d: partial %+v, %v", c.Mode, c.Length, part, err)
		}
		if who.compat {
			// The manifest does not show it: the partial's signature is the whole.
		} else if got, err := Assemble(m, []Partial{part}); err != nil || !bytes.Equal(got, c.Signature) {
			t.Errorf("%s, length %d: assembled %x, %v, want %v", c.Mode, c.Length, got, err, c.Signature)
		}
		if err := who.VerifyHead(h, nil, c.Signature); (err == nil) != c.Verifies {
			t.Errorf("%s, length %d: %v", c.Mode, c.Length, err)
		}
		for bit := 0; bit < len(c.Signature)*8; bit += flips(len(c.Signature)*8 - 16 - bit) {
			bad := bytes.Clone(c.Signature)
			bad[bit/8] ^= 1 << (bit % 8)
			if err := who.VerifyHead(h, nil, bad); err == nil && bit >= len(bad)*8-16 {
				// The last two bytes of a wrapped signature: a patch that nobody allows, and the
				// number of nodes, which may hold without being true only if it is zero.
				if bad[len(bad)-1] != 0 {
					t.Errorf("%s, length %d: accepted with bit %d flipped", c.Mode, c.Length, bit)
				}
			} else if err == nil {
				t.Errorf("%s, length %d: accepted with bit %d flipped", c.Mode, c.Length, bit)
			}
		}
	}
}

// flips is how far it is to the next bit to flip, with so many before the last ones, which are all flipped. With -short
// the others are not all: the race detector makes each signature's check take a millisecond.
func flips(left int) int {
	if testing.Short() && left > 11 {
		return 11
	}
	return 1
}
