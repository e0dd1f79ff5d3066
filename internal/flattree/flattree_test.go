package flattree

import (
	"math"
	"slices"
	"testing"
)

// place is a node of the slow model.
type place struct {
	depth      uint
	start, end uint64 // blocks
	parent     Index
	left       bool
}

// grow lists the nodes of a full subtree of 2^depth blocks that starts at a
// block, straight from the definition: left subtree, node, right subtree.
func grow(nodes []place, depth uint, start uint64) ([]place, Index) {
	size := uint64(1) << depth
	if depth == 0 {
		return append(nodes, place{end: start + size, start: start}), Index(len(nodes))
	}
	nodes, left := grow(nodes, depth-1, start)
	own := Index(len(nodes))
	nodes = append(nodes, place{depth: depth, start: start, end: start + size})
	nodes, right := grow(nodes, depth-1, start+size/2)
	nodes[left].parent, nodes[left].left = own, true
	nodes[right].parent = own
	return nodes, own
}

const modelDepth = 7 // 128 blocks

func TestNodesAgreeWithModel(t *testing.T) {
	nodes, top := grow(nil, modelDepth, 0)
	offsets := map[uint]uint64{}
	for at, n := range nodes {
		i := Index(at)
		if i.Depth() != n.depth || i.Offset() != offsets[n.depth] {
			t.Errorf("%d: depth %d offset %d, want %d %d", i, i.Depth(), i.Offset(), n.depth, offsets[n.depth])
		}
		offsets[n.depth]++
		if start, end := i.Blocks(); start != n.start || end != n.end {
			t.Errorf("%d: Blocks = [%d,%d), want [%d,%d)", i, start, end, n.start, n.end)
		}
		if i.Leaves() != n.end-n.start || i.Count() != 2*(n.end-n.start)-1 {
			t.Errorf("%d: Leaves %d, Count %d; want %d, %d", i, i.Leaves(), i.Count(), n.end-n.start, 2*(n.end-n.start)-1)
		}
		if i.NextLeaf() != Leaf(n.end) {
			t.Errorf("%d: NextLeaf = %d, want %d", i, i.NextLeaf(), Leaf(n.end))
		}
		if i == top {
			continue
		}
		if i.Parent() != n.parent || i.IsLeft() != n.left {
			t.Errorf("%d: Parent %d, IsLeft %v; want %d, %v", i, i.Parent(), i.IsLeft(), n.parent, n.left)
		}
		if s := nodes[i.Sibling()]; s.parent != n.parent || i.Sibling() == i {
			t.Errorf("%d: Sibling %d has parent %d, want %d", i, i.Sibling(), s.parent, n.parent)
		}
		left, right, _ := n.parent.Children()
		if child := map[bool]Index{true: left, false: right}[n.left]; child != i {
			t.Errorf("%d: Children of the parent = %d, %d", i, left, right)
		}
		for other, m := range nodes {
			below := n.start <= m.start && m.end <= n.end
			if i.Contains(Index(other)) != below {
				t.Errorf("%d: Contains(%d) = %v, want %v", i, other, !below, below)
			}
		}
	}
}

func TestRootsAgreeWithModel(t *testing.T) {
	nodes, _ := grow(nil, modelDepth, 0)
	for length := uint64(0); length < 1<<modelDepth; length++ {
		// A root is a node within the length whose parent is not.
		var want []Index
		for at, n := range nodes {
			root := n.end <= length && nodes[n.parent].end > length
			if root {
				want = append(want, Index(at))
			}
			if got := Index(at).IsRoot(length); got != root {
				t.Errorf("%d: IsRoot(%d) = %v, want %v", at, length, got, root)
			}
		}
		if got := AppendRoots([]Index{5}, length); got[0] != 5 || !slices.Equal(got[1:], want) {
			t.Errorf("AppendRoots(%d) = %v, want %v", length, got[1:], want)
		}
	}
}

func TestPatchLeadsToTheRoots(t *testing.T) {
	for from := uint64(1); from < 80; from++ {
		for to := from + 1; to < 80; to++ {
			// Merging the old roots with the patch gives the new roots, and
			// every parent in the patch follows both its children.
			have := AppendRoots(nil, from)
			for _, n := range AppendPatch(nil, from, to) {
				left, right, ok := n.Children()
				if last := len(have); ok && last >= 2 && have[last-2] == left && have[last-1] == right {
					have = have[:last-2]
				}
				have = append(have, n)
			}
			if want := AppendRoots(nil, to); !slices.Equal(have, want) {
				t.Errorf("roots after AppendPatch(%d, %d) = %v, want %v", from, to, have, want)
			}
		}
	}
}

func TestIteratorStaysAtTheEnds(t *testing.T) {
	var it Iterator
	if it.Prev() != 0 || it.PrevTree() != 0 || it.LeftChild() != 0 || it.RightChild() != 0 {
		t.Errorf("at %d, want 0", it.Index())
	}
	it.Seek(1)
	if it.FullRoot(4) || it.Index() != 1 {
		t.Errorf("FullRoot moved from a parent to %d", it.Index())
	}
	it.Seek(8)
	if it.FullRoot(4) || it.Index() != 8 {
		t.Errorf("FullRoot moved past the end to %d", it.Index())
	}
}

func FuzzIndex(f *testing.F) {
	for _, i := range []uint64{0, 1, 2, 3, 1<<53 - 1, 1<<62 - 1, 1 << 62, math.MaxInt64, math.MaxUint64 - 1, math.MaxUint64} {
		f.Add(i, i/3)
	}
	f.Fuzz(func(t *testing.T, a, b uint64) {
		// Any argument, only to see that nothing panics.
		i := Index(a)
		i.Parent().Sibling().Children()
		i.NextLeaf().Blocks()
		it := NewIterator(i)
		it.PrevTree()
		it.FullRoot(b)
		if n := len(AppendRoots(nil, a)); n > 64 {
			t.Errorf("AppendRoots(%d) has %d roots", a, n)
		}
		AppendFutureRoots(nil, a)
		AppendPatch(nil, a, b)

		// Within the documented bounds all functions fit each other.
		i = Index(a >> 2)
		if got := At(i.Depth(), i.Offset()); got != i {
			t.Errorf("At(Depth, Offset) of %d = %d", i, got)
		}
		if got := i.Sibling().Sibling(); got != i || i.Sibling().Parent() != i.Parent() || i.IsLeft() == i.Sibling().IsLeft() {
			t.Errorf("sibling of %d is %d", i, i.Sibling())
		}
		left, right, _ := i.Parent().Children()
		if i != left && i != right || !i.Parent().Contains(i) || i.Contains(i.Parent()) {
			t.Errorf("%d is no child of %d", i, i.Parent())
		}
		start, end := i.Blocks()
		if i.IsRoot(end) != i.IsLeft() || i.IsRoot(start) || end-start != i.Leaves() {
			t.Errorf("%d: blocks [%d,%d)", i, start, end)
		}
		length, next := a>>2, uint64(0)
		for _, r := range AppendRoots(nil, length) {
			start, end := r.Blocks()
			if start != next || !r.IsRoot(length) {
				t.Errorf("root %d of length %d starts at %d, want %d", r, length, start, next)
			}
			next = end
		}
		if next != length {
			t.Errorf("roots of length %d end at %d", length, next)
		}
	})
}

func BenchmarkAppendRoots(b *testing.B) {
	var roots []Index
	b.ReportAllocs()
	for b.Loop() {
		roots = AppendRoots(roots[:0], 10_000_001)
	}
}

func BenchmarkClimb(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		i := Leaf(7_654_321)
		for i.Depth() < 24 {
			i = i.Parent()
		}
	}
}
