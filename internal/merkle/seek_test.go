package merkle_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/p2pcore/p2pcore/internal/flattree"
	"github.com/p2pcore/p2pcore/internal/merkle"
)

// locate finds a byte by counting through the blocks. It passes over empty blocks only as the search
// does: byte 0 is in block 0.
func (m *model) locate(bytes, padding uint64) (block, offset uint64, ok bool) {
	if bytes == 0 {
		return 0, 0, true
	}
	for i, b := range m.blocks {
		size := uint64(len(b)) - padding
		if bytes < size {
			return uint64(i), bytes, true
		}
		bytes -= size
	}
	return m.length(), 0, bytes == 0
}

// A reader that knows roots only finds every byte by asking, in the way of formats.md 11.4.
func TestSeekFindsEveryByte(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for _, padding := range []uint64{0, 3} {
		for length := uint64(1); length <= 40; length++ {
			m := newModel()
			for i := range length {
				m.blocks = append(m.blocks, make([]byte, padding+(i*5%7)*(i%3)))
			}
			tree, nodes := m.tree(t, length, 0), m.store(length)
			total := tree.ByteLength() - padding*length
			for b := range total + 2 {
				r := readerOf(t, m, length)
				got := seekByAsking(t, r, tree, nodes, b, padding)
				if b > total {
					if !got.Beyond {
						t.Fatalf("length %d byte %d of %d: %+v", length, b, total, got)
					}
					continue
				}
				block, offset, _ := m.locate(b, padding)
				// At a boundary the block is one behind it, with no bytes between.
				between := uint64(0)
				for i := min(block, got.Block); i < max(block, got.Block); i++ {
					between += uint64(len(m.blocks[i])) - padding
				}
				if !got.Found || got.Offset != offset || between != 0 {
					t.Fatalf("length %d byte %d: %+v, want %d+%d", length, b, got, block, offset)
				}
				checkTruth(t, r, nodes)
			}
		}
	}
	// More padding than bytes.
	m := ruleModel(9, "x")
	if _, err := m.tree(t, 9, 0).Seek(ctx, m.store(9), 5, 1<<53-1); !errors.Is(err, merkle.ErrInvalidRequest) {
		t.Errorf("huge padding: %v", err)
	}
}

func seekByAsking(t *testing.T, r *reader, tree *merkle.Tree, nodes store, bytes, padding uint64) merkle.Place {
	t.Helper()
	ctx := context.Background()
	for range 10 {
		got, err := r.tree.Seek(ctx, r.nodes, bytes, padding)
		if err != nil {
			t.Fatal(err)
		}
		if got.Found || got.Beyond {
			return got
		}
		// Any block of the window will do; take one that differs from step to step.
		i := got.Window.Start + bytes%got.Window.Len()
		p, err := tree.Prove(ctx, nodes, merkle.Request{
			Hash: &merkle.HashRequest{Index: flattree.Leaf(i), Nodes: got.Nodes},
			Seek: &merkle.SeekRequest{Bytes: bytes, Padding: padding},
		})
		if err != nil {
			t.Fatalf("byte %d, window %+v: %v", bytes, got, err)
		}
		if err := r.apply(p, seal{}); err != nil {
			t.Fatalf("byte %d, window %+v: %v", bytes, got, err)
		}
	}
	t.Fatalf("byte %d: no end of asking", bytes)
	return merkle.Place{}
}

// A seek with an upgrade brings a reader of any length to the byte.
func TestSeekWithUpgrade(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	const n = 21
	m := ruleModel(n, "seekup")
	truth := m.store(n)
	for length := uint64(1); length <= n; length++ {
		tree := m.tree(t, length, 0)
		for start := range length {
			for b := range tree.ByteLength() + 2 {
				p, err := tree.Prove(ctx, truth, merkle.Request{
					Seek:    &merkle.SeekRequest{Bytes: b},
					Upgrade: &merkle.UpgradeRequest{Start: start, Length: length - start},
				})
				if err != nil {
					t.Fatal(err)
				}
				r := readerOf(t, m, start)
				if err := r.apply(fill(p, m, tree.Head()), seal{}); err != nil {
					t.Fatalf("%d..%d byte %d: %v", start, length, b, err)
				}
				if r.tree.Head() != tree.Head() {
					t.Fatalf("%d..%d byte %d: head %+v", start, length, b, r.tree.Head())
				}
				if b >= m.head(start, 0).ByteLength && b <= tree.ByteLength() && start > 0 {
					if got, err := r.tree.Seek(ctx, r.nodes, b, 0); err != nil || !got.Found {
						t.Fatalf("%d..%d byte %d: %+v, %v after the proof", start, length, b, got, err)
					}
				}
				checkTruth(t, r, truth)
			}
		}
	}
}

// A seek to byte 0 ends at the first root, whatever is below it.
func TestSeekToTheStartEndsAtTheRoot(t *testing.T) {
	t.Parallel()
	m := newModel(nil, []byte("a"), []byte("b"))
	p, err := m.tree(t, 3, 0).Prove(context.Background(), m.store(3), merkle.Request{
		Seek: &merkle.SeekRequest{}, Upgrade: &merkle.UpgradeRequest{Length: 3},
	})
	if err != nil || !slices.Equal(p.Seek.Nodes, m.roots(3)[:1]) || !slices.Equal(p.Upgrade.Nodes, m.roots(3)[1:]) {
		t.Errorf("%+v, %v", p, err)
	}
}
