package simnet

import (
	"errors"
	"io"
	"sync"
	"time"
)

var (
	// ErrCut is what reads and writes return once the link was cut.
	ErrCut = errors.New("simnet: link is cut")
	// ErrReset is what the other end's reads and writes return after a Reset.
	ErrReset = errors.New("simnet: stream was reset")
)

// Path describes one direction of a link.
type Path struct {
	// Delay is how long a byte travels, one way.
	Delay time.Duration
	// Bandwidth is in bytes per second; 0 means without bound.
	Bandwidth int
	// Buffer bounds the bytes that were written and have not left yet, together with those that have
	// arrived and were not read: Write waits while they are as many. Bytes that travel do not count.
	// 0 means DefaultBuffer.
	Buffer int
}

const (
	// DefaultBuffer is the Buffer of a Path that has none: what an operating system gives a socket.
	DefaultBuffer = 256 << 10

	// segment is how many bytes travel together. They arrive all at once.
	segment = 8 << 10
)

// Link is a link between two ends. All methods are safe for concurrent use.
type Link struct {
	// A and B are the ends, set in New.
	A, B *End

	mu sync.Mutex
	// Under mu.
	start  time.Time
	lost   time.Duration // spent in pauses that are over
	paused time.Time     // since when the link stands still, or zero
	err    error         // ErrCut after Cut
}

// End is one end of a link: a stream. One goroutine may read while another writes.
type End struct {
	// Set in New.
	link *Link
	in   *flow
	out  *flow

	// Under link.mu.
	closed bool
}

var _ io.ReadWriteCloser = (*End)(nil)

// New returns a link whose bytes from A to B go over the path ab, and the others over ba.
func New(ab, ba Path) *Link {
	l := &Link{start: time.Now()}
	out, back := &flow{link: l, path: ab}, &flow{link: l, path: ba}
	l.A = &End{link: l, in: back, out: out}
	l.B = &End{link: l, in: out, out: back}
	return l
}

// Cut breaks the link: what travels is lost, and reads and writes at both ends return ErrCut.
func (l *Link) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = ErrCut
	l.A.out.fail(ErrCut)
	l.B.out.fail(ErrCut)
}

// Pause makes the link stand still: nothing leaves and nothing arrives until Resume.
func (l *Link) Pause() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.paused.IsZero() {
		l.paused = time.Now()
		l.changed()
	}
}

// Resume ends a Pause. What was travelling has as long to go as when it began.
func (l *Link) Resume() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.paused.IsZero() {
		l.lost += time.Since(l.paused)
		l.paused = time.Time{}
		l.changed()
	}
}

// changed has all who wait look again. mu is held.
func (l *Link) changed() {
	l.A.out.changed()
	l.B.out.changed()
}

// now is the link's own time, which stands still while it is paused. mu is held.
func (l *Link) now() time.Duration {
	now := time.Now()
	if !l.paused.IsZero() {
		now = l.paused
	}
	return now.Sub(l.start) - l.lost
}

// Read returns what has arrived, and waits if that is nothing. The error is io.EOF when the other end has
// closed, ErrReset, ErrCut, or io.ErrClosedPipe when this end has closed.
func (e *End) Read(b []byte) (int, error) {
	e.link.mu.Lock()
	defer e.link.mu.Unlock()
	return e.in.read(e, b)
}

// Write hands b to the link, and waits while its buffer is full. The error is ErrReset, ErrCut, or
// io.ErrClosedPipe when one of the ends has closed.
func (e *End) Write(b []byte) (int, error) {
	e.link.mu.Lock()
	defer e.link.mu.Unlock()
	return e.out.write(e, b)
}

// CloseWrite ends the direction away from this end: the other end reads what was written, then io.EOF.
func (e *End) CloseWrite() error {
	e.link.mu.Lock()
	defer e.link.mu.Unlock()
	e.out.end()
	return nil
}

// Close ends both directions. The other end reads what was written, then io.EOF; its writes fail at once.
func (e *End) Close() error {
	e.link.mu.Lock()
	defer e.link.mu.Unlock()
	if !e.closed {
		e.closed = true
		e.out.end()
		e.in.fail(io.ErrClosedPipe)
	}
	return nil
}

// Reset ends both directions at once: what travels is lost, and the other end gets ErrReset.
func (e *End) Reset() error {
	e.link.mu.Lock()
	defer e.link.mu.Unlock()
	e.closed = true
	e.out.fail(ErrReset)
	e.in.fail(ErrReset)
	return nil
}

// Sent is how many bytes Write has accepted at this end.
func (e *End) Sent() uint64 {
	e.link.mu.Lock()
	defer e.link.mu.Unlock()
	return e.out.written
}

// Received is how many bytes Read has returned at this end.
func (e *End) Received() uint64 {
	e.link.mu.Lock()
	defer e.link.mu.Unlock()
	return e.in.delivered
}
