package feed

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/p2pcore/p2pcore/internal/merkle"
)

// Apply verifies proofs, in their order, and stores what they prove: blocks, nodes, a longer head, the
// manifest. Nothing unverified is stored. A later proof may hang on nodes that an earlier one brings;
// a proof that fails does not touch the others. What Apply reports as stored is visible, but, unless
// it made a writable feed grow, not synced: a crash may lose the newest of it.
//
// The proofs are read while Apply runs and not kept. It waits for the feed's turn. The error is the
// machine's, not a proof's: ErrClosed, ErrFrozen, ErrNoSpace, the datastore's, or ctx's; then the
// proofs from some point on were not stored and can be applied again.
func (f *Feed) Apply(ctx context.Context, ps []*Proof) ([]Applied, error) {
	_, leave, ok := f.ops.Enter()
	defer leave()
	if !ok {
		return nil, ErrClosed
	}
	results := make([]Applied, len(ps))
	for start := 0; start < len(ps); {
		giveBack, err := f.takeTurn(ctx)
		if err != nil {
			return nil, err
		}
		n := f.commitSize(ps[start:])
		change, err := f.applyInTurn(ctx, ps[start:start+n], results[start:start+n])
		giveBack()
		if err != nil {
			return nil, err
		}
		if change != nil {
			f.announce(*change)
		}
		start += n
	}
	return results, nil
}

// commitSize returns how many of the proofs go into one commit. While the manifest is not known it is
// one: the first proof to bring it decides how the others are judged.
func (f *Feed) commitSize(ps []*Proof) int {
	if f.who == nil {
		return 1
	}
	size := 0
	for i, p := range ps {
		if p.Block != nil {
			size += len(p.Block.Value)
		}
		if i > 0 && (size > maxApplyBytes || i == MaxApply) {
			return i
		}
	}
	return len(ps)
}

var errOversize = errors.New("block, signature or length past its bound")

// bounded is the authority with the bounds of storage, and with the sizes of the roots vouched for.
type bounded struct{ *authority }

func (b bounded) VerifyHead(h Head, roots []Node, signature []byte) error {
	if h.Length > maxLength || len(signature) > MaxSignatureBytes {
		return errOversize
	}
	if err := b.authority.VerifyHead(h, roots, signature); err != nil {
		return err
	}
	if !b.someSigned(h, signature) {
		return errNobodysLength
	}
	return nil
}

func (f *Feed) applyInTurn(ctx context.Context, ps []*Proof, results []Applied) (*Change, error) {
	if f.auth.frozen {
		return nil, f.frozen()
	}
	who, auth := f.authorityFor(ps[0])
	tree := f.tree
	if who != f.who {
		tree = tree.WithPrologue(who.prologue())
	}
	batch := tree.NewBatch()
	errs := make([]error, len(ps))
	if err := batch.VerifyMany(ctx, anchors{f.viewLocked(), &f.hints}, ps, bounded{who}, errs); err != nil {
		return nil, fmt.Errorf("apply: %w", err)
	}
	f.hints.add(batch.Unproven())
	if who != f.who && errors.Is(errs[0], merkle.ErrPrologue) {
		// Before the manifest is known, what it does not vouch for is just not signed.
		errs[0] = fmt.Errorf("%w: %s", ErrInvalidSignature, errs[0].Error())
	}
	grown := batch.Upgraded()
	if who != f.who && auth == nil {
		// The compat manifest was assumed. Only a signature shows that it is the right one.
		if grown {
			auth = f.auth.withManifest(who.manifest)
		} else {
			who, tree = nil, f.tree
		}
	}
	blocks, size := f.judge(ps, errs, results)
	if len(blocks) == 0 && len(batch.Nodes()) == 0 && auth == nil {
		return nil, nil
	}
	if err := f.checkSpace(size); err != nil {
		return nil, err
	}
	signature := f.head.signature
	if grown {
		tree = batch.Tree()
		signature = slices.Clone(batch.Signature())
	}
	c := f.newCommit()
	c.head, c.blocks, c.nodes = f.nextHead(tree, signature, blocks), blocks, batch.Nodes()
	c.auth = cmp.Or(auth, c.auth)
	// A writer that forgets what it has caught up with would append a fork.
	c.durable = grown && who.soleSigner(f.pair.Public())
	if err := f.storage.write(ctx, c); err != nil {
		return nil, err
	}
	added := rangesOf(blocks)
	learned := auth != nil
	ch := &change{commit: c, tree: tree, added: added}
	if learned {
		ch.who = who
	}
	f.swap(ch)
	return &Change{Head: tree.Head(), Added: added, Manifest: learned}, nil
}

// judge turns the verdicts on proofs into results, and collects the new blocks, sorted.
func (f *Feed) judge(ps []*Proof, errs []error, results []Applied) (blocks []blockWrite, size uint64) {
	length := f.head.length
	for i, p := range ps {
		if errs[i] != nil {
			results[i].Err = verdict(errs[i])
			continue
		}
		if u := p.Upgrade; u != nil {
			end := u.End()
			results[i].Grown = end > length
			length = max(length, end)
		}
		if b := p.Block; b != nil && !f.bits.Has(b.Index) {
			results[i].Stored = true
			size += uint64(len(b.Value))
			blocks = append(blocks, blockWrite{b.Index, b.Value})
		}
	}
	byIndex := func(a, b blockWrite) int { return cmp.Compare(a.index, b.index) }
	if !slices.IsSortedFunc(blocks, byIndex) {
		slices.SortFunc(blocks, byIndex)
	}
	return slices.CompactFunc(blocks, func(a, b blockWrite) bool { return a.index == b.index }), size
}

// verdict sorts out what is nobody's fault: an anchor that is not stored, or an upgrade that starts at
// another length. It must not look like an invalid proof.
func verdict(err error) error {
	if errors.Is(err, merkle.ErrMissingNode) || errors.Is(err, merkle.ErrStale) {
		return fmt.Errorf("%w: %s", ErrStale, err.Error())
	}
	return err
}

// authorityFor returns by whom a proof is judged, and the auth record to store if the proof brings
// the manifest. Manifests are believed by their hash alone. That of a compat feed has none to be held
// against: anybody can make one of any key, so it is no more than what is assumed without it, and believed
// when a signature fits.
func (f *Feed) authorityFor(p *Proof) (*authority, *authRecord) {
	if f.who != nil {
		return f.who, nil
	}
	if p.Manifest != nil {
		if m, err := ParseManifest(p.Manifest); err == nil {
			if who, err := newAuthority(f.key, m); err == nil && !who.compat {
				return who, f.auth.withManifest(m)
			}
		}
	}
	return assumedAuthority(f.key), nil
}

func (a *authRecord) withManifest(m *Manifest) *authRecord {
	c := *a
	c.manifest = m
	return &c
}

// learnLocked makes the manifest known. The caller has the turn.
func (f *Feed) learnLocked(who *authority) {
	f.who = who
	f.tree = f.tree.WithPrologue(who.prologue())
}

// rangesOf returns the ranges of sorted blocks.
func rangesOf(blocks []blockWrite) []Range {
	var out []Range
	for i := range blocks {
		index := blocks[i].index
		if n := len(out); n > 0 && out[n-1].End == index {
			out[n-1].End++
		} else {
			out = append(out, Range{Start: index, End: index + 1})
		}
	}
	return out
}
