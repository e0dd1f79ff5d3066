package protocol

import (
	"io"
	"sync"
)

// half is one direction of a pipe: a bounded buffer.
type half struct {
	mu     sync.Mutex
	moved  *sync.Cond
	buf    []byte
	limit  int
	closed bool  // no more writes; reads go on until the buffer is empty
	broken error // both fail
}

func newHalf(limit int) *half {
	h := &half{limit: limit}
	h.moved = sync.NewCond(&h.mu)
	return h
}

func (h *half) read(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(h.buf) == 0 && !h.closed && h.broken == nil {
		h.moved.Wait()
	}
	if h.broken != nil {
		return 0, h.broken
	}
	if len(h.buf) == 0 {
		return 0, io.EOF
	}
	n := copy(b, h.buf)
	h.buf = append(h.buf[:0], h.buf[n:]...)
	h.moved.Broadcast()
	return n, nil
}

func (h *half) write(b []byte) (n int, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(b) > 0 {
		for len(h.buf) >= h.limit && !h.closed && h.broken == nil {
			h.moved.Wait()
		}
		if h.broken != nil {
			return n, h.broken
		}
		if h.closed {
			return n, io.ErrClosedPipe
		}
		k := min(len(b), h.limit-len(h.buf))
		h.buf = append(h.buf, b[:k]...)
		n, b = n+k, b[k:]
		h.moved.Broadcast()
	}
	return n, nil
}

func (h *half) end(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	if h.broken == nil {
		h.broken = err
	}
	h.moved.Broadcast()
}

// end is one end of an in-memory stream with buffers, like a socket's.
type end struct{ in, out *half }

// newPipe returns both ends of a stream that takes limit bytes in each direction before a write waits.
func newPipe(limit int) (a, b *end) {
	x, y := newHalf(limit), newHalf(limit)
	return &end{x, y}, &end{y, x}
}

func (e *end) Read(b []byte) (int, error)  { return e.in.read(b) }
func (e *end) Write(b []byte) (int, error) { return e.out.write(b) }

// Close ends both directions; what was written can still be read.
func (e *end) Close() error {
	e.out.end(nil)
	e.in.end(io.ErrClosedPipe)
	return nil
}

// Reset breaks both directions.
func (e *end) Reset() error {
	e.out.end(io.ErrUnexpectedEOF)
	e.in.end(io.ErrClosedPipe)
	return nil
}

// halfPipe is an end whose sending side can be ended alone.
type halfPipe struct{ *end }

func (h halfPipe) CloseWrite() error {
	h.out.end(nil)
	return nil
}
