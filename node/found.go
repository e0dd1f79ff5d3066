package node

import (
	"context"
	"errors"
	"io"
	"maps"
	"slices"

	"github.com/p2pcore/p2pcore/feed"
	hyper "github.com/p2pcore/p2pcore/protocol"
)

// ErrBusy says that too many peers are being connected to.
var ErrBusy = errors.New("node: too many peers are being connected to")

// acquaintance is what is known of a peer with a name.
type acquaintance struct {
	live       *talking                       // nil: no stream
	connecting bool                           // a connect function runs
	claiming   int                            // streams that wait to take the place of the live one
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
	if p.live == nil && !p.connecting && p.claiming == 0 {
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
		if !r.offerLater(live, dk) {
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

// offerAll puts the feeds that a peer was found for on its stream, those that are stored.
func (r *Replicator) offerAll(ctx context.Context, t *talking) {
	r.mu.Lock()
	var keys []feed.DiscoveryKey
	if p := r.peers[t.peer]; p != nil && t.peer != "" {
		keys = slices.Collect(maps.Keys(p.keys))
	}
	r.mu.Unlock()
	for _, dk := range keys {
		r.offer(ctx, t, dk)
	}
}

// offerLater is offer on a goroutine of its own; false if the replicator closes.
func (r *Replicator) offerLater(t *talking, dk feed.DiscoveryKey) bool {
	return r.group.Go(func(ctx context.Context) { r.offer(ctx, t, dk) })
}

// offer puts a feed on a stream, if it is stored.
func (r *Replicator) offer(ctx context.Context, t *talking, dk feed.DiscoveryKey) {
	r.popsUp(t, dk)
	x, err := r.onOpen(ctx, dk)
	if err != nil {
		r.log.Warn("opening a feed for a peer failed", "feed", dk.Short(), "err", err)
	}
	if x == nil {
		return
	}
	if err := t.conn.Attach(x); err != nil && !errors.Is(err, hyper.ErrAttached) && !errors.Is(err, hyper.ErrClosed) {
		r.log.Warn("feed not put on a stream", "feed", dk.Short(), "err", err)
	}
}
