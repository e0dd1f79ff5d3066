package merkle

import (
	"context"
	"fmt"

	"github.com/p2pcore/p2pcore/internal/flattree"
)

// MissingNodes returns, for each tree index, how many nodes of the path up from it (itself included)
// are not stored: the Nodes of a BlockRequest or HashRequest (formats.md 11.2). It is 0 for a node
// that is stored, is a root, or reaches past the end of the tree. r is called once per level.
//
// The error is that of r.
func (t *Tree) MissingNodes(ctx context.Context, r NodeReader, at []flattree.Index) ([]uint64, error) {
	counts := make([]uint64, len(at))
	// climbing lists the paths that have not met a known node; ask holds each node once.
	type path struct {
		now, root flattree.Index
		i, asked  int
	}
	climbing := make([]path, 0, len(at))
	for i, from := range at {
		if t.contains(from) {
			climbing = append(climbing, path{now: from, root: t.rootAbove(from), i: i})
		}
	}
	ask := make([]flattree.Index, 0, len(climbing))
	stored := make([]Node, len(climbing))
	for {
		ask = ask[:0]
		rest := climbing[:0]
		for _, p := range climbing {
			if p.now == p.root {
				continue
			}
			// Neighbours meet on the way up.
			if last := len(ask) - 1; last < 0 || ask[last] != p.now {
				ask = append(ask, p.now)
			}
			p.asked = len(ask) - 1
			rest = append(rest, p)
		}
		if len(ask) == 0 {
			return counts, nil
		}
		if err := readNodes(ctx, r, ask, stored[:len(ask)]); err != nil {
			return nil, err
		}
		climbing = rest[:0]
		for _, p := range rest {
			if stored[p.asked].Missing() {
				counts[p.i]++
				p.now = p.now.Parent()
				climbing = append(climbing, p)
			}
		}
	}
}

// MaxMissingNodes returns what MissingNodes can be at most in a tree of length blocks: the levels
// between the node and its root, for a proof that is sent without having been asked for.
func MaxMissingNodes(at flattree.Index, length uint64) uint64 {
	if length > MaxLength || at > maxIndex {
		return 0
	}
	levels := uint64(0)
	for {
		at = at.Parent()
		if _, end := at.Blocks(); end > length {
			return levels
		}
		levels++
	}
}

// HasRoots reports whether all roots of the tree of length blocks are stored, so that a reader of that
// length can be upgraded. r is called once. The error is ErrInvalidRequest past MaxLength, else that
// of r.
func HasRoots(ctx context.Context, r NodeReader, length uint64) (bool, error) {
	if length > MaxLength {
		return false, fmt.Errorf("%w: length %d", ErrInvalidRequest, length)
	}
	at := flattree.AppendRoots(nil, length)
	roots := make([]Node, len(at))
	if err := readNodes(ctx, r, at, roots); err != nil {
		return false, err
	}
	for _, n := range roots {
		if n.Missing() {
			return false, nil
		}
	}
	return true, nil
}
