package corestore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	datastore "github.com/ipfs/go-datastore"

	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/internal/compact"
	"github.com/p2pcore/p2pcore/internal/lifecycle"
)

// Options of Open. The zero value is a writable store with a primary key of its own.
type Options struct {
	// PrimaryKey is the secret that named feeds are derived from. nil: the stored one, or, in a new
	// store, 32 random bytes. A key that differs from the stored one is ErrPrimaryKey.
	PrimaryKey *[32]byte

	// DefaultKey makes the feed of this key the store's default, see Store.Default. nil: the one that the store has,
	// or, in a new store, one of its own. A key that differs from the one that the store has is ErrDefaultKey.
	DefaultKey *feed.Key

	// Extensions are the types of extension messages that are sent to and taken from the peers of the group; see
	// Store.OnExtension and AddExtensions.
	Extensions []string

	// ManifestVersion is the version of the manifests of new feeds: 1 or 2. 0 is 1. Feeds that exist
	// keep the one that they were made with.
	ManifestVersion int

	// ReadOnly refuses everything that writes. The store must exist.
	ReadOnly bool

	// NoSync leaves out every fsync. After a crash the newest appends may be gone although peers
	// have seen them: such a feed can no longer be written without contradicting itself.
	NoSync bool

	// IdleTimeout is how long a feed without sessions and releases stays open. 0 is
	// DefaultIdleTimeout, less than 0 is for ever.
	IdleTimeout time.Duration

	// Logger is silent if nil.
	Logger *slog.Logger
}

func (o Options) withDefaults() (Options, error) {
	switch o.ManifestVersion {
	case 0:
		o.ManifestVersion = 1
	case 1, 2:
	default:
		return o, fmt.Errorf("corestore: ManifestVersion %d, want 1 or 2", o.ManifestVersion)
	}
	if o.IdleTimeout == 0 {
		o.IdleTimeout = DefaultIdleTimeout
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o, nil
}

// Store is a handle on a set of feeds in one datastore, seen from one namespace. All methods are safe for
// concurrent use.
type Store struct {
	*shared
	ns     Namespace
	root   bool // made by Open
	scoped bool // made by Namespace: lists its own names only

	// Under handleMu.
	handleMu sync.Mutex
	closed   bool // not of the root, whose end is shared.closing
	sessions map[*feed.Session]struct{}
	ended    int // sessions taken out, for shrink.Delete
}

// shared is what a store and its namespaces have in common.
type shared struct {
	// Set in Open.
	ds      datastore.Batching
	index   index
	primary secret
	opts    Options
	atomic  bool // a batch of ds is all or nothing
	group   lifecycle.Group

	deletions deletions

	// turn holds one token for whoever changes names or an existing record; it is kept during the
	// writing. Feeds without names are made without it.
	turn chan struct{}

	// numberTurn is the same for setting numbers aside. It guards next and end: unused numbers.
	numberTurn chan struct{}
	next, end  uint64

	// Under mu, which is never held across I/O or a callback.
	mu       sync.Mutex
	closing  bool
	standard defaultRecord // which feed is the default
	slots    map[feed.DiscoveryKey]*slot
	gone     int // slots taken out, for shrink.Delete
	onOpen   callbacks[func(*feed.Feed)]
	onRemove callbacks[func(feed.DiscoveryKey, *feed.Feed)]
	onActive callbacks[func(*feed.Feed, bool)]
	messages messages
}

// Open opens the store in ds, or makes it. It reads three records and a list, empty as a rule, however many feeds there
// are; a new store writes its primary key and which feed is its default, durably. ctx bounds the opening. ds stays the caller's to close,
// after the store; nothing else may write to it under the keys of the package comment.
//
// The error is ErrPrimaryKey, ErrDefaultKey, ErrExtension, ErrCorrupt, ErrReadOnly (no store in ds and ReadOnly set), or the
// datastore's.
//
// If ds has a method AtomicBatch() bool that returns true, a feed is made in one batch; otherwise in
// steps whose order lets no crash leave half a feed that opens. Feeds use more such methods, see
// package feed.
func Open(ctx context.Context, ds datastore.Batching, opts Options) (*Store, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	sh := &shared{
		ds:         ds,
		opts:       opts,
		turn:       make(chan struct{}, 1),
		numberTurn: make(chan struct{}, 1),
		slots:      make(map[feed.DiscoveryKey]*slot),
	}
	sh.index = index{ds: ds, deletions: &sh.deletions}
	if _, err := sh.messages.declare(opts.Extensions); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	if a, ok := ds.(interface{ AtomicBatch() bool }); ok {
		sh.atomic = a.AtomicBatch()
	}
	if err := sh.load(ctx); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	if err := sh.finishDeleting(ctx); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	if err := sh.loadDefault(ctx); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	return &Store{shared: sh, root: true}, nil
}

// load reads the primary key and the next number, or begins a new store.
func (s *shared) load(ctx context.Context) error {
	stored, err := s.index.get(ctx, primaryKey)
	if err != nil {
		return err
	}
	next, err := s.index.get(ctx, nextKey)
	if err != nil {
		return err
	}
	if next != nil {
		d := compact.NewDecoder(next)
		s.next = d.Uint()
		s.end = s.next
		if d.Err() != nil {
			return fmt.Errorf("%w: next number %x", ErrCorrupt, next)
		}
	}
	switch {
	case stored == nil && next != nil:
		// A new key would make other feeds of the same names.
		return fmt.Errorf("%w: there are feeds and no primary key", ErrCorrupt)
	case stored == nil:
		return s.begin(ctx)
	case len(stored) != 1+len(s.primary.key) || stored[0] != primaryVersion:
		return fmt.Errorf("%w: primary key record", ErrCorrupt)
	}
	copy(s.primary.key[:], stored[1:])
	if given := s.opts.PrimaryKey; given != nil && *given != s.primary.key {
		return ErrPrimaryKey
	}
	s.opts.PrimaryKey = nil
	return nil
}

// readOnly is what a store that was opened read-only refuses writing with: ErrReadOnly, and why the datastore cannot be
// written, such as a full disk, if it says so.
func (s *shared) readOnly() error {
	if r, ok := s.ds.(feed.ReadOnlyStore); ok && r.ReadOnly() != nil {
		return fmt.Errorf("%w: %w", ErrReadOnly, r.ReadOnly())
	}
	return ErrReadOnly
}

// begin makes the primary key of a new store.
func (s *shared) begin(ctx context.Context) error {
	if s.opts.ReadOnly {
		return fmt.Errorf("%w: no store here yet", s.readOnly())
	}
	if given := s.opts.PrimaryKey; given != nil {
		s.primary.key = *given
	} else {
		rand.Read(s.primary.key[:]) // never fails
	}
	s.opts.PrimaryKey = nil
	if err := s.ds.Put(ctx, primaryKey, append([]byte{primaryVersion}, s.primary.key[:]...)); err != nil {
		return err
	}
	return s.sync(ctx)
}

// sync makes everything written so far durable, unless the store was told not to.
func (s *shared) sync(ctx context.Context) error {
	if s.opts.NoSync {
		return nil
	}
	return s.ds.Sync(ctx, datastore.RawKey("/"))
}

// Namespace returns a new handle: the store as seen from the namespace called name within this one. Names in
// different namespaces are different feeds; everything else is shared. A handle of a closed one is closed.
func (s *Store) Namespace(name string) *Store {
	return &Store{shared: s.shared, ns: s.ns.Child(name), scoped: true, closed: s.isClosed()}
}

// Session returns a new handle on the same store and namespace. It owns the sessions of feeds that are handed out
// through it: its Close ends these, and nothing else. A handle of a closed one is closed.
func (s *Store) Session() *Store {
	return &Store{shared: s.shared, ns: s.ns, scoped: s.scoped, closed: s.isClosed()}
}

func (s *Store) isClosed() bool {
	s.handleMu.Lock()
	defer s.handleMu.Unlock()
	return s.closed
}

// KeyPair returns the key pair that belongs to name in this namespace, whether or not there is such a
// feed. Any bytes are a name here, also none.
func (s *Store) KeyPair(name string) feed.KeyPair { return s.primary.keyPair(s.ns, name) }

// Close ends the store: it refuses new calls, waits for those that run, and closes all feeds, which
// ends their sessions. When it returns nothing touches the datastore any more. It may be called
// again. It must not be called by a callback of the store nor inside a loop over List.
//
// Close of a handle made by Namespace or Session ends the sessions that were handed out through it, and nothing
// else, nor handles made from it; the handle refuses new calls from then on.
func (s *Store) Close() error {
	if !s.root {
		return s.closeHandle()
	}
	s.mu.Lock()
	s.closing = true
	s.mu.Unlock()
	s.group.Close()
	return s.closeFeeds()
}

func (s *Store) closeHandle() error {
	s.handleMu.Lock()
	s.closed = true
	sessions := s.sessions
	s.sessions = nil
	s.handleMu.Unlock()
	var errs []error
	for session := range sessions {
		errs = append(errs, session.Close())
	}
	return errors.Join(errs...)
}

// enter counts the caller as using the store until it calls leave. A closed handle refuses.
func (s *Store) enter() (leave func(), err error) {
	if s.isClosed() {
		return nil, ErrClosed
	}
	return s.shared.enter()
}

// enter counts the caller as using the store until it calls leave.
func (s *shared) enter() (leave func(), err error) {
	_, leave, ok := s.group.Enter()
	if !ok {
		return nil, ErrClosed
	}
	return leave, nil
}

// take waits for a turn; give it back with <-turn.
func take(ctx context.Context, turn chan struct{}) error {
	select {
	case turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
