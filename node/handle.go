package node

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"

	"github.com/p2pcore/p2pcore/feed"
	hyper "github.com/p2pcore/p2pcore/protocol"
)

var (
	// ErrSupplanted says that another stream to the same peer stays in this one's place.
	ErrSupplanted = errors.New("node: another stream to the same peer stays")
	// ErrBusy says that too many peers are being connected to.
	ErrBusy = errors.New("node: too many peers are being connected to")
)

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
	told map[feed.DiscoveryKey]struct{} // hooks that know of it
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
	t := &talking{peer: conv.Peer, initiator: conv.initiator(), done: make(chan struct{}), told: make(map[feed.DiscoveryKey]struct{})}
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
	var active []*entry
	for _, e := range r.entries {
		if e.wanted() || e.linger != nil {
			active = append(active, e)
		}
	}
	r.mu.Unlock()
	for _, e := range active {
		r.attach(t.conn, e)
	}
	if conv.OnStart != nil {
		conv.OnStart(t.conn)
	}
	if conv.DiscoveryKey != nil {
		r.popsUp(t, *conv.DiscoveryKey)
	}
	r.offer(ctx, t)
	err = t.conn.Run(ctx)
	_ = t.conn.Close() // for one that was supplanted before it ran
	return err
}

// claim makes t the stream of its peer.
func (r *Replicator) claim(ctx context.Context, t *talking) error {
	for t.peer != "" {
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
	return nil
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
}

// acquaintance is what is known of a peer with a name.
type acquaintance struct {
	live       *talking                       // nil: no stream
	connecting bool                           // a connect function runs
	keys       map[feed.DiscoveryKey]struct{} // feeds that it was found for
}

// peer returns what is known of a peer. mu is held.
func (r *Replicator) peer(name string) *acquaintance {
	p := r.peers[name]
	if p == nil {
		p = &acquaintance{keys: make(map[feed.DiscoveryKey]struct{})}
		r.peers[name] = p
	}
	return p
}

// forgetPeer forgets a peer to which there is no stream. mu is held.
func (r *Replicator) forgetPeer(name string, p *acquaintance) {
	if p.live == nil && !p.connecting {
		delete(r.peers, name)
	}
}

// HandlePeer says that a peer was found for a discovery key. If a stream to it lives, or is being made, the feed is
// replicated over that one; else connect is called, once, however many discoveries of the peer arrive at the same time.
// The Peer of the conversation that it returns is replaced by peer. HandlePeer does not wait for the connection.
//
// The error is ErrClosed, or ErrBusy while 256 peers are being connected to, or for the 1,025th key of one peer.
func (r *Replicator) HandlePeer(peer string, dk feed.DiscoveryKey, connect func(ctx context.Context) (io.ReadWriteCloser, Conversation, error)) error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return ErrClosed
	}
	p := r.peer(peer)
	if _, known := p.keys[dk]; !known && len(p.keys) >= maxKeysPerPeer {
		r.mu.Unlock()
		return ErrBusy
	}
	p.keys[dk] = struct{}{}
	live, start := p.live, p.live == nil && !p.connecting
	if start && r.connecting >= maxConnecting {
		r.forgetPeer(peer, p)
		r.mu.Unlock()
		return ErrBusy
	}
	if start {
		p.connecting = true
		r.connecting++
	}
	r.mu.Unlock()
	switch {
	case start:
		if !r.group.Go(func(ctx context.Context) { r.connect(ctx, peer, dk, connect) }) {
			r.connected(peer)
			return ErrClosed
		}
	case live != nil:
		if !r.group.Go(func(ctx context.Context) { r.offer(ctx, live) }) {
			return ErrClosed
		}
	}
	return nil
}

// connect makes a connection for HandlePeer, and replicates over it.
func (r *Replicator) connect(ctx context.Context, peer string, dk feed.DiscoveryKey, connect func(ctx context.Context) (io.ReadWriteCloser, Conversation, error)) {
	rwc, conv, err := connect(ctx)
	if err != nil {
		r.connected(peer)
		r.log.Debug("peer not connected", "peer", peer, "err", err)
		return
	}
	conv.Peer = peer
	if conv.DiscoveryKey == nil {
		conv.DiscoveryKey = &dk
	}
	started := conv.OnStart
	var once bool
	conv.OnStart = func(c *hyper.Conn) {
		once = true
		r.connected(peer)
		if started != nil {
			started(c)
		}
	}
	err = r.HandleConnection(ctx, rwc, conv)
	if !once {
		r.connected(peer)
	}
	r.log.Debug("connection ended", "peer", peer, "err", err)
}

// connected notes that a connect function has come to its end.
func (r *Replicator) connected(peer string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.connecting--
	if p := r.peers[peer]; p != nil {
		p.connecting = false
		r.forgetPeer(peer, p)
	}
}

// offer puts the feeds that a peer was found for on its stream, those that are stored.
func (r *Replicator) offer(ctx context.Context, t *talking) {
	r.mu.Lock()
	var keys []feed.DiscoveryKey
	if p := r.peers[t.peer]; p != nil && t.peer != "" {
		for dk := range p.keys {
			keys = append(keys, dk)
		}
	}
	r.mu.Unlock()
	for _, dk := range keys {
		r.popsUp(t, dk)
		x, err := r.onOpen(ctx, dk)
		if err != nil {
			r.log.Warn("opening a feed for a peer failed", "feed", dk.Short(), "err", err)
		}
		if x == nil {
			continue
		}
		if err := t.conn.Attach(x); err != nil && !errors.Is(err, hyper.ErrAttached) && !errors.Is(err, hyper.ErrClosed) {
			r.log.Warn("feed not put on a stream", "feed", dk.Short(), "err", err)
		}
	}
}

// asked answers a remote that has opened a feed's channel.
func (r *Replicator) asked(ctx context.Context, t *talking, dk feed.DiscoveryKey) (*hyper.Exchange, error) {
	r.popsUp(t, dk)
	return r.onOpen(ctx, dk)
}

// hook is what OnDiscoveryKey was given.
type hook struct {
	fn func(peer string, c *hyper.Conn)
}

// OnDiscoveryKey has fn called, once for each connection, when a peer pops up for dk: HandlePeer has found it or
// HandleConnection was told so, or the peer has opened dk's channel here and nobody had the feed open. The remote need not
// have proved that it knows the key. fn runs before the feed is looked for in the store, so it may open it; it must
// not wait for the connection's end. stop ends it and may be called twice.
func (r *Replicator) OnDiscoveryKey(dk feed.DiscoveryKey, fn func(peer string, c *hyper.Conn)) (stop func()) {
	h := &hook{fn}
	r.mu.Lock()
	r.hooks[dk] = append(r.hooks[dk], h)
	r.mu.Unlock()
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		left := slices.DeleteFunc(slices.Clone(r.hooks[dk]), func(other *hook) bool { return other == h })
		if len(left) == 0 {
			delete(r.hooks, dk)
		} else {
			r.hooks[dk] = left
		}
	}
}

// popsUp tells the hooks of dk of a connection.
func (r *Replicator) popsUp(t *talking, dk feed.DiscoveryKey) {
	r.mu.Lock()
	hooks := r.hooks[dk]
	_, told := t.told[dk]
	if len(hooks) == 0 || told {
		r.mu.Unlock()
		return
	}
	t.told[dk] = struct{}{}
	r.mu.Unlock()
	for _, h := range hooks {
		h.fn(t.peer, t.conn)
	}
}

// AddCore puts a feed on all connections, those to come included, until remove is called, which may be done twice. The
// feed may be one that is in no store; it must stay open until then. Feeds of the store take part by themselves while they
// have a session.
//
// The error is ErrClosed, or ErrAdded if another feed of the same key takes part.
func (r *Replicator) AddCore(f *feed.Feed) (remove func(), err error) {
	dk := f.DiscoveryKey()
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil, ErrClosed
	}
	e := r.entries[dk]
	if e != nil && e.f != f {
		r.mu.Unlock()
		return nil, ErrAdded
	}
	if e == nil {
		e = r.add(f)
	}
	e.added++
	conns := r.connsLocked()
	r.mu.Unlock()
	e.x.SetDownloading(true)
	for _, c := range conns {
		r.attach(c, e)
	}
	var removed bool
	return func() {
		r.mu.Lock()
		if removed {
			r.mu.Unlock()
			return
		}
		removed = true
		e.added--
		last := !e.wanted() && r.entries[dk] == e
		if last && e.release == nil {
			delete(r.entries, dk) // nobody else holds the feed open
			r.leaving[e] = struct{}{}
		}
		mine := last && e.release == nil
		r.mu.Unlock()
		switch {
		case mine:
			r.drop(e)
		case last:
			r.quieten(e)
		}
	}, nil
}

// ErrAdded says that another feed of the same key takes part in replication.
var ErrAdded = errors.New("node: another feed of the same key takes part")

// connsLocked returns all connections. mu is held.
func (r *Replicator) connsLocked() []*hyper.Conn {
	conns := make([]*hyper.Conn, 0, len(r.conns))
	for c := range r.conns {
		conns = append(conns, c)
	}
	return conns
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
