package node

import (
	"context"
	"errors"
	"io"
	"syscall"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/p2pcore/p2pcore/dht"
	"github.com/p2pcore/p2pcore/feed"
	hyper "github.com/p2pcore/p2pcore/protocol"
)

// ErrRefused says that a peer was reached and ended the connection before it had said anything: it lets in only who knows
// the key of its group's door, has no room, or serves no feeds at all. Which of these it was it does not tell.
var ErrRefused = errors.New("node: the peer ended the connection before it had said anything")

// ended returns what the end of a conversation is to us: ErrRefused beside err if the remote has ended it and had not said
// anything, else err.
func ended(ctx context.Context, c *hyper.Conn, err error) error {
	if c == nil || ctx.Err() != nil || c.Stats().Heard || err != nil && !remoteEnd(err) {
		return err
	}
	return errors.Join(ErrRefused, err)
}

// remoteEnd tells whether err is that the remote has closed, or reset, a connection or a stream, or speaks none of our
// protocols. That it shuts down, or that another stream took the place of this one, is no answer and does not count.
func remoteEnd(err error) bool {
	var s *network.StreamError
	if errors.As(err, &s) {
		return s.Remote && s.ErrorCode != network.StreamSupplanted && s.ErrorCode != network.StreamShutdown
	}
	var c *network.ConnError
	if errors.As(err, &c) {
		return c.Remote && c.ErrorCode != network.ConnShutdown
	}
	for _, end := range []error{
		ErrRefused, ErrNotSpoken, network.ErrReset, network.ErrNoConn, io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE,
	} {
		if errors.Is(err, end) {
			return true
		}
	}
	return false
}

// standing is what the last attempt at a peer has told of it.
type standing int

const (
	untold    standing = iota // no attempt has come to an end, or nothing has been said yet
	unreached                 // it is not there, or does not answer
	refused                   // it was reached, and ended the connection before it said anything
	answered                  // it has said something
)

// Found is how the peers stand from which a feed may come: those that a look-up of its key named, the local network, or
// somebody by hand.
type Found struct {
	Refused   []peer.AddrInfo // were reached, and have ended every connection before they said anything; at most 8 of them
	NRefused  int             // how many those are
	Undecided int             // have not been tried, or are connected and may still say something
	Others    int             // have said something, or are not reached
}

// maxTold bounds the peers that Found names.
const maxTold = 8

// Found returns how the peers stand from which the feed of key may come.
func (n *Node) Found(key feed.Key) Found {
	return n.connector.found(dht.Topic(key.DiscoveryKey()))
}

// found is Node.Found for a topic.
func (c *connector) found(topic dht.Topic) (f Found) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.targets {
		if !t.concerns(topic) {
			continue
		}
		switch s := c.standing(t); s {
		case untold:
			f.Undecided++
		case refused:
			f.NRefused++
			if len(f.Refused) < maxTold {
				f.Refused = append(f.Refused, peer.AddrInfo{ID: t.id, Addrs: t.addrs})
			}
		default:
			f.Others++
		}
	}
	return f
}

// concerns tells whether t may have the feed of topic. connector.mu is held.
func (t *target) concerns(topic dht.Topic) bool {
	for why := range t.reasons {
		if why.kind != byTopic || why.topic == topic {
			return true
		}
	}
	return false
}

// standing returns how t stands: the stream that is up may have told more than the attempts before. connector.mu is held.
func (c *connector) standing(t *target) standing {
	conn, since := c.links.conversation(t.id)
	switch {
	case conn == nil:
		return t.stands
	case conn.Stats().Heard:
		return answered
	case t.stands == untold && time.Since(since) >= doorPatience:
		return answered // it has let us in, and has nothing to say
	}
	return t.stands
}

// conversation returns the conversation with p that is up, and since when, or nil.
func (ls *links) conversation(p peer.ID) (*hyper.Conn, time.Time) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if l := ls.liveLink(p); l != nil {
		return l.conn, l.since
	}
	return nil, time.Time{}
}

// judge notes what the end of an attempt at t, or of a conversation with it, tells of it.
func (c *connector) judge(p peer.ID, s standing) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t := c.targets[p]; t != nil {
		t.stands = s
	}
}
