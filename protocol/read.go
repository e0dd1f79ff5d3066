package protocol

import (
	"bytes"
	"context"
	"errors"
	"slices"

	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/internal/muxer"
	"github.com/p2pcore/p2pcore/internal/wire"
)

// readEvents is how many messages are taken out of a frame under one lock.
const readEvents = 64

// readLoop reads until the stream ends. It is the only one that hands frames to the muxer.
func (c *Conn) readLoop() error {
	events := make([]muxer.Event, 0, readEvents)
	for {
		frame, err := c.stream.readMessage()
		if err != nil {
			return err
		}
		c.mu.Lock()
		finishing := c.finishing
		c.heard = c.heard || len(frame) > 0
		if !finishing {
			c.mux.Receive(frame)
		}
		c.mu.Unlock()
		if finishing {
			continue // nobody answers any more; only the end is waited for
		}
		f := incoming{bytes: len(frame)}
		for {
			if err := c.uncongested(); err != nil {
				return err
			}
			events, err = c.next(events[:0])
			if err != nil {
				return &ViolationError{Reason: "malformed stream", Err: err}
			}
			if len(events) == 0 {
				break
			}
			if err := c.handle(events, &f); err != nil {
				return err
			}
			clear(events)
		}
	}
}

// next takes messages out of the frame, up to capacity or the first event that is no message.
func (c *Conn) next(events []muxer.Event) ([]muxer.Event, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(events) < cap(events) && !c.mux.Congested() {
		ev, err := c.mux.Next()
		if err != nil {
			return events, err
		}
		if ev.Kind == muxer.None {
			break
		}
		events = append(events, ev)
		if ev.Kind != muxer.Message {
			break
		}
	}
	return events, nil
}

// handle carries out events. Runs of messages of one channel reach its exchange together.
func (c *Conn) handle(events []muxer.Event, f *incoming) error {
	for len(events) > 0 {
		n := 1
		if events[0].Kind == muxer.Message {
			for n < len(events) && events[n].Channel == events[0].Channel && events[n].Kind == muxer.Message {
				n++
			}
			if err := c.receive(events[:n], f); err != nil {
				return err
			}
		} else {
			c.mu.Lock()
			c.control(events[0])
			l := c.arrived
			c.arrived = nil
			c.mu.Unlock()
			if err := c.workedOff(l); err != nil {
				return err
			}
		}
		events = events[n:]
	}
	return nil
}

// workedOff waits until the exchange of a link, if there is one, has room for more news of channels. Each
// channel has an inbox of its own, so one that comes and goes would never be full.
func (c *Conn) workedOff(l *link) error {
	for l != nil && l.news.Load() > maxNews {
		select {
		case <-l.worked:
		case <-l.x.closing:
			return nil
		case <-c.stop:
			return ErrClosed
		}
	}
	return nil
}

// receive parses messages of one channel, hands them to the exchange and waits until it has room
// for more.
func (c *Conn) receive(events []muxer.Event, f *incoming) error {
	ch := events[0].Channel.User.(*channel)
	items := make([]item, 0, len(events))
	for _, ev := range events {
		payload, shared := ev.Payload, f.sharedBy(ch.link)
		if f.bytes > copyAbove && len(payload) < f.bytes/shareFrame {
			payload, shared = bytes.Clone(payload), nil
		}
		it, err := ch.parse(ev.Type, payload, shared)
		if err != nil {
			c.mu.Lock()
			c.dropLink(ch.link, ch, &ViolationError{Reason: "malformed message", Err: err})
			c.mu.Unlock()
			break // what follows on this channel is void
		}
		if it.msg != nil {
			prehash(it.msg)
			items = append(items, it)
		}
	}
	if !ch.link.x.push(items...) {
		return nil
	}
	for in := &ch.link.inbox; in.queued.Load() > int64(c.limits.Inbox); {
		select {
		case <-in.drained:
		case <-ch.link.x.closing:
			return nil
		case <-c.stop:
			return ErrClosed
		}
	}
	return nil
}

// prehash hashes a large block before the exchange gets it. What a peer sends unasked is hashed too: it costs about what
// decrypting it has cost.
func prehash(m wire.Message) {
	if d, ok := m.(*wire.Data); ok && d.Proof.Block != nil && len(d.Proof.Block.Value) >= prehashBytes {
		d.Proof.Block.Prehash()
	}
}

// parse makes an item of a message, and counts it. Frame is what the payload is a part of, or nil. An unknown type gives
// an empty item.
func (ch *channel) parse(typ uint64, payload []byte, frame *sharedFrame) (item, error) {
	m, err := wire.Parse(typ, payload)
	if errors.Is(err, wire.ErrUnknownType) {
		return item{}, nil
	}
	if err != nil {
		return item{}, err
	}
	return item{ch: ch, msg: m, cost: ch.link.inbox.charge(typ, len(payload), frame)}, nil
}

// uncongested waits until the muxer can take more.
func (c *Conn) uncongested() error {
	for {
		c.mu.Lock()
		congested := c.mux.Congested() && !c.finishing
		c.mu.Unlock()
		if !congested {
			return nil
		}
		select {
		case <-c.relief:
		case <-c.stop:
			return ErrClosed
		}
	}
}

// control carries out an event that is no message. mu is held.
func (c *Conn) control(ev muxer.Event) {
	switch ev.Kind {
	case muxer.Opened:
		c.opened(ev)
	case muxer.Message: // kept while the channel waited to be opened here
		ch := ev.Channel.User.(*channel)
		it, err := ch.parse(ev.Type, ev.Payload, nil)
		if err != nil {
			c.dropLink(ch.link, ch, &ViolationError{Reason: "malformed message", Err: err})
		} else if it.msg != nil {
			ch.link.x.push(it)
		}
	case muxer.Closed:
		ch := ev.Channel.User.(*channel)
		if ch.link.ch == ch {
			ch.link.ch = nil
		}
		ch.link.x.push(item{ch: ch, kind: channelClosed, rejected: ev.Rejected})
	case muxer.Pending:
		c.undecidedOpen(ev.Remote)
	case muxer.Withdrawn:
		c.undecided = slices.DeleteFunc(c.undecided, func(r *muxer.Remote) bool { return r == ev.Remote })
	}
}

// opened checks what the remote's open has brought and tells the exchange. mu is held.
func (c *Conn) opened(ev muxer.Event) {
	if ev.Channel.Closed() {
		return
	}
	ch := ev.Channel.User.(*channel)
	h, err := ch.link.check(ev.Handshake)
	if c.locked() { // the channel is the door's: no other was opened here
		if err != nil {
			c.probed(err) // it is not told
			return
		}
		c.pass()
	}
	if err != nil {
		c.dropLink(ch.link, ch, &ViolationError{Reason: "capability", Err: err})
		return
	}
	if !c.known {
		c.known = true
		if c.cfg.OnKnown != nil {
			c.group.Go(func(context.Context) { c.cfg.OnKnown() })
		}
	}
	room := max(min(c.limits.Credit, connCredit/max(1, c.mux.Channels())), minCredit)
	ch.link.news.Add(1)
	c.arrived = ch.link
	if !ch.link.x.push(item{ch: ch, kind: channelOpened, seeks: h.Seeks, room: room}) {
		ch.link.heard()
	}
}

// undecidedOpen looks who can answer an open of the remote. mu is held.
func (c *Conn) undecidedOpen(r *muxer.Remote) {
	if c.locked() {
		c.atDoor(r)
		return
	}
	if !isFeed(r) {
		c.mux.Reject(r)
		signal(c.wake)
		return
	}
	if l := c.links[feed.DiscoveryKey([]byte(r.ID()))]; l != nil {
		c.answer(l, r)
		return
	}
	if c.cfg.OnOpen == nil || c.stopped {
		c.mux.Reject(r)
		signal(c.wake)
		return
	}
	c.undecided = append(c.undecided, r)
	if c.resolving < c.limits.Resolves && c.group.Go(c.resolve) {
		c.resolving++
	}
}

// answer opens the channel of an attached exchange for a remote that has opened it, if the remote
// has proved that it knows the key; else it learns as much as if the feed were unknown. mu is held.
func (c *Conn) answer(l *link, r *muxer.Remote) {
	if !r.Undecided() {
		return
	}
	if _, err := l.check(r.Handshake()); err != nil {
		c.mux.Reject(r)
		c.probed(err)
	} else if l.ch != nil {
		c.mux.Reject(r) // one channel for each feed
	} else {
		c.openChannel(l)
	}
	signal(c.wake)
	signal(c.relief)
}
