package merkle

import (
	"context"
	"slices"

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

// CanUpgrade reports whether a reader of length start can be upgraded: it is shorter, and both its roots
// and the nodes that an upgrade from there lists are stored. Length 0 always can. r is called once at most;
// the error is that of r.
func (t *Tree) CanUpgrade(ctx context.Context, r NodeReader, start uint64) (bool, error) {
	if start == 0 || start >= t.head.Length {
		return start == 0, nil
	}
	pl := planner{tree: t, reader: r}
	if _, err := pl.plan(ctx, &Request{Upgrade: &UpgradeRequest{Start: start, Length: t.head.Length - start}}); err != nil {
		return false, nil // the tree ends inside its prologue; an upgrade alone reads nothing
	}
	at := flattree.AppendRoots(pl.at, start)
	nodes := make([]Node, len(at))
	if err := readNodes(ctx, r, at, nodes); err != nil {
		return false, err
	}
	return !slices.ContainsFunc(nodes, Node.Missing), nil
}
