package feed

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/p2pcore/p2pcore/internal/bitfield"
	"github.com/p2pcore/p2pcore/internal/compact"
	"github.com/p2pcore/p2pcore/internal/merkle"
)

// BranchOptions of Session.Branch.
type BranchOptions struct {
	// Overwrite begins the branch again if there is one of the name.
	Overwrite bool
	// Checkout is the length at which a new branch begins; nil: the feed's. It needs Overwrite if there is
	// a branch of the name with another beginning.
	Checkout *uint64
	// KeyPair signs what Session.Commit takes from the branch; nil: that of the session it is called on.
	// It has no use for the branch itself, which nobody signs.
	Encryption Encryption // nil: that of the session
}

// branchRecord is what is stored of a branch.
//
//	uint 1, buffer name, uint shared length, buffer head record
//	uint n, n times (uint distance from the end of the one before, uint blocks): what is stored from shared on
type branchRecord struct {
	name   string
	shared uint64
	head   *headRecord
	bits   *bitfield.Bitfield
}

func (b *branchRecord) append(dst []byte) []byte {
	dst = compact.AppendUint(dst, recordVersion)
	dst = compact.AppendBytes(dst, []byte(b.name))
	dst = compact.AppendUint(dst, b.shared)
	dst = compact.AppendBytes(dst, b.head.append(nil))
	var runs []Range
	for start, end := range b.bits.Ranges(b.shared, b.head.length) {
		runs = append(runs, Range{Start: start, End: end})
	}
	dst = compact.AppendUint(dst, uint64(len(runs)))
	at := b.shared
	for _, r := range runs {
		dst = compact.AppendUint(dst, r.Start-at)
		dst = compact.AppendUint(dst, r.End-r.Start)
		at = r.End
	}
	return dst
}

func parseBranchRecord(b []byte) (*branchRecord, error) {
	d := compact.NewDecoder(b)
	if v := d.Uint(); d.Err() == nil && v != recordVersion {
		return nil, fmt.Errorf("%w: branch record of version %d", ErrCorrupt, v)
	}
	r := &branchRecord{name: string(d.Bytes(MaxNameBytes)), shared: d.Uint(), bits: new(bitfield.Bitfield)}
	head := d.Bytes(len(b))
	if d.Err() == nil {
		var err error
		if r.head, err = parseHeadRecord(head); err != nil {
			return nil, fmt.Errorf("branch: %w", err)
		}
	}
	at := r.shared
	for range d.Count(2) {
		start := at + d.Uint()
		end := start + d.Uint()
		if d.Err() != nil || start < at || end < start || end > r.head.length {
			return nil, fmt.Errorf("%w: branch record out of bounds", ErrCorrupt)
		}
		r.bits.SetRange(start, end, true)
		at = end
	}
	if err := d.Err(); err != nil {
		return nil, fmt.Errorf("%w: branch record: %w", ErrCorrupt, err)
	}
	if r.shared > r.head.length {
		return nil, fmt.Errorf("%w: branch record out of bounds", ErrCorrupt)
	}
	return r, nil
}

// record returns what is stored of the branch l.
func (l *line) record() *branchRecord {
	return &branchRecord{name: l.name, shared: l.shared, head: l.head, bits: &l.bits}
}

// loadBranches reads the branches when the feed is opened.
func (f *Feed) loadBranches(ctx context.Context) error {
	s := f.storage
	return s.queryNamed(ctx, "/r", func(key string, value []byte) error {
		r, err := parseBranchRecord(value)
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		l := &line{name: r.name, head: r.head, shared: r.shared, bits: *r.bits}
		if l.tree, err = merkle.NewTree(r.head.fork, r.head.roots); err != nil {
			return fmt.Errorf("%w: branch %q: %w", ErrCorrupt, r.name, err)
		}
		if r.head.generations.newest() >= s.garbage.next {
			return fmt.Errorf("%w: branch %q is of a generation that was never taken", ErrCorrupt, r.name)
		}
		s.pages.publish(nil, r.head.generations.newest(), r.head.length)
		f.branches[l.name], f.lines[l] = l, struct{}{}
		return nil
	})
}

// Branches returns the names of the stored branches, sorted.
func (f *Feed) Branches() []string {
	f.mu.RLock()
	defer f.mu.RUnlock()
	names := make([]string, 0, len(f.branches))
	for name := range f.branches {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Branch opens the branch of a name, or begins one at the feed's length: a private, unsigned
// continuation of the feed that survives reopening. Appends and truncations through its session change
// the branch alone and are told to nobody; below where it leaves the feed it reads the feed's blocks,
// fetching them if need be. Commit makes the feed have its blocks. Several sessions may have the same
// branch open.
//
// A branch may be of a feed that is not writable. It counts as long as it is stored: what the feed gives
// up in a truncation and the branch has stays stored, until DeleteBranch.
//
// The error is ErrOutOfRange (a checkout past the end; or below the prologue), ErrMissingNode (a
// checkout at a length whose roots are not stored), ErrExists (another checkout of a branch that exists),
// ErrName (no or too long a name; too many branches), ErrNotWritable (s is itself a branch, snapshot or part of an
// atom), ErrNoSpace, ErrClosed, the datastore's, or wraps ctx's.
func (s *Session) Branch(ctx context.Context, name string, o BranchOptions) (*Session, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	if s.Closed() {
		return nil, ErrClosed
	}
	if s.line != nil {
		return nil, fmt.Errorf("%w: branches leave the feed itself", ErrNotWritable)
	}
	f := s.feed
	giveBack, leave, err := f.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	defer giveBack()
	l := f.branches[name]
	switch {
	case l != nil && !o.Overwrite && o.Checkout == nil:
	case l != nil && !o.Overwrite:
		return nil, fmt.Errorf("%w: branch %q", ErrExists, name)
	default:
		at := f.head.length
		if o.Checkout != nil {
			at = *o.Checkout
		}
		if l, err = f.beginBranch(ctx, name, at); err != nil {
			return nil, err
		}
	}
	options := s.options
	options.OnClose = nil
	if o.Encryption != nil {
		options.Encryption = o.Encryption
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, ErrClosed
	}
	return f.sessionLocked(l, options), nil
}

// beginBranch stores a branch that leaves the feed at length, in place of one of the same name. The
// caller has the turn.
func (f *Feed) beginBranch(ctx context.Context, name string, length uint64) (*line, error) {
	old := f.branches[name]
	switch {
	case length > f.head.length:
		return nil, fmt.Errorf("%w: checkout at %d of %d blocks", ErrOutOfRange, length, f.head.length)
	case old == nil && len(f.branches) >= maxBranches:
		return nil, fmt.Errorf("%w: a feed has at most %d branches", ErrName, maxBranches)
	}
	if f.who != nil {
		if p := f.who.prologue(); p != nil && length < p.Length && f.head.length >= p.Length {
			return nil, fmt.Errorf("%w: the prologue has %d blocks", ErrOutOfRange, p.Length)
		}
	}
	if err := f.checkSpace(0); err != nil {
		return nil, err
	}
	tree, err := merkle.ReadTree(ctx, f.viewLocked(), f.head.fork, length)
	if err != nil {
		return nil, fmt.Errorf("feed: branch: %w", err)
	}
	c, l, err := f.branchCommit(ctx, name, tree, f.viewLocked(), f.head)
	if err != nil {
		return nil, err
	}
	before := []byte(nil)
	if old != nil {
		before = old.record().append(nil)
		for n := range old.head.generations.parts() {
			c.garbage.suspect(n)
		}
	}
	c.puts = append(c.puts, put{key: f.storage.branchKey(name), value: l.record().append(nil), old: before})
	if err := f.storage.write(ctx, c); err != nil {
		return nil, err
	}
	f.mu.Lock()
	if old != nil {
		old.gone = true
		if old.users == 0 {
			delete(f.lines, old)
		}
		f.turnPageLocked()
	}
	f.branches[name], f.lines[l] = l, struct{}{}
	f.mu.Unlock()
	f.sweepIfQuiet(ctx)
	return l, nil
}

// branchCommit begins a commit of a branch that begins with tree, which v (of head) has.
func (f *Feed) branchCommit(ctx context.Context, name string, tree *merkle.Tree, v view, base *headRecord) (*commit, *line, error) {
	number, err := f.storage.takeGeneration(ctx)
	if err != nil {
		return nil, nil, err
	}
	l := &line{name: name, tree: tree, shared: tree.Length()}
	l.head = headOf(tree, nil, 0, base.generations.cut(tree.Length(), number))
	c := f.newCommit()
	c.branch, c.base, c.view, c.head = true, base, v, l.head
	c.keep, c.moved, c.durable = tree.Length(), true, true
	c.garbage = f.storage.garbage.clone()
	return c, l, nil
}

// DeleteBranch deletes a branch. Sessions that have it open can still read; writing is ErrClosed. The
// error is ErrNotFound, ErrClosed, the datastore's, or wraps ctx's.
func (f *Feed) DeleteBranch(ctx context.Context, name string) error {
	giveBack, leave, err := f.begin(ctx)
	if err != nil {
		return err
	}
	defer leave()
	defer giveBack()
	l := f.branches[name]
	if l == nil {
		return fmt.Errorf("%w: branch %q", ErrNotFound, name)
	}
	c := f.newCommit()
	c.durable = true
	c.garbage = f.storage.garbage.clone()
	for n := range l.head.generations.parts() {
		c.garbage.suspect(n)
	}
	c.puts = append(c.puts, put{key: f.storage.branchKey(name), old: l.record().append(nil)})
	if err := f.storage.write(ctx, c); err != nil {
		return err
	}
	f.mu.Lock()
	delete(f.branches, name)
	l.gone = true
	if l.users == 0 {
		delete(f.lines, l)
	}
	f.turnPageLocked()
	f.mu.Unlock()
	f.sweepIfQuiet(ctx)
	return nil
}

// growLine stores blocks at the end of a branch, or keeps them for an atom. The caller has the turn.
func (f *Feed) growLine(ctx context.Context, l *line, batch *merkle.Batch, blocks []blockWrite) error {
	tree := batch.Tree()
	bits := l.bits.Clone()
	bits.SetRange(l.head.length, tree.Length(), true)
	head := headOf(tree, nil, 0, l.head.generations)
	if l.mem != nil {
		return f.growMemory(l, tree, head, bits, batch.Nodes(), blocks)
	}
	c := f.newCommit()
	c.branch, c.base, c.view, c.head, c.keep = true, l.head, f.lineViewLocked(l), head, l.head.length
	c.blocks, c.nodes, c.durable = blocks, batch.Nodes(), true
	return f.writeLine(ctx, l, c, &line{name: l.name, tree: tree, head: head, shared: l.shared, bits: *bits})
}

// writeLine stores c, after which the branch l is as the line after. The caller has the turn.
func (f *Feed) writeLine(ctx context.Context, l *line, c *commit, after *line) error {
	c.puts = append(c.puts, put{key: f.storage.branchKey(l.name), value: after.record().append(nil), old: l.record().append(nil)})
	if err := f.storage.write(ctx, c); err != nil {
		return err
	}
	f.mu.Lock()
	l.tree, l.head, l.shared, l.bits = after.tree, after.head, after.shared, after.bits
	if c.moved {
		f.turnPageLocked()
	}
	f.mu.Unlock()
	f.sweepIfQuiet(ctx)
	return nil
}

// truncateLine shortens a branch, or what an atom is going to write. The caller has the turn.
func (f *Feed) truncateLine(ctx context.Context, l *line, length, fork uint64) error {
	v := f.lineViewLocked(l)
	tree, err := merkle.ReadTree(ctx, v, fork, length)
	if err != nil {
		return fmt.Errorf("feed: truncate: %w", err)
	}
	bits := l.bits.Clone()
	bits.SetRange(length, bitfield.MaxIndex, false)
	if l.mem != nil {
		return f.truncateMemory(l, tree, bits)
	}
	c, after, err := f.branchCommit(ctx, l.name, tree, v, l.head)
	if err != nil {
		return err
	}
	after.shared, after.bits = min(l.shared, length), *bits
	for n := range l.head.generations.parts() {
		c.garbage.suspect(n)
	}
	return f.writeLine(ctx, l, c, after)
}

// CommitOptions of Session.Commit.
type CommitOptions struct {
	// Length commits only the branch's blocks below it; 0: all.
	Length uint64
	// KeyPair signs instead of the session's; nil: the session's.
	KeyPair *KeyPair
	// Signature is that of the feed's head afterwards; then no key pair is needed.
	Signature []byte
}

// Commit appends to the feed what the branch has and the feed has not, all or none, and returns the
// feed's state after it. branch is a session of a branch of this feed. If the feed has grown since the
// branch began it must have grown by the branch's own blocks, as by an earlier commit of a part;
// otherwise the error is ErrDiverged, and nothing has changed on either side.
//
// When all of it is committed the branch has nothing of its own any more and goes on from there. Its
// blocks are read into memory for the commit.
//
// The other errors are those of Append, and ErrNotAvailable if a block of the branch is not stored.
func (s *Session) Commit(ctx context.Context, branch *Session, o CommitOptions) (Info, error) {
	if s.Closed() || branch.Closed() {
		return Info{}, ErrClosed
	}
	f, l := s.feed, branch.line
	if s.line != nil || branch.feed != f || l == nil || l.name == "" {
		return Info{}, fmt.Errorf("%w: a branch is committed to its own feed", ErrDiverged)
	}
	by, err := s.signs(o.KeyPair, o.Signature)
	if err != nil {
		return Info{}, err
	}
	giveBack, leave, err := f.begin(ctx)
	if err != nil {
		return Info{}, err
	}
	defer leave()
	change, err := f.commitInTurn(ctx, l, o.Length, by)
	giveBack()
	if err != nil {
		return Info{}, err
	}
	if len(change.Added) > 0 {
		f.announce(change)
	}
	return s.Info(), nil
}

func (f *Feed) commitInTurn(ctx context.Context, l *line, length uint64, by signing) (Change, error) {
	if length == 0 {
		length = l.head.length
	}
	switch {
	case f.auth.frozen:
		return Change{}, f.frozen()
	case f.auth.recovering:
		return Change{}, ErrRecovering
	case by.signature == nil && !f.mayAppendLocked(by.pair):
		return Change{}, ErrNotWritable
	case length > l.head.length:
		return Change{}, fmt.Errorf("%w: the branch has %d blocks", ErrOutOfRange, l.head.length)
	case length < f.head.length:
		return Change{}, fmt.Errorf("%w: the feed is longer, %d blocks", ErrDiverged, f.head.length)
	case length == f.head.length && l.shared == length:
		return Change{}, nil
	}
	v := f.lineViewLocked(l)
	if f.head.length > l.shared {
		tree, err := merkle.ReadTree(ctx, v, f.head.fork, f.head.length)
		if err != nil {
			return Change{}, fmt.Errorf("feed: commit: %w", err)
		}
		if tree.Head().Hash != f.tree.Head().Hash {
			return Change{}, fmt.Errorf("%w: the feed has other blocks past %d", ErrDiverged, l.shared)
		}
	}
	batch := f.tree.NewBatch()
	blocks := make([]blockWrite, 0, length-f.head.length)
	size := uint64(0)
	for i := f.head.length; i < length; i++ {
		g, has, _ := f.whereLocked(l, i)
		if !has {
			return Change{}, fmt.Errorf("%w: block %d of the branch", ErrNotAvailable, i)
		}
		b, err := f.storage.get(ctx, f.storage.blockKey(g, i))
		if err != nil {
			return Change{}, err
		}
		if b == nil {
			return Change{}, fmt.Errorf("%w: block %d of branch %q is gone", ErrCorrupt, i, l.name)
		}
		blocks = append(blocks, blockWrite{i, b})
		size += uint64(len(b))
		if err := batch.Append(b); err != nil {
			return Change{}, fmt.Errorf("feed: commit: %w", err)
		}
	}
	if err := f.checkSpace(size); err != nil {
		return Change{}, err
	}
	var change Change
	if len(blocks) > 0 {
		var err error
		if change, err = f.grow(ctx, batch, blocks, by); err != nil {
			return Change{}, err
		}
	}
	if length < l.head.length || l.gone {
		return change, nil
	}
	// All of the branch is the feed's now. That the branch says so too is for space alone: if it fails
	// the branch only has its own copy still.
	if err := f.rebase(ctx, l); err != nil {
		f.log.Warn("a committed branch keeps its own copy", "branch", l.name, "err", err)
	}
	return change, nil
}

// rebase makes l, which has the same blocks as the feed, begin again at the feed's length.
func (f *Feed) rebase(ctx context.Context, l *line) error {
	tree, err := merkle.ReadTree(ctx, f.viewLocked(), f.head.fork, f.head.length)
	if err != nil {
		return err
	}
	c, after, err := f.branchCommit(ctx, l.name, tree, f.viewLocked(), f.head)
	if err != nil {
		return err
	}
	for n := range l.head.generations.parts() {
		c.garbage.suspect(n)
	}
	return f.writeLine(ctx, l, c, after)
}

func checkName(name string) error {
	if name == "" || len(name) > MaxNameBytes {
		return fmt.Errorf("%w: %d bytes, not 1 to %d", ErrName, len(name), MaxNameBytes)
	}
	return nil
}

var errKey = errors.New("not of the form that is written here")

// nameOf is the reverse of namedKey.
func (s *storage) nameOf(kind, key string) (string, error) {
	tail, ok := strings.CutPrefix(key, s.prefix+kind+"/")
	b, err := hex.DecodeString(tail)
	if !ok || err != nil {
		return "", fmt.Errorf("%w: key %s: %w", ErrCorrupt, key, errKey)
	}
	return string(b), nil
}
