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
	found   climbed // nodes of the pending proofs
	at      []flattree.Index
	stored  []Node
	roots   []Node                 // before a proof
	before  []Node                 // roots before all of them
	index   map[flattree.Index]int // position in Batch.nodes, up to indexed
	indexed int
}

// checked is a proof whose own hashes have been computed.
type checked struct {
	err        error
	root       top // the topmost node
	hasRoot    bool
	start, end mark // its nodes in scratch.found
	anchor     int  // position in scratch.at
}

// climbed are the nodes that proofs lead over: those whose size is true if the topmost one is right, and the
// others.
type climbed struct{ proven, unproven []Node }

// mark is a position in climbed.
type mark struct{ proven, unproven int }

func (c *climbed) mark() mark { return mark{len(c.proven), len(c.unproven)} }

func (c *climbed) cut(m mark) {
	c.proven, c.unproven = c.proven[:m.proven], c.unproven[:m.unproven]
}

// Verify checks a proof against the tree with the changes so far and adds what it proves to the
// batch: on success Nodes, and after an upgrade Head and Roots, have changed; on an error the batch is
// as before. The proof's slices may be kept in parts; they must not be changed later.
//
// A proof is held against what is known: the topmost node that its block, hash and seek parts lead to
// must be called for by its upgrade, or be stored, or have been verified by this batch; and a longer
// head must have a signature that s accepts. An upgrade whose length is not past the own one proves
// nothing new: it is dropped, its nodes and its signature are not looked at.
//
// r is called once, and once more if it gives a node with another size than the proof shows it to have, as
// with SizeUnproven: the node and its sibling are then in Nodes, with their true sizes.
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
// proofs are compared with are read by one call of r, and those with a wrong size one by one. The error is
// that of r; the batch is then as before.
func (b *Batch) VerifyMany(ctx context.Context, r NodeReader, ps []*Proof, s SigVerifier, errs []error) error {
	v := &b.verify
	v.pending, v.at = v.pending[:0], v.at[:0]
	v.found.cut(mark{})
	v.pending = slices.Grow(v.pending, len(ps))
	v.at = slices.Grow(v.at, len(ps))
	most := 0
	for _, p := range ps {
		most += mostNodes(p)
	}
	v.found.proven = slices.Grow(v.found.proven, most)
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
	undo := b.mark(&v.before)
	for i, p := range ps {
		if errs[i] = v.pending[i].err; errs[i] != nil {
			continue
		}
		var err error
		if errs[i], err = b.accept(ctx, r, p, &v.pending[i], s); err != nil {
			b.reset(undo, v.before)
			v.index, v.indexed = nil, 0
			return err
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
	c := checked{start: v.found.mark()}
	if p.Fork != b.base.head.Fork {
		c.err = fmt.Errorf("%w: %d, not %d", ErrStaleFork, p.Fork, b.base.head.Fork)
		return c
	}
	c.root, c.hasRoot, c.err = v.found.recompute(p)
	if c.err != nil {
		v.found.cut(c.start)
	}
	c.end = v.found.mark()
	return c
}

// accept compares a checked proof with what is known and adds it to the batch. err is that of r.
func (b *Batch) accept(ctx context.Context, r NodeReader, p *Proof, c *checked, s SigVerifier) (verdict, err error) {
	v := &b.verify
	undo := b.mark(&v.roots)
	fail := func(verdict error) (error, error) {
		b.reset(undo, v.roots)
		return verdict, nil
	}
	used := false
	if p.Upgrade != nil {
		var root *top
		if c.hasRoot {
			root = &c.root
		}
		if used, verdict = b.applyUpgrade(p.Upgrade, root); verdict != nil {
			return fail(verdict)
		}
	}
	found := v.found.proven[c.start.proven:c.end.proven]
	var known, sibling Node
	if c.hasRoot {
		// The last one found is the root. The upgrade has added it, or it is known.
		found = found[:len(found)-1]
	}
	if c.hasRoot && !used {
		known = v.stored[c.anchor]
		if _, end := c.root.Index.Blocks(); end > b.length {
			known = Node{} // a leftover of a longer tree proves nothing
		} else if known.Missing() {
			known = b.lookup(undo.nodes, c.root.Index)
		}
		switch {
		case known.Missing():
			return fail(fmt.Errorf("%w: %d, to compare a proof with", ErrMissingNode, c.root.Index))
		case known.Hash != c.root.Hash, c.root.raw && known.Size != c.root.Size && known.Size < SizeUnproven:
			return fail(fmt.Errorf("%w: node %d", ErrInvalidChecksum, c.root.Index))
		case known.Size != c.root.Size && !c.root.raw:
			if sibling, err = b.siblingOf(ctx, r, undo.nodes, c.root.Node); err != nil {
				return nil, err
			}
			if sibling.Missing() {
				return fail(fmt.Errorf("%w: the sibling of %d, or its parent", ErrMissingNode, c.root.Index))
			}
		}
	}
	if b.length > undo.length {
		if err := b.checkSignature(p.Upgrade.Signature, s); err != nil {
			return fail(err)
		}
		b.signature = p.Upgrade.Signature
		b.raw = 0 // the tree hash commits to the sizes of roots
	}
	b.nodes = append(b.nodes, found...)
	if !sibling.Missing() {
		b.nodes = append(b.nodes, c.root.Node, sibling)
	}
	b.unproven = append(b.unproven, v.found.unproven[c.start.unproven:c.end.unproven]...)
	return nil, nil
}

// siblingOf returns the sibling of a node of which only the hash was known until now: of both, the parent's
// size tells the sum. It is Missing if the sibling or the parent is not known any more.
func (b *Batch) siblingOf(ctx context.Context, r NodeReader, nodes int, n Node) (Node, error) {
	at := [2]flattree.Index{n.Index.Sibling(), n.Index.Parent()}
	var got [2]Node
	if err := readNodes(ctx, r, at[:], got[:]); err != nil {
		return Node{}, err
	}
	for i := range at {
		if own := b.lookup(nodes, at[i]); !own.Missing() {
			got[i] = own
		}
	}
	sibling, above := got[0], got[1]
	if sibling.Missing() || above.Missing() || above.Size < n.Size {
		return Node{}, nil
	}
	sibling.Size = above.Size - n.Size
	if ParentNode(n, sibling) != above {
		return Node{}, nil
	}
	return sibling, nil
}

func (b *Batch) checkSignature(signature []byte, s SigVerifier) error {
	if err := s.VerifyHead(b.Head(), b.roots, signature); err != nil {
		return fmt.Errorf("%w: length %d: %w", ErrInvalidSignature, b.length, err)
	}
	return nil
}

// recompute climbs from the lowest nodes of a proof's seek, block or hash part to the topmost node that they
// give, and adds every node on the way. The topmost one is the last of the proven ones.
func (c *climbed) recompute(p *Proof) (root top, ok bool, err error) {
	if p.Seek != nil && len(p.Seek.Nodes) > 0 {
		q := queue{nodes: p.Seek.Nodes}
		if root, err = q.take(p.Seek.Nodes[0].Index); err != nil {
			return root, false, err
		}
		if root, err = c.climb(root, &q); err != nil {
			return root, false, err
		}
		ok = true
	}
	var q queue
	var start top
	switch {
	case p.Block != nil:
		if p.Block.Index >= MaxLength {
			return root, false, fmt.Errorf("%w: block %d", ErrInvalidOperation, p.Block.Index)
		}
		q.nodes = p.Block.Nodes
		start = top{p.Block.leaf(), false}
	case p.Hash != nil:
		q.nodes = p.Hash.Nodes
	default:
		return root, ok, nil
	}
	if ok {
		c.proven = c.proven[:len(c.proven)-1] // it is on the way up
		extra := root
		q.extra = &extra
	}
	if p.Block == nil {
		if start, err = q.take(p.Hash.Index); err != nil {
			return root, false, err
		}
	}
	root, err = c.climb(start, &q)
	return root, err == nil, err
}

// climb takes siblings until the queue is empty, and computes their parents. Of two raw siblings the sizes
// could have been shifted from one to the other without their parent changing.
func (c *climbed) climb(at top, q *queue) (top, error) {
	if at.Index > maxIndex {
		return at, fmt.Errorf("%w: node %d", ErrInvalidOperation, at.Index)
	}
	for !q.empty() {
		if at.Index.Depth() >= MaxDepth {
			return at, fmt.Errorf("%w: %d lead past the largest tree", ErrInvalidOperation, len(q.nodes))
		}
		sibling, err := q.take(at.Index.Sibling())
		if err != nil {
			return at, err
		}
		above, err := parent(at.Node, sibling.Node)
		if err != nil {
			return at, err
		}
		if at.raw && sibling.raw {
			c.unproven = append(c.unproven, at.Node, sibling.Node)
		} else {
			c.proven = append(c.proven, at.Node, sibling.Node)
		}
		at = top{above, false}
	}
	c.proven = append(c.proven, at.Node)
	return at, nil
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

// undo is the state of a batch to go back to.
type undo struct {
	length, size    uint64
	nodes, unproven int
	raw             uint64
	signature       []byte
	hash            Hash
	hashed          bool
}

// mark returns the state as it is, and keeps the roots in a slice to be reused.
func (b *Batch) mark(roots *[]Node) undo {
	*roots = append((*roots)[:0], b.roots...)
	return undo{
		length: b.length, size: b.size, nodes: len(b.nodes), unproven: len(b.unproven), raw: b.raw,
		signature: b.signature, hash: b.hash, hashed: b.hashed,
	}
}

func (b *Batch) reset(u undo, roots []Node) {
	b.length, b.size, b.raw, b.signature, b.hash, b.hashed = u.length, u.size, u.raw, u.signature, u.hash, u.hashed
	b.nodes, b.unproven = b.nodes[:u.nodes], b.unproven[:u.unproven]
	b.roots = append(b.roots[:0], roots...)
}
