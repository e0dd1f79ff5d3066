package feed

import (
	"context"
	"errors"
	"fmt"

	"github.com/p2pcore/p2pcore/internal/flattree"
	"github.com/p2pcore/p2pcore/internal/merkle"
)

// CheckDetached is VerifyDetached for a feed that is stored, by its manifest if that is known, and says
// whether the proven head is newer than the feed's: of a later fork, or longer. It stores nothing.
func (f *Feed) CheckDetached(proof []byte) (v *Verified, newer bool, err error) {
	f.mu.RLock()
	who, here := f.who, f.tree.Head()
	f.mu.RUnlock()
	if v, _, err = verifyDetached(f.key, who, proof); err != nil {
		return nil, false, err
	}
	return v, newerThan(v.Head, here), nil
}

func newerThan(h, here Head) bool {
	return h.Fork > here.Fork || h.Fork == here.Fork && h.Length > here.Length
}

// ApplyDetached verifies a detached proof and stores what it brings: the block, a longer head, the
// manifest. It does what Apply does, for a proof that was not made for what this feed has.
//
// What is proven need not be connected to what is stored. An empty feed takes every proof; one that has
// blocks takes a longer head if the proof holds the nodes between the two, and a block if it holds those
// up to a stored one. Else Applied.Err wraps ErrStale, nothing is stored, and a peer has to be asked; a
// proof of an earlier fork, or of a later one whose common blocks the proof does not show, is
// ErrStaleFork. The result of the verification is good in each case.
//
// The error is that of VerifyDetached; *ConflictError if the proof's head and the feed's are both signed
// and contradict each other, which the caller may want to hand to Freeze; or that of Apply.
func (f *Feed) ApplyDetached(ctx context.Context, proof []byte) (*Verified, Applied, error) {
	f.mu.RLock()
	who := f.who
	f.mu.RUnlock()
	v, a, err := verifyDetached(f.key, who, proof)
	if err != nil {
		return nil, Applied{}, err
	}
	applied, err := f.applyAlone(ctx, a)
	return v, applied, err
}

// applyAlone stores what a verified proof holds.
func (f *Feed) applyAlone(ctx context.Context, a *alone) (Applied, error) {
	p, reorged := a.proof, false
	for {
		here := f.Info().Head
		if p.Fork > here.Fork && !reorged {
			done, err := f.reorgAlone(ctx, p)
			if err != nil || done.Err != nil {
				return done, err
			}
			reorged = true
			continue
		}
		if p.Fork != here.Fork {
			return Applied{Grown: reorged, Err: fmt.Errorf("%w: %d, not %d", ErrStaleFork, p.Fork, here.Fork)}, nil
		}
		applied, err := f.connect(ctx, a)
		if err != nil {
			return applied, err
		}
		if errors.Is(applied.Err, ErrStale) && f.Info().Head != here {
			continue // somebody else has moved the head; it cannot go on for ever, heads only get newer
		}
		applied.Grown = applied.Grown || reorged
		return applied, nil
	}
}

// reorgAlone takes over a later fork, if the proof alone shows where it leaves the feed's: in an empty feed
// at once.
func (f *Feed) reorgAlone(ctx context.Context, p *Proof) (Applied, error) {
	r, err := f.Reorg(ctx, p)
	if err != nil {
		return Applied{}, err
	}
	if _, more := r.Want(); more {
		return Applied{Err: fmt.Errorf("%w: %d, and the proof does not show what it has in common with fork %d", ErrStaleFork, p.Fork, f.Info().Fork)}, nil
	}
	if err := r.Apply(ctx); err != nil {
		if errors.Is(err, ErrStale) {
			return Applied{Err: err}, nil
		}
		return Applied{}, err
	}
	return Applied{Grown: true}, nil
}

// connect makes of a verified proof of the feed's fork one that begins at the feed's length, and applies it.
func (f *Feed) connect(ctx context.Context, a *alone) (Applied, error) {
	q, err := f.continuation(ctx, a)
	switch {
	case errors.Is(err, ErrNotAvailable), errors.Is(err, ErrInvalidRequest):
		return Applied{Err: fmt.Errorf("%w: %s", ErrStale, err.Error())}, f.suspect(ctx, a)
	case err != nil:
		return Applied{}, err
	case q == nil:
		return Applied{}, f.suspect(ctx, a)
	}
	applied, err := f.Apply(ctx, []*Proof{q})
	if err != nil {
		return Applied{}, err
	}
	if err := applied[0].Err; err != nil || q.Upgrade == nil {
		return applied[0], f.suspect(ctx, a)
	}
	return applied[0], nil
}

// continuation returns the proof of the same head, and block, from the feed's length on; nil if there is
// nothing left to prove.
func (f *Feed) continuation(ctx context.Context, a *alone) (*Proof, error) {
	p := a.proof
	_, leave, ok := f.ops.Enter()
	defer leave()
	if !ok {
		return nil, ErrClosed
	}
	f.mu.RLock()
	in, has := f.readLocked(nil), p.Block != nil && f.bits.Has(p.Block.Index)
	f.mu.RUnlock()
	defer in.leave()
	length, longer := in.tree.Length(), a.tree.Length()
	req := Request{Fork: p.Fork}
	if longer > length {
		req.Upgrade = &UpgradeRequest{Start: length, Length: longer - length}
	}
	if p.Block != nil && !has {
		missing, err := in.tree.MissingNodes(ctx, in.view, []flattree.Index{flattree.Leaf(p.Block.Index)})
		if err != nil {
			return nil, fmt.Errorf("apply: %w", err)
		}
		req.Block = &BlockRequest{Index: p.Block.Index, Nodes: missing[0]}
	}
	if req.Block == nil && req.Upgrade == nil {
		return nil, nil
	}
	q, err := proveAlone(ctx, a.tree, nodeList(a.nodes), req)
	if err != nil {
		return nil, err
	}
	if q.Block != nil {
		q.Block.Value = p.Block.Value
	}
	if q.Upgrade != nil {
		q.Upgrade.Signature = p.Upgrade.Signature
	}
	q.Manifest = p.Manifest
	return q, nil
}

// suspect looks whether a proof that brought nothing is of a history that contradicts the feed's. The error
// is *ConflictError, or the machine's. Where one of the two cannot be proven at a common length, nothing is known.
func (f *Feed) suspect(ctx context.Context, a *alone) error {
	length := min(a.tree.Length(), f.Info().Length)
	if length == 0 {
		return nil
	}
	q, err := proveAlone(ctx, a.tree, nodeList(a.nodes), Request{Upgrade: &UpgradeRequest{Length: length}})
	if err != nil {
		return nil
	}
	q.Upgrade.Signature = a.proof.Upgrade.Signature
	c, err := f.Examine(ctx, q)
	switch {
	case c != nil:
		return c
	case errors.Is(err, ErrNotAvailable), errors.Is(err, ErrStale), errors.Is(err, ErrStaleFork), errors.Is(err, ErrInvalidProof):
		return nil
	}
	return err
}

// nodeList are the nodes of a verified proof, as a store. There are some dozens.
type nodeList []Node

var _ merkle.NodeReader = nodeList(nil)

func (l nodeList) ReadNodes(_ context.Context, at []flattree.Index, dst []Node) error {
	for i, index := range at {
		dst[i] = Node{Index: index}
		for j := range l {
			if l[j].Index == index {
				dst[i] = l[j] // the later one counts
			}
		}
	}
	return nil
}
