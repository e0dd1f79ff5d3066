package replica

import (
	"math/bits"
	"slices"

	"github.com/p2pcore/p2pcore/internal/flattree"
	"github.com/p2pcore/p2pcore/internal/merkle"
)

// A fake tree is a number for each block, its version: blocks are the same if their versions are. An
// upgrade carries versions as the sizes of its nodes, a block its version in the second byte.

// forged is the first byte of a signature that is none.
const forged = 9

// append adds n blocks of a version.
func (f *fakeFeed) append(n int, version uint64) {
	for range n {
		f.tree = append(f.tree, version)
		f.store(f.info.Length)
		f.info.Length++
	}
	f.moved = true
}

// truncate drops all blocks from length on.
func (f *fakeFeed) truncate(length uint64) {
	f.rewrite(f.info.Fork+1, f.tree[:length], length)
}

func (f *fakeFeed) rewrite(fork uint64, tree []uint64, ancestors uint64) {
	ancestors = min(ancestors, f.info.Length)
	if ancestors < f.info.Length {
		f.drop(merkle.Range{Start: ancestors, End: f.info.Length})
	}
	f.forkFrom(ancestors)
	f.info.Fork, f.info.Length, f.tree, f.moved = fork, uint64(len(tree)), slices.Clone(tree), true
	// What was added before and is gone again is not told.
	var kept []merkle.Range
	for _, r := range f.added {
		kept = appendRange(kept, clip(r, 0, ancestors))
	}
	f.added = kept
}

// forkFrom notes that the fork is about to change.
func (f *fakeFeed) forkFrom(ancestors uint64) {
	if f.info.Fork == f.fork || ancestors < f.ancestors {
		f.ancestors = ancestors
	}
}

func (f *fakeFeed) proveTree(u *merkle.UpgradeProof) {
	for i := uint64(0); f.tree != nil && i < f.info.Length; i++ { // a signature covers all
		u.Nodes = append(u.Nodes, merkle.Node{Index: flattree.Leaf(i), Size: f.tree[i]})
	}
}

func (f *fakeFeed) proveBlock(b *merkle.BlockProof) {
	if f.tree != nil && len(b.Value) > 1 {
		b.Value[1] = byte(f.tree[b.Index])
	}
}

// fits reports whether what an upgrade tells of our tree is so.
func (f *fakeFeed) fits(u *merkle.UpgradeProof) bool {
	for _, n := range u.Nodes {
		if b := n.Index.Offset(); b < uint64(len(f.tree)) && f.tree[b] != n.Size {
			return false
		}
	}
	return true
}

func (f *fakeFeed) fitsBlock(b *merkle.BlockProof) bool {
	return f.tree == nil || b.Index >= uint64(len(f.tree)) || len(b.Value) > 1 && b.Value[1] == byte(f.tree[b.Index])
}

func (f *fakeFeed) grow(u *merkle.UpgradeProof) {
	for _, n := range u.Nodes {
		if n.Index.Offset() >= f.info.Length {
			f.tree = append(f.tree, n.Size)
		}
	}
}

// fakeSearch is a search in a fake tree: at is the first block that differs, and it is known to lie below
// a node of the given depth.
type fakeSearch struct {
	fork, base, length uint64
	tree               []uint64
	at                 uint64
	depth              int
}

func (f *fakeFeed) startReorg(token Token, p *merkle.Proof) Reorged {
	u := p.Upgrade
	switch {
	case p.Fork <= f.info.Fork:
		return Reorged{Token: token, Fault: FaultStale}
	case u == nil || u.Start != 0 || len(u.Nodes) == 0 || len(u.Nodes) > 1<<16:
		return Reorged{Token: token, Fault: FaultInvalid}
	}
	if u.Signature[0] == forged {
		return Reorged{Token: token, Fault: FaultContradicts}
	}
	s := &fakeSearch{fork: p.Fork, base: f.info.Fork, length: f.info.Length}
	for _, n := range u.Nodes {
		s.tree = append(s.tree, n.Size)
	}
	common := min(len(s.tree), len(f.tree))
	for s.at < uint64(common) && s.tree[s.at] == f.tree[s.at] {
		s.at++
	}
	// The root above at.
	for end := uint64(0); end <= s.at && end < uint64(len(s.tree)); end += 1 << s.depth {
		s.depth = bits.Len64(uint64(len(s.tree))-end) - 1
	}
	if s.at == uint64(len(s.tree)) {
		s.depth = 0
	}
	return s.reorged(token)
}

func (s *fakeSearch) ancestors() uint64 { return s.at &^ (1<<s.depth - 1) }

func (s *fakeSearch) reorged(token Token) Reorged {
	e := Reorged{Token: token, Search: s, Length: uint64(len(s.tree))}
	e.Want.Nodes = uint64(s.depth)
	e.Want.Start, e.Want.End = s.ancestors(), min(s.ancestors()+1<<s.depth, s.length)
	e.More = s.depth > 0 && e.Want.Start < e.Want.End
	return e
}

func (f *fakeFeed) stepReorg(token Token, search Search, p *merkle.Proof) Reorged {
	s := search.(*fakeSearch)
	if s.base != f.info.Fork || s.length != f.info.Length {
		return Reorged{Token: token, Fault: FaultStale}
	}
	if b := p.Hash.Index.Offset(); b&^(1<<s.depth-1) != s.ancestors() {
		return Reorged{Token: token, Fault: FaultNotAvailable}
	} else if s.depth = 0; b != s.at {
		s.depth = bits.Len64(b^s.at) - 1
	}
	return s.reorged(token)
}

func (f *fakeFeed) applyReorg(a ApplyReorg) Reorged {
	s := a.Search.(*fakeSearch)
	if s.base != f.info.Fork || s.length != f.info.Length || s.reorged(0).More && !a.Early {
		return Reorged{Token: a.Token, Fault: FaultStale}
	}
	f.rewrite(s.fork, s.tree, s.ancestors())
	return Reorged{Token: a.Token}
}

func (f *fakeFeed) examine(token Token, p *merkle.Proof) Examined {
	switch u := p.Upgrade; {
	case p.Fork != f.info.Fork || u.Length > f.info.Length:
		return Examined{Token: token, Fault: FaultStale}
	case !f.fits(u):
		f.info.Frozen, f.moved = true, true
		return Examined{Token: token, Conflict: true}
	}
	return Examined{Token: token}
}
