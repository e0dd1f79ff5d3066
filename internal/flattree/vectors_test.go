package flattree

import (
	"slices"
	"testing"

	"github.com/p2pcore/p2pcore/internal/vectors"
)

type treeVectors struct {
	Nodes []struct {
		Index, Parent, Sibling Index
		Depth                  uint
		Offset                 uint64
		Children               []Index
		LeftSpan, RightSpan    Index
		NextLeaf               *Index // absent where the reference computes in 32 bits
		Count, CountLeaves     uint64
	}
	FullRoots []struct {
		Length    uint64
		FullRoots []Index
	}
	FutureRoots []struct {
		Length      uint64
		FutureRoots []Index
	}
	Patch []struct {
		From, To uint64
		Patch    []Index
	}
	Walks []struct {
		Start Index
		Steps []struct {
			Op                 string
			Index, Probe       Index
			Offset, Factor     uint64
			Count, CountLeaves uint64
			IsLeft, Contains   bool
		}
	} `json:"iterator_walks"`
	FullRoot []struct {
		Length uint64
		Roots  []struct {
			Index  Index
			Factor uint64
		}
	} `json:"iterator_fullRoot"`
}

func TestVectorsFlatTree(t *testing.T) {
	var v treeVectors
	vectors.Load(t, "flat-tree.json", &v)
	if len(v.Nodes) == 0 || len(v.FullRoots) == 0 || len(v.FutureRoots) == 0 || len(v.Patch) == 0 || len(v.Walks) == 0 || len(v.FullRoot) == 0 {
		t.Fatal("a part of the file is empty")
	}
	for _, n := range v.Nodes {
		i := n.Index
		first, last := i.Span()
		var children []Index
		if left, right, ok := i.Children(); ok {
			children = []Index{left, right}
		}
		if i.Depth() != n.Depth || i.Offset() != n.Offset || i.Parent() != n.Parent || i.Sibling() != n.Sibling ||
			!slices.Equal(children, n.Children) || first != n.LeftSpan || last != n.RightSpan ||
			i.Count() != n.Count || i.Leaves() != n.CountLeaves ||
			n.NextLeaf != nil && i.NextLeaf() != *n.NextLeaf {
			t.Errorf("node %d: depth %d, offset %d, parent %d, sibling %d, children %v, span %d %d, count %d, leaves %d, next %d; want %+v",
				i, i.Depth(), i.Offset(), i.Parent(), i.Sibling(), children, first, last, i.Count(), i.Leaves(), i.NextLeaf(), n)
		}
		if got := At(n.Depth, n.Offset); got != i {
			t.Errorf("At(%d, %d) = %d, want %d", n.Depth, n.Offset, got, i)
		}
	}
	for _, r := range v.FullRoots {
		if got := AppendRoots(nil, r.Length); !slices.Equal(got, r.FullRoots) {
			t.Errorf("AppendRoots(%d) = %v, want %v", r.Length, got, r.FullRoots)
		}
	}
	for _, r := range v.FutureRoots {
		if got := AppendFutureRoots(nil, r.Length); !slices.Equal(got, r.FutureRoots) {
			t.Errorf("AppendFutureRoots(%d) = %v, want %v", r.Length, got, r.FutureRoots)
		}
	}
	for _, p := range v.Patch {
		if got := AppendPatch(nil, p.From, p.To); !slices.Equal(got, p.Patch) {
			t.Errorf("AppendPatch(%d, %d) = %v, want %v", p.From, p.To, got, p.Patch)
		}
	}
	for _, w := range v.Walks {
		it := NewIterator(w.Start)
		for n, s := range w.Steps {
			got := step(t, &it, s.Op)
			i := it.Index()
			if got != s.Index || i != s.Index || i.Offset() != s.Offset || it.Factor() != s.Factor || i.IsLeft() != s.IsLeft ||
				i.Count() != s.Count || i.Leaves() != s.CountLeaves || i.Contains(s.Probe) != s.Contains {
				t.Errorf("walk from %d, step %d: at %d (returned %d), offset %d, factor %d, left %v, count %d, leaves %d, contains %v; want %+v",
					w.Start, n, i, got, i.Offset(), it.Factor(), i.IsLeft(), i.Count(), i.Leaves(), i.Contains(s.Probe), s)
			}
			it.Seek(s.Index)
		}
	}
	for _, r := range v.FullRoot {
		it, n := NewIterator(0), 0
		for ; it.FullRoot(r.Length); it.NextTree() {
			if n >= len(r.Roots) || it.Index() != r.Roots[n].Index || it.Factor() != r.Roots[n].Factor {
				t.Errorf("full root %d of length %d = %d, factor %d; want %v", n, r.Length, it.Index(), it.Factor(), r.Roots)
			}
			n++
		}
		if n != len(r.Roots) {
			t.Errorf("full roots of length %d: %d, want %d", r.Length, n, len(r.Roots))
		}
	}
}

// step moves it as the operation of a recorded walk says.
func step(t *testing.T, it *Iterator, op string) Index {
	t.Helper()
	switch op {
	case "parent":
		return it.Parent()
	case "sibling":
		return it.Sibling()
	case "leftChild":
		return it.LeftChild()
	case "rightChild":
		return it.RightChild()
	case "leftSpan":
		return it.LeftSpan()
	case "rightSpan":
		return it.RightSpan()
	case "next":
		return it.Next()
	case "prev":
		return it.Prev()
	case "nextTree":
		return it.NextTree()
	case "prevTree":
		return it.PrevTree()
	}
	t.Fatalf("unknown operation %q", op)
	return 0
}
