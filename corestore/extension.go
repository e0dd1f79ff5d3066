package corestore

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Bounds on the types of extension messages.
const (
	// MaxExtensionBytes bounds a type's name: the wire's bound (package protocol) is the same.
	MaxExtensionBytes = 128
	// MaxExtensions bounds how many types a store declares. An application has a handful.
	MaxExtensions = 1024
)

var (
	// ErrExtension: the type of an extension message is empty or longer than MaxExtensionBytes, or there are more than
	// MaxExtensions of them.
	ErrExtension = errors.New("corestore: bad extension type")
	// ErrUndeclared: the type of an extension message was not declared.
	ErrUndeclared = errors.New("corestore: extension type was not declared")
)

// Peer is somebody who shares the group with this store: it has proved that it knows the default feed's key. It is
// whoever replicates the store that makes Peers; they are comparable, and one peer is one Peer as long as it stays.
type Peer interface {
	// Name is the name by which the replicator knows the peer, such as its libp2p peer ID.
	Name() string
	// Extension sends the peer a message of a declared type. Messages to one peer arrive in order, and are dropped
	// there if it has not declared the type. It does not wait for the peer. The error is ErrUndeclared, the
	// replicator's, or ctx's.
	Extension(ctx context.Context, typ string, message []byte) error
}

// messages is who listens to the peers of the group, and for what. Under shared.mu.
type messages struct {
	types       []string // declared, in that order; not changed in place
	peers       []Peer   // in the order they came
	onDeclare   callbacks[func(types []string)]
	onExtension callbacks[func(ctx context.Context, typ string, message []byte, from Peer)]
	onAdd       callbacks[func(ctx context.Context, p Peer)]
	onRemove    callbacks[func(ctx context.Context, p Peer)]
}

// AddExtensions declares types of extension messages, beside those of Options.Extensions. It works on connections that
// live, too. Types that are declared already are left out. If the error is ErrExtension, none was added.
func (s *Store) AddExtensions(types ...string) error {
	s.mu.Lock()
	added, err := s.messages.declare(types)
	told := s.messages.onDeclare.snapshot()
	s.mu.Unlock()
	if err != nil || len(added) == 0 {
		return err
	}
	for _, fn := range told {
		fn(added)
	}
	return nil
}

// declare returns what is new of types. shared.mu is held, if there is somebody else yet.
func (m *messages) declare(types []string) (added []string, err error) {
	for _, typ := range types {
		if typ == "" || len(typ) > MaxExtensionBytes {
			return nil, fmt.Errorf("%w: it has %d bytes", ErrExtension, len(typ))
		}
		if !slices.Contains(m.types, typ) && !slices.Contains(added, typ) {
			added = append(added, typ)
		}
	}
	if n := len(m.types) + len(added); n > MaxExtensions {
		return nil, fmt.Errorf("%w: there would be %d", ErrExtension, n)
	}
	m.types = append(slices.Clip(m.types), added...)
	return added, nil
}

// Extensions returns the declared types in the order in which they were.
func (s *Store) Extensions() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.messages.types)
}

// Declared reports whether a type is declared.
func (s *Store) Declared(typ string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.messages.types, typ)
}

// OnExtension calls fn with every message of a declared type that a peer of the group sends, from now on. A message of
// another type is dropped, also if the type is declared later. The message is the bytes that were sent: a JavaScript peer
// has to choose an encoding such as registerExtension(typ, { encoding: 'binary' }); its default one puts a length before them.
//
// What comes from one peer comes in order and one at a time, after OnPeerAdd and before OnPeerRemove of that peer. fn
// may call anything of the store and of the replicator but Close, which waits for it. While fn waits the peer's further
// messages do, too, and at last the peer is read no further; so fn must end with ctx, which ends when replication does.
// stop removes fn; a call that has begun may still run when stop returns.
func (s *Store) OnExtension(fn func(ctx context.Context, typ string, message []byte, from Peer)) (stop func()) {
	return on(s.shared, &s.messages.onExtension, fn)
}

// OnPeerAdd calls fn when a peer has come to the group: once, however many feeds and connections it shares with us,
// until OnPeerRemove. The rules of OnExtension hold. Peers that are there already are not passed to fn; add the callback
// first and look at Peers then.
func (s *Store) OnPeerAdd(fn func(ctx context.Context, p Peer)) (stop func()) {
	return on(s.shared, &s.messages.onAdd, fn)
}

// OnPeerRemove calls fn when the last connection to a peer has ended, once for each OnPeerAdd. The rules of OnExtension
// hold. That peers have gone because the default feed was removed or deleted is told without holding up the removal.
func (s *Store) OnPeerRemove(fn func(ctx context.Context, p Peer)) (stop func()) {
	return on(s.shared, &s.messages.onRemove, fn)
}

// on adds a callback to a set of them.
func on[F any](s *shared, c *callbacks[F], fn F) (stop func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := c.add(fn)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		c.remove(p)
	}
}

// Peers returns the peers of the group that are here, in the order in which they came.
func (s *Store) Peers() []Peer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.messages.peers)
}

// OnDeclare calls fn with types that are declared from now on. It is for replicators, as PeerAdded, PeerRemoved and
// Extended are: those bring what the callbacks above are told.
func (s *Store) OnDeclare(fn func(types []string)) (stop func()) {
	return on(s.shared, &s.messages.onDeclare, fn)
}

// Enter counts the caller as using the store until it calls leave: Close waits for that. ok is false once the store
// closes. It is for replicators that have something left to tell.
func (s *Store) Enter() (leave func(), ok bool) {
	_, leave, ok = s.group.Enter()
	return leave, ok
}

// PeerAdded tells the store that p has come. It waits for the callbacks.
func (s *Store) PeerAdded(ctx context.Context, p Peer) {
	s.mu.Lock()
	s.messages.peers = append(s.messages.peers, p)
	fns := s.messages.onAdd.snapshot()
	s.mu.Unlock()
	for _, fn := range fns {
		fn(ctx, p)
	}
}

// PeerRemoved tells the store that p has gone. It waits for the callbacks.
func (s *Store) PeerRemoved(ctx context.Context, p Peer) {
	s.mu.Lock()
	s.messages.peers = slices.DeleteFunc(s.messages.peers, func(q Peer) bool { return q == p })
	fns := s.messages.onRemove.snapshot()
	s.mu.Unlock()
	for _, fn := range fns {
		fn(ctx, p)
	}
}

// Extended tells the store of a message, which is the callbacks' own. It waits for them.
func (s *Store) Extended(ctx context.Context, typ string, message []byte, from Peer) {
	s.mu.Lock()
	fns := s.messages.onExtension.snapshot()
	s.mu.Unlock()
	for _, fn := range fns {
		fn(ctx, typ, message, from)
	}
}
