package merkle_test

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/p2pcore/p2pcore/internal/flattree"
	"github.com/p2pcore/p2pcore/internal/merkle"
	"github.com/p2pcore/p2pcore/internal/vectors"
	"github.com/p2pcore/p2pcore/internal/wire"
	"golang.org/x/crypto/blake2b"
)

type jsonNode struct {
	Index flattree.Index
	Size  uint64
	Hash  vectors.Hex
}

func (n jsonNode) node() merkle.Node {
	return merkle.Node{Index: n.Index, Size: n.Size, Hash: merkle.Hash(n.Hash)}
}

type jsonLength struct {
	Length, ByteLength uint64
	Roots              []jsonNode
	TreeHash           vectors.Hex
}

func TestVectorsMerkle(t *testing.T) {
	var v struct {
		Leaf []struct {
			Block, Hash vectors.Hex
		}
		Parent []struct {
			Left, Right jsonNode
			Size        uint64
			Hash        vectors.Hex
		}
		Tree struct {
			Blocks  []vectors.Hex
			Nodes   []jsonNode
			Lengths []jsonLength
		}
		RuleTree struct {
			FirstBlocks []string `json:"first_blocks"`
			Lengths     []jsonLength
		} `json:"rule_tree"`
	}
	vectors.Load(t, "merkle.json", &v)
	for _, c := range v.Leaf {
		if got := merkle.LeafNode(0, c.Block); got.Hash != merkle.Hash(c.Hash) || got.Size != uint64(len(c.Block)) {
			t.Errorf("LeafNode(%x) = %x", c.Block, got.Hash)
		}
	}
	for _, c := range v.Parent {
		for _, got := range []merkle.Node{
			merkle.ParentNode(c.Left.node(), c.Right.node()),
			merkle.ParentNode(c.Right.node(), c.Left.node()),
		} {
			if got.Hash != merkle.Hash(c.Hash) || got.Size != c.Size {
				t.Errorf("ParentNode(%d, %d) = %+v", c.Left.Index, c.Right.Index, got)
			}
		}
	}
	all := make(store)
	b := newReader(t, 0).tree.NewBatch()
	for i := range v.Tree.Lengths {
		checkLength(t, b, v.Tree.Lengths[i])
		if i < len(v.Tree.Blocks) {
			appendBlock(t, b, v.Tree.Blocks[i])
		}
	}
	all.put(b.Nodes()...)
	for _, n := range v.Tree.Nodes {
		if all[n.Index] != n.node() {
			t.Errorf("node %d = %+v, want %+v", n.Index, all[n.Index], n)
		}
	}
	if len(all) != len(v.Tree.Nodes) {
		t.Errorf("%d nodes, want %d", len(all), len(v.Tree.Nodes))
	}
	for i, want := range v.RuleTree.FirstBlocks {
		if got := ruleBlock(uint64(i)); string(got) != want {
			t.Errorf("block %d of the rule is %q, want %q: the rule has changed", i, got, want)
		}
	}
	b = newReader(t, 0).tree.NewBatch()
	slices.SortFunc(v.RuleTree.Lengths, func(a, b jsonLength) int { return int(a.Length) - int(b.Length) })
	for _, want := range v.RuleTree.Lengths {
		for i := b.Head().Length; i < want.Length; i++ {
			appendBlock(t, b, ruleBlock(i))
		}
		checkLength(t, b, want)
	}
}

// ruleBlock is a block of the tree that the vectors give by its rule.
func ruleBlock(i uint64) []byte {
	return fmt.Appendf(nil, "blk-%d%s", i, strings.Repeat(".", int(i%13)))
}

func appendBlock(t *testing.T, b *merkle.Batch, block []byte) {
	t.Helper()
	if err := b.Append(block); err != nil {
		t.Fatal(err)
	}
}

func checkLength(t *testing.T, b *merkle.Batch, want jsonLength) {
	t.Helper()
	head := merkle.Head{Length: want.Length, ByteLength: want.ByteLength, Hash: merkle.Hash(want.TreeHash)}
	if got := b.Head(); got != head {
		t.Errorf("head = %+v, want %+v", got, head)
	}
	roots := make([]merkle.Node, len(want.Roots))
	for i, n := range want.Roots {
		roots[i] = n.node()
	}
	if got := b.Roots(); !slices.Equal(got, roots) {
		t.Errorf("length %d: roots = %v, want %v", want.Length, got, roots)
	}
	if tree, err := merkle.NewTree(0, roots); err != nil || tree.Head() != head {
		t.Errorf("length %d: NewTree = %+v, %v", want.Length, tree, err)
	}
}

// keyVerifier judges signatures by the rules for a single signer or a prologue (formats.md 4.5).
// manifest, if known, comes from the proofs.
type keyVerifier struct {
	key, public, manifest []byte
	prologue              *merkle.Prologue
	compat                bool
}

func (k *keyVerifier) learn(manifest []byte) {
	space, _ := hex.DecodeString("e64b7108eacce47cfc61ac850568f55f8b15b82ec5ed78c4ec597b036e2a1498")
	sum := blake2b.Sum256(append(space, manifest...))
	if manifest != nil && slices.Equal(sum[:], k.key) {
		k.manifest = manifest
	}
}

func (k *keyVerifier) VerifyHead(h merkle.Head, _ []merkle.Node, signature []byte) error {
	tree, _ := hex.DecodeString("9fac70b50ca14efc4e91c833b204e75b8b5aad8b5881bfc0adb5ef38a3275b9c")
	signable := slices.Concat(h.Hash[:], le64(h.Length), le64(h.Fork))
	public := k.public
	switch {
	case k.compat || k.manifest == nil:
		signable, public = append(tree, signable...), k.key
	case k.prologue != nil && h.Length <= k.prologue.Length:
		if h.Length == k.prologue.Length && h.Hash == k.prologue.Hash {
			return nil
		}
		return errors.New("not the prologue")
	default:
		signable = slices.Concat(tree, k.key, signable)
		if len(signature) != 68 {
			return fmt.Errorf("%d bytes of signature", len(signature))
		}
		signature = signature[2:66]
	}
	if !ed25519.Verify(public, signable, signature) {
		return errors.New("wrong signature")
	}
	return nil
}

type jsonParts struct {
	Block, Hash *struct {
		Index uint64
		Nodes []flattree.Index
	}
	Seek    *struct{ Nodes []flattree.Index }
	Upgrade *struct {
		Start, Length   uint64
		Nodes           []flattree.Index
		AdditionalNodes []flattree.Index
	}
}

type jsonCase struct {
	Request   merkle.Request
	Manifest  bool
	Quirk     string
	Nodes     *jsonParts
	DataHex   vectors.Hex `json:"data_hex"`
	Error     string
	FromEmpty *struct {
		Length, ByteLength uint64
		Roots              []flattree.Index
		TreeHash           vectors.Hex
		Valid              bool
	} `json:"from_empty"`
}

type jsonCore struct {
	Length, Fork, Padding, ByteLength uint64
	Key, PublicKey, Manifest          vectors.Hex
	Compat, Static                    bool
	Prologue                          *struct {
		Hash   vectors.Hex
		Length uint64
	}
	Seed, TreeHash, Signature vectors.Hex
	Blocks                    []vectors.Hex
	Cases                     []jsonCase
	ReaderSteps               []jsonStep `json:"reader_steps"`
}

func (c *jsonCore) prologue() *merkle.Prologue {
	if c.Prologue == nil {
		return nil
	}
	return &merkle.Prologue{Length: c.Prologue.Length, Hash: merkle.Hash(c.Prologue.Hash)}
}

func parseData(t *testing.T, b []byte) *merkle.Proof {
	t.Helper()
	m, err := wire.Parse(wire.TypeData, b)
	if err != nil {
		t.Fatalf("data %x: %v", b, err)
	}
	return &m.(*wire.Data).Proof
}

func modelOf(blocks []vectors.Hex) *model {
	m := newModel()
	for _, b := range blocks {
		m.blocks = append(m.blocks, b)
	}
	return m
}

func TestVectorsProofs(t *testing.T) {
	var v struct {
		Cores []jsonCore
	}
	vectors.Load(t, "proofs.json", &v)
	quirks := 0
	for i := range v.Cores {
		c := &v.Cores[i]
		m := modelOf(c.Blocks)
		tree := m.tree(t, c.Length, c.Fork).WithPrologue(c.prologue())
		if got := tree.Head(); got.ByteLength != c.ByteLength || got.Hash != merkle.Hash(c.TreeHash) {
			t.Fatalf("core %d: head %+v", i, got)
		}
		nodes := m.store(c.Length)
		for j := range c.Cases {
			cs := &c.Cases[j]
			name := fmt.Sprintf("core %d case %d %s", i, j, describe(cs.Request))
			if cs.Quirk != "" {
				quirks++
			}
			checkProve(t, name, cs, tree, m, nodes, c)
			if cs.Error == "" {
				checkAccepted(t, name, cs, tree, m, c)
			}
		}
		if c.ReaderSteps != nil {
			r := newReader(t, 0)
			k := &keyVerifier{key: c.Key, public: c.PublicKey, prologue: c.prologue()}
			for _, s := range c.ReaderSteps {
				s.run(t, fmt.Sprintf("core %d", i), r, k)
			}
		}
	}
	if quirks == 0 {
		t.Error("no case with a quirk: the vectors are not read")
	}
}

func describe(r merkle.Request) string {
	var b strings.Builder
	if r.Block != nil {
		fmt.Fprintf(&b, "block %+v ", *r.Block)
	}
	if r.Hash != nil {
		fmt.Fprintf(&b, "hash %+v ", *r.Hash)
	}
	if r.Seek != nil {
		fmt.Fprintf(&b, "seek %+v ", *r.Seek)
	}
	if r.Upgrade != nil {
		fmt.Fprintf(&b, "upgrade %+v ", *r.Upgrade)
	}
	return b.String()
}

// checkProve proves and compares with the recorded message, node by node.
func checkProve(t *testing.T, name string, cs *jsonCase, tree *merkle.Tree, m *model, nodes store, c *jsonCore) {
	t.Helper()
	counter := &counted{NodeReader: nodes}
	p, err := tree.Prove(context.Background(), counter, cs.Request)
	if cs.Error != "" {
		if !errors.Is(err, merkle.ErrInvalidRequest) {
			t.Errorf("%s: error %v, want that of %s", name, err, cs.Error)
		}
		return
	}
	if cs.Quirk != "" {
		// Upstream has lost the seek part or does not refuse; ours is either right or refused.
		if err != nil {
			if !errors.Is(err, merkle.ErrInvalidRequest) {
				t.Errorf("%s: %v", name, err)
			}
			return
		}
		reader := readerOf(t, m, c.Length)
		reader.nodes = nodes
		if err := reader.apply(fill(p, m, tree.Head()), seal{}); err != nil {
			t.Errorf("%s: our own proof: %v", name, err)
		}
		return
	}
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	if cs.Request.Seek == nil && counter.calls > 1 {
		t.Errorf("%s: %d reads", name, counter.calls)
	}
	want := parseData(t, cs.DataHex)
	if p.Block != nil {
		p.Block.Value = m.blocks[p.Block.Index]
	}
	if p.Upgrade != nil && want.Upgrade != nil {
		p.Upgrade.Signature = want.Upgrade.Signature
	}
	p.Manifest = want.Manifest
	got := (&wire.Data{ID: 1, Proof: *p}).Append(nil)
	if !slices.Equal(got, cs.DataHex) {
		t.Errorf("%s:\n got %x\nwant %x\nparts %+v", name, got, cs.DataHex, cs.Nodes)
	}
}

// checkAccepted verifies the recorded message with a reader that lacks exactly what it carries.
func checkAccepted(t *testing.T, name string, cs *jsonCase, tree *merkle.Tree, m *model, c *jsonCore) {
	t.Helper()
	p := parseData(t, cs.DataHex)
	k := &keyVerifier{key: c.Key, public: c.PublicKey, manifest: c.Manifest, prologue: c.prologue(), compat: c.Compat}
	start := c.Length
	if p.Upgrade != nil {
		start = p.Upgrade.Start
	}
	r := readerOf(t, m, start)
	r.tree = r.tree.WithPrologue(c.prologue())
	if start > 0 {
		r.nodes = m.store(start)
	}
	err := r.apply(p, k)
	if h := cs.Request.Hash; h != nil && errors.Is(err, merkle.ErrMissingNode) {
		// A request that no reader makes: it reaches over the reader's own tree.
		at := h.Index
		for range h.Nodes {
			at = at.Parent()
		}
		if _, end := at.Blocks(); end > start {
			return
		}
	}
	if err != nil {
		t.Errorf("%s: recorded proof refused: %v", name, err)
		return
	}
	want := merkle.Head{Fork: c.Fork, Length: c.Length, ByteLength: c.ByteLength, Hash: merkle.Hash(c.TreeHash)}
	if got := r.tree.Head(); got != want {
		t.Errorf("%s: head %+v, want %+v", name, got, want)
	}
	truth := m.store(c.Length)
	for at, n := range r.nodes {
		if truth[at] != n {
			t.Errorf("%s: stored %+v, want %+v", name, n, truth[at])
		}
	}
	e := cs.FromEmpty
	if e == nil {
		return
	}
	if got := r.tree.Head(); e.Valid && (got.Length != e.Length || got.ByteLength != e.ByteLength || got.Hash != merkle.Hash(e.TreeHash)) {
		t.Errorf("%s: from empty %+v, want %+v", name, got, e)
	}
	if got := indexes(r.tree.Roots()); !slices.Equal(got, e.Roots) {
		t.Errorf("%s: from empty roots %v, want %v", name, got, e.Roots)
	}
}

func TestVectorsMaxMissingNodes(t *testing.T) {
	var v struct {
		Max []struct {
			Length  uint64
			ByIndex []uint64 `json:"by_tree_index"`
		} `json:"max_missing_nodes"`
	}
	vectors.Load(t, "proofs.json", &v)
	for _, c := range v.Max {
		for i, want := range c.ByIndex {
			if got := merkle.MaxMissingNodes(flattree.Index(i), c.Length); got != want {
				t.Errorf("MaxMissingNodes(%d, %d) = %d, want %d", i, c.Length, got, want)
			}
		}
	}
	if len(v.Max) == 0 {
		t.Error("no cases")
	}
}

func publicKey(seed []byte) []byte {
	return ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
}
