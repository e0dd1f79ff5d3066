package feed

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	datastore "github.com/ipfs/go-datastore"

	"github.com/p2pcore/p2pcore/internal/bitfield"
	"github.com/p2pcore/p2pcore/internal/flattree"
	"github.com/p2pcore/p2pcore/internal/merkle"
)

// Atom changes several feeds of one datastore together: what is appended, truncated and set as user data
// through its sessions is seen by these sessions alone, and kept in memory, until Flush stores all of it
// at once, or none. It is safe for concurrent use.
type Atom struct {
	mu    sync.Mutex
	parts map[*Feed]*part
	done  bool
}

// part is what an atom does to one feed.
type part struct {
	line     *line
	base     Head
	pair     KeyPair
	sessions []*Session
}

// NewAtom returns an atom without sessions.
func NewAtom() *Atom { return &Atom{parts: make(map[*Feed]*part)} }

// memory is what an atom is going to write to a feed. It is safe for concurrent use.
type memory struct {
	mu       sync.RWMutex
	blocks   map[uint64][]byte
	nodes    map[flattree.Index]Node
	userData map[string][]byte // nil: to be deleted
}

func (m *memory) node(at flattree.Index) (Node, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	n, ok := m.nodes[at]
	return n, ok
}

func (m *memory) block(index uint64) ([]byte, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	b, ok := m.blocks[index]
	return b, ok
}

// Session opens a session of a feed in the atom. All sessions of one feed in it see the same. The feed
// must not change otherwise until the flush, which fails if it has; downloads and Clear are no change.
// Options are as in Feed.Session; what a reader's feed gets in an atom can be flushed only with a key
// pair. The error is ErrClosed, or one of Feed.Session.
func (a *Atom) Session(f *Feed, o SessionOptions) (*Session, error) {
	pair, err := f.pairFor(o)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.done {
		return nil, ErrClosed
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, ErrClosed
	}
	p := a.parts[f]
	if p == nil {
		p = &part{base: f.tree.Head(), line: &line{
			tree: f.tree, head: f.head, shared: f.head.length,
			mem: &memory{blocks: map[uint64][]byte{}, nodes: map[flattree.Index]Node{}, userData: map[string][]byte{}},
		}}
		a.parts[f] = p
	}
	if !pair.IsZero() {
		p.pair = pair
	}
	o.KeyPair = nil
	s := f.sessionLocked(p.line, o)
	s.pair = pair
	p.sessions = append(p.sessions, s)
	return s, nil
}

// Discard ends the atom and closes its sessions; what was written through them is forgotten. It does
// nothing after Flush.
func (a *Atom) Discard() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.end()
}

func (a *Atom) end() {
	a.done = true
	for _, p := range a.parts {
		for _, s := range p.sessions {
			_ = s.Close()
		}
	}
	a.parts = nil
}

// Flush stores what the sessions have written, of all feeds or of none, durably, ends the atom and
// closes its sessions. Then each feed tells its change.
//
// The error is ErrDiverged if a feed has changed since its first session was opened; ErrNotAtomic if the
// datastore's batches are not atomic, or the feeds are of several datastores; ErrNotWritable and the
// others of Append; ErrClosed. After an error nothing has changed; except ErrClosed it leaves the atom
// as it is, so that it can be tried again.
func (a *Atom) Flush(ctx context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.done {
		return ErrClosed
	}
	feeds := slices.SortedFunc(maps.Keys(a.parts), func(x, y *Feed) int { return cmp.Compare(x.storage.prefix, y.storage.prefix) })
	// Turns are taken in the order of the prefixes, so that two atoms do not wait for each other.
	for _, f := range feeds {
		if !f.storage.atomic || f.storage.ds != feeds[0].storage.ds {
			return ErrNotAtomic
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
		defer giveBack()
	}
	var changes []*flushing
	for _, f := range feeds {
		ch, err := f.prepareFlush(ctx, a.parts[f])
		if err != nil {
			return err
		}
		if ch != nil {
			changes = append(changes, ch)
		}
	}
	if len(changes) > 0 {
		if err := flush(ctx, changes); err != nil {
			return err
		}
	}
	for _, ch := range changes {
		ch.feed.swap(ch.change)
		ch.feed.announce(ch.told())
		ch.feed.sweepIfQuiet(ctx)
	}
	a.end()
	return nil
}

// flushing is the change of one feed by an atom.
type flushing struct {
	*change
	feed *Feed
}

func (c *flushing) told() Change {
	if c.lost != nil {
		return c.forkChange()
	}
	return Change{Head: c.tree.Head(), Added: c.added}
}

// prepareFlush makes the commit of a part; nil if it changes nothing. The caller has the turn.
func (f *Feed) prepareFlush(ctx context.Context, p *part) (*flushing, error) {
	l, mem := p.line, p.line.mem
	mem.mu.RLock()
	defer mem.mu.RUnlock()
	var puts []put
	for name, value := range mem.userData {
		key := f.storage.userKey(name)
		old, err := f.storage.userData(ctx, name)
		if err != nil {
			return nil, err
		}
		puts = append(puts, put{key: key, value: value, old: old})
	}
	moved := l.tree.Head() != p.base
	switch {
	case !moved && len(puts) == 0:
		return nil, nil
	case !moved:
		c := f.newCommit()
		c.puts, c.durable = puts, true
		return &flushing{&change{commit: c, tree: f.tree}, f}, nil
	case f.auth.frozen:
		return nil, f.frozen()
	case f.auth.recovering:
		return nil, ErrRecovering
	case f.tree.Head() != p.base:
		return nil, fmt.Errorf("%w: the feed has changed since the atom began", ErrDiverged)
	}
	size := uint64(0)
	blocks := make([]blockWrite, 0, len(mem.blocks))
	for _, index := range slices.Sorted(maps.Keys(mem.blocks)) {
		blocks = append(blocks, blockWrite{index, mem.blocks[index]})
		size += uint64(len(mem.blocks[index]))
	}
	if err := f.checkSpace(size); err != nil {
		return nil, err
	}
	signature, err := f.sign(l.tree, signing{pair: p.pair})
	if err != nil {
		return nil, err
	}
	nodes := slices.Collect(maps.Values(mem.nodes))
	slices.SortFunc(nodes, func(a, b Node) int { return cmp.Compare(a.Index, b.Index) })
	// A forced truncation may have kept the fork; blocks and nodes below the old length are others all the same.
	if l.tree.Fork() != p.base.Fork || l.shared < p.base.Length {
		ch, err := f.prepareRewrite(ctx, &rewriting{keep: l.shared, tree: l.tree, signature: signature, nodes: nodes, blocks: blocks, puts: puts})
		return &flushing{ch, f}, err
	}
	if err := f.checkPrologue(l.tree.Head(), nodes); err != nil {
		return nil, err
	}
	c := f.newCommit()
	c.blocks, c.nodes, c.puts, c.durable = blocks, nodes, puts, true
	c.head = f.nextHead(l.tree, signature, blocks)
	return &flushing{&change{commit: c, tree: l.tree, added: []Range{{Start: p.base.Length, End: c.head.length}}}, f}, nil
}

// flush stores changes of several feeds in one batch.
func flush(ctx context.Context, changes []*flushing) error {
	for _, ch := range changes {
		if err := ch.feed.storage.prepare(ctx, ch.commit); err != nil {
			return err
		}
	}
	err := commitAll(ctx, changes)
	for _, ch := range changes {
		ch.feed.storage.finish(ch.commit, err)
		if err == nil {
			ch.feed.storage.unsynced = ch.feed.storage.noSync
		}
	}
	if err != nil {
		together := new(joint)
		for _, ch := range changes {
			steps, _ := ch.feed.storage.restoring(ch.commit)
			together.puts = append(together.puts, slices.Concat(steps...)...)
			ch.feed.storage.joint = together
		}
		return fmt.Errorf("feed: flush: %w", err)
	}
	return nil
}

// joint takes a flush back that has failed, of all its feeds at once: else a crash could find the one as
// before and the other as after it.
type joint struct {
	mu   sync.Mutex
	puts []put
	done bool
}

// restore is called by each of the feeds before it stores anything else; the first does it for all.
func (j *joint) restore(ctx context.Context, s *storage) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.done {
		return nil
	}
	if err := s.putDurably(ctx, j.puts); err != nil {
		return err
	}
	j.done, j.puts = true, nil
	return nil
}

func commitAll(ctx context.Context, changes []*flushing) error {
	ds := changes[0].feed.storage.ds
	batch, err := ds.Batch(ctx)
	if err != nil {
		return err
	}
	durable := false
	for _, ch := range changes {
		s := ch.feed.storage
		s.pages.begin()
		if err := s.putFirst(ctx, batch, ch.commit); err != nil {
			return err
		}
		if err := s.putSecond(ctx, batch, ch.commit); err != nil {
			return err
		}
		durable = durable || !s.noSync
	}
	if err := batch.Commit(ctx); err != nil || !durable {
		return err
	}
	return ds.Sync(ctx, datastore.NewKey("/"))
}

// growMemory keeps blocks for an atom. The caller has the turn.
func (f *Feed) growMemory(l *line, tree *merkle.Tree, head *headRecord, bits *bitfield.Bitfield, nodes []Node, blocks []blockWrite) error {
	l.mem.mu.Lock()
	for _, b := range blocks {
		l.mem.blocks[b.index] = append([]byte{}, b.data...) // nil means that there is none
	}
	for _, n := range nodes {
		l.mem.nodes[n.Index] = n
	}
	l.mem.mu.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	l.tree, l.head, l.bits = tree, head, *bits
	return nil
}

// truncateMemory shortens what an atom is going to make of the feed. The caller has the turn.
func (f *Feed) truncateMemory(l *line, tree *merkle.Tree, bits *bitfield.Bitfield) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	l.mem.mu.Lock()
	defer l.mem.mu.Unlock()
	maps.DeleteFunc(l.mem.blocks, func(i uint64, _ []byte) bool { return i >= tree.Length() })
	maps.DeleteFunc(l.mem.nodes, func(at flattree.Index, _ Node) bool {
		_, end := at.Blocks()
		return end > tree.Length()
	})
	l.tree, l.head, l.bits = tree, headOf(tree, nil, 0, l.head.generations), *bits
	l.shared = min(l.shared, tree.Length())
	return nil
}
