package merkle

import (
	"context"
	"errors"
	"fmt"
)

// Proved is the answer to one of several requests: a proof, or why there is none.
type Proved struct {
	Proof *Proof
	Err   error
}

// Prove answers one request; see ProveMany.
func (t *Tree) Prove(ctx context.Context, r NodeReader, req Request) (*Proof, error) {
	reqs := [1]Request{req}
	proved, err := t.ProveMany(ctx, r, reqs[:])
	if err != nil {
		return nil, err
	}
	return proved[0].Proof, proved[0].Err
}

// ProveMany builds the proofs of formats.md 11.1. All nodes are read by one call of r, except that a
// seek walks down the tree, one call per level, before. A proof has the tree's fork, whatever
// Request.Fork is; block values, the signature and the manifest are left to the caller. The empty
// tree answers with an empty proof.
//
// Err of an answer is ErrInvalidRequest if no such proof exists, or ErrMissingNode if a node of it is
// not stored. The error is that of r.
func (t *Tree) ProveMany(ctx context.Context, r NodeReader, reqs []Request) ([]Proved, error) {
	proved := make([]Proved, len(reqs))
	plans := make([]plan, len(reqs))
	pl := planner{tree: t, reader: r}
	for i := range reqs {
		var err error
		plans[i], err = pl.plan(ctx, &reqs[i])
		switch {
		case errors.Is(err, ErrInvalidRequest), errors.Is(err, ErrMissingNode):
			proved[i].Err = err
		case err != nil:
			return nil, err
		}
	}
	nodes := make([]Node, len(pl.at))
	if err := readNodes(ctx, r, pl.at, nodes); err != nil {
		return nil, err
	}
	for i := range plans {
		if proved[i].Err != nil {
			continue
		}
		for j := plans[i].path.start; j < plans[i].additional.end; j++ {
			if nodes[j].Missing() {
				proved[i].Err = fmt.Errorf("%w: %d", ErrMissingNode, pl.at[j])
				break
			}
		}
		if proved[i].Err == nil {
			proved[i].Proof = plans[i].assemble(t.head.Fork, &reqs[i], nodes)
		}
	}
	return proved, nil
}

// Growth returns the nodes that lead from the first start blocks to the whole tree, in the order of an
// upgrade proof: those that Extend asks for. The error is ErrInvalidRequest if start is not below the
// length, ErrMissingNode if a node is not stored, or that of r.
func (t *Tree) Growth(ctx context.Context, r NodeReader, start uint64) ([]Node, error) {
	if start >= t.head.Length {
		return nil, fmt.Errorf("%w: growth from %d of length %d", ErrInvalidRequest, start, t.head.Length)
	}
	// The rules of a prologue are about what readers are sent, not about the tree.
	p, err := t.WithPrologue(nil).Prove(ctx, r, Request{Upgrade: &UpgradeRequest{Start: start, Length: t.head.Length - start}})
	if err != nil {
		return nil, err
	}
	return p.Upgrade.Nodes, nil
}

// list is the part [start, end) of the nodes that are read.
type list struct{ start, end int }

// plan says which nodes go where in a proof.
type plan struct {
	parts struct{ target, seek, upgrade bool }
	// upgrade as it is answered, which need not be as it is asked for.
	upgrade UpgradeRequest
	// path is for the block or hash part, grow and additional are for the upgrade. They lie one behind
	// the other, in this order.
	path, seek, grow, additional list
}

// assemble makes the proof from the nodes that were read. The lists share the memory of nodes.
func (p *plan) assemble(fork uint64, req *Request, nodes []Node) *Proof {
	take := func(l list) []Node { return nodes[l.start:l.end:l.end] }
	var proof *Proof
	if p.parts.target && req.Block != nil {
		// The most frequent kind of proof is one allocation.
		both := &struct {
			Proof
			block BlockProof
		}{block: BlockProof{Index: req.Block.Index, Nodes: take(p.path)}}
		proof = &both.Proof
		proof.Block = &both.block
	} else {
		proof = &Proof{}
	}
	proof.Fork = fork
	if p.parts.target && req.Block == nil {
		proof.Hash = &HashProof{Index: req.Hash.Index, Nodes: take(p.path)}
	}
	if p.parts.seek {
		proof.Seek = &SeekProof{Bytes: req.Seek.Bytes, Nodes: take(p.seek)}
	}
	if p.parts.upgrade {
		proof.Upgrade = &UpgradeProof{
			Start:      p.upgrade.Start,
			Length:     p.upgrade.Length,
			Nodes:      take(p.grow),
			Additional: take(p.additional),
		}
	}
	return proof
}
