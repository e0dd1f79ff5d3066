package merkle

import (
	"context"
	"fmt"
	"slices"

	"github.com/p2pcore/p2pcore/internal/flattree"
)

// scratch is what VerifyMany works with, kept between calls.
type scratch struct {
	pending []checked
	found   []Node // nodes of the pending proofs
	at      []flattree.Index
	stored  []Node
	roots   []Node
	index   map[flattree.Index]int // position in Batch.nodes, up to indexed
	indexed int
}

// checked is a proof whose own hashes have been computed.
type checked struct {
	err        error
	root       Node // the topmost computed node
	hasRoot    bool
	claimed    bool // root was not computed but comes from the proof as it is
	start, end int  // its nodes in scratch.found
	anchor     int  // position in scratch.at
}

// Verify checks a proof against the tree with the changes so far and adds what it proves to the
// batch: on success Nodes, and after an upgrade Head and Roots, have changed; on an error the batch is
// as before. The proof's slices may be kept in parts; they must not be changed later.
//
// A proof is held against what is known: the topmost node that its block, hash and seek parts lead to
// must be called for by its upgrade, or be stored, or have been verified by this batch; and a longer
// head must have a signature that s accepts. An upgrade whose length is not past the own one and whose
// roots are all known proves nothing new: it is dropped, its signature is not looked at. r is called
// once at most.
//
// The errors are ErrStaleFork, ErrInvalidProof (ErrInvalidOperation, with ErrStale if the upgrade is
// from another length; or ErrPrologue), ErrMissingNode if the node to compare with is not stored,
// ErrInvalidChecksum, ErrInvalidSignature; any other error comes from r.
func (b *Batch) Verify(ctx context.Context, r NodeReader, p *Proof, s SigVerifier) error {
	proofs, errs := [1]*Proof{p}, [1]error{}
	if err := b.VerifyMany(ctx, r, proofs[:], s, errs[:]); err != nil {
		return err
	}
	return errs[0]
}

// VerifyMany verifies proofs one after the other, as Verify does, and sets errs[i] to the verdict on
// ps[i]; len(errs) == len(ps). A proof that fails does not touch the others. All stored nodes that the
// proofs are compared with are read by one call of r. The error is that of r; the batch is then as
// before.
func (b *Batch) VerifyMany(ctx context.Context, r NodeReader, ps []*Proof, s SigVerifier, errs []error) error {
	v := &b.verify
	v.pending, v.found, v.at = v.pending[:0], v.found[:0], v.at[:0]
	v.pending = slices.Grow(v.pending, len(ps))
	v.at = slices.Grow(v.at, len(ps))
	most := 0
	for _, p := range ps {
		most += mostNodes(p)
	}
	v.found = slices.Grow(v.found, most)
	b.nodes = slices.Grow(b.nodes, most)
	for _, p := range ps {
		c := b.check(p)
		if c.err == nil && c.hasRoot {
			c.anchor = len(v.at)
			v.at = append(v.at, c.root.Index)
		}
		v.pending = append(v.pending, c)
	}
	if cap(v.stored) < len(v.at) {
		v.stored = make([]Node, len(v.at))
	}
	v.stored = v.stored[:len(v.at)]
	if err := readNodes(ctx, r, v.at, v.stored); err != nil {
		return err
	}
	for i, p := range ps {
		if errs[i] = v.pending[i].err; errs[i] == nil {
			errs[i] = b.accept(p, &v.pending[i], s)
		}
	}
	return nil
}

// mostNodes is how many nodes the block, hash and seek parts of a proof give, at most: each one sent
// comes with a parent. The count is bounded by what a possible tree has, not by what was sent.
func mostNodes(p *Proof) int {
	n := 2
	if p.Block != nil {
		n += 2 * min(len(p.Block.Nodes), MaxDepth)
	} else if p.Hash != nil {
		n += 2 * min(len(p.Hash.Nodes), MaxDepth)
	}
	if p.Seek != nil {
		n += 2 * min(len(p.Seek.Nodes), MaxDepth)
	}
	return n
}

// check computes the hashes of a proof's block, hash and seek parts into scratch.found.
func (b *Batch) check(p *Proof) checked {
	v := &b.verify
	c := checked{start: len(v.found)}
	if p.Fork != b.base.head.Fork {
		c.err = fmt.Errorf("%w: %d, not %d", ErrStaleFork, p.Fork, b.base.head.Fork)
		return c
	}
	v.found, c.root, c.hasRoot, c.claimed, c.err = recompute(v.found, p)
	if c.err != nil {
		v.found = v.found[:c.start]
	}
	c.end = len(v.found)
	return c
}

// accept compares a checked proof with what is known and adds it to the batch.
func (b *Batch) accept(p *Proof, c *checked, s SigVerifier) error {
	undo := b.mark()
	used := false
	if p.Upgrade != nil {
		var root *Node
		if c.hasRoot {
			root = &c.root
		}
		var err error
		if used, err = b.applyUpgrade(p.Upgrade, root); err != nil {
			b.reset(undo)
			return err
		}
	}
	found := b.verify.found[c.start:c.end]
	if c.hasRoot && !used {
		known := b.verify.stored[c.anchor]
		if _, end := c.root.Index.Blocks(); end > b.length {
			known = Node{} // a leftover of a longer tree proves nothing
		} else if known.Missing() {
			known = b.lookup(undo.nodes, c.root.Index)
		}
		switch {
		case known.Missing():
			b.reset(undo)
			return fmt.Errorf("%w: %d, to compare a proof with", ErrMissingNode, c.root.Index)
		case known.Hash != c.root.Hash || c.claimed && known.Size != c.root.Size:
			b.reset(undo)
			return fmt.Errorf("%w: node %d", ErrInvalidChecksum, c.root.Index)
		case known == c.root:
			found = found[:len(found)-1] // the last one found is the root, which is known
		}
	}
	if b.length > undo.length {
		if err := b.checkSignature(p.Upgrade.Signature, s); err != nil {
			b.reset(undo)
			return err
		}
		b.signature = p.Upgrade.Signature
	}
	b.nodes = append(b.nodes, found...)
	return nil
}

func (b *Batch) checkSignature(signature []byte, s SigVerifier) error {
	if err := s.VerifyHead(b.Head(), b.roots, signature); err != nil {
		return fmt.Errorf("%w: length %d: %w", ErrInvalidSignature, b.length, err)
	}
	return nil
}

// recompute climbs from the lowest nodes of a proof's seek, block or hash part to the topmost node
// that they give, and appends every node on the way, the topmost one last.
func recompute(dst []Node, p *Proof) (found []Node, root Node, ok, claimed bool, err error) {
	if p.Seek != nil && len(p.Seek.Nodes) > 0 {
		q := queue{nodes: p.Seek.Nodes}
		if root, err = q.take(p.Seek.Nodes[0].Index); err != nil {
			return dst, root, false, false, err
		}
		claimed = len(p.Seek.Nodes) == 1
		if dst, root, err = climb(append(dst, root), root, &q); err != nil {
			return dst, root, false, false, err
		}
		ok = true
	}
	var q queue
	var start Node
	switch {
	case p.Block != nil:
		if p.Block.Index >= MaxLength {
			return dst, root, false, false, fmt.Errorf("%w: block %d", ErrInvalidOperation, p.Block.Index)
		}
		q.nodes = p.Block.Nodes
		start = LeafNode(p.Block.Index, p.Block.Value)
	case p.Hash != nil:
		q.nodes = p.Hash.Nodes
	default:
		return dst, root, ok, claimed, nil
	}
	if ok {
		extra := root
		q.extra = &extra
	}
	if p.Block == nil {
		claimed = len(q.nodes) == 1 && q.extra == nil || len(q.nodes) == 0 && claimed
		if start, err = q.take(p.Hash.Index); err != nil {
			return dst, root, false, false, err
		}
	} else {
		claimed = false
	}
	dst, root, err = climb(append(dst, start), start, &q)
	return dst, root, err == nil, claimed, err
}

// climb takes siblings until the queue is empty, and computes their parents.
func climb(dst []Node, at Node, q *queue) ([]Node, Node, error) {
	if at.Index > maxIndex {
		return dst, at, fmt.Errorf("%w: node %d", ErrInvalidOperation, at.Index)
	}
	for !q.empty() {
		if at.Index.Depth() >= MaxDepth {
			return dst, at, fmt.Errorf("%w: %d lead past the largest tree", ErrInvalidOperation, len(q.nodes))
		}
		sibling, err := q.take(at.Index.Sibling())
		if err != nil {
			return dst, at, err
		}
		if at, err = parent(at, sibling); err != nil {
			return dst, at, err
		}
		dst = append(dst, sibling, at)
	}
	return dst, at, nil
}

// lookup finds a node among the first n of the batch, which no later error takes back.
func (b *Batch) lookup(n int, at flattree.Index) Node {
	v := &b.verify
	if v.index == nil {
		v.index = make(map[flattree.Index]int, n)
	}
	for ; v.indexed < n; v.indexed++ {
		v.index[b.nodes[v.indexed].Index] = v.indexed
	}
	if i, ok := v.index[at]; ok {
		return b.nodes[i]
	}
	return Node{}
}

// state of a batch to go back to.
type undo struct {
	length, size uint64
	nodes        int
	hash         Hash
	hashed       bool
}

func (b *Batch) mark() undo {
	b.verify.roots = append(b.verify.roots[:0], b.roots...)
	return undo{length: b.length, size: b.size, nodes: len(b.nodes), hash: b.hash, hashed: b.hashed}
}

func (b *Batch) reset(u undo) {
	b.length, b.size, b.hash, b.hashed = u.length, u.size, u.hash, u.hashed
	b.nodes = b.nodes[:u.nodes]
	b.roots = append(b.roots[:0], b.verify.roots...)
}
