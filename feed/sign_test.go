package feed

import (
	"bytes"
	"slices"
	"testing"

	"github.com/p2pcore/p2pcore/internal/flattree"
	"github.com/p2pcore/p2pcore/internal/merkle"
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
			// Nothing here writes or accepts it; what it is made of is the same.
			signable := appendHead(nil, h)
			if !bytes.Equal(signable, c.Signable) || !bytes.Equal(pair.Sign(signable), c.Signature) {
				t.Errorf("legacy, length %d: signable %x, want %v", c.Length, signable, c.Signable)
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
		if got := who.signable(h, 0); !bytes.Equal(got, c.Signable) {
			t.Errorf("%s, length %d: signable %x, want %v", c.Mode, c.Length, got, c.Signable)
		}
		if got := pair.Sign(who.signable(h, 0)); !bytes.Equal(got, c.Ed25519) {
			t.Errorf("%s, length %d: ed25519 %x, want %v", c.Mode, c.Length, got, c.Ed25519)
		}
		if got := who.sign(pair, h); !bytes.Equal(got, c.Signature) {
			t.Errorf("%s, length %d: signature %x, want %v", c.Mode, c.Length, got, c.Signature)
		}
		if err := who.VerifyHead(h, nil, c.Signature); (err == nil) != c.Verifies {
			t.Errorf("%s, length %d: %v", c.Mode, c.Length, err)
		}
		for bit := range len(c.Signature) * 8 {
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

type jsonNode struct {
	Index uint64
	Size  uint64
	Hash  vectors.Hex
}

func nodesOf(js []jsonNode) (out []Node) {
	for _, j := range js {
		out = append(out, Node{Index: flattree.Index(j.Index), Size: j.Size, Hash: Hash(j.Hash)})
	}
	return out
}

func TestVectorsMultisig(t *testing.T) {
	type proof struct {
		Signer    uint64
		Signature vectors.Hex
		Patch     uint64
		Nodes     []jsonNode
	}
	var v struct {
		Blocks    []vectors.Hex
		Encodings []struct {
			Inputs    []proof
			V0, V1    vectors.Hex
			V1Decoded struct {
				Proofs []proof
				Patch  []jsonNode
			} `json:"v1_decoded"`
		}
		Verify []struct {
			Name                string
			Key, Manifest       vectors.Hex
			Length, Fork        uint64
			TreeHash, Signature vectors.Hex
			Roots               []jsonNode
			Valid               bool
			Throws              *string
		}
		Other []struct {
			Name             string
			Key, Manifest    vectors.Hex
			Length           uint64
			TreeHash         vectors.Hex
			Signature        vectors.Hex
			WithoutSignature bool  `json:"valid_without_signature"`
			WithSignature    *bool `json:"valid_with_signature"`
		}
		SignableLength []struct {
			Lengths []uint64
			Quorum  int
			Length  uint64
		} `json:"signable_length"`
	}
	vectors.Load(t, "multisig.json", &v)
	for i, c := range v.Encodings {
		var m multiSignature
		positions := make([][]uint64, len(c.Inputs))
		for j, in := range c.Inputs {
			m.proofs = append(m.proofs, signerProof{in.Signer, [64]byte(in.Signature), in.Patch})
			for _, n := range nodesOf(in.Nodes) {
				positions[j] = append(positions[j], m.pool(n))
			}
		}
		if got := m.appendMulti(nil); !bytes.Equal(got, c.V1) {
			t.Errorf("encoding %d: version 1 %x, want %v", i, got, c.V1)
		}
		if got := m.appendMultiV0(nil, positions); !bytes.Equal(got, c.V0) {
			t.Errorf("encoding %d: version 0 %x, want %v", i, got, c.V0)
		}
		for _, parsed := range []func() (*multiSignature, error){
			func() (*multiSignature, error) { return parseMulti(c.V1) },
			func() (*multiSignature, error) { return parseMultiV0(c.V0) },
		} {
			got, err := parsed()
			if err != nil || !bytes.Equal(got.appendMulti(nil), c.V1) {
				t.Errorf("encoding %d: parsed %+v, %v", i, got, err)
			}
		}
	}
	var blocks [][]byte
	for _, b := range v.Blocks {
		blocks = append(blocks, b)
	}
	for _, c := range v.Verify {
		who := testAuthority(t, c.Key, c.Manifest)
		tree := testTree(t, c.Fork, blocks[:c.Length])
		if h := tree.Head().Hash; !bytes.Equal(h[:], c.TreeHash) {
			t.Fatalf("%s: tree hash %x, want %v", c.Name, h, c.TreeHash)
		}
		if got, want := tree.Roots(), nodesOf(c.Roots); !slices.Equal(got, want) {
			t.Errorf("%s: roots %v, want %v", c.Name, got, want)
		}
		if err := who.VerifyHead(tree.Head(), tree.Roots(), c.Signature); (err == nil) != c.Valid {
			t.Errorf("%s, length %d: got %v, want valid = %v", c.Name, c.Length, err, c.Valid)
		}
	}
	for _, c := range v.Other {
		who := testAuthority(t, c.Key, c.Manifest)
		tree := testTree(t, 0, blocks[:c.Length])
		if h := tree.Head().Hash; !bytes.Equal(h[:], c.TreeHash) {
			t.Errorf("%s: tree hash %x, want %v", c.Name, h, c.TreeHash)
		}
		if err := who.VerifyHead(tree.Head(), tree.Roots(), nil); (err == nil) != c.WithoutSignature {
			t.Errorf("%s, length %d, no signature: got %v, want valid = %v", c.Name, c.Length, err, c.WithoutSignature)
		}
		if c.WithSignature == nil {
			continue
		}
		if err := who.VerifyHead(tree.Head(), tree.Roots(), c.Signature); (err == nil) != *c.WithSignature {
			t.Errorf("%s, length %d: got %v, want valid = %v", c.Name, c.Length, err, *c.WithSignature)
		}
	}
	for _, c := range v.SignableLength {
		if got := SignableLength(c.Lengths, c.Quorum); got != c.Length {
			t.Errorf("SignableLength(%v, %d) = %d, want %d", c.Lengths, c.Quorum, got, c.Length)
		}
	}
}

// pool adds a node, unless there is one with its index, and returns its position.
func (m *multiSignature) pool(n Node) uint64 {
	for i := range m.nodes {
		if m.nodes[i].Index == n.Index {
			return uint64(i)
		}
	}
	m.nodes = append(m.nodes, n)
	return uint64(len(m.nodes) - 1)
}

func testAuthority(t *testing.T, key, manifest []byte) *authority {
	t.Helper()
	m, err := ParseManifest(manifest)
	if err != nil {
		t.Fatal(err)
	}
	who, err := newAuthority(Key(key), m)
	if err != nil {
		t.Fatal(err)
	}
	return who
}

func testTree(t *testing.T, fork uint64, blocks [][]byte) *merkle.Tree {
	t.Helper()
	empty, err := merkle.NewTree(fork, nil)
	if err != nil {
		t.Fatal(err)
	}
	b := empty.NewBatch()
	for _, block := range blocks {
		if err := b.Append(block); err != nil {
			t.Fatal(err)
		}
	}
	return b.Tree()
}

func FuzzMultiSignature(f *testing.F) {
	m := multiSignature{proofs: []signerProof{{signer: 1, patch: 2}}, nodes: []Node{{Index: 9, Size: 3, Hash: Hash{1}}}}
	f.Add(m.appendMulti(nil))
	f.Add(m.appendMultiV0(nil, [][]uint64{{0}}))
	pair := KeyPairFromSeed([32]byte{1})
	manifest := DefaultManifest(pair.Public())
	manifest.AllowPatch = true
	who, err := newAuthority(manifest.Key(), manifest)
	if err != nil {
		f.Fatal(err)
	}
	h := Head{Length: 8, Hash: Hash{2}}
	roots := []Node{{Index: 7, Size: 1, Hash: Hash{3}}}
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := parseMulti(b); err == nil {
			again, err := parseMulti(m.appendMulti(nil))
			if err != nil || !bytes.Equal(again.appendMulti(nil), m.appendMulti(nil)) {
				t.Fatalf("%+v became %+v, %v", m, again, err)
			}
		}
		parseMultiV0(b)
		if who.VerifyHead(h, roots, b) == nil {
			t.Fatalf("%x is a signature by nobody", b)
		}
	})
}
