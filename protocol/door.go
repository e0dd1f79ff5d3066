package protocol

import (
	"errors"

	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/internal/lifecycle"
	"github.com/p2pcore/p2pcore/internal/muxer"
)

// ErrDoor: the remote did not open the feed of Config.Door, or without its key.
var ErrDoor = errors.New("protocol: the remote does not know the key of the door")

// Door is a feed whose key the remote has to know before anything is said. Until it has opened the feed's channel with
// a valid capability, nothing is sent but keep-alives and, where Knock is set, our own open of that channel; opens of the
// remote are held, and answered in order once the door is passed. Who does not pass it within 10 s is cut off,
// and learns nothing of what is here. The door once passed holds for the life of the connection.
type Door struct {
	// Exchange is the door's feed. It need not be attached.
	Exchange *Exchange
	// Knock says that we open the channel first. Only the side that has dialled for this door does: a stranger who
	// dials learns nothing.
	Knock bool
}

// locked tells whether the door has not been passed. mu is held.
func (c *Conn) locked() bool { return c.cfg.Door != nil && !c.passed }

// lockDoor begins to wait at the door. It is called by Run, before anything is read or written.
func (c *Conn) lockDoor() {
	d := c.cfg.Door
	if d == nil {
		return
	}
	c.mu.Lock()
	l, err := c.link(d.Exchange)
	if err == nil && d.Knock && l.ch == nil {
		c.openChannel(l)
		c.knocks = true
	}
	c.mu.Unlock()
	if err != nil {
		c.fail(err)
		return
	}
	lifecycle.AfterFunc(&c.group, doorTimeout, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.locked() {
			c.failLocked(ErrDoor)
		}
	})
}

// atDoor looks at an open of the remote while the door is locked. mu is held.
func (c *Conn) atDoor(r *muxer.Remote) {
	door := c.cfg.Door.Exchange
	c.held = append(c.held, r)
	c.heldBytes += len(r.Protocol()) + len(r.ID()) + len(r.Handshake())
	if len(c.held) > maxHeldOpens || c.heldBytes > maxHeldBytes {
		c.failLocked(ErrDoor)
		return
	}
	if !isFeed(r) || feed.DiscoveryKey([]byte(r.ID())) != door.dk {
		return
	}
	l := c.links[door.dk]
	if l == nil {
		return // it was detached, so nobody passes
	}
	if _, err := l.check(r.Handshake()); err != nil {
		c.probed(err) // it is not told
		return
	}
	c.pass()
}

// pass opens the door: what has waited is opened, and opens of the remote are answered in their order. mu is held.
func (c *Conn) pass() {
	c.passed = true
	held := c.held
	c.held, c.heldBytes = nil, 0
	for _, r := range held {
		if r.Undecided() {
			c.undecidedOpen(r)
		}
	}
	for _, l := range c.links {
		if l.ch == nil {
			c.openChannel(l)
		}
	}
	signal(c.wake)
	signal(c.relief)
}

// isFeed tells whether the remote's open is one of a feed.
func isFeed(r *muxer.Remote) bool {
	return (r.Protocol() == channelProtocol || r.Protocol() == channelAlias) && len(r.ID()) == len(feed.DiscoveryKey{})
}

// take returns what is to be written next. While the door is locked that is our knock alone. mu is held.
func (c *Conn) take() (muxer.Frame, bool) {
	if c.locked() && !c.knocks {
		return muxer.Frame{}, false
	}
	c.knocks = false
	return c.mux.Take()
}
