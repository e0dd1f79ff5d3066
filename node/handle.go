package node

import (
	"bytes"
	"context"
	"errors"
	"io"

	"github.com/p2pcore/p2pcore/feed"
	hyper "github.com/p2pcore/p2pcore/protocol"
)

// ErrSupplanted says that another stream to the same peer stays in this one's place.
var ErrSupplanted = errors.New("node: another stream to the same peer stays")

// Conversation describes the stream that is handed to HandleConnection.
type Conversation struct {
	// Peer names the remote, in logs, in PeerInfo, and for the rule of one stream per peer: a name must be one that the
	// remote has proved, or be unique. Without a name each stream is a peer of its own.
	Peer string
	// Noise is the encryption of the stream, if it is JavaScript's own; then Initiator and Binding are not looked at.
	Noise *hyper.Noise
	// Initiator is set at the end that opened the stream.
	Initiator bool
	// Binding is what both ends of this stream know and no other stream shares: 16 to 64 bytes.
	Binding []byte
	// Flags are those that both opening frames of the stream carry; 0 if it has none.
	Flags uint64
	// DiscoveryKey is that of the feed for which the connection was made, if it was made for one. The end that
	// opened the stream knocks at the group's door if it is the door's.
	DiscoveryKey *feed.DiscoveryKey
	// Known is set if the remote may hear of all feeds at once, though the replicator is discreet: somebody has named it.
	Known bool
	// OnStart is called, if not nil, when the conversation begins.
	OnStart func(c *hyper.Conn)
}

// initiator tells whether this end opened the stream.
func (c *Conversation) initiator() bool {
	if c.Noise != nil {
		return c.Noise.Initiator()
	}
	return c.Initiator
}

// talking is a stream over which a conversation goes on.
type talking struct {
	// set when made
	peer      string
	initiator bool
	conn      *hyper.Conn
	done      chan struct{} // closed when it has ended

	// under Replicator.mu
	told  map[feed.DiscoveryKey]struct{} // hooks that know of it
	known bool                           // it may hear of all feeds in use
}

// HandleConnection replicates over rwc, in or out, until the stream or ctx ends, or Close is called; it returns when
// all that it started has ended, and rwc is closed. Nil means that the remote ended the stream in order. A
// *hyper.ViolationError is the remote's fault.
//
// Two streams to one peer never live at once. Of two that the same end opened the newer stays, and of two that crossed
// that of the end with the smaller name (ReplicatorOptions.Name), so both ends decide alike; HandleConnection waits until
// the one that gives way has ended. ErrSupplanted is the result for it.
func (r *Replicator) HandleConnection(ctx context.Context, rwc io.ReadWriteCloser, conv Conversation) error {
	_, leave, ok := r.group.Enter()
	if !ok {
		return errors.Join(ErrClosed, rwc.Close())
	}
	defer leave()
	t := &talking{
		peer: conv.Peer, initiator: conv.initiator(), done: make(chan struct{}), told: make(map[feed.DiscoveryKey]struct{}),
		known: conv.Known || !r.opts.Discreet,
	}
	r.openFace(ctx)
	door, err := r.openDoor(ctx, &conv)
	if err != nil {
		return errors.Join(err, rwc.Close())
	}
	t.conn = hyper.NewConn(rwc, hyper.Config{
		Noise:     conv.Noise,
		Initiator: conv.Initiator,
		Binding:   conv.Binding,
		Flags:     conv.Flags,
		Peer:      conv.Peer,
		Door:      door,
		OnOpen:    func(ctx context.Context, dk feed.DiscoveryKey) (*hyper.Exchange, error) { return r.asked(ctx, t, dk) },
		OnKnown:   func() { r.introduce(t) },
		Logger:    r.log,
	})
	if err := r.claim(ctx, t); err != nil {
		return errors.Join(err, t.conn.Close())
	}
	defer r.leave(t)

	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return errors.Join(ErrClosed, t.conn.Close())
	}
	r.conns[t.conn] = t
	active := r.inUse(t)
	r.mu.Unlock()
	for _, e := range active {
		r.attach(t.conn, e)
	}
	if conv.OnStart != nil {
		conv.OnStart(t.conn)
	}
	if conv.DiscoveryKey != nil {
		r.popsUp(t, *conv.DiscoveryKey)
		if r.opts.Discreet {
			r.offer(ctx, t, *conv.DiscoveryKey)
		}
	}
	r.offerAll(ctx, t)
	if !t.initiator {
		r.decided.accepted.Add(1)
	}
	err = t.conn.Run(ctx)
	if errors.Is(err, hyper.ErrDoor) {
		r.decided.door.Add(1)
	}
	_ = t.conn.Close() // for one that was supplanted before it ran
	return err
}

// claim makes t the stream of its peer.
func (r *Replicator) claim(ctx context.Context, t *talking) (err error) {
	if t.peer == "" {
		return nil
	}
	r.mu.Lock()
	r.peer(t.peer).claiming++
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		p := r.peer(t.peer)
		p.claiming--
		r.forgetPeer(t.peer, p)
		r.mu.Unlock()
		if err != nil {
			r.streamEnded(t)
		}
	}()
	for {
		r.mu.Lock()
		p := r.peer(t.peer)
		old := p.live
		if old == nil {
			p.live = t
			r.mu.Unlock()
			return nil
		}
		r.mu.Unlock()
		if !r.beats(t, old) {
			return ErrSupplanted
		}
		old.conn.Supplant(ErrSupplanted)
		select {
		case <-old.done:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-r.group.Context().Done():
			return ErrClosed
		}
	}
}

// beats tells whether t takes the place of old, a stream to the same peer.
func (r *Replicator) beats(t, old *talking) bool {
	if t.initiator == old.initiator {
		return true // its opener has lost the other, or it would not have opened one
	}
	ours := bytes.Compare([]byte(r.opts.Name), []byte(t.peer)) < 0 // of what crosses, ours stays
	return t.initiator == ours
}

// leave takes t off the books.
func (r *Replicator) leave(t *talking) {
	r.mu.Lock()
	delete(r.conns, t.conn)
	if p := r.peers[t.peer]; p != nil && p.live == t {
		p.live = nil
		r.forgetPeer(t.peer, p)
	}
	close(t.done)
	r.mu.Unlock()
	r.streamEnded(t)
}

// asked answers a remote that has opened a feed's channel.
func (r *Replicator) asked(ctx context.Context, t *talking, dk feed.DiscoveryKey) (*hyper.Exchange, error) {
	r.popsUp(t, dk)
	x, err := r.onOpen(ctx, dk)
	if x != nil {
		r.decided.found.Add(1)
	} else {
		r.decided.unknown.Add(1)
	}
	return x, err
}

// openDoor returns what the remote of conv has to pass, or nil.
func (r *Replicator) openDoor(ctx context.Context, conv *Conversation) (*hyper.Door, error) {
	key := r.opts.HandshakeKey
	if key == nil {
		return nil, nil
	}
	r.doorTurn.Lock()
	defer r.doorTurn.Unlock()
	if r.door == nil {
		s, err := r.store.Keyed(ctx, *key)
		if err != nil {
			return nil, err
		}
		r.door = s // its feed takes part from now on
	}
	dk := key.DiscoveryKey()
	x := r.Exchange(dk)
	if x == nil {
		return nil, ErrClosed
	}
	return &hyper.Door{Exchange: x, Knock: conv.initiator() && conv.DiscoveryKey != nil && *conv.DiscoveryKey == dk}, nil
}
