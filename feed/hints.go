package feed

import (
	"context"
	"sync"

	"github.com/p2pcore/p2pcore/internal/flattree"
	"github.com/p2pcore/p2pcore/internal/merkle"
)

// maxHints bounds the pairs that are kept. A search by byte offset leaves one behind, and its block makes it
// needless, so this is for as many searches at once; the oldest matter least, but any may go: all that a
// missing pair costs is a question to a peer. 1024 pairs are 100 KiB.
const maxHints = 1024

// hints are pairs of sibling nodes that proofs brought, of which the hashes are true and the sizes what the
// peer says (package merkle: what a size is worth). They are not stored. A search by byte offset goes by them
// as far as the block to look at, and a proof may end at one of them.
type hints struct {
	mu    sync.Mutex
	pairs map[flattree.Index][2]Node // by the parent
}

// add keeps the nodes, which come in pairs.
func (h *hints) add(nodes []Node) {
	if len(nodes) == 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.pairs == nil {
		h.pairs = make(map[flattree.Index][2]Node)
	}
	for i := 0; i+1 < len(nodes); i += 2 {
		parent := nodes[i].Index.Parent()
		if _, ok := h.pairs[parent]; !ok && len(h.pairs) == maxHints {
			for any := range h.pairs {
				delete(h.pairs, any)
				break
			}
		}
		h.pairs[parent] = [2]Node(nodes[i : i+2])
	}
}

// of returns a node and its sibling.
func (h *hints) of(at flattree.Index) (node, sibling Node, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	pair, ok := h.pairs[at.Parent()]
	if pair[0].Index != at {
		pair[0], pair[1] = pair[1], pair[0]
	}
	return pair[0], pair[1], ok
}

// clear forgets all: the feed goes on on another fork.
func (h *hints) clear() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pairs = nil
}

// anchors is what proofs are held against: what is stored, and the hashes of hints.
type anchors struct {
	view
	hints *hints
}

func (a anchors) ReadNodes(ctx context.Context, at []flattree.Index, dst []Node) error {
	if err := a.view.ReadNodes(ctx, at, dst); err != nil {
		return err
	}
	for i := range dst {
		if _, end := at[i].Blocks(); !dst[i].Missing() || end > a.length {
			continue
		}
		if n, _, ok := a.hints.of(at[i]); ok {
			n.Size |= merkle.SizeUnproven
			dst[i] = n
		}
	}
	return nil
}

// guess is what a search by byte offset goes by: what is stored, and hints as they are, unless they say that
// a block is shorter than its padding. A line knows of the feed's hints as far as it shares its blocks.
type guess struct {
	view
	hints   *hints
	shared  uint64
	padding uint64
	used    bool // a hint: the result is not sure
}

func (g *guess) ReadNodes(ctx context.Context, at []flattree.Index, dst []Node) error {
	if err := g.view.ReadNodes(ctx, at, dst); err != nil {
		return err
	}
	for i := range dst {
		if _, end := at[i].Blocks(); !dst[i].Missing() || end > g.shared {
			continue
		}
		n, sibling, ok := g.hints.of(at[i])
		if ok && min(n.Size, sibling.Size)/n.Index.Leaves() >= g.padding {
			dst[i], g.used = n, true
		}
	}
	return nil
}
