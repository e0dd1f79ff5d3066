package muxer

import "github.com/p2pcore/p2pcore/internal/compact"

// Types of control messages.
const (
	controlBatch uint64 = iota
	controlOpen
	controlReject
	controlClose
)

// Payload is a message that can write itself. Size is an upper bound of what Append adds.
type Payload interface {
	Append(b []byte) []byte
	Size() int
}

// Frame is what Take hands out.
type Frame struct {
	// Bytes is the frame behind the headroom that New was given.
	Bytes []byte
	// Credits says how much of it is which channel's: the sum of Size over its messages.
	Credits []Credit

	control int // bytes of rejects, closes and answers to opens
}

// Credit is an amount of one channel, in bytes.
type Credit struct {
	Channel *Channel
	Bytes   int
}

// output is what waits to be sent.
type output struct {
	headroom int
	corked   int
	ready    []Frame // finished frames, oldest first
	control  int     // sum of the frames' control
	orphaned int     // bytes of frames that are not taken, of channels that have closed

	current Frame  // the batch that is being filled
	entries int    // messages in it
	channel uint64 // channel of its last message

	spare      []Frame // emptied, for newFrame
	spareBytes int     // sum of their memory
}

// Cork makes what is sent from now on go out in batches, until as many Uncork have followed.
func (m *Mux) Cork() { m.out.corked++ }

// Uncork ends the batch when it is the outermost one. Nothing is sent for an empty batch.
func (m *Mux) Uncork() {
	m.out.corked--
	if m.out.corked == 0 {
		m.out.flush()
	}
}

// Send queues a message on a channel, which need not be paired yet.
//
// The error is ErrClosed or ErrTooLarge.
func (m *Mux) Send(c *Channel, typ uint64, p Payload) error {
	if c.closed {
		return ErrClosed
	}
	if p.Size() > maxFrame-64 {
		return ErrTooLarge
	}
	n := p.Size()
	c.unwritten += n
	m.out.add(c.localID, typ, p)
	f := m.out.last()
	if l := len(f.Credits); l > 0 && f.Credits[l-1].Channel == c {
		f.Credits[l-1].Bytes += n
	} else {
		f.Credits = append(f.Credits, Credit{c, n})
	}
	return nil
}

// Waiting says whether Take would return a frame.
func (m *Mux) Waiting() bool { return len(m.out.ready) > 0 || m.out.entries > 0 }

// Unwritten is how many bytes Take would return, frame by frame.
func (m *Mux) Unwritten() int {
	n := len(m.out.current.Bytes)
	for _, f := range m.out.ready {
		n += len(f.Bytes)
	}
	return n
}

// Take returns the oldest frame to send, or false when there is none. A batch that is corked is cut
// for it, so that a writer that is idle never waits.
func (m *Mux) Take() (Frame, bool) {
	o := &m.out
	if len(o.ready) == 0 {
		o.flush()
	}
	if len(o.ready) == 0 {
		return Frame{}, false
	}
	f := o.ready[0]
	copy(o.ready, o.ready[1:])
	o.ready[len(o.ready)-1] = Frame{}
	o.ready = o.ready[:len(o.ready)-1]
	o.control -= f.control
	for _, credit := range f.Credits {
		credit.Channel.unwritten -= credit.Bytes
		if credit.Channel.closed {
			o.orphaned -= credit.Bytes
		}
	}
	return f, true
}

// Recycle gives the memory of a frame that was written back to the muxer.
func (m *Mux) Recycle(f Frame) {
	o := &m.out
	if len(o.spare) == maxSpareFrames || o.spareBytes+f.memory() > maxSpareBytes {
		return
	}
	clear(f.Credits)
	o.spareBytes += f.memory()
	o.spare = append(o.spare, Frame{Bytes: f.Bytes[:0], Credits: f.Credits[:0]})
}

// memory is how many bytes the frame keeps allocated.
func (f *Frame) memory() int { return cap(f.Bytes) + creditBytes*cap(f.Credits) }

// sendOpen queues an open. One that answers the remote's is counted as what a remote can bring about.
func (m *Mux) sendOpen(c *Channel, handshake []byte, answer bool) {
	b := compact.AppendUint(nil, c.localID)
	b = compact.AppendString(b, c.Protocol())
	b = compact.AppendString(b, c.ID())
	n := m.out.add(0, controlOpen, raw(append(b, handshake...)))
	if answer {
		m.out.count(n)
	}
}

// sendControl queues a reject or a close, which a remote can bring about, and counts it.
func (m *Mux) sendControl(typ, id uint64) {
	m.out.count(m.out.add(0, typ, raw(compact.AppendUint(nil, id))))
}

// count notes that n bytes of the last frame are the remote's doing.
func (o *output) count(n int) {
	o.control += n
	o.last().control += n
}

type raw []byte

func (r raw) Append(b []byte) []byte { return append(b, r...) }
func (r raw) Size() int              { return len(r) }

// add queues one message, in the batch when corked and else as a frame, and returns its size.
func (o *output) add(channel, typ uint64, p Payload) int {
	size := 9 + p.Size() // with the type
	if o.corked == 0 {
		f := o.newFrame(size + 9)
		start := len(f.Bytes)
		f.Bytes = compact.AppendUint(f.Bytes, channel)
		f.Bytes = p.Append(compact.AppendUint(f.Bytes, typ))
		o.ready = append(o.ready, f)
		return len(f.Bytes) - start
	}
	room := size + 29
	if n := len(o.current.Bytes); n >= maxBatch || n+size+19 > maxFrame {
		o.flush()
		room = max(room, n) // the next one will be as long
	}
	if o.entries == 0 {
		o.current = o.newFrame(room)
		o.current.Bytes = append(o.current.Bytes, 0, 0) // channel 0, batch
		o.current.Bytes = compact.AppendUint(o.current.Bytes, channel)
	} else if channel != o.channel {
		o.current.Bytes = append(o.current.Bytes, 0)
		o.current.Bytes = compact.AppendUint(o.current.Bytes, channel)
	}
	o.channel = channel
	o.entries++
	start := len(o.current.Bytes)
	o.current.Bytes = appendEntry(o.current.Bytes, typ, p, size)
	return len(o.current.Bytes) - start
}

// appendEntry appends uint n and n bytes (uint type, payload). The size of the length is taken from
// the bound and, where that was too much, the entry moved back.
func appendEntry(b []byte, typ uint64, p Payload, bound int) []byte {
	at := len(b)
	reserved := compact.SizeUint(uint64(bound))
	b = append(b, make([]byte, reserved)...)
	b = p.Append(compact.AppendUint(b, typ))
	n := uint64(len(b) - at - reserved)
	if size := compact.SizeUint(n); size < reserved {
		copy(b[at+size:], b[at+reserved:])
		b = b[:len(b)-reserved+size]
	}
	compact.AppendUint(b[:at], n)
	return b
}

// last is the frame that the last add went into.
func (o *output) last() *Frame {
	if o.entries == 0 { // not corked: the message is a frame of its own
		return &o.ready[len(o.ready)-1]
	}
	return &o.current
}

func (o *output) flush() {
	if o.entries == 0 {
		return
	}
	o.ready = append(o.ready, o.current)
	o.current, o.entries = Frame{}, 0
}

func (o *output) newFrame(size int) Frame {
	var f Frame
	if n := len(o.spare); n > 0 {
		f, o.spare = o.spare[n-1], o.spare[:n-1]
		o.spareBytes -= f.memory()
	}
	if f.Bytes == nil {
		f.Bytes = make([]byte, 0, max(512, o.headroom+size))
	}
	f.Bytes = append(f.Bytes, make([]byte, o.headroom)...)
	return f
}
