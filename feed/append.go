package feed

import (
	"context"
	"fmt"

	"github.com/p2pcore/p2pcore/internal/merkle"
)

// append adds blocks at the end, signed by pair: all or none.
func (f *Feed) append(ctx context.Context, pair KeyPair, blocks [][]byte) error {
	size := uint64(0)
	for i, b := range blocks {
		if len(b) > MaxBlockBytes {
			return fmt.Errorf("%w: block %d of the call has %d bytes", ErrBlockTooLarge, i, len(b))
		}
		size += uint64(len(b))
	}
	_, leave, ok := f.ops.Enter()
	defer leave()
	if !ok {
		return ErrClosed
	}
	giveBack, err := f.takeTurn(ctx)
	if err != nil {
		return err
	}
	change, err := f.appendInTurn(ctx, pair, blocks, size)
	giveBack()
	if err == nil && len(change.Added) > 0 {
		f.announce(change)
	}
	return err
}

func (f *Feed) appendInTurn(ctx context.Context, pair KeyPair, blocks [][]byte, size uint64) (Change, error) {
	// What is under mu may be read without it here: it changes in a turn only.
	switch {
	case f.auth.frozen:
		return Change{}, ErrFrozen
	case !f.writableLocked(pair):
		return Change{}, ErrNotWritable
	case len(blocks) == 0:
		return Change{}, nil
	}
	if uint64(len(blocks)) > maxLength-f.head.length {
		return Change{}, fmt.Errorf("%w: more than %d blocks", ErrOutOfRange, uint64(maxLength))
	}
	if err := f.checkSpace(size); err != nil {
		return Change{}, err
	}
	batch := f.tree.NewBatch()
	batch.Grow(len(blocks))
	c := &commit{base: f.head, bits: &f.bits, auth: f.dirtyAuth(), durable: true}
	c.blocks = make([]blockWrite, len(blocks))
	prologue := f.who.prologue()
	for i, b := range blocks {
		c.blocks[i] = blockWrite{f.head.length + uint64(i), b}
		if err := batch.Append(b); err != nil {
			return Change{}, fmt.Errorf("feed: append: %w", err)
		}
		if prologue != nil && c.blocks[i].index+1 == prologue.Length && batch.Head().Hash != prologue.Hash {
			return Change{}, fmt.Errorf("%w: the blocks are not those of the prologue", ErrNotWritable)
		}
	}
	if prologue != nil && f.head.length+uint64(len(blocks)) < prologue.Length {
		return Change{}, fmt.Errorf("%w: the prologue of %d blocks has to be filled at once", ErrNotWritable, prologue.Length)
	}
	c.nodes = batch.Nodes()
	tree := batch.Tree()
	signature := f.who.sign(pair, tree.Head())
	c.head = f.nextHead(tree, signature, c.blocks)
	if err := f.storage.write(ctx, c); err != nil {
		return Change{}, err
	}
	added := []Range{{Start: f.head.length, End: c.head.length}}
	f.swap(c, tree, added)
	return Change{Head: tree.Head(), Added: added}, nil
}

// nextHead returns the record of a grown tree, or of the same tree with more blocks stored. Blocks
// that are in order are counted fast.
func (f *Feed) nextHead(tree *merkle.Tree, signature []byte, blocks []blockWrite) *headRecord {
	contiguous := f.head.contiguous
	for moved := true; moved; {
		moved = false
		for i := range blocks {
			if blocks[i].index == contiguous {
				contiguous++
				moved = true
			}
		}
		if end := f.bits.FirstUnset(contiguous); end > contiguous {
			contiguous = end
			moved = true
		}
	}
	return &headRecord{
		fork:        tree.Fork(),
		length:      tree.Length(),
		contiguous:  contiguous,
		generations: f.head.generations,
		roots:       tree.Roots(),
		signature:   signature,
	}
}

// swap makes what has been stored visible. The caller has the turn.
func (f *Feed) swap(c *commit, tree *merkle.Tree, added []Range) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tree, f.head = tree, c.head
	for _, r := range added {
		f.local += f.bits.SetRange(r.Start, r.End, true)
	}
	if c.auth != nil {
		f.auth, f.authDirty = c.auth, false
	}
}

// dirtyAuth returns the auth record if it has to be stored with the next commit.
func (f *Feed) dirtyAuth() *authRecord {
	if f.authDirty {
		return f.auth
	}
	return nil
}
