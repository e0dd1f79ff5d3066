package replica

import "github.com/p2pcore/p2pcore/internal/flattree"

// promise is a tree node that an earlier request to the same peer will bring.
type promise struct {
	peer *peer
	node flattree.Index
}

// shorten lets r ask for fewer nodes than planned where requests of the same plan, sent to the same
// peer before r, bring them. A plan counts what the feed lacks now; of neighbours that are asked
// together each would otherwise bring the same ten or so nodes once more. An in-order download
// needs little more than one node per block:
//
//	   ┌──── b ────┐      block 0 brings 1, 2 … up to what is stored (here the top)
//	┌─ a ─┐     ┌─ c ─┐   block 1 needs nothing: its leaf came with block 0
//	0     1     2     3   block 2 brings 3: c came with block 0
//
// Peers answer in order, and Feed.Apply lets a proof hang on an earlier one. Where that fails, the
// answer is stale, nobody's fault, and the block is asked again; a peer with which it fails often is
// asked the long way. Single gets overtake downloads at the remote, so they take no part.
func (m *Machine) shorten(r *request) {
	p := r.peer
	if m.urgentRefs[r.block] > 0 || p.disorder > maxDisorder {
		return
	}
	at := flattree.Leaf(r.block)
	for level := range r.planned {
		if _, ok := m.promised[promise{p, at}]; ok {
			r.nodes = level
			return
		}
		m.promised[promise{p, at}] = struct{}{}
		m.promised[promise{p, at.Sibling()}] = struct{}{}
		at = at.Parent()
	}
}
