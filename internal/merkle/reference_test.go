package merkle_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/p2pcore/p2pcore/internal/flattree"
	"github.com/p2pcore/p2pcore/internal/merkle"
	"golang.org/x/crypto/blake2b"
)

// model is a feed as the definitions state it, without any care for speed: a node is a range of
// blocks, everything is found by cutting ranges in half.
type model struct {
	blocks [][]byte
	cache  map[[2]uint64]merkle.Node
}

func newModel(blocks ...[]byte) *model {
	return &model{blocks: blocks, cache: make(map[[2]uint64]merkle.Node)}
}

// ruleModel has n blocks of differing sizes, some of them empty.
func ruleModel(n uint64, salt string) *model {
	m := newModel()
	for i := range n {
		block := fmt.Appendf(nil, "%s%d", salt, i)
		m.blocks = append(m.blocks, block[:uint64(len(block))*(i*7%5)/4])
	}
	return m
}

func (m *model) length() uint64 { return uint64(len(m.blocks)) }

// node is the tree node above the blocks [start, start+n); n is a power of two.
func (m *model) node(start, n uint64) merkle.Node {
	if found, ok := m.cache[[2]uint64{start, n}]; ok {
		return found
	}
	out := merkle.Node{Index: flattree.Index(2*start + n - 1)}
	var data []byte
	if n == 1 {
		out.Size = uint64(len(m.blocks[start]))
		data = append([]byte{0}, le64(out.Size)...)
		data = append(data, m.blocks[start]...)
	} else {
		l, r := m.node(start, n/2), m.node(start+n/2, n/2)
		out.Size = l.Size + r.Size
		data = append([]byte{1}, le64(out.Size)...)
		data = append(append(data, l.Hash[:]...), r.Hash[:]...)
	}
	out.Hash = blake2b.Sum256(data)
	m.cache[[2]uint64{start, n}] = out
	return out
}

// roots cuts a length into the largest powers of two.
func (m *model) roots(length uint64) (roots []merkle.Node) {
	for start := uint64(0); start < length; {
		n := uint64(1)
		for n*2 <= length-start {
			n *= 2
		}
		roots = append(roots, m.node(start, n))
		start += n
	}
	return roots
}

func (m *model) head(length, fork uint64) merkle.Head {
	h := merkle.Head{Fork: fork, Length: length}
	data := []byte{2}
	for _, n := range m.roots(length) {
		data = append(data, n.Hash[:]...)
		data = append(data, le64(uint64(n.Index))...)
		data = append(data, le64(n.Size)...)
		h.ByteLength += n.Size
	}
	h.Hash = blake2b.Sum256(data)
	return h
}

func (m *model) tree(t testing.TB, length, fork uint64) *merkle.Tree {
	t.Helper()
	tree, err := merkle.NewTree(fork, m.roots(length))
	if err != nil {
		t.Fatalf("NewTree of length %d: %v", length, err)
	}
	return tree
}

// store is all nodes of the tree of a length.
func (m *model) store(length uint64) store {
	s := make(store)
	for n := uint64(1); n <= length; n *= 2 {
		for start := uint64(0); start+n <= length; start += n {
			s.put(m.node(start, n))
		}
	}
	return s
}

// path is the siblings of what leads down from the node over [start, start+n) to a block or to the
// node over the half-open range of blocks at, the lowest first.
func (m *model) path(start, n uint64, at [2]uint64) []merkle.Node {
	if n == at[1]-at[0] {
		return nil
	}
	half := n / 2
	if at[0] < start+half {
		return append(m.path(start, half, at), m.node(start+half, half))
	}
	return append(m.path(start+half, half, at), m.node(start, half))
}

// upgrade is the fewest nodes that cover [from, to), from left to right; the one that covers the
// block skip is given back in place of being listed.
func (m *model) upgrade(from, to uint64, skip int64) (nodes []merkle.Node, skipped []uint64) {
	var cover func(start, n uint64)
	cover = func(start, n uint64) {
		switch {
		case start+n <= from:
		case start >= from && skip >= 0 && start <= uint64(skip) && uint64(skip) < start+n:
			skipped = []uint64{start, n}
		case start >= from:
			nodes = append(nodes, m.node(start, n))
		default:
			cover(start, n/2)
			cover(start+n/2, n/2)
		}
	}
	for _, r := range m.roots(to) {
		start, end := r.Index.Blocks()
		cover(start, end-start)
	}
	return nodes, skipped
}

// store is a NodeReader in memory.
type store map[flattree.Index]merkle.Node

func (s store) put(nodes ...merkle.Node) {
	for _, n := range nodes {
		s[n.Index] = n
	}
}

// note keeps nodes whose sizes nobody vouches for as JavaScript does, but not in place of others.
func (s store) note(nodes ...merkle.Node) {
	for _, n := range nodes {
		if _, ok := s[n.Index]; !ok {
			s[n.Index] = n
		}
	}
}

func (s store) ReadNodes(_ context.Context, at []flattree.Index, dst []merkle.Node) error {
	for i, index := range at {
		dst[i] = s[index]
	}
	return nil
}

// counted counts the calls of a NodeReader.
type counted struct {
	merkle.NodeReader
	calls int
}

func (c *counted) ReadNodes(ctx context.Context, at []flattree.Index, dst []merkle.Node) error {
	c.calls++
	return c.NodeReader.ReadNodes(ctx, at, dst)
}

// seal stands for a signature: it names the one head it is good for.
type seal struct{}

func (seal) sign(h merkle.Head) []byte {
	data := slices.Concat(le64(h.Fork), le64(h.Length), h.Hash[:])
	sum := blake2b.Sum256(data)
	return sum[:]
}

func (s seal) VerifyHead(h merkle.Head, _ []merkle.Node, signature []byte) error {
	if !slices.Equal(signature, s.sign(h)) {
		return errors.New("broken seal")
	}
	return nil
}

// reader is what the receiving side holds.
type reader struct {
	tree   *merkle.Tree
	nodes  store
	blocks map[uint64][]byte
}

func newReader(t testing.TB, fork uint64) *reader {
	t.Helper()
	tree, err := merkle.NewTree(fork, nil)
	if err != nil {
		t.Fatal(err)
	}
	return &reader{tree: tree, nodes: store{}, blocks: make(map[uint64][]byte)}
}

// readerOf is a reader that has the roots of the first length blocks of m.
func readerOf(t testing.TB, m *model, length uint64) *reader {
	t.Helper()
	r := newReader(t, 0)
	r.tree = m.tree(t, length, 0)
	r.nodes.put(m.roots(length)...)
	return r
}

// apply verifies a proof and stores what it brings.
func (r *reader) apply(p *merkle.Proof, s merkle.SigVerifier) error {
	b := r.tree.NewBatch()
	if err := b.Verify(context.Background(), r.nodes, p, s); err != nil {
		return err
	}
	r.nodes.put(b.Nodes()...)
	r.nodes.note(b.Unproven()...)
	r.tree = b.Tree()
	if p.Block != nil {
		r.blocks[p.Block.Index] = p.Block.Value
	}
	return nil
}

// fill adds to a proof what the tree does not know: the value and the signature.
func fill(p *merkle.Proof, m *model, head merkle.Head) *merkle.Proof {
	if p.Block != nil {
		p.Block.Value = m.blocks[p.Block.Index]
	}
	if p.Upgrade != nil {
		p.Upgrade.Signature = seal{}.sign(head)
	}
	return p
}

func le64(v uint64) []byte { return binary.LittleEndian.AppendUint64(nil, v) }

func indexes(nodes []merkle.Node) []flattree.Index {
	at := make([]flattree.Index, len(nodes))
	for i, n := range nodes {
		at[i] = n.Index
	}
	return at
}
