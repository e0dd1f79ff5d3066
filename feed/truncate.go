package feed

import (
	"context"
	"fmt"

	"github.com/p2pcore/p2pcore/internal/bitfield"
	"github.com/p2pcore/p2pcore/internal/compact"
	"github.com/p2pcore/p2pcore/internal/merkle"
)

// TruncateOptions of Session.Truncate.
type TruncateOptions struct {
	// Fork is the new fork number; 0: the next one. It must be greater than the feed's, unless Force
	// is set: a fork number that was used before makes a feed contradict itself in the eyes of its
	// readers, and they freeze it for good.
	Fork  uint64
	Force bool
	// KeyPair signs instead of the session's; nil: the session's.
	KeyPair *KeyPair
	// Signature is that of the head after the truncation; then no key pair is needed.
	Signature []byte
}

// truncating is one call of truncate.
type truncating struct {
	signing
	line   *line // nil: the feed itself
	length uint64
	fork   uint64
	force  bool
}

func (f *Feed) truncate(ctx context.Context, t *truncating) error {
	giveBack, leave, err := f.begin(ctx)
	if err != nil {
		return err
	}
	defer leave()
	change, err := f.truncateInTurn(ctx, t)
	dead := f.storage.takeDead()
	giveBack()
	if err == nil && t.line == nil {
		f.announce(change)
		err = f.storage.compact(ctx, dead)
	}
	return err
}

func (f *Feed) truncateInTurn(ctx context.Context, t *truncating) (Change, error) {
	head := f.tree.Head()
	if t.line != nil {
		head = t.line.tree.Head()
	}
	fork := t.fork
	if fork == 0 {
		fork = head.Fork + 1
	}
	switch {
	case t.line != nil && t.line.gone:
		return Change{}, ErrClosed
	case t.line == nil && f.auth.frozen:
		return Change{}, f.frozen()
	case t.line == nil && f.auth.recovering:
		return Change{}, ErrRecovering
	case t.line == nil && t.signature == nil && !f.writableLocked(t.pair):
		return Change{}, ErrNotWritable
	case t.length > head.Length:
		return Change{}, fmt.Errorf("%w: truncation to %d of %d blocks", ErrOutOfRange, t.length, head.Length)
	case fork > compact.MaxInt:
		return Change{}, fmt.Errorf("%w: fork %d; the last one is 2^53-1", ErrOutOfRange, fork)
	case fork <= head.Fork && !t.force:
		return Change{}, fmt.Errorf("%w: fork %d is not past the present one, %d", ErrStaleFork, fork, head.Fork)
	}
	if f.who != nil {
		if p := f.who.prologue(); p != nil && t.length < p.Length && head.Length >= p.Length {
			return Change{}, fmt.Errorf("%w: the prologue has %d blocks", ErrOutOfRange, p.Length)
		}
	}
	if t.line != nil {
		return Change{}, f.truncateLine(ctx, t.line, t.length, fork)
	}
	tree, err := merkle.ReadTree(ctx, f.viewLocked(), fork, t.length)
	if err != nil {
		return Change{}, fmt.Errorf("feed: truncate: %w", err)
	}
	tree = tree.WithPrologue(f.who.prologue())
	signature, err := f.sign(tree, t.signing)
	if err != nil {
		return Change{}, err
	}
	return f.rewrite(ctx, &rewriting{keep: t.length, tree: tree, signature: signature})
}

// rewriting is a change after which the feed has another fork: a truncation, with or without blocks
// after it, or a fork of the writer's that we follow.
type rewriting struct {
	keep      uint64 // blocks of before that stay
	tree      *merkle.Tree
	signature []byte
	nodes     []Node
	blocks    []blockWrite // past keep
	puts      []put
}

// rewrite stores r and makes it visible. The caller has the turn.
func (f *Feed) rewrite(ctx context.Context, r *rewriting) (Change, error) {
	ch, err := f.prepareRewrite(ctx, r)
	if err != nil {
		return Change{}, err
	}
	if err := f.storage.write(ctx, ch.commit); err != nil {
		return Change{}, err
	}
	before := f.tree.ByteLength()
	f.swap(ch)
	f.storage.deadBytes += before - min(before, f.tree.ByteLength())
	f.sweepIfQuiet(ctx)
	return ch.forkChange(), nil
}

func (c *change) forkChange() Change {
	out := Change{Head: c.tree.Head(), Forked: true, Ancestors: c.lost.Start, Added: c.added}
	if c.lost.Start < c.lost.End {
		out.Dropped = []Range{*c.lost}
	}
	return out
}

// prepareRewrite makes the commit of r. Head and a new generation come first; what the old one has
// past keep is left to whoever still reads it, and swept later.
//
// The caller has seen to the space for r's blocks. Without any, nothing asks for space: this is how a feed gives some
// back, and what it writes meanwhile (a head, and copies up to mergeBytes) is what the datastore's reserve is for.
func (f *Feed) prepareRewrite(ctx context.Context, r *rewriting) (*change, error) {
	number, err := f.storage.takeGeneration(ctx)
	if err != nil {
		return nil, err
	}
	c := f.newCommit()
	c.durable, c.moved, c.keep = true, true, min(r.keep, f.head.length)
	start, err := f.mergeStart(ctx, c)
	if err != nil {
		return nil, err
	}
	c.after = f.bits.Clone()
	c.after.SetRange(c.keep, bitfield.MaxIndex, false)
	if start < c.keep {
		if c.blocks, err = f.blocksOf(ctx, Range{Start: start, End: c.keep}); err != nil {
			return nil, err
		}
	}
	c.blocks = append(c.blocks, r.blocks...)
	ch := &change{commit: c, tree: r.tree, lost: &Range{Start: c.keep, End: f.head.length}, clears: true}
	for _, b := range r.blocks {
		c.after.Set(b.index, true)
	}
	ch.added = rangesOf(r.blocks)
	c.nodes = r.nodes
	c.head = headOf(r.tree, r.signature, min(c.after.FirstUnset(0), r.tree.Length()), f.head.generations.cut(start, number))
	c.garbage = f.storage.garbage.clone()
	for i := f.head.generations.at(start); i < len(f.head.generations); i++ {
		c.garbage.suspect(f.head.generations[i].number)
	}
	c.puts = r.puts
	f.keepBranches(ch)
	return ch, nil
}

// keepBranches stores of the branches that do not go along with c what they have of their own then.
func (f *Feed) keepBranches(c *change) {
	for _, l := range f.branches {
		if l.shared <= c.lost.Start {
			continue
		}
		after := branchRecord{name: l.name, shared: c.lost.Start, head: l.head, bits: f.leaving(l, c.lost.Start)}
		c.puts = append(c.puts, put{key: f.storage.branchKey(l.name), value: after.append(nil), old: l.record().append(nil), early: true})
	}
}

// mergeStart returns where the new generation of a rewriting begins.
func (f *Feed) mergeStart(ctx context.Context, c *commit) (uint64, error) {
	var failed error
	start := f.head.generations.mergeStart(c.keep, func(start uint64) (total uint64) {
		for start, end := range f.bits.Ranges(start, c.keep) {
			var size uint64
			size, failed = f.bytesOf(ctx, Range{Start: start, End: end})
			total += size
		}
		return total
	})
	return start, failed
}

// blocksOf reads the blocks of r that are stored.
func (f *Feed) blocksOf(ctx context.Context, r Range) (blocks []blockWrite, err error) {
	for start, end := range f.bits.Ranges(r.Start, r.End) {
		for i := start; i < end; i++ {
			b, err := f.storage.block(ctx, f.head.generations.of(i), i)
			if err != nil {
				return nil, err
			}
			if b != nil { // else it was lost in a crash, and is found to be so when somebody reads it
				blocks = append(blocks, blockWrite{i, b})
			}
		}
	}
	return blocks, nil
}
