package simnet

import (
	"io"
	"time"
)

// flow is one direction of a link. Its fields are under link.mu.
type flow struct {
	link *Link // set in New
	path Path  // set in New

	queue   []piece       // not read yet, oldest first
	left    int           // pieces at its head that have left
	arrived int           // of those, the ones that have arrived
	unsent  int           // bytes that have not left
	unread  int           // bytes that have arrived
	free    time.Duration // when the last piece leaves
	ended   bool          // the writer has closed: io.EOF after the queue
	err     error         // ends reads and writes at once

	written, delivered uint64 // bytes

	wake chan struct{} // closed when something has changed; nil while nobody waits
}

// piece is what travels together. Its times are the link's.
type piece struct {
	bytes           []byte
	leaves, arrives time.Duration
}

// never is a time for which nobody waits.
const never = time.Duration(-1)

func (f *flow) write(e *End, b []byte) (n int, err error) {
	for len(b) > 0 {
		switch {
		case e.closed || f.ended:
			return n, io.ErrClosedPipe
		case f.err != nil:
			return n, f.err
		}
		now := f.advance()
		room := f.buffer() - f.unsent - f.unread
		if room <= 0 {
			f.wait(now, f.nextLeaves())
			continue
		}
		k := min(len(b), room, segment)
		f.push(now, b[:k])
		b, n = b[k:], n+k
	}
	return n, nil
}

func (f *flow) buffer() int {
	if f.path.Buffer == 0 {
		return DefaultBuffer
	}
	return f.path.Buffer
}

func (f *flow) push(now time.Duration, b []byte) {
	f.free = max(f.free, now)
	if f.path.Bandwidth > 0 {
		f.free += time.Duration(len(b)) * time.Second / time.Duration(f.path.Bandwidth)
	}
	f.queue = append(f.queue, piece{append([]byte(nil), b...), f.free, f.free + f.path.Delay})
	f.unsent += len(b)
	f.written += uint64(len(b))
	if len(f.queue) == 1 { // who reads waits for the first piece only
		f.changed()
	}
}

func (f *flow) read(e *End, b []byte) (n int, err error) {
	for {
		switch {
		case e.closed:
			return 0, io.ErrClosedPipe
		case f.err != nil:
			return 0, f.err
		case len(b) == 0:
			return 0, nil
		}
		now := f.advance()
		if f.arrived > 0 {
			return f.take(b), nil
		}
		if len(f.queue) > 0 {
			f.wait(now, f.queue[0].arrives)
			continue
		}
		// The end travels like a byte that was written last.
		if f.ended && now >= f.free+f.path.Delay {
			return 0, io.EOF
		}
		if f.ended {
			f.wait(now, f.free+f.path.Delay)
		} else {
			f.wait(now, never)
		}
	}
}

// take moves what has arrived into b.
func (f *flow) take(b []byte) (n int) {
	for n < len(b) && f.arrived > 0 {
		p := &f.queue[0]
		k := copy(b[n:], p.bytes)
		n += k
		if p.bytes = p.bytes[k:]; len(p.bytes) == 0 {
			*p = piece{}
			f.queue = f.queue[1:]
			f.left--
			f.arrived--
		}
	}
	f.unread -= n
	f.delivered += uint64(n)
	f.changed()
	return n
}

// advance counts what has left and arrived by now.
func (f *flow) advance() time.Duration {
	now := f.link.now()
	for f.left < len(f.queue) && f.queue[f.left].leaves <= now {
		f.unsent -= len(f.queue[f.left].bytes)
		f.left++
	}
	for f.arrived < f.left && f.queue[f.arrived].arrives <= now {
		f.unread += len(f.queue[f.arrived].bytes)
		f.arrived++
	}
	return now
}

// nextLeaves is when there may be room again without a read.
func (f *flow) nextLeaves() time.Duration {
	if f.left == len(f.queue) {
		return never
	}
	return f.queue[f.left].leaves
}

// end lets the reader see the end after all that was written.
func (f *flow) end() {
	if !f.ended {
		f.ended = true
		f.free = max(f.free, f.link.now())
		f.changed()
	}
}

// fail ends the flow for both sides, unless it has failed before.
func (f *flow) fail(err error) {
	if f.err == nil {
		f.err = err
		f.queue, f.left, f.arrived, f.unsent, f.unread = nil, 0, 0, 0, 0
	}
	f.changed()
}

func (f *flow) changed() {
	if f.wake != nil {
		close(f.wake)
		f.wake = nil
	}
}

// wait waits for a change or for the moment until, which has not come yet. link.mu is held, but for the
// time of the wait.
func (f *flow) wait(now, until time.Duration) {
	if f.wake == nil {
		f.wake = make(chan struct{})
	}
	wake, paused := f.wake, !f.link.paused.IsZero()
	f.link.mu.Unlock()
	defer f.link.mu.Lock()
	if until == never || paused {
		<-wake
		return
	}
	timer := time.NewTimer(until - now)
	defer timer.Stop()
	select {
	case <-wake:
	case <-timer.C:
	}
}
