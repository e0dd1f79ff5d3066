package feed

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"sync/atomic"

	datastore "github.com/ipfs/go-datastore"

	"github.com/p2pcore/p2pcore/internal/bitfield"
	"github.com/p2pcore/p2pcore/internal/compact"
	"github.com/p2pcore/p2pcore/internal/lifecycle"
	"github.com/p2pcore/p2pcore/internal/merkle"
)

// Options of Open and Create.
type Options struct {
	// Prefix is where in the datastore the feed lives, such as "/0000002a": a clean datastore key,
	// of which no other key in use is a part. The feed touches nothing outside it.
	Prefix string

	// What is known of the feed's identity. They must agree with each other and with what is
	// stored, else ErrKeyMismatch. Create needs at least one: from KeyPair alone follows the default
	// manifest, from Manifest the key; a feed of a Key alone learns its manifest from a peer. Create
	// stores the key pair; a pair given to Open is used and not stored.
	Key      *Key
	Manifest *Manifest
	KeyPair  *KeyPair

	// Fork is the fork number that a new feed begins with (Create only). It is for a key that was used
	// before: one more than the last fork of the feed that was deleted, so that readers see a truncation
	// and not a contradiction.
	Fork uint64

	// Also puts what is to commit together with the feed's first record (Create only).
	Also func(ctx context.Context, b datastore.Batch) error

	// Encryption is what sessions use that have none of their own; nil: blocks are stored as they are.
	Encryption Encryption

	// ReadOnly opens without writing (Open only): what an interrupted change has left is not swept, marking does not go on, and
	// whatever writes is refused. If the datastore is a ReadOnlyStore, its error is the reason; else it
	// wraps ErrNotWritable.
	ReadOnly bool

	// NoSync returns from Append before the blocks are on stable storage. After a power failure the
	// feed may have forgotten blocks that peers have seen; appending then makes a fork that they
	// refuse, for good. Only for feeds that can be thrown away.
	NoSync bool

	// Space is asked before anything is stored; an error, which wraps ErrNoSpace, refuses it.
	// nil: the datastore's FreeSpace is asked if it has one.
	Space func() error

	// CacheNodePages bounds the node pages of 5 KB in memory, at least 4. 0: 16.
	CacheNodePages int

	Logger *slog.Logger // nil: silent
}

func (o *Options) normalize() error {
	if k := datastore.NewKey(o.Prefix); o.Prefix == "" || k.String() != o.Prefix || o.Prefix == "/" {
		return fmt.Errorf("feed: option Prefix: %q is no clean key", o.Prefix)
	}
	if o.CacheNodePages == 0 {
		o.CacheNodePages = defaultCacheNodePages
	}
	o.CacheNodePages = max(o.CacheNodePages, minCacheNodePages)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// Feed is one signed, append-only log of blocks. It is opened once per datastore and used through
// sessions by applications, and directly by replication. All methods are safe for concurrent use.
//
// It starts no goroutine. Close it when no session is left.
type Feed struct {
	// set in Open
	key     Key
	dk      DiscoveryKey
	storage *storage
	space   func() error
	log     *slog.Logger
	ops     lifecycle.Group // whoever touches the datastore

	sweepDue atomic.Bool // there may be garbage that can be deleted now
	marks    marks
	turn     chan struct{} // held for a whole append or apply; capacity 1
	alone    chan struct{} // held by the exclusive session; capacity 1

	// under mu; written only by who has the turn as well, except closed, source and the two sets
	mu         sync.RWMutex
	tree       *merkle.Tree
	head       *headRecord // as stored; replaced, never changed
	bits       bitfield.Bitfield
	local      uint64         // number of bits
	auth       *authRecord    // replaced, never changed
	conflict   *ConflictError // why it is frozen; nil: not known, or it is not
	who        *authority     // nil: manifest not known
	pair       KeyPair        // may be zero
	closed     bool
	source     Source
	encryption Encryption // of sessions that have none of their own; nil: none
	subs       map[*Subscription]struct{}
	sessions   map[*Session]struct{}
	branches   map[string]*line   // all that are stored
	lines      map[*line]struct{} // all that are open or stored
	epoch      *epoch             // that of the readers who come now

	hints hints

	// owned by the turn
	authDirty bool     // auth has not been stored yet
	stale     []*epoch // earlier ones that may have readers
}

// Open opens the feed stored under opts.Prefix. ctx bounds the opening only.
//
// The error is ErrNotFound if nothing is stored there, ErrKeyMismatch if opts describe another feed,
// ErrCorrupt if what is stored makes no sense, or the datastore's.
func Open(ctx context.Context, ds datastore.Batching, opts Options) (*Feed, error) {
	if err := opts.normalize(); err != nil {
		return nil, err
	}
	s := newStorage(ds, &opts)
	auth, head, bits, err := s.load(ctx)
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	if auth == nil {
		return nil, fmt.Errorf("open %s: %w", opts.Prefix, ErrNotFound)
	}
	known, err := opts.identity(auth)
	if err != nil {
		return nil, err
	}
	f, err := newFeed(s, &opts, known, head)
	if err != nil {
		return nil, err
	}
	f.bits = *bits
	f.local = f.bits.Count(0, head.length)
	if err := f.loadBranches(ctx); err != nil {
		return nil, fmt.Errorf("open %s: %w", opts.Prefix, err)
	}
	if err := f.loadConflict(ctx); err != nil {
		return nil, fmt.Errorf("open %s: %w", opts.Prefix, err)
	}
	if !opts.ReadOnly {
		if err := f.loadMarks(ctx); err != nil {
			return nil, fmt.Errorf("open %s: %w", opts.Prefix, err)
		}
		f.sweepDue.Store(true)
		f.sweepIfQuiet(ctx)
	}
	if auth.manifest == nil && known.manifest != nil {
		f.authDirty = true // whoever gave it can give it again: no need for a commit of its own
	}
	return f, nil
}

// Create makes a new feed under opts.Prefix, durable when it returns. The error is ErrExists if there
// is one, ErrKeyMismatch if the parts of the identity do not agree, ErrInvalidManifest, ErrNoSpace, or
// the datastore's.
func Create(ctx context.Context, ds datastore.Batching, opts Options) (*Feed, error) {
	if err := opts.normalize(); err != nil {
		return nil, err
	}
	known, err := opts.identity(nil)
	if err != nil {
		return nil, err
	}
	s := newStorage(ds, &opts)
	if exists, err := s.exists(ctx); err != nil {
		return nil, err
	} else if exists {
		return nil, fmt.Errorf("create %s: %w", opts.Prefix, ErrExists)
	}
	if opts.Fork > compact.MaxInt {
		return nil, fmt.Errorf("%w: fork %d; the last one is 2^53-1", ErrOutOfRange, opts.Fork)
	}
	head := emptyHead()
	head.fork = opts.Fork
	f, err := newFeed(s, &opts, known, head)
	if err != nil {
		return nil, err
	}
	if err := f.checkSpace(0); err != nil {
		return nil, err
	}
	c := &commit{base: head, head: head, bits: &f.bits, auth: known, durable: true, also: opts.Also}
	if !s.atomic { // before what Also puts
		c.puts = []put{{key: s.headKey(), value: head.append(nil), early: true}}
	}
	if err := s.write(ctx, c); err != nil {
		return nil, err
	}
	return f, nil
}

func newFeed(s *storage, opts *Options, auth *authRecord, head *headRecord) (*Feed, error) {
	f := &Feed{
		key:        auth.key,
		dk:         auth.key.DiscoveryKey(),
		storage:    s,
		space:      opts.Space,
		encryption: opts.Encryption,
		turn:       make(chan struct{}, 1),
		alone:      make(chan struct{}, 1),
		head:       head,
		auth:       auth,
		pair:       auth.pair,
		subs:       make(map[*Subscription]struct{}),
		sessions:   make(map[*Session]struct{}),
		branches:   make(map[string]*line),
		lines:      make(map[*line]struct{}),
		epoch:      new(epoch),
	}
	f.log = opts.Logger.With("feed", f.dk.Short())
	if opts.KeyPair != nil {
		f.pair = *opts.KeyPair
	}
	if opts.ReadOnly {
		f.pair = KeyPair{}
	}
	var err error
	if f.tree, err = merkle.NewTree(head.fork, head.roots); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if auth.manifest != nil {
		if f.who, err = newAuthority(auth.key, auth.manifest); err != nil {
			return nil, err
		}
		f.tree = f.tree.WithPrologue(f.who.prologue())
	}
	return f, nil
}

// identity joins what the options say with what is stored (nil: nothing).
func (o *Options) identity(stored *authRecord) (*authRecord, error) {
	known := &authRecord{}
	if stored != nil {
		*known = *stored
	}
	manifest := o.Manifest
	switch {
	case manifest != nil:
		var err error
		if manifest, err = ParseManifest(manifest.Append(nil)); err != nil { // a copy, and in bounds
			return nil, err
		}
	case o.KeyPair != nil && stored == nil:
		manifest = DefaultManifest(o.KeyPair.Public())
	}
	if stored == nil {
		switch {
		case o.Key != nil:
			known.key = *o.Key
		case manifest != nil:
			known.key = manifest.Key()
		default:
			return nil, fmt.Errorf("%w: no key, manifest or key pair given", ErrKeyMismatch)
		}
		if o.KeyPair != nil {
			known.pair = *o.KeyPair
		}
	} else if o.Key != nil && *o.Key != known.key {
		return nil, fmt.Errorf("%w: another feed is stored here", ErrKeyMismatch)
	}
	if manifest == nil && known.manifest == nil && o.KeyPair != nil {
		// A feed that was stored by its key alone; most are of one writer with the default manifest.
		if m := DefaultManifest(o.KeyPair.Public()); m.belongs(known.key) {
			manifest = m
		}
	}
	if manifest != nil {
		if !manifest.belongs(known.key) {
			return nil, fmt.Errorf("%w: manifest hashes to another key", ErrKeyMismatch)
		}
		known.manifest = manifest
	}
	if o.KeyPair != nil && known.manifest != nil && !known.manifest.signedBy(o.KeyPair.Public()) {
		return nil, fmt.Errorf("%w: key pair is of no signer", ErrKeyMismatch)
	}
	return known, nil
}

// Key returns the feed's key.
func (f *Feed) Key() Key { return f.key }

// DiscoveryKey returns the name under which the feed is looked for.
func (f *Feed) DiscoveryKey() DiscoveryKey { return f.dk }

// Info returns the state at this moment, from memory.
func (f *Feed) Info() Info {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.infoLocked()
}

func (f *Feed) infoLocked() Info {
	return Info{
		Key:              f.key,
		Head:             f.tree.Head(),
		ContiguousLength: f.head.contiguous,
		LocalBlocks:      f.local,
		SignedLength:     f.head.length,
		Writable:         f.writableLocked(f.pair),
		HasManifest:      f.who != nil,
		Compat:           f.who != nil && f.who.compat,
		Frozen:           f.auth.frozen,
		Recovering:       f.auth.recovering,
	}
}

func (f *Feed) writableLocked(pair KeyPair) bool {
	return !pair.IsZero() && f.who != nil && f.who.soleSigner(pair.Public())
}

// Manifest returns the manifest, or nil if it is not known. It must not be changed.
func (f *Feed) Manifest() *Manifest {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.who == nil {
		return nil
	}
	return f.who.manifest
}

// ManifestBytes returns the encoded manifest as peers get it: nil if it is not known, or if the feed
// is a compat one, whose manifest never travels.
func (f *Feed) ManifestBytes() []byte {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.who == nil || f.who.compat {
		return nil
	}
	return f.who.manifest.Append(nil)
}

// Has reports whether all blocks of r are stored. It is true for an empty range.
func (f *Feed) Has(r Range) bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.bits.HasRange(r.Start, r.End)
}

// Ranges yields the maximal stored ranges within r, in order, as they were when the iteration began.
func (f *Feed) Ranges(r Range) iter.Seq[Range] {
	return func(yield func(Range) bool) {
		// The lock is not held while the caller works. Bits only get more between two steps, but for
		// a truncation, after which a stale range does no harm.
		for at := r.Start; at < r.End; {
			next, ok := f.nextRange(Range{Start: at, End: r.End})
			if !ok || !yield(next) {
				return
			}
			at = next.End + 1
		}
	}
}

func (f *Feed) nextRange(r Range) (Range, bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	start, ok := f.bits.FirstSet(r.Start)
	if !ok || start >= r.End {
		return Range{}, false
	}
	return Range{Start: start, End: min(f.bits.FirstUnset(start), r.End)}, true
}

// FirstMissing returns the first index from start on whose block is not stored; it may lie past the
// end.
func (f *Feed) FirstMissing(start uint64) uint64 {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.bits.FirstUnset(start)
}

// SetEncryption says what sessions opened from now on use that have no encryption of their own; nil: none.
func (f *Feed) SetEncryption(e Encryption) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.encryption = e
}

// SetSource says who brings missing blocks; nil for nobody. Calls in flight keep the one they have.
// Sources are compared: s must be of a comparable type, such as a pointer.
func (f *Feed) SetSource(s Source) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.source = s
}

// DropSource is SetSource(nil) if s is the Source, and does nothing if another has taken its place.
func (f *Feed) DropSource(s Source) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.source == s {
		f.source = nil
	}
}

// Source returns who brings missing blocks, or nil.
func (f *Feed) Source() Source {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.source
}

// SetManifest makes the manifest known to a feed that was opened by its key alone, durably. It does nothing if it is
// known. The error is ErrKeyMismatch if it does not belong to the key, ErrInvalidManifest, ErrClosed, or the
// datastore's.
func (f *Feed) SetManifest(ctx context.Context, m *Manifest) error {
	m, err := ParseManifest(m.Append(nil)) // a copy, and in bounds
	if err != nil {
		return err
	}
	who, err := newAuthority(f.key, m)
	if err != nil {
		return err
	}
	if f.Manifest() != nil {
		return nil
	}
	learnt := false
	err = f.changeAuth(ctx, func(a *authRecord) *authority {
		if learnt = f.who == nil; !learnt {
			return nil // somebody has brought it while we waited for the turn
		}
		a.manifest = m
		return who
	})
	if err != nil || !learnt {
		return err
	}
	f.announce(Change{Head: f.Info().Head, Manifest: true})
	return nil
}

// Close ends the feed: what waits returns ErrClosed, what runs is waited for, and what was stored
// without a sync is synced. After it nothing touches the datastore. It may be called twice.
func (f *Feed) Close() error {
	f.mu.Lock()
	first := !f.closed
	f.closed = true
	subs, sessions := f.subs, f.sessions
	f.subs, f.sessions = nil, nil
	f.mu.Unlock()
	for s := range sessions {
		s.end()
	}
	for s := range subs {
		s.end()
	}
	f.ops.Close()
	if first {
		if err := f.saveMarks(context.Background()); err != nil {
			return fmt.Errorf("feed: close: %w", err)
		}
	}
	if first && f.storage.unsynced && !f.storage.noSync {
		if err := f.storage.sync(context.Background(), true); err != nil {
			return fmt.Errorf("feed: close: %w", err)
		}
	}
	return nil
}
