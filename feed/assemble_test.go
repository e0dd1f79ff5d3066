package feed

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/p2pcore/p2pcore/internal/flattree"
)

// quorumCase is a feed of several signers who have signed different lengths.
type quorumCase struct {
	manifest *Manifest
	pairs    []KeyPair
	head     Head // common
	roots    []Node
	parts    []Partial // of all signers
}

func randomQuorum(t testing.TB, r *rand.Rand, version int) *quorumCase {
	t.Helper()
	c := &quorumCase{manifest: &Manifest{Version: version, AllowPatch: true}}
	n := 2 + r.IntN(4)
	for range n {
		var seed [32]byte
		for i := range seed {
			seed[i] = byte(r.Uint32())
		}
		c.pairs = append(c.pairs, KeyPairFromSeed(seed))
		s := Signer{Namespace: [32]byte{byte(r.Uint32())}, PublicKey: c.pairs[len(c.pairs)-1].Public()}
		c.manifest.Signers = append(c.manifest.Signers, s)
	}
	c.manifest.Quorum = 1 + r.IntN(n)
	fork, length := r.Uint64N(3), 1+r.IntN(20)
	blocks := testBlocks(0, length+20)
	tree, _ := testTree(t, fork, blocks[:length])
	c.head, c.roots = tree.Head(), tree.Roots()
	for i := range n {
		ahead := r.IntN(20) * r.IntN(2)
		c.parts = append(c.parts, contribution(t, c.pairs[i], c.manifest, fork, blocks[:length+ahead], uint64(length)))
	}
	return c
}

func (c *quorumCase) verify(signature []byte) error {
	return VerifyHead(c.manifest.Key(), c.manifest, c.head, c.roots, signature)
}

func TestAssembleOfAnyQuorumVerifies(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	for round := range 60 {
		c := randomQuorum(t, r, round%4)
		r.Shuffle(len(c.parts), func(i, j int) { c.parts[i], c.parts[j] = c.parts[j], c.parts[i] })
		for i := range c.parts {
			if err := c.parts[i].Verify(c.manifest.Key(), c.manifest, c.head, c.roots); err != nil {
				t.Fatalf("part %+v: %v", c.parts[i], err)
			}
			sent, err := ParsePartial(c.parts[i].Append(nil))
			if err != nil || sent.Signer != c.parts[i].Signer || !slices.Equal(sent.Nodes, c.parts[i].Nodes) {
				t.Fatalf("part %+v was sent as %+v, %v", c.parts[i], sent, err)
			}
			c.parts[i] = sent
		}
		for n := range len(c.parts) + 1 {
			signature, err := Assemble(c.manifest, c.parts[:n])
			if n < c.manifest.Quorum {
				if !errors.Is(err, ErrNoQuorum) {
					t.Fatalf("%d of %d: %v", n, c.manifest.Quorum, err)
				}
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := c.verify(signature); err != nil {
				t.Fatalf("%d of %d signers of version %d: %v", n, c.manifest.Quorum, c.manifest.Version, err)
			}
			for _, h := range []Head{
				{Fork: c.head.Fork + 1, Length: c.head.Length, Hash: c.head.Hash},
				{Fork: c.head.Fork, Length: c.head.Length + 1, Hash: c.head.Hash},
				{Fork: c.head.Fork, Length: c.head.Length, Hash: Hash{1}},
			} {
				if who := (&authority{key: c.manifest.Key(), manifest: c.manifest}); who.VerifyHead(h, c.roots, signature) == nil {
					t.Fatalf("a signature of %+v holds for %+v", c.head, h)
				}
			}
		}
	}
}

// What is said in a contribution counts: the bits of its signature, patch and nodes, and who it is of.
func TestAssembleOfATamperedPartDoesNotVerify(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 4))
	rounds, step := 8, 1
	if testing.Short() {
		rounds, step = 4, 5 // each form of a quorum once
	}
	for round := range rounds {
		c := randomQuorum(t, r, round%4)
		c.parts = c.parts[:c.manifest.Quorum]
		refuse := func(what string, i int, change func(p *Partial)) {
			t.Helper()
			held := c.parts[i]
			p := held
			p.Nodes = slices.Clone(held.Nodes)
			change(&p)
			if err := p.Verify(c.manifest.Key(), c.manifest, c.head, c.roots); !errors.Is(err, ErrInvalidSignature) {
				t.Errorf("%s: verified by itself with %v", what, err)
			}
			c.parts[i] = p
			defer func() { c.parts[i] = held }()
			signature, err := Assemble(c.manifest, c.parts)
			if err == nil {
				err = c.verify(signature)
			}
			// A node that is gone from one part may be in another.
			pooled := err == nil && slices.ContainsFunc(held.Nodes, func(n Node) bool {
				has := func(p Partial) bool { return slices.Contains(p.Nodes, n) }
				return !has(p) && slices.ContainsFunc(c.parts, has)
			})
			if !pooled && !errors.Is(err, ErrInvalidSignature) {
				t.Errorf("%s: assembled and verified with %v", what, err)
			}
		}
		for i := range c.parts {
			for bit := 0; bit < 512; bit += 1 + r.IntN(31) {
				refuse("signature", i, func(p *Partial) { p.Signature[bit/8] ^= 1 << (bit % 8) })
			}
			for bit := 0; bit < 53; bit += step {
				refuse("patch", i, func(p *Partial) { p.Patch ^= 1 << bit })
			}
			for n := range c.parts[i].Nodes {
				for bit := 0; bit < 256; bit += 1 + r.IntN(31) {
					refuse("hash", i, func(p *Partial) { p.Nodes[n].Hash[bit/8] ^= 1 << (bit % 8) })
				}
				for bit := 0; bit < 53; bit += step {
					refuse("size", i, func(p *Partial) { p.Nodes[n].Size ^= 1 << bit })
					refuse("index", i, func(p *Partial) { p.Nodes[n].Index ^= 1 << bit })
				}
				refuse("missing node", i, func(p *Partial) { p.Nodes = slices.Delete(p.Nodes, n, n+1) })
			}
			for other := range len(c.pairs) + 1 {
				if other != c.parts[i].Signer {
					refuse("signer", i, func(p *Partial) { p.Signer = other })
				}
			}
			refuse("no signer", i, func(p *Partial) { p.Signer = -1 })
		}
	}
}

// Bits of the bytes themselves: what still verifies says the same.
func TestTamperedMultiSignatureDoesNotVerify(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(5, 6))
	for version := range 3 {
		c := randomQuorum(t, r, version)
		signature, err := Assemble(c.manifest, c.parts[:c.manifest.Quorum])
		if err != nil {
			t.Fatal(err)
		}
		parse := parseMulti
		if version == 0 {
			parse = parseMultiV0
		}
		want, err := parse(signature)
		if err != nil {
			t.Fatal(err)
		}
		for bit := r.IntN(3); bit < len(signature)*8; bit += 1 + r.IntN(5) {
			bad := slices.Clone(signature)
			bad[bit/8] ^= 1 << (bit % 8)
			if c.verify(bad) != nil {
				continue
			}
			// Start and positions of version 0 say nothing, nor does the number of nodes if none is used.
			got, err := parse(bad)
			if err != nil || !slices.Equal(got.proofs, want.proofs) || !slices.Equal(got.nodes, want.nodes) {
				t.Errorf("version %d: accepted with bit %d flipped: %+v, %v, want %+v", version, bit, got, err, want)
			}
		}
	}
}

func TestAssembleRefuses(t *testing.T) {
	t.Parallel()
	c := randomQuorum(t, rand.New(rand.NewPCG(7, 8)), 1)
	m := c.manifest
	m.Quorum = 2
	for i := range c.parts {
		c.parts[i] = Partial{Signer: i}
	}
	a, b := c.parts[0], c.parts[1]
	node := Node{Index: 9, Size: 1, Hash: Hash{1}}
	other := Node{Index: 9, Size: 2, Hash: Hash{1}}
	patched := func(p Partial, nodes ...Node) Partial {
		p.Patch, p.Nodes = 1, nodes
		return p
	}
	for _, x := range []struct {
		name   string
		parts  []Partial
		change func(m *Manifest)
		want   error
	}{
		{"nothing", nil, nil, ErrNoQuorum},
		{"one of two", []Partial{a}, nil, ErrNoQuorum},
		{"a static feed", []Partial{a, b}, func(m *Manifest) { m.Quorum = 0 }, ErrNoQuorum},
		{"a quorum that there never is", c.parts, func(m *Manifest) { m.Quorum = len(m.Signers) + 1 }, ErrNoQuorum},
		{"a signer twice", []Partial{a, a}, nil, ErrInvalidSignature},
		{"a signer twice past the quorum", []Partial{a, b, a}, nil, ErrInvalidSignature},
		{"an unknown signer", []Partial{a, {Signer: len(m.Signers)}}, nil, ErrInvalidSignature},
		{"a negative signer", []Partial{a, {Signer: -1}}, nil, ErrInvalidSignature},
		{"a patch that is not allowed", []Partial{a, patched(b, node)}, func(m *Manifest) { m.AllowPatch = false }, ErrInvalidSignature},
		{"a patch without nodes", []Partial{a, patched(b)}, nil, ErrInvalidSignature},
		{"nodes without a patch", []Partial{a, {Signer: 1, Nodes: []Node{node}}}, nil, ErrInvalidSignature},
		{"two nodes of one index", []Partial{patched(a, node), patched(b, other)}, nil, ErrInvalidSignature},
		{"a node without a hash", []Partial{a, patched(b, Node{Index: 9})}, nil, ErrInvalidSignature},
		{"a node too large", []Partial{a, patched(b, Node{Index: 9, Size: 1 << 53, Hash: Hash{1}})}, nil, ErrInvalidSignature},
		{"a node out of any tree", []Partial{a, patched(b, Node{Index: 1 << 53, Hash: Hash{1}})}, nil, ErrInvalidSignature},
		{"a patch out of any tree", []Partial{a, {Signer: 1, Patch: 1 << 53, Nodes: []Node{node}}}, nil, ErrInvalidSignature},
		{"too many nodes", []Partial{a, patched(b, manyNodes(MaxSignatureBytes/nodeBytes)...)}, nil, ErrInvalidSignature},
	} {
		manifest := *m
		if x.change != nil {
			x.change(&manifest)
		}
		if got, err := Assemble(&manifest, x.parts); !errors.Is(err, x.want) {
			t.Errorf("%s: %x, %v, want %v", x.name, got, err, x.want)
		}
	}
	if got, err := Assemble(m, []Partial{patched(a, node), patched(b, node)}); err != nil {
		t.Errorf("a node that both have: %v", err)
	} else if multi, err := parseMulti(got); err != nil || len(multi.nodes) != 1 {
		t.Errorf("a node that both have: %+v, %v", multi, err)
	}
}

func manyNodes(n int) (nodes []Node) {
	for i := range n {
		nodes = append(nodes, Node{Index: flattree.Leaf(uint64(i)), Hash: Hash{1}})
	}
	return nodes
}
