package feed

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/p2pcore/p2pcore/internal/flattree"
	"github.com/p2pcore/p2pcore/internal/merkle"
	"github.com/p2pcore/p2pcore/internal/vectors"
)

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

// nodeMap holds the nodes of a tree.
type nodeMap map[flattree.Index]Node

func (m nodeMap) ReadNodes(_ context.Context, at []flattree.Index, dst []Node) error {
	for i := range at {
		dst[i] = m[at[i]]
	}
	return nil
}

func testTree(t testing.TB, fork uint64, blocks [][]byte) (*merkle.Tree, nodeMap) {
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
	nodes := make(nodeMap)
	for _, n := range b.Nodes() {
		nodes[n.Index] = n
	}
	return b.Tree(), nodes
}

// contribution signs blocks, of which the first length are common.
func contribution(t testing.TB, pair KeyPair, m *Manifest, fork uint64, blocks [][]byte, length uint64) Partial {
	t.Helper()
	tree, nodes := testTree(t, fork, blocks)
	p, err := SignPartial(pair, m.Key(), m, tree.Head())
	if err != nil {
		t.Fatal(err)
	}
	if p.Patch = tree.Length() - length; p.Patch > 0 {
		if p.Nodes, err = tree.Growth(t.Context(), nodes, length); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

type jsonProof struct {
	Signer    uint64
	Signature vectors.Hex
	Patch     uint64
	Nodes     []jsonNode
}

type jsonMulti struct {
	Proofs []jsonProof
	Patch  []jsonNode
}

func (j *jsonMulti) check(t *testing.T, name string, got *multiSignature) {
	t.Helper()
	var want []signerProof
	for _, p := range j.Proofs {
		want = append(want, signerProof{p.Signer, [64]byte(p.Signature), p.Patch})
	}
	if !slices.Equal(got.proofs, want) || !slices.Equal(got.nodes, nodesOf(j.Patch)) {
		t.Errorf("%s: parsed %+v, want %+v", name, got, j)
	}
}

func TestVectorsMultisigEncodings(t *testing.T) {
	var v struct {
		Encodings []struct {
			Inputs    []jsonProof
			V0, V1    vectors.Hex
			V0Decoded struct {
				Proofs []struct {
					Signer    uint64
					Signature vectors.Hex
					Patch     *struct {
						Start, Length uint64
						Nodes         []uint64
					}
				}
				Patch []jsonNode
			} `json:"v0_decoded"`
			V1Decoded jsonMulti `json:"v1_decoded"`
		}
		SignableLength []struct {
			Lengths []uint64
			Quorum  int
			Length  uint64
		} `json:"signable_length"`
	}
	vectors.Load(t, "multisig.json", &v)
	for _, c := range v.Encodings {
		var parts []Partial
		for _, in := range c.Inputs {
			parts = append(parts, Partial{int(in.Signer), [64]byte(in.Signature), in.Patch, nodesOf(in.Nodes)})
		}
		m := &Manifest{AllowPatch: true, Quorum: len(parts), Signers: make([]Signer, 301)}
		for version, want := range []vectors.Hex{c.V0, c.V1, c.V1, c.V1} {
			m.Version = version
			if got, err := Assemble(m, parts); err != nil || !bytes.Equal(got, want) {
				t.Errorf("version %d: %x, %v, want %v", version, got, err, want)
			}
		}
		v1, err := parseMulti(c.V1)
		if err != nil {
			t.Fatal(err)
		}
		c.V1Decoded.check(t, "version 1", v1)
		v0, err := parseMultiV0(c.V0)
		if err != nil {
			t.Fatal(err)
		}
		var want jsonMulti
		for _, p := range c.V0Decoded.Proofs {
			in := jsonProof{Signer: p.Signer, Signature: p.Signature}
			if p.Patch != nil {
				in.Patch = p.Patch.Length
			}
			want.Proofs = append(want.Proofs, in)
		}
		want.Patch = c.V0Decoded.Patch
		want.check(t, "version 0", v0)
		if len(parts) == 1 {
			if got, err := ParsePartial(c.V1); err != nil || got.Signer != parts[0].Signer || got.Signature != parts[0].Signature {
				t.Errorf("partial: %+v, %v", got, err)
			}
		}
	}
	for _, c := range v.SignableLength {
		if got := SignableLength(c.Lengths, c.Quorum); got != c.Length {
			t.Errorf("SignableLength(%v, %d) = %d, want %d", c.Lengths, c.Quorum, got, c.Length)
		}
	}
}

func TestVectorsMultisigVerify(t *testing.T) {
	var v struct {
		Seeds, PublicKeys, Blocks []vectors.Hex
		Verify                    []struct {
			Name                string
			Version, Quorum     int
			AllowPatch          bool
			Key, Manifest       vectors.Hex
			Length, Fork        uint64
			TreeHash, Signature vectors.Hex
			Roots               []jsonNode
			Valid               bool
			Throws              *string
		}
	}
	vectors.Load(t, "multisig.json", &v)
	var pairs []KeyPair
	for i, seed := range v.Seeds {
		pairs = append(pairs, KeyPairFromSeed([32]byte(seed)))
		if public := pairs[i].Public(); !bytes.Equal(public[:], v.PublicKeys[i]) {
			t.Errorf("signer %d: public key %x, want %v", i, public, v.PublicKeys[i])
		}
	}
	blocks := bytesOf(v.Blocks)
	rebuilt := 0
	for _, c := range v.Verify {
		key := Key(c.Key)
		m, err := ParseManifestFor(&key, c.Manifest)
		if err != nil || m.Version != c.Version || m.Quorum != c.Quorum || m.AllowPatch != c.AllowPatch {
			t.Fatalf("%s: manifest %+v, %v", c.Name, m, err)
		}
		tree, _ := testTree(t, c.Fork, blocks[:c.Length])
		if h := tree.Head().Hash; !bytes.Equal(h[:], c.TreeHash) {
			t.Fatalf("%s: tree hash %x, want %v", c.Name, h, c.TreeHash)
		}
		if got, want := tree.Roots(), nodesOf(c.Roots); !slices.Equal(got, want) {
			t.Errorf("%s: roots %v, want %v", c.Name, got, want)
		}
		err = VerifyHead(key, m, tree.Head(), tree.Roots(), c.Signature)
		if (err == nil) != c.Valid || err != nil && !errors.Is(err, ErrInvalidSignature) {
			t.Errorf("version %d, %s, length %d: got %v, want valid = %v", c.Version, c.Name, c.Length, err, c.Valid)
		}
		parse := parseMulti
		if m.Version == 0 {
			parse = parseMultiV0
		}
		multi, err := parse(c.Signature)
		if (err != nil) != (c.Throws != nil) {
			t.Errorf("version %d, %s: parsed with %v, want an error = %v", c.Version, c.Name, err, c.Throws)
		}
		if !c.Valid || strings.Contains(c.Name, "garbage") {
			continue
		}
		var parts []Partial
		for _, p := range multi.proofs {
			parts = append(parts, contribution(t, pairs[p.signer], m, c.Fork, blocks[:c.Length+p.patch], c.Length))
		}
		if got, err := Assemble(m, parts); err != nil || !bytes.Equal(got, c.Signature) {
			t.Errorf("version %d, %s: assembled %x, %v, want %v", c.Version, c.Name, got, err, c.Signature)
		}
		rebuilt++
	}
	if rebuilt < 20 {
		t.Errorf("%d signatures assembled again", rebuilt)
	}
}

func TestVectorsPrologue(t *testing.T) {
	var v struct {
		Blocks []vectors.Hex
		Other  []struct {
			Name             string
			Version          int
			Key, Manifest    vectors.Hex
			Length           uint64
			TreeHash         vectors.Hex
			Signature        vectors.Hex
			WithoutSignature bool  `json:"valid_without_signature"`
			WithSignature    *bool `json:"valid_with_signature"`
		}
	}
	vectors.Load(t, "multisig.json", &v)
	for _, c := range v.Other {
		key := Key(c.Key)
		m, err := ParseManifestFor(&key, c.Manifest)
		if err != nil {
			t.Fatal(err)
		}
		tree, _ := testTree(t, 0, bytesOf(v.Blocks[:c.Length]))
		h := tree.Head()
		if !bytes.Equal(h.Hash[:], c.TreeHash) {
			t.Errorf("%s: tree hash %x, want %v", c.Name, h.Hash, c.TreeHash)
		}
		if err := VerifyHead(key, m, h, nil, nil); (err == nil) != c.WithoutSignature {
			t.Errorf("%s, length %d, no signature: got %v, want valid = %v", c.Name, c.Length, err, c.WithoutSignature)
		}
		if c.WithSignature != nil {
			if err := VerifyHead(key, m, h, nil, c.Signature); (err == nil) != *c.WithSignature {
				t.Errorf("%s, length %d: got %v, want valid = %v", c.Name, c.Length, err, *c.WithSignature)
			}
		}
		if strings.HasPrefix(c.Name, "static") && c.Version == 1 && c.Length == 5 {
			if got := StaticManifest(h); !bytes.Equal(got.Append(nil), c.Manifest) || got.Key() != key {
				t.Errorf("static manifest %x, want %v", got.Append(nil), c.Manifest)
			}
		}
	}
}

// Of several nodes with one index the last counts, as in JavaScript, where they go into a map.
func TestPatchUsesLastNodeOfAnIndex(t *testing.T) {
	pair := KeyPairFromSeed([32]byte{1})
	m := DefaultManifest(pair.Public())
	m.AllowPatch = true
	blocks := testBlocks(0, 8)
	tree, _ := testTree(t, 0, blocks[:5])
	p := contribution(t, pair, m, 0, blocks, 5)
	wrong := p.Nodes[0]
	wrong.Hash[0] ^= 1
	for _, c := range []struct {
		nodes []Node
		valid bool
	}{
		{slices.Concat([]Node{wrong}, p.Nodes), true},
		{slices.Concat(p.Nodes, []Node{wrong}), false},
	} {
		multi := multiSignature{proofs: []signerProof{*p.proof()}, nodes: c.nodes}
		if err := VerifyHead(m.Key(), m, tree.Head(), tree.Roots(), multi.appendMulti(nil)); (err == nil) != c.valid {
			t.Errorf("nodes %v: %v, want valid = %v", c.nodes, err, c.valid)
		}
	}
}

func FuzzMultiSignature(f *testing.F) {
	pair := KeyPairFromSeed([32]byte{1})
	manifest := DefaultManifest(pair.Public())
	manifest.AllowPatch = true
	blocks := testBlocks(0, 8)
	tree, _ := testTree(f, 0, blocks[:5])
	// Signed is what has been signed: only these signatures may verify.
	part := contribution(f, pair, manifest, 0, blocks, 5)
	signed := part.Signature
	who, err := newAuthority(manifest.Key(), manifest)
	if err != nil {
		f.Fatal(err)
	}
	v0 := *manifest
	v0.Version = 0
	part0 := contribution(f, pair, &v0, 0, blocks, 5)
	who0, err := newAuthority(v0.Key(), &v0)
	if err != nil {
		f.Fatal(err)
	}
	b0, err := Assemble(&v0, []Partial{part0})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(part.Append(nil))
	f.Add(b0)
	f.Add([]byte{0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := parseMulti(b); err == nil {
			again, err := parseMulti(m.appendMulti(nil))
			if err != nil || !slices.Equal(again.proofs, m.proofs) || !slices.Equal(again.nodes, m.nodes) {
				t.Fatalf("%+v became %+v, %v", m, again, err)
			}
		}
		m0, err := parseMultiV0(b)
		if err == nil && len(m0.nodes) > 0 {
			patches := slices.Repeat([][]int{{0}}, len(m0.proofs)) // which nodes does not matter
			again, err := parseMultiV0(m0.appendMultiV0(nil, patches...))
			if err != nil || !slices.Equal(again.proofs, m0.proofs) || !slices.Equal(again.nodes, m0.nodes) {
				t.Fatalf("%+v became %+v, %v", m0, again, err)
			}
		}
		if who0.VerifyHead(tree.Head(), tree.Roots(), b) == nil && (err != nil || m0.proofs[0].signature != part0.Signature) {
			t.Fatalf("%x is a signature of version 0 by nobody", b)
		}
		if p, err := ParsePartial(b); err == nil {
			again, err := ParsePartial(p.Append(nil))
			if err != nil || again.Signer != p.Signer || again.Signature != p.Signature || again.Patch != p.Patch || !slices.Equal(again.Nodes, p.Nodes) {
				t.Fatalf("%+v became %+v, %v", p, again, err)
			}
			if p.Verify(manifest.Key(), manifest, tree.Head(), tree.Roots()) == nil && p.Signature != signed {
				t.Fatalf("%+v is a contribution by nobody", p)
			}
		} else if !errors.Is(err, ErrInvalidSignature) {
			t.Fatal(err)
		}
		if m, err := parseMulti(b); who.VerifyHead(tree.Head(), tree.Roots(), b) == nil && (err != nil || m.proofs[0].signature != signed) {
			t.Fatalf("%x is a signature by nobody", b)
		}
	})
}
