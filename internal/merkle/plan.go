package merkle

import (
	"context"
	"fmt"

	"github.com/p2pcore/p2pcore/internal/flattree"
)

// planner finds out which nodes answer a request, without reading them; only a seek reads.
type planner struct {
	tree   *Tree
	reader NodeReader
	at     []flattree.Index // the nodes of all plans

	// The rest is about the plan at hand.
	path, seek, grow []flattree.Index
	target           flattree.Index // of the block or hash part
	computed         bool           // the reader computes the target from the block's bytes
	sought           flattree.Index // where the seek ends
	parts            struct{ target, seek, sought, pathed, seeked bool }
}

// plan lists the nodes for a request. Its error is the request's (ErrInvalidRequest, ErrMissingNode)
// or that of the reader.
func (pl *planner) plan(ctx context.Context, req *Request) (plan, error) {
	var p plan
	pl.path, pl.seek, pl.grow = pl.path[:0], pl.seek[:0], pl.grow[:0]
	pl.parts = struct{ target, seek, sought, pathed, seeked bool }{}
	length := pl.tree.head.Length
	if length == 0 {
		p.path.start = len(pl.at)
		p.additional.end = len(pl.at)
		return p, nil
	}
	// start is the length that the reader has, to the one that this proof leads to.
	start, to := length, length
	if req.Upgrade != nil {
		var err error
		if p.upgrade, err = pl.widen(*req.Upgrade); err != nil {
			return p, err
		}
		p.parts.upgrade = true
		start, to = p.upgrade.Start, p.upgrade.Start+p.upgrade.Length
	}
	nodes, err := pl.aim(req)
	if err != nil {
		return p, err
	}
	if err := pl.planBelow(ctx, req, nodes, start, to); err != nil {
		return p, err
	}
	if p.parts.upgrade {
		if err := pl.planUpgrade(start, to); err != nil {
			return p, err
		}
	}
	if pl.parts.target && !pl.parts.pathed {
		return p, fmt.Errorf("%w: node %d is not below one of the upgrade", ErrInvalidRequest, pl.target)
	}
	p.parts.target, p.parts.seek = pl.parts.pathed, pl.parts.seeked
	p.path, p.seek, p.grow = pl.add(pl.path), pl.add(pl.seek), pl.add(pl.grow)
	pl.grow = pl.grow[:0]
	if p.parts.upgrade && to < length {
		pl.parts.pathed = true // no exception for the target any more
		if err := pl.planUpgrade(to, length); err != nil {
			return p, err
		}
	}
	p.additional = pl.add(pl.grow)
	return p, nil
}

// add appends nodes to at and returns where they are.
func (pl *planner) add(nodes []flattree.Index) list {
	start := len(pl.at)
	pl.at = append(pl.at, nodes...)
	return list{start, len(pl.at)}
}

// widen replaces an upgrade that starts below the prologue by one that leads to it, and checks that
// the tree is long enough.
func (pl *planner) widen(u UpgradeRequest) (UpgradeRequest, error) {
	if w := pl.tree.prologue; w != nil && u.Start < w.Length {
		u = UpgradeRequest{Start: 0, Length: w.Length}
	}
	if length := pl.tree.head.Length; u.Length == 0 || u.Start > length || u.Length > length-u.Start {
		return u, fmt.Errorf("%w: upgrade %d+%d of length %d", ErrInvalidRequest, u.Start, u.Length, length)
	}
	return u, nil
}

// aim sets the target and returns how many nodes above it are asked for.
func (pl *planner) aim(req *Request) (nodes uint64, err error) {
	pl.parts.seek = req.Seek != nil
	switch {
	case req.Block != nil:
		if req.Block.Index >= pl.tree.head.Length {
			return 0, fmt.Errorf("%w: block %d of length %d", ErrInvalidRequest, req.Block.Index, pl.tree.head.Length)
		}
		pl.target, pl.computed, nodes = flattree.Leaf(req.Block.Index), true, req.Block.Nodes
	case req.Hash != nil:
		if !pl.tree.contains(req.Hash.Index) {
			return 0, fmt.Errorf("%w: node %d of length %d", ErrInvalidRequest, req.Hash.Index, pl.tree.head.Length)
		}
		pl.target, pl.computed, nodes = req.Hash.Index, false, req.Hash.Nodes
	default:
		return 0, nil
	}
	pl.parts.target = true
	return nodes, nil
}

// planBelow plans what the reader can compare with its tree of length start, and finds where the seek
// ends. A target past start is left for planUpgrade.
func (pl *planner) planBelow(ctx context.Context, req *Request, nodes, start, to uint64) error {
	s := search{reader: pl.reader, tree: pl.tree}
	if pl.parts.seek {
		s.padding = req.Seek.Padding
	}
	_, end := pl.target.Blocks()
	switch {
	case pl.parts.target && end <= start:
		root, ok := climbTo(pl.target, nodes, to)
		if !ok {
			return fmt.Errorf("%w: %d nodes above %d reach past length %d", ErrInvalidRequest, nodes, pl.target, to)
		}
		if pl.parts.seek {
			var err error
			if pl.sought, err = s.below(ctx, root, req.Seek.Bytes); err != nil {
				return err
			}
			pl.parts.sought = true
		}
		return pl.appendPath(root)
	case req.Upgrade == nil || !pl.parts.seek:
		return nil // a seek alone yields nothing
	case pl.parts.target && pl.target >= flattree.Leaf(start):
		return fmt.Errorf("%w: seek with node %d past length %d", ErrInvalidRequest, pl.target, start)
	}
	var err error
	pl.sought, pl.parts.sought, err = s.fromRoots(ctx, to, req.Seek.Bytes)
	return err
}

// climbTo climbs a number of levels, within a tree of length blocks.
func climbTo(at flattree.Index, levels, length uint64) (flattree.Index, bool) {
	for ; levels > 0; levels-- {
		at = at.Parent()
		if _, end := at.Blocks(); end > length {
			return 0, false
		}
	}
	return at, true
}

// planUpgrade plans the upgrade from length start to length to. The one node that target or seek lie
// below is not sent: the nodes from which the reader computes it are.
func (pl *planner) planUpgrade(start, to uint64) error {
	var buf [MaxDepth + 1]flattree.Index
	connected := start == 0
	for _, root := range flattree.AppendRoots(buf[:0], to) {
		if _, end := root.Blocks(); end <= start {
			continue // the reader has it
		}
		if connected {
			if err := pl.appendGrow(root); err != nil {
				return err
			}
			continue
		}
		// The root that the reader's last block is below: what it lacks are siblings on the right. If
		// the block is not below it, all of the reader's roots are roots of the longer tree too.
		connected = true
		at := flattree.Leaf(start - 1)
		if !root.Contains(at) {
			if err := pl.appendGrow(root); err != nil {
				return err
			}
			continue
		}
		for ; at != root; at = at.Parent() {
			if !at.IsLeft() {
				continue
			}
			if err := pl.appendGrow(at.Sibling()); err != nil {
				return err
			}
		}
	}
	return nil
}

// appendGrow adds a node of the upgrade, or what it is computed from.
func (pl *planner) appendGrow(at flattree.Index) error {
	if !pl.parts.pathed && !pl.parts.seeked {
		switch {
		case pl.parts.seek && pl.parts.sought && at.Contains(pl.sought),
			!pl.parts.seek && pl.parts.target && at.Contains(pl.target):
			if pl.parts.target {
				return pl.appendPath(at)
			}
			pl.appendSeek(at)
			return nil
		}
	}
	pl.grow = append(pl.grow, at)
	return nil
}

// appendPath adds what leads from the target up to root: the siblings, and in place of the one that
// the seek ends in (but not with it), what leads up to that.
func (pl *planner) appendPath(root flattree.Index) error {
	if !root.Contains(pl.target) {
		return fmt.Errorf("%w: seek ends away from node %d", ErrInvalidRequest, pl.target)
	}
	pl.parts.pathed = true
	if !pl.computed {
		pl.path = append(pl.path, pl.target)
	}
	for at := pl.target; at != root; at = at.Parent() {
		sibling := at.Sibling()
		if pl.parts.sought && sibling.Contains(pl.sought) && sibling != pl.sought {
			pl.appendSeek(sibling)
		} else {
			pl.path = append(pl.path, sibling)
		}
	}
	return nil
}

// appendSeek adds what leads from the end of the seek up to root.
func (pl *planner) appendSeek(root flattree.Index) {
	pl.parts.seeked = true
	pl.seek = append(pl.seek, pl.sought)
	for at := pl.sought; at != root; at = at.Parent() {
		pl.seek = append(pl.seek, at.Sibling())
	}
}
