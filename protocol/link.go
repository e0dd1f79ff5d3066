package protocol

import (
	"context"
	"sync/atomic"

	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/internal/muxer"
	"github.com/p2pcore/p2pcore/internal/replica"
	"github.com/p2pcore/p2pcore/internal/shrink"
	"github.com/p2pcore/p2pcore/internal/wire"
)

// link is an exchange attached to a connection. It has a channel or, between a close and a new open,
// none.
type link struct {
	// Set when made.
	conn     *Conn
	x        *Exchange
	dk       feed.DiscoveryKey
	ours     [32]byte // capability that we send
	expected [32]byte // capability that the remote has to send

	inbox  inbox         // what the remote has sent
	news   atomic.Int64  // opens of the remote that the exchange has not worked off
	worked chan struct{} // capacity 1: news has fallen
	ended  atomic.Bool   // it is off its connection for good

	// Under conn.mu.
	ch *channel

	// Owned by the exchange's loop.
	reopens   int  // since a channel was steady
	reopening bool // a reopenLink is due
}

// heard notes that the exchange has worked off an open of the remote.
func (l *link) heard() {
	l.news.Add(-1)
	signal(l.worked)
}

// channel is one channel of a link, for the exchange a peer.
type channel struct {
	link *link
	mux  *muxer.Channel // set under conn.mu before anybody sees it
	peer replica.PeerID // unique in the exchange

	// Owned by the exchange's loop.
	opened openedState
}

// Attach opens a channel for the exchange's feed and keeps it open as long as one of the sides
// downloads. It may be called before Run and at any time during it; attaching an exchange again
// changes nothing.
//
// The error is ErrAttached if another exchange has the same feed, or ErrClosed.
func (c *Conn) Attach(x *Exchange) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	l, err := c.link(x)
	if err != nil {
		return err
	}
	if l.ch == nil && !c.locked() {
		c.openChannel(l)
		signal(c.wake)
		signal(c.relief)
	}
	return nil
}

// Detach closes the exchange's channel. For an exchange that is not attached it does nothing.
func (c *Conn) Detach(x *Exchange) {
	c.mu.Lock()
	l := c.links[x.dk]
	if l == nil || l.x != x {
		c.mu.Unlock()
		return
	}
	shrink.Delete(&c.links, x.dk, &c.gone)
	c.closeChannel(l)
	c.mu.Unlock()
	signal(c.wake)
	x.removeLink(l)
}

// link finds or makes the link of an exchange. mu is held.
func (c *Conn) link(x *Exchange) (*link, error) {
	if c.stopped {
		return nil, ErrClosed
	}
	if l := c.links[x.dk]; l != nil {
		if l.x != x {
			return nil, ErrAttached
		}
		return l, nil
	}
	l := &link{
		conn: c, x: x, dk: x.dk,
		ours:     Capability(x.key, c.cfg.Binding, c.cfg.Initiator),
		expected: Capability(x.key, c.cfg.Binding, !c.cfg.Initiator),
		worked:   make(chan struct{}, 1),
		inbox:    inbox{drained: make(chan struct{}, 1)},
	}
	if !x.addLink(l) {
		return nil, ErrClosed
	}
	c.links[x.dk] = l
	return l, nil
}

// check reads the remote's handshake and compares its capability.
func (l *link) check(handshake []byte) (wire.Handshake, error) {
	h, err := wire.ParseHandshake(handshake)
	if err == nil && !sameCapability(h.Capability, l.expected) {
		err = ErrCapability
	}
	return h, err
}

// openChannel opens a channel for a link that has none. An open that the remote made without
// knowing the key is rejected first, so that ours is not its answer. mu is held.
func (c *Conn) openChannel(l *link) {
	id := string(l.dk[:])
	for r := c.mux.Undecided(channelProtocol, id, channelAlias); r != nil; {
		if _, err := l.check(r.Handshake()); err == nil {
			break
		}
		c.mux.Reject(r)
		c.probed(ErrCapability)
		r = c.mux.Undecided(channelProtocol, id, channelAlias)
	}
	ch := &channel{link: l, peer: replica.PeerID(l.x.peers.Add(1))}
	handshake := wire.Handshake{Seeks: true, Capability: l.ours}.Append(nil)
	mc, err := c.mux.Open(channelProtocol, id, handshake, channelAlias)
	if err != nil {
		return // links and channels of the muxer go together, so there is none
	}
	mc.User = ch
	ch.mux, l.ch = mc, ch
	l.x.push(item{ch: ch, kind: channelOpening})
	for ev, ok := c.mux.Queued(); ok; ev, ok = c.mux.Queued() {
		c.control(ev)
	}
}

// reopen opens a channel for a link that has none and is still attached.
func (l *link) reopen() {
	c := l.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.links[l.dk] != l || l.ch != nil || c.stopped || c.locked() {
		return
	}
	c.openChannel(l)
	signal(c.wake)
	signal(c.relief) // it may have answered an open of the remote
}

// closeChannel closes the channel of a link, if it has one, and tells the exchange. mu is held.
func (c *Conn) closeChannel(l *link) {
	if ch := l.ch; ch != nil {
		l.ch = nil
		c.mux.Close(ch.mux)
		l.x.push(item{ch: ch, kind: channelClosed, local: true})
	}
}

// dropLink closes a channel for which the remote is to blame. mu is held.
func (c *Conn) dropLink(l *link, ch *channel, v *ViolationError) {
	if l.ch == ch {
		c.closeChannel(l)
		signal(c.wake)
	}
	c.violate(v)
}

// resolve decides opens of the remote until none is left.
func (c *Conn) resolve(ctx context.Context) {
	for {
		c.mu.Lock()
		if len(c.undecided) == 0 || c.stopped {
			c.resolving--
			c.mu.Unlock()
			return
		}
		r := c.undecided[0]
		c.undecided[0] = nil // it leads to its channel, and that to the feed
		c.undecided = c.undecided[1:]
		withdrawn := !r.Undecided()
		c.mu.Unlock()
		if withdrawn {
			continue
		}
		dk := feed.DiscoveryKey([]byte(r.ID()))
		x, err := c.cfg.OnOpen(ctx, dk)
		if err != nil {
			c.log.Warn("opening a feed for a peer failed", "feed", shortKey(dk), "err", err)
			x = nil
		}
		c.decide(r, x)
	}
}

// decide answers an open of the remote with the exchange that was found for it, or nil.
func (c *Conn) decide(r *muxer.Remote, x *Exchange) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !r.Undecided() || c.stopped {
		return
	}
	defer signal(c.relief)
	defer signal(c.wake)
	if x == nil || string(x.dk[:]) != r.ID() {
		c.mux.Reject(r)
		return
	}
	if c.links[x.dk] == nil {
		probe := link{expected: Capability(x.key, c.cfg.Binding, !c.cfg.Initiator)}
		if _, err := probe.check(r.Handshake()); err != nil {
			c.mux.Reject(r)
			c.probed(err)
			return
		}
	}
	l, err := c.link(x)
	if err != nil {
		c.mux.Reject(r)
		return
	}
	c.answer(l, r)
}

func shortKey(dk feed.DiscoveryKey) string {
	s := dk.String()
	return s[:min(8, len(s))]
}
