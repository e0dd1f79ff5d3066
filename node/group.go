package node

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/p2pcore/p2pcore/corestore"
	hyper "github.com/p2pcore/p2pcore/protocol"
)

// The group of a store is who has proved that it knows the default feed's key. That feed's channels carry the group's
// extension messages; what comes is told to the store.

// memberKey tells peers apart: by name, or those without one by their stream.
type memberKey struct {
	name string
	conn *hyper.Conn // nil if the peer has a name
}

func memberOf(p hyper.Peer) memberKey {
	if p.Name() != "" {
		return memberKey{name: p.Name()}
	}
	return memberKey{conn: p.Conn()}
}

// member is a peer of the group. It is a corestore.Peer.
type member struct {
	// set when made
	r   *Replicator
	key memberKey

	channels []hyper.Peer // under Replicator.mu: open ones of the default feed, oldest first
}

var _ corestore.Peer = (*member)(nil)

// Name returns the name that HandleConnection was given for the peer, with libp2p its peer ID, or "".
func (m *member) Name() string { return m.key.name }

// Extension sends a message of a declared type. The error is corestore.ErrUndeclared, hyper.ErrClosed if the peer has
// gone or has closed the default feed, hyper.ErrExtensionSize, hyper.ErrExtensionLost if the peer does not read, or ctx's.
func (m *member) Extension(ctx context.Context, typ string, message []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !m.r.store.Declared(typ) {
		return fmt.Errorf("%w: %q", corestore.ErrUndeclared, typ)
	}
	m.r.mu.Lock()
	channels := slices.Clone(m.channels)
	m.r.mu.Unlock()
	for _, p := range slices.Backward(channels) { // the newest is the likeliest to be open
		if err := p.Extend(typ, message); !errors.Is(err, hyper.ErrClosed) {
			return err
		}
	}
	return hyper.ErrClosed
}

// AddExtensions is the store's: types that are declared while connections live work on them.
func (r *Replicator) AddExtensions(types ...string) error { return r.store.AddExtensions(types...) }

// Extensions is the store's: the set of all types that are sent and taken.
func (r *Replicator) Extensions() []string { return r.store.Extensions() }

// onDeclare follows the store: more types of messages are declared.
func (r *Replicator) onDeclare(types []string) {
	r.mu.Lock()
	for _, e := range r.entries {
		if e.face {
			r.carry(e.x, types)
		}
	}
	connected := len(r.conns) > 0
	r.mu.Unlock()
	if connected {
		r.group.Go(r.openFace)
	}
}

// openFace opens the default feed, once, if there is something that its channels have to carry. Without it there are no
// messages, and replication goes on.
func (r *Replicator) openFace(ctx context.Context) {
	if len(r.store.Extensions()) == 0 && r.opts.Announce != AnnounceDefault {
		return
	}
	r.faceTurn.Lock()
	defer r.faceTurn.Unlock()
	if r.face != nil {
		return // also if it was removed meanwhile: whoever removed it may open it again
	}
	s, err := r.store.Default(ctx)
	if err != nil {
		r.log.Warn("default feed not opened, so no extension messages are exchanged", "err", err)
		return
	}
	r.face = s
}

// watchFace tells the store of what comes over the channels of e, if it is the default feed's. e is new, so its exchange
// has no channel yet. mu is held.
func (r *Replicator) watchFace(e *entry) {
	if e.f.Key() != r.store.DefaultKey() {
		return
	}
	e.face = true
	e.x.OnPeers(r.memberOpened, r.memberClosed)
	r.carry(e.x, r.store.Extensions())
}

// carry has messages of some types told to the store. An application that listens for a type on the feed itself keeps it.
func (r *Replicator) carry(x *hyper.Exchange, types []string) {
	for _, typ := range types {
		_, err := x.OnExtension(typ, func(ctx context.Context, from hyper.Peer, message []byte) {
			r.mu.Lock()
			m := r.members[memberOf(from)]
			r.mu.Unlock()
			if m != nil {
				r.store.Extended(ctx, typ, message, m)
			}
		})
		if err != nil && !errors.Is(err, hyper.ErrExtensionTaken) && !errors.Is(err, hyper.ErrClosed) {
			r.log.Error("extension messages are not taken", "type", typ, "err", err)
		}
	}
}

// memberOpened notes that a peer has opened a channel of the default feed.
func (r *Replicator) memberOpened(ctx context.Context, p hyper.Peer) {
	r.memberTurn.Lock()
	defer r.memberTurn.Unlock()
	key := memberOf(p)
	r.mu.Lock()
	m := r.members[key]
	added := m == nil
	if added {
		m = &member{r: r, key: key}
		r.members[key] = m
	}
	m.channels = append(m.channels, p)
	r.mu.Unlock()
	if added {
		r.store.PeerAdded(ctx, m)
	}
}

// memberClosed notes that such a channel has closed.
func (r *Replicator) memberClosed(ctx context.Context, p hyper.Peer) {
	r.memberTurn.Lock()
	defer r.memberTurn.Unlock()
	key := memberOf(p)
	r.mu.Lock()
	if m := r.members[key]; m != nil {
		m.channels = slices.DeleteFunc(m.channels, func(q hyper.Peer) bool { return q == p })
	}
	r.mu.Unlock()
	r.partWith(ctx, key)
}

// streamEnded notes that a stream has ended, or was not begun. What came over it is told before the peer goes. It does
// not wait for callbacks, which may wait for the stream's end; the store's Close does.
func (r *Replicator) streamEnded(t *talking) {
	key := memberKey{name: t.peer}
	if t.peer == "" {
		key.conn = t.conn
	}
	r.mu.Lock()
	known := r.members[key] != nil
	r.mu.Unlock()
	if !known {
		return
	}
	leave, _ := r.store.Enter()
	r.afterwards(func(ctx context.Context) {
		defer leave()
		r.memberTurn.Lock()
		defer r.memberTurn.Unlock()
		r.partWith(ctx, key)
	})
}

// faceCut follows the end of the default feed's exchange e.x, which was cut: its channels will not tell. Whoever removes
// the feed is not held up by callbacks, which may wait for the removal; whoever closes the store is.
func (r *Replicator) faceCut(e *entry) {
	leave, _ := r.store.Enter()
	r.afterwards(func(ctx context.Context) {
		defer leave()
		e.x.Close() // what came over it is told first
		r.memberTurn.Lock()
		defer r.memberTurn.Unlock()
		r.mu.Lock()
		var keys []memberKey
		for key, m := range r.members {
			m.channels = slices.DeleteFunc(m.channels, func(p hyper.Peer) bool { return p.Exchange() == e.x })
			keys = append(keys, key)
		}
		r.mu.Unlock()
		for _, key := range keys {
			r.partWith(ctx, key)
		}
	})
}

// afterwards calls fn on a goroutine of the group, or, if that closes, at the end of Close. It calls fn itself after Close.
func (r *Replicator) afterwards(fn func(ctx context.Context)) {
	if r.group.Go(fn) {
		return
	}
	r.mu.Lock()
	ended := r.ended
	if !ended {
		r.last = append(r.last, fn)
	}
	r.mu.Unlock()
	if ended {
		fn(r.group.Context())
	}
}

// tellLast calls what afterwards has left for the end of Close. The group has closed.
func (r *Replicator) tellLast() {
	r.mu.Lock()
	last := r.last
	r.last, r.ended = nil, true
	r.mu.Unlock()
	for _, fn := range last {
		fn(r.group.Context())
	}
}

// partWith tells the store that a peer has gone, if it has no channel of the default feed and no stream any more, nor one
// that is about to take a stream's place. memberTurn is held.
func (r *Replicator) partWith(ctx context.Context, key memberKey) {
	r.mu.Lock()
	m := r.members[key]
	gone := m != nil && len(m.channels) == 0 && !r.connectedTo(key)
	if gone {
		delete(r.members, key)
	}
	r.mu.Unlock()
	if gone {
		r.store.PeerRemoved(ctx, m)
	}
}

// connectedTo tells whether there is a stream to a peer. mu is held.
func (r *Replicator) connectedTo(key memberKey) bool {
	if key.conn != nil {
		return r.conns[key.conn] != nil
	}
	p := r.peers[key.name]
	return p != nil && (p.live != nil || p.claiming > 0)
}
