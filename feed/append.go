package feed

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"

	"github.com/p2pcore/p2pcore/internal/merkle"
)

// AppendOptions of Session.AppendWith.
type AppendOptions struct {
	// KeyPair signs instead of the session's; nil: the session's.
	KeyPair *KeyPair
	// Signature is that of the head after the append, for feeds of several signers (see Assemble) and
	// keys that live elsewhere. Then no key pair is needed. The error is ErrInvalidSignature if it is of
	// another head, such as when somebody else has appended before.
	Signature []byte
	// MaxLength, if not 0, appends nothing if the feed would become longer than that.
	MaxLength uint64
	// If, if not nil, appends only if this is the head; else the error is ErrDiverged.
	If *Head
	// Appended, if not nil, is called when the blocks are stored, as Append says, and can be read, and before anybody hears of
	// them: peers, subscriptions, and whoever waits for them. It is not called where nothing was appended. The feed waits
	// for it: whatever changes the feed would wait for ever. It is Hypercore's option postappend.
	//
	// To push the blocks from inside it brings nothing: replication does not know of them before it has returned, and of a
	// block that it does not know nothing is pushed. Push after the append.
	Appended func()
}

// signing is by whom a new head is signed.
type signing struct {
	pair      KeyPair
	signature []byte
}

// sign returns the signature of the head of tree. What the prologue vouches for needs none. The caller has the turn.
func (f *Feed) sign(tree *merkle.Tree, by signing) ([]byte, error) {
	h := tree.Head()
	switch {
	case f.who == nil:
		return nil, ErrNotWritable
	case by.signature != nil:
		if err := f.who.checkSignature(h, tree.Roots(), by.signature); err != nil {
			return nil, err
		}
		return append([]byte(nil), by.signature...), nil
	case f.writableLocked(by.pair):
		return f.who.sign(by.pair, h)
	}
	if p := f.who.prologue(); p != nil && h.Length == p.Length && h.Hash == p.Hash {
		return nil, nil
	}
	return nil, ErrNotWritable
}

// appending is one call of append.
type appending struct {
	signing
	line       *line // nil: the feed itself
	blocks     [][]byte
	encryption Encryption
	maxLength  uint64
	condition  *Head
	appended   func() // nil: none
}

// append adds blocks at the end: all or none.
func (f *Feed) append(ctx context.Context, a *appending) error {
	padding := paddingOf(a.encryption)
	size := uint64(0)
	for i, b := range a.blocks {
		n := uint64(len(b)) + padding
		if n > MaxBlockBytes {
			return fmt.Errorf("%w: block %d of the call has %d bytes", ErrBlockTooLarge, i, n)
		}
		size += n
	}
	giveBack, leave, err := f.begin(ctx)
	if err != nil {
		return err
	}
	defer leave()
	change, err := f.appendInTurn(ctx, a, size)
	giveBack()
	if err == nil && len(change.Added) > 0 {
		f.announce(change)
	}
	return err
}

func (f *Feed) appendInTurn(ctx context.Context, a *appending, size uint64) (Change, error) {
	// What is under mu may be read without it here: it changes in a turn only.
	tree := f.tree
	if a.line != nil {
		tree = a.line.tree
	}
	switch head := tree.Head(); {
	case a.line != nil && a.line.gone:
		return Change{}, ErrClosed
	case a.line == nil && f.auth.frozen:
		return Change{}, f.frozen()
	case a.line == nil && f.auth.recovering:
		return Change{}, ErrRecovering
	case a.line == nil && a.signature == nil && !f.mayAppendLocked(a.pair):
		return Change{}, ErrNotWritable
	case a.condition != nil && *a.condition != head:
		return Change{}, fmt.Errorf("%w: it is of length %d and fork %d", ErrDiverged, head.Length, head.Fork)
	case len(a.blocks) == 0:
		return Change{}, nil
	case uint64(len(a.blocks)) > maxLength-head.Length:
		return Change{}, fmt.Errorf("%w: more than %d blocks", ErrOutOfRange, uint64(maxLength))
	case a.maxLength > 0 && head.Length+uint64(len(a.blocks)) > a.maxLength:
		return Change{}, nil
	}
	if err := f.checkSpace(size); err != nil {
		return Change{}, err
	}
	batch := tree.NewBatch()
	batch.Grow(len(a.blocks))
	blocks := make([]blockWrite, len(a.blocks))
	var salt uint64
	if a.encryption != nil {
		salt = encryptionSalt()
	}
	for i, b := range a.blocks {
		index := tree.Length() + uint64(i)
		if a.encryption != nil {
			var err error
			if b, err = a.encryption.Encrypt(index, salt, b); err != nil {
				return Change{}, fmt.Errorf("feed: append: %w", err)
			}
		}
		blocks[i] = blockWrite{index, b}
		if err := batch.Append(b); err != nil {
			return Change{}, fmt.Errorf("feed: append: %w", err)
		}
	}
	var change Change
	var err error
	if a.line != nil {
		err = f.growLine(ctx, a.line, batch, blocks)
	} else {
		change, err = f.grow(ctx, batch, blocks, a.signing)
	}
	if err == nil && a.appended != nil {
		a.appended()
	}
	return change, err
}

// encryptionSalt returns what stands for the fork in the encryption of the blocks of one append: chance. The same
// index of the same feed is written again after a truncation, on a branch, from a backup, and in a feed that was
// deleted and is made again, and no number that is stored here is sure to be another one each time. Two blocks
// encrypted alike would show their difference. Readers do not look at it (formats.md 7).
func encryptionSalt() uint64 {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return binary.LittleEndian.Uint64(b[:])
}

// mayAppendLocked reports whether the key pair alone is enough, or none is needed yet.
func (f *Feed) mayAppendLocked(pair KeyPair) bool {
	if f.writableLocked(pair) {
		return true
	}
	if f.who == nil {
		return false
	}
	p := f.who.prologue()
	return p != nil && f.head.length < p.Length
}

// grow stores blocks at the end of the feed, and the head that comes out of it. batch holds them. The
// caller has the turn.
func (f *Feed) grow(ctx context.Context, batch *merkle.Batch, blocks []blockWrite, by signing) (Change, error) {
	tree := batch.Tree()
	if err := f.checkPrologue(tree.Head(), batch.Nodes()); err != nil {
		return Change{}, err
	}
	signature, err := f.sign(tree, by)
	if err != nil {
		return Change{}, err
	}
	c := f.newCommit()
	c.blocks, c.nodes, c.durable = blocks, batch.Nodes(), true
	c.head = f.nextHead(tree, signature, blocks)
	if err := f.storage.write(ctx, c); err != nil {
		return Change{}, err
	}
	added := []Range{{Start: f.head.length, End: c.head.length}}
	f.swap(&change{commit: c, tree: tree, added: added})
	f.sweepIfQuiet(ctx)
	return Change{Head: tree.Head(), Added: added}, nil
}

// checkPrologue refuses a growth that contradicts the prologue or stops inside it. nodes are those that
// it brings.
func (f *Feed) checkPrologue(head Head, nodes []Node) error {
	if f.who == nil {
		return nil
	}
	p := f.who.prologue()
	if p == nil || f.head.length >= p.Length {
		return nil
	}
	if head.Length < p.Length {
		return fmt.Errorf("%w: the prologue of %d blocks has to be filled at once", ErrNotWritable, p.Length)
	}
	// The tree has grown past the end of the prologue: what it was there is made again, of the leaves.
	again := f.tree.NewBatch()
	leaves := make(map[uint64]Node)
	for _, n := range nodes {
		if n.Index.Depth() == 0 {
			leaves[n.Index.Offset()] = n
		}
	}
	for i := f.head.length; i < p.Length; i++ {
		if err := again.AppendLeaf(leaves[i]); err != nil {
			return fmt.Errorf("feed: append: %w", err)
		}
	}
	if again.Head().Hash != p.Hash {
		return fmt.Errorf("%w: the blocks are not those of the prologue", ErrNotWritable)
	}
	return nil
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
	return headOf(tree, signature, contiguous, f.head.generations)
}

func headOf(tree *merkle.Tree, signature []byte, contiguous uint64, g generations) *headRecord {
	return &headRecord{
		fork:        tree.Fork(),
		length:      tree.Length(),
		contiguous:  contiguous,
		generations: g,
		roots:       tree.Roots(),
		signature:   signature,
	}
}

// change is a commit of the feed itself that has been stored, to be made visible.
type change struct {
	*commit
	tree    *merkle.Tree
	added   []Range
	lost    *Range     // of a rewriting: the blocks of before that are gone
	cleared []Range    // stored blocks that are not stored any more
	clears  bool       // records have become garbage
	who     *authority // learned with it, or nil
}

// swap makes what has been stored visible, in one step: nobody sees a head without the manifest that it was
// verified by. The caller has the turn.
func (f *Feed) swap(c *change) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.partLocked(c)
	f.tree, f.head = c.tree, c.head
	if c.after != nil {
		f.bits = *c.after
		f.local = f.bits.Count(0, f.head.length)
	} else {
		for _, r := range c.added {
			f.local += f.bits.SetRange(r.Start, r.End, true)
		}
	}
	if c.auth != nil {
		f.auth, f.authDirty = c.auth, false
	}
	if c.who != nil {
		f.learnLocked(c.who)
	}
	if c.clears {
		f.turnPageLocked()
	}
	if c.lost != nil {
		f.loseLocked(*c.lost)
		f.hints.clear()
	}
}

// partLocked notes for the lines what they have and the feed is going to have no more. Snapshots come and
// go without the turn: which there are is known only now.
func (f *Feed) partLocked(c *change) {
	for l := range f.lines {
		if c.lost != nil && l.shared > c.lost.Start {
			l.bits, l.shared = *f.leaving(l, c.lost.Start), c.lost.Start
		}
		for _, r := range c.cleared {
			if l.frozen && l.shared > r.Start {
				l.bits.SetRange(r.Start, min(r.End, l.shared), true)
			}
		}
	}
}

// turnPageLocked begins an epoch: whoever reads from now on does not see what has become garbage.
func (f *Feed) turnPageLocked() {
	f.stale = append(f.stale, f.epoch)
	f.epoch = new(epoch)
	f.sweepDue.Store(true)
}

// loseLocked ends the calls that wait for blocks which a rewriting has taken away.
func (f *Feed) loseLocked(lost Range) {
	for s := range f.sessions {
		s.lose(lost)
	}
}

// dirtyAuth returns the auth record if it has to be stored with the next commit.
func (f *Feed) dirtyAuth() *authRecord {
	if f.authDirty {
		return f.auth
	}
	return nil
}
