package muxer

import (
	"slices"

	"github.com/p2pcore/p2pcore/internal/shrink"
)

// Mux is one side of a multiplexed stream. The zero value is not usable; see New.
type Mux struct {
	// Channels of ours. local[i] has id i+1; nil where the id is free.
	local []*Channel
	free  []uint64 // free ids at or below len(local), reused last in first out

	// Channels of the remote, by its ids in the same way.
	remote     []*Remote
	remoteOpen int // entries of remote that are in use

	open    map[name]*Channel   // every channel that is not closed, under each of its names
	gone    int                 // names taken out of open, for shrink.Delete
	waiting map[name][]*Channel // opened here, not there yet; also closed ones whose id is not free yet
	pending map[name][]*Remote  // opened there, undecided here

	pendingOpens int
	buffered     int // cost of the messages kept for pending opens

	in  input
	out output
}

// name is what pairs two opens.
type name struct{ protocol, id string }

// Channel is our end of a channel, from Open until Close or a Closed event.
type Channel struct {
	// User is the owner's; the muxer does not look at it.
	User any

	names    []name // the first is what our open says
	localID  uint64
	remoteID uint64 // 0 while the remote has not opened it
	closed   bool

	unwritten int // bytes that Take has not handed out
}

// Protocol is the name that our open carried.
func (c *Channel) Protocol() string { return c.names[0].protocol }

// ID is the channel's id within its protocol.
func (c *Channel) ID() string { return c.names[0].id }

// Paired says whether the remote has opened the channel too.
func (c *Channel) Paired() bool { return c.remoteID != 0 && !c.closed }

// Closed says whether the channel was closed, by either side.
func (c *Channel) Closed() bool { return c.closed }

// Remote is the other side's end of a channel.
type Remote struct {
	name     name
	remoteID uint64
	channel  *Channel // nil while undecided

	// Set while undecided.
	handshake []byte
	messages  []message
}

type message struct {
	typ     uint64
	payload []byte
}

// Protocol is the name in the remote's open.
func (r *Remote) Protocol() string { return r.name.protocol }

// ID is the channel's id in the remote's open.
func (r *Remote) ID() string { return r.name.id }

// Handshake is what the remote's open carried, valid until the open is decided.
func (r *Remote) Handshake() []byte { return r.handshake }

// Undecided says whether the open still waits for Open or Reject.
func (r *Remote) Undecided() bool { return r.channel == nil && r.remoteID != 0 }

// New returns a Mux whose frames from Take begin with headroom unused bytes, for the length that a
// framing puts in front of them.
func New(headroom int) *Mux {
	return &Mux{
		open:    make(map[name]*Channel),
		waiting: make(map[name][]*Channel),
		pending: make(map[name][]*Remote),
		out:     output{headroom: headroom},
	}
}

// Open opens a channel and queues our open. The handshake is copied into the frame.
//
// If the remote has opened it already, under the same name or one of the aliases, the two are
// paired at once: Queued and Next give Opened and then the messages that were kept. Otherwise
// Opened comes with the remote's open.
//
// The error is ErrDuplicate.
func (m *Mux) Open(protocol, id string, handshake []byte, aliases ...string) (*Channel, error) {
	c := &Channel{names: []name{{protocol, id}}}
	for _, a := range aliases {
		c.names = append(c.names, name{a, id})
	}
	for _, n := range c.names {
		if m.open[n] != nil {
			return nil, ErrDuplicate
		}
	}
	for _, n := range c.names {
		m.open[n] = c
	}
	c.localID = m.allocate(c)
	r := m.firstPending(c.names)
	m.sendOpen(c, handshake, r != nil)
	if r != nil {
		m.removePending(r)
		m.pair(c, r)
		return c, nil
	}
	for _, n := range c.names {
		m.waiting[n] = append(m.waiting[n], c)
	}
	return c, nil
}

// Undecided returns the remote's open that Open with the same arguments would pair with, or nil.
func (m *Mux) Undecided(protocol, id string, aliases ...string) *Remote {
	if l := m.pending[name{protocol, id}]; len(l) > 0 {
		return l[0]
	}
	for _, a := range aliases {
		if l := m.pending[name{a, id}]; len(l) > 0 {
			return l[0]
		}
	}
	return nil
}

// Close closes a channel and tells the remote. No event follows. A closed channel may be closed
// again.
func (m *Mux) Close(c *Channel) {
	if c.closed {
		return
	}
	m.sendControl(controlClose, c.localID)
	m.drop(c)
}

// Reject refuses an open that is undecided; for any other it does nothing.
func (m *Mux) Reject(r *Remote) {
	if !r.Undecided() {
		return
	}
	m.removePending(r)
	m.sendControl(controlReject, r.remoteID)
	m.releaseRemote(r)
}

// Congested says that the reader should stop until a decision was made or a frame was taken:
// too many opens are undecided, too much is kept for them, too many answers to control messages are unwritten, or too
// much of what was sent on channels that have closed.
func (m *Mux) Congested() bool {
	return m.pendingOpens >= maxPending || m.buffered > maxBuffered || m.out.control > maxControl || m.out.orphaned > maxOrphaned
}

// Pending is the number of remote opens that wait for a decision.
func (m *Mux) Pending() int { return m.pendingOpens }

// Channels is the number of channels that both sides have open.
func (m *Mux) Channels() int { return m.remoteOpen - m.pendingOpens }

// pair joins our channel and the remote's open, whose place in m.remote is taken already.
func (m *Mux) pair(c *Channel, r *Remote) {
	r.channel = c
	c.remoteID = r.remoteID
	m.in.queue = append(m.in.queue, Event{Kind: Opened, Channel: c, Handshake: r.handshake})
	for _, msg := range r.messages {
		m.in.queue = append(m.in.queue, Event{Kind: Message, Channel: c, Type: msg.typ, Payload: msg.payload})
		m.buffered -= len(msg.payload) + bufferedCost
	}
	r.handshake, r.messages = nil, nil
}

// drop forgets a channel that either side has closed, and frees the ids that are free by that.
func (m *Mux) drop(c *Channel) {
	m.markClosed(c)
	if c.remoteID == 0 {
		return // the id stays taken until the remote's open or reject has come
	}
	if r := m.remoteByID(c.remoteID); r != nil {
		m.releaseRemote(r)
	}
	m.release(c)
}

func (m *Mux) markClosed(c *Channel) {
	c.closed = true
	m.out.orphaned += c.unwritten
	for _, n := range c.names {
		shrink.Delete(&m.open, n, &m.gone)
	}
}

func (m *Mux) allocate(c *Channel) uint64 {
	if n := len(m.free); n > 0 {
		id := m.free[n-1]
		m.free = m.free[:n-1]
		m.local[id-1] = c
		return id
	}
	m.local = append(m.local, c)
	return uint64(len(m.local))
}

func (m *Mux) release(c *Channel) {
	m.local[c.localID-1] = nil
	m.free = append(m.free, c.localID)
}

func (m *Mux) releaseRemote(r *Remote) {
	for _, msg := range r.messages {
		m.buffered -= len(msg.payload) + bufferedCost
	}
	m.remote[r.remoteID-1] = nil
	m.remoteOpen--
	r.remoteID, r.handshake, r.messages = 0, nil, nil
}

func (m *Mux) remoteByID(id uint64) *Remote {
	if id == 0 || id > uint64(len(m.remote)) {
		return nil
	}
	return m.remote[id-1]
}

func (m *Mux) firstPending(names []name) *Remote {
	for _, n := range names {
		if l := m.pending[n]; len(l) > 0 {
			return l[0]
		}
	}
	return nil
}

func (m *Mux) removePending(r *Remote) {
	remove(m.pending, r.name, r)
	m.pendingOpens--
}

func (m *Mux) stopWaiting(c *Channel) {
	for _, n := range c.names {
		remove(m.waiting, n, c)
	}
}

func remove[T comparable](lists map[name][]T, n name, v T) {
	l := lists[n]
	if i := slices.Index(l, v); i >= 0 {
		l = slices.Delete(l, i, i+1)
	}
	if len(l) == 0 {
		delete(lists, n)
		return
	}
	lists[n] = l
}
