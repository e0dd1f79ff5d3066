package feed

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/p2pcore/p2pcore/internal/bitfield"
	"github.com/p2pcore/p2pcore/internal/flattree"
	"github.com/p2pcore/p2pcore/internal/merkle"
)

// Place is where a byte offset lies, or which blocks to ask for to find out.
type Place = merkle.Place

// Prove answers requests: proofs with block values, and with the manifest where it is asked for and
// may travel. All nodes of the requests are read at once. The proofs are those of one state of the
// feed, and belong to the caller.
//
// If what is asked for is not available but the manifest is, and is asked for too, the answer is a
// proof with nothing but the manifest and the feed's own fork. Once MaxProveBytes of blocks have been
// read, requests for further ones fail with ErrDeferred. A block that the storage has lost fails its
// own requests. The error is the machine's.
func (f *Feed) Prove(ctx context.Context, reqs []Request) ([]Proved, error) {
	_, leave, ok := f.ops.Enter()
	defer leave()
	if !ok {
		return nil, ErrClosed
	}
	results := make([]Proved, len(reqs))
	f.mu.RLock()
	in, who := f.readLocked(nil), f.who
	defer in.leave()
	v, tree := in.view, in.tree
	signature := f.head.signature
	ask := make([]Request, 0, len(reqs))
	asked := make([]int, 0, len(reqs))
	for i, r := range reqs {
		switch {
		case r.Fork != v.fork:
			results[i].Err = fmt.Errorf("%w: %d, not %d", ErrStaleFork, r.Fork, v.fork)
		case r.Block != nil && !f.bits.Has(r.Block.Index):
			results[i].Err = fmt.Errorf("%w: block %d", ErrNotAvailable, r.Block.Index)
		default:
			ask, asked = append(ask, r), append(asked, i)
		}
	}
	f.mu.RUnlock()
	proved, err := tree.ProveMany(ctx, v, ask)
	if err != nil {
		return nil, fmt.Errorf("prove: %w", err)
	}
	values, err := f.blockValues(ctx, v.generations, proved)
	if err != nil {
		return nil, err
	}
	for j := range proved {
		p := &results[asked[j]]
		p.Proof, p.Err = proved[j].Proof, proved[j].Err
		if errors.Is(p.Err, merkle.ErrMissingNode) {
			p.Err = fmt.Errorf("%w: %w", ErrNotAvailable, p.Err)
		}
		if p.Proof == nil {
			continue
		}
		if p.Proof.Upgrade != nil {
			p.Proof.Upgrade.Signature = signature
		}
		if b := p.Proof.Block; b != nil {
			if len(values) == 0 {
				*p = Proved{Err: ErrDeferred}
				continue
			}
			if b.Value = values[0]; b.Value == nil {
				err := f.lost(ctx, b.Index)
				if !errors.Is(err, ErrNotAvailable) && !errors.Is(err, ErrCorrupt) {
					return nil, err
				}
				*p = Proved{Err: err}
			}
			values = values[1:]
		}
	}
	if who == nil || who.compat {
		return results, nil
	}
	var manifest []byte
	for i := range results {
		if !reqs[i].Manifest || final(results[i].Err) {
			continue
		}
		if manifest == nil {
			manifest = who.manifest.Append(nil)
		}
		if results[i].Proof == nil {
			results[i] = Proved{Proof: &Proof{Fork: v.fork}}
		}
		results[i].Proof.Manifest = manifest
	}
	return results, nil
}

// final reports whether a request failed in a way that a manifest does not make good.
func final(err error) bool {
	return errors.Is(err, ErrInvalidRequest) || errors.Is(err, ErrDeferred) || errors.Is(err, ErrCorrupt)
}

// blockValues reads the blocks of proofs, in their order, until it has MaxProveBytes; nil for one that is
// not stored.
func (f *Feed) blockValues(ctx context.Context, g generations, ps []merkle.Proved) ([][]byte, error) {
	indexes := make([]uint64, 0, len(ps))
	for i := range ps {
		if p := ps[i].Proof; p != nil && p.Block != nil {
			indexes = append(indexes, p.Block.Index)
		}
	}
	return f.storage.blocks(ctx, g, indexes, MaxProveBytes)
}

// readBlock reads a block that the bits tell, of the feed or of a line, under the generation in which it is stored.
func (f *Feed) readBlock(ctx context.Context, g uint32, index uint64) ([]byte, error) {
	b, err := f.storage.get(ctx, f.storage.blockKey(g, index))
	if b == nil && err == nil {
		err = f.lost(ctx, index)
	}
	if f.storage.ranges == nil {
		b = bytes.Clone(b) // other datastores than ours may keep what they return
	}
	return b, err
}

// lost clears the bit of a block that is not there: after a crash of a datastore that is not atomic
// this is no damage, the block is just missing. The error is ErrNotAvailable, or the machine's.
func (f *Feed) lost(ctx context.Context, index uint64) error {
	if f.storage.atomic {
		return fmt.Errorf("%w: block %d is gone", ErrCorrupt, index)
	}
	if err := f.forget(ctx, index); err != nil {
		return err
	}
	return fmt.Errorf("%w: block %d", ErrNotAvailable, index)
}

// forget clears the bit of a block that is not stored. It is stored with the next commit.
func (f *Feed) forget(ctx context.Context, index uint64) error {
	giveBack, err := f.takeTurn(ctx)
	if err != nil {
		return err
	}
	b, err := f.storage.block(ctx, f.head.generations.of(index), index)
	if err != nil || b != nil || !f.bits.Has(index) {
		giveBack()
		return err
	}
	f.mu.Lock()
	f.bits.Set(index, false)
	f.local--
	head := *f.head
	head.contiguous = min(head.contiguous, index)
	f.head = &head
	f.mu.Unlock()
	f.storage.unsure = true
	change := Change{Head: f.tree.Head(), Dropped: []Range{{Start: index, End: index + 1}}}
	giveBack()
	f.log.Warn("block lost in a crash", "index", index)
	f.announce(change)
	return nil
}

// Plan returns for each block how many nodes of the path up from it are not stored: the Nodes of a
// request for it (formats.md 11.2). It is 0 for a block past the end. The error is the machine's.
func (f *Feed) Plan(ctx context.Context, blocks []uint64) (nodes []uint64, err error) {
	_, leave, ok := f.ops.Enter()
	defer leave()
	if !ok {
		return nil, ErrClosed
	}
	at := make([]flattree.Index, len(blocks))
	for i, b := range blocks {
		at[i] = flattree.Leaf(min(b, bitfield.MaxIndex/2))
	}
	in := f.read(nil)
	defer in.leave()
	if nodes, err = in.tree.MissingNodes(ctx, in.view, at); err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	return nodes, nil
}

// CanUpgrade reports whether the feed can prove its length to a reader of a shorter one: it is longer,
// has the roots of that length (replication.md 3.3), and all nodes that lead from there to its own. The
// error is the machine's.
func (f *Feed) CanUpgrade(ctx context.Context, length uint64) (bool, error) {
	_, leave, ok := f.ops.Enter()
	defer leave()
	if !ok {
		return false, ErrClosed
	}
	in := f.read(nil)
	defer in.leave()
	can, err := in.tree.CanUpgrade(ctx, in.view, length)
	if err != nil {
		return false, fmt.Errorf("can upgrade: %w", err)
	}
	return can, nil
}

// Locate finds the block of byte number byteOffset by what is stored, of each block's bytes the first
// padding not counted; or it says which blocks to ask for to get closer. It goes by what peers have said of
// the last step, which may mislead it as long as the block is not stored. The error is the machine's.
func (f *Feed) Locate(ctx context.Context, byteOffset, padding uint64) (Place, error) {
	place, _, err := f.locate(ctx, nil, byteOffset, padding)
	return place, err
}

// locate also reports whether the place is sure.
func (f *Feed) locate(ctx context.Context, l *line, byteOffset, padding uint64) (place Place, sure bool, err error) {
	_, leave, ok := f.ops.Enter()
	defer leave()
	if !ok {
		return Place{}, false, ErrClosed
	}
	in := f.read(l)
	defer in.leave()
	g := guess{view: in.view, hints: &f.hints, shared: in.tree.Length(), padding: padding}
	if l != nil {
		g.shared = in.view.shared
	}
	if place, err = in.tree.Seek(ctx, &g, byteOffset, padding); err != nil {
		return Place{}, false, fmt.Errorf("locate byte %d: %w", byteOffset, err)
	}
	return place, !g.used, nil
}
