package feed

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/p2pcore/p2pcore/internal/bitfield"
	"github.com/p2pcore/p2pcore/internal/flattree"
	"github.com/p2pcore/p2pcore/internal/merkle"
)

// Damage is one thing that Check found wrong.
type Damage struct {
	What  string // "head", "signature", "contiguous length", "block", "node", "page"
	Index uint64 // of the block, node or page
	Err   error
}

func (d Damage) String() string { return fmt.Sprintf("%s %d: %v", d.What, d.Index, d.Err) }

// CheckError lists what Check found wrong: at most 100 damages, and how many more there are. It wraps
// ErrCorrupt.
type CheckError struct {
	Damages []Damage
	More    int
}

func (e *CheckError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v: %d damages: %v", ErrCorrupt, len(e.Damages)+e.More, e.Damages[0])
	if n := len(e.Damages) + e.More; n > 1 {
		fmt.Fprintf(&b, " and %d more", n-1)
	}
	return b.String()
}

func (e *CheckError) Unwrap() error { return ErrCorrupt }

// check is one audit. It looks at the state of the feed at its beginning.
type check struct {
	feed   *Feed
	view   view
	tree   *merkle.Tree
	bits   *bitfield.Bitfield
	result CheckError
}

// Check audits what is stored: that the roots are those of the head and the head is signed; that every
// stored block is there and is the one that its leaf node commits to; that every stored node is the
// hash of its children, where they are stored, and has a sibling and a parent, up to the root; and
// that the contiguous length is right.
//
// The error is nil, a *CheckError, or the machine's. It reads everything, and waits for nobody.
// Where the datastore's batches are not atomic, a crash may have lost blocks or nodes of downloads:
// that is no damage, such blocks count as missing from then on.
func (f *Feed) Check(ctx context.Context) error {
	_, leave, ok := f.ops.Enter()
	defer leave()
	if !ok {
		return ErrClosed
	}
	c := &check{feed: f}
	f.mu.RLock()
	in := f.readLocked(nil)
	defer in.leave()
	c.view, c.tree, c.bits = in.view, in.tree, f.bits.Clone()
	head, who, local := f.head, f.who, f.local
	f.mu.RUnlock()

	if length := c.tree.Length(); length != head.length {
		c.damage("head", length, fmt.Errorf("roots are of length %d, the head of %d", length, head.length))
	}
	switch {
	case head.length == 0:
	case who == nil:
		c.damage("signature", head.length, errors.New("the manifest is not known"))
	default:
		if err := who.VerifyHead(c.tree.Head(), c.tree.Roots(), head.signature); err != nil {
			c.damage("signature", head.length, err)
		}
	}
	if n := c.bits.FirstUnset(0); n != head.contiguous {
		c.damage("contiguous length", head.contiguous, fmt.Errorf("the first missing block is %d", n))
	}
	if n := c.bits.Count(0, head.length); n != local || c.bits.Count(head.length, bitfield.MaxIndex) != 0 {
		c.damage("head", head.length, fmt.Errorf("%d blocks are marked, %d counted", n, local))
	}
	if err := c.blocks(ctx); err != nil {
		return err
	}
	if err := c.nodes(ctx); err != nil {
		return err
	}
	if len(c.result.Damages) == 0 {
		return nil
	}
	return &c.result
}

func (c *check) damage(what string, index uint64, err error) {
	if len(c.result.Damages) == maxDamages {
		c.result.More++
		return
	}
	c.result.Damages = append(c.result.Damages, Damage{what, index, err})
}

// blocks holds every stored block against its leaf.
func (c *check) blocks(ctx context.Context) error {
	var leaf [1]Node
	for start, end := range c.bits.Ranges(0, c.view.length) {
		for i := start; i < end; i++ {
			if err := ctx.Err(); err != nil {
				return err
			}
			b, err := c.feed.readBlock(ctx, c.view.generations.of(i), i)
			switch {
			case errors.Is(err, ErrNotAvailable): // lost in a crash, and no damage
				continue
			case errors.Is(err, ErrCorrupt):
				c.damage("block", i, err)
				continue
			case err != nil:
				return err
			}
			if err := c.read(ctx, []flattree.Index{flattree.Leaf(i)}, leaf[:]); err != nil {
				return err
			}
			switch want := merkle.LeafNode(i, b); {
			case leaf[0].Missing() && c.feed.storage.atomic:
				c.damage("block", i, errors.New("its leaf is not stored"))
			case !leaf[0].Missing() && leaf[0] != want:
				c.damage("block", i, fmt.Errorf("hash of %d bytes differs from the leaf of %d", want.Size, leaf[0].Size))
			}
		}
	}
	return nil
}

// read reads nodes. A page that cannot be parsed is a damage, told once where the pages are listed.
func (c *check) read(ctx context.Context, at []flattree.Index, dst []Node) error {
	err := c.view.ReadNodes(ctx, at, dst)
	if errors.Is(err, ErrCorrupt) {
		for i := range at {
			dst[i] = Node{Index: at[i]}
		}
		return nil
	}
	return err
}

// nodes holds every stored node against its children and looks for its sibling and parent.
func (c *check) nodes(ctx context.Context) error {
	var pages []pageID
	err := c.feed.storage.query(ctx, true, func(key string, _ []byte, _ int) error {
		if id, ok := c.feed.storage.parseNodePageKey(key, c.view.generations); ok {
			pages = append(pages, id)
		}
		return nil
	})
	if err != nil {
		return err
	}
	slices.Sort(pages)
	for _, id := range pages {
		p, err := c.view.loadPage(ctx, id)
		if errors.Is(err, ErrCorrupt) {
			c.damage("page", uint64(id), err)
			continue
		}
		if err != nil {
			return err
		}
		for slot := range uint(pageNodes) {
			if !p.has(slot) {
				continue
			}
			n := Node{Index: id.index(slot), Size: p.size[slot], Hash: p.hash[slot]}
			if _, end := n.Index.Blocks(); end > c.view.length {
				continue
			}
			if err := c.node(ctx, n); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

func (c *check) node(ctx context.Context, n Node) error {
	at := n.Index
	root := at.IsRoot(c.view.length)
	if root {
		i := slices.IndexFunc(c.view.roots, func(r Node) bool { return r.Index == at })
		if c.view.roots[i] != n {
			c.damage("node", uint64(at), errors.New("differs from the root in the head"))
		}
	}
	var found [2]Node
	if left, right, ok := at.Children(); ok {
		if err := c.read(ctx, []flattree.Index{left, right}, found[:]); err != nil {
			return err
		}
		if !found[0].Missing() && !found[1].Missing() && merkle.ParentNode(found[0], found[1]) != n {
			c.damage("node", uint64(at), errors.New("is not the hash of its children"))
		}
	}
	if root || !c.feed.storage.atomic {
		return nil
	}
	if err := c.read(ctx, []flattree.Index{at.Sibling(), at.Parent()}, found[:]); err != nil {
		return err
	}
	if found[0].Missing() || found[1].Missing() {
		c.damage("node", uint64(at), errors.New("hangs on nothing: its sibling or parent is not stored"))
	}
	return nil
}
