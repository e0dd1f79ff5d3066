package muxer

import (
	"bytes"
	"fmt"

	"github.com/p2pcore/p2pcore/internal/compact"
)

// Kind says what an Event is.
type Kind uint8

const (
	// None: the frame is used up.
	None Kind = iota
	// Opened: both sides have opened Channel; Handshake is the remote's.
	Opened
	// Pending: the remote opened a channel that is not open here. Remote waits for Open (with the
	// same protocol and id) or Reject.
	Pending
	// Withdrawn: the remote closed Remote before it was decided. It needs no decision any more.
	Withdrawn
	// Message: Type and Payload came on Channel, which is open.
	Message
	// Closed: the remote closed Channel or, with Rejected, did not want to open it.
	Closed
)

// Event is something that the remote did.
type Event struct {
	Kind      Kind
	Channel   *Channel // Opened, Message, Closed
	Remote    *Remote  // Pending, Withdrawn
	Handshake []byte   // Opened
	Rejected  bool     // Closed
	Type      uint64   // Message
	Payload   []byte   // Message; aliases the frame
}

// input is what has been received and not yet returned by Next.
type input struct {
	queue []Event // events of pairing, before those of the frame
	head  int
	stack [maxDepth]batch // open batches, the innermost last
	depth int
	frame []byte // a frame of which nothing was read yet
}

// batch is a batch that is being read.
type batch struct {
	rest    []byte
	channel uint64
}

// Receive takes a frame. Next has to be called until it returns None before another frame is
// received. The frame belongs to the muxer and to those who keep payloads; it must not be reused.
func (m *Mux) Receive(frame []byte) { m.in.frame = frame }

// Next returns the next thing that the remote did, or Kind None when all that was received is used
// up. After an error the stream is of no use any more.
//
// The error wraps ErrMalformed, ErrInvalidOpen, ErrInvalidReject or ErrNesting.
func (m *Mux) Next() (Event, error) {
	for {
		if ev, ok := m.Queued(); ok {
			return ev, nil
		}
		channel, body, ok, err := m.in.next()
		if err != nil || !ok {
			return Event{}, err
		}
		ev, err := m.dispatch(channel, body)
		if err != nil || ev.Kind != None {
			return ev, err
		}
	}
}

// Queued returns the next event that comes from pairing a channel with an open that was held. Who
// called Open may use it to get these events without going on with the frame.
func (m *Mux) Queued() (Event, bool) {
	in := &m.in
	if in.head == len(in.queue) {
		return Event{}, false
	}
	ev := in.queue[in.head]
	in.queue[in.head] = Event{}
	in.head++
	if in.head == len(in.queue) {
		in.queue, in.head = in.queue[:0], 0
	}
	return ev, true
}

// next returns the next message's channel and body (uint type, payload).
func (in *input) next() (channel uint64, body []byte, ok bool, err error) {
	if len(in.frame) > 0 {
		d := compact.NewDecoder(in.frame)
		channel, body = d.Uint(), d.Rest()
		in.frame = nil
		if d.Err() != nil {
			return 0, nil, false, fmt.Errorf("%w: %w", ErrMalformed, d.Err())
		}
		return channel, body, true, nil
	}
	for in.depth > 0 {
		b := &in.stack[in.depth-1]
		if len(b.rest) == 0 {
			*b = batch{}
			in.depth--
			continue
		}
		d := compact.NewDecoder(b.rest)
		n := d.Uint()
		if n == 0 {
			b.channel = d.Uint()
		}
		b.rest = d.Rest()
		if d.Err() != nil {
			return 0, nil, false, fmt.Errorf("%w: batch: %w", ErrMalformed, d.Err())
		}
		if n == 0 {
			continue
		}
		n = min(n, uint64(len(b.rest))) // a length beyond the end is cut, as protomux does
		body, b.rest = b.rest[:n:n], b.rest[n:]
		return b.channel, body, true, nil
	}
	return 0, nil, false, nil
}

// dispatch carries out one message. Kind None means that there is nothing to tell.
func (m *Mux) dispatch(channel uint64, body []byte) (Event, error) {
	d := compact.NewDecoder(body)
	typ := d.Uint()
	payload := d.Rest()
	if d.Err() != nil {
		return Event{}, fmt.Errorf("%w: %w", ErrMalformed, d.Err())
	}
	if channel == 0 {
		return m.control(typ, payload)
	}
	r := m.remoteByID(channel)
	switch {
	case r == nil:
		return Event{}, nil // closed here while the message was on its way
	case r.channel == nil:
		r.messages = append(r.messages, message{typ, bytes.Clone(payload)})
		m.buffered += len(payload) + bufferedCost
		return Event{}, nil
	}
	return Event{Kind: Message, Channel: r.channel, Type: typ, Payload: payload}, nil
}

func (m *Mux) control(typ uint64, payload []byte) (Event, error) {
	d := compact.NewDecoder(payload)
	switch typ {
	case controlBatch:
		return Event{}, m.in.push(&d)
	case controlOpen:
		return m.receiveOpen(&d)
	case controlReject, controlClose:
		id := d.Uint()
		if d.Err() != nil {
			return Event{}, fmt.Errorf("%w: %w", ErrMalformed, d.Err())
		}
		if typ == controlClose {
			return m.receiveClose(id), nil
		}
		return m.receiveReject(id)
	}
	return Event{}, nil
}

// push begins a batch.
func (in *input) push(d *compact.Decoder) error {
	b := batch{channel: d.Uint(), rest: d.Rest()}
	if d.Err() != nil {
		return fmt.Errorf("%w: batch: %w", ErrMalformed, d.Err())
	}
	if in.depth == maxDepth {
		return ErrNesting
	}
	in.stack[in.depth] = b
	in.depth++
	return nil
}

func (m *Mux) receiveOpen(d *compact.Decoder) (Event, error) {
	id := d.Uint()
	protocol, key := d.Bytes(maxFrame), d.Bytes(maxFrame)
	handshake := d.Rest()
	if d.Err() != nil {
		return Event{}, fmt.Errorf("%w: open: %w", ErrMalformed, d.Err())
	}
	// The remote may use a free id, or one more than it ever used.
	if id == 0 || id > maxChannelID || id > uint64(len(m.remote))+1 || m.remoteByID(id) != nil {
		return Event{}, fmt.Errorf("%w: %d", ErrInvalidOpen, id)
	}
	if id > uint64(len(m.remote)) {
		m.remote = append(m.remote, nil)
	}
	if len(protocol) > maxName || len(key) > maxID || len(handshake) > maxHandshake {
		m.sendControl(controlReject, id)
		return Event{}, nil
	}
	n := name{string(protocol), string(key)}
	if l := m.waiting[n]; len(l) > 0 {
		c := l[0]
		m.stopWaiting(c)
		if c.closed { // the remote learns it from the close that was sent
			m.release(c)
			return Event{}, nil
		}
		r := m.addRemote(n, id)
		r.handshake = handshake
		m.pair(c, r)
		return Event{}, nil // Next goes on with the queue
	}
	if m.pendingOpens >= maxPending || m.remoteOpen >= maxChannels {
		m.sendControl(controlReject, id)
		return Event{}, nil
	}
	r := m.addRemote(n, id)
	r.handshake = append([]byte{}, handshake...)
	m.pending[n] = append(m.pending[n], r)
	m.pendingOpens++
	return Event{Kind: Pending, Remote: r}, nil
}

func (m *Mux) addRemote(n name, id uint64) *Remote {
	r := &Remote{name: n, remoteID: id}
	m.remote[id-1] = r
	m.remoteOpen++
	return r
}

func (m *Mux) receiveClose(id uint64) Event {
	r := m.remoteByID(id)
	if r == nil {
		return Event{}
	}
	if r.channel == nil {
		// The remote keeps its id until it is answered.
		m.Reject(r)
		return Event{Kind: Withdrawn, Remote: r}
	}
	c := r.channel
	m.drop(c)
	return Event{Kind: Closed, Channel: c}
}

func (m *Mux) receiveReject(id uint64) (Event, error) {
	if id == 0 || id > uint64(len(m.local)) || m.local[id-1] == nil || m.local[id-1].remoteID != 0 {
		return Event{}, fmt.Errorf("%w: %d", ErrInvalidReject, id)
	}
	c := m.local[id-1]
	m.stopWaiting(c)
	m.release(c)
	if c.closed {
		return Event{}, nil
	}
	m.markClosed(c)
	return Event{Kind: Closed, Channel: c, Rejected: true}, nil
}
