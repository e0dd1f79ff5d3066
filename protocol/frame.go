package protocol

import (
	"bufio"
	"errors"
	"io"
	"sync/atomic"
	"time"
)

// frameHeader is the size of a frame's length, little endian.
const frameHeader = 3

func frameLength(h [frameHeader]byte) int { return int(h[0]) | int(h[1])<<8 | int(h[2])<<16 }

func putFrameLength(b []byte, n int) { b[0], b[1], b[2] = byte(n), byte(n>>8), byte(n>>16) }

// readBody reads n bytes, with room bytes of anything in front of them. Memory is taken as they arrive.
func readBody(r io.Reader, room, n int) ([]byte, error) {
	b := make([]byte, room+min(n, frameStep))
	for at := room; ; {
		if _, err := io.ReadFull(r, b[at:]); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		if len(b) == room+n {
			return b, nil
		}
		at = len(b)
		b = append(b, make([]byte, min(room+n-at, at))...)
	}
}

// framing is how messages are laid in frames. One goroutine may seal while another opens.
type framing interface {
	// Headroom is how many bytes Seal and Open use in front of what they are given.
	Headroom() int
	// Seal makes a frame, its length included, of the message b[Headroom():], in the memory of b if it can.
	Seal(b []byte) ([]byte, error)
	// Open returns the message in the body b[Headroom():], in the memory of b. An empty one is none.
	Open(b []byte) ([]byte, error)
}

// plain is the framing of a stream that is encrypted below: a message is a body.
type plain struct{}

func (plain) Headroom() int { return frameHeader }

func (plain) Seal(b []byte) ([]byte, error) {
	putFrameLength(b, len(b)-frameHeader)
	return b, nil
}

func (plain) Open(b []byte) ([]byte, error) { return b[frameHeader:], nil }

// stream is the byte stream below a connection, with a record of when it last made progress. The
// reader and the writer use one direction each; anybody may ask for overdue and abort.
type stream struct {
	// Set in newStream.
	rwc     io.ReadWriteCloser
	framing framing
	in      *bufio.Reader

	// Unix nanoseconds since which a Read or a Write is in progress, 0 if none is.
	reading, writing atomic.Int64
	received, sent   atomic.Uint64 // bytes
}

func newStream(rwc io.ReadWriteCloser, f framing) *stream {
	s := &stream{rwc: rwc, framing: f}
	s.in = bufio.NewReaderSize((*timedReader)(s), readBuffer)
	return s
}

// timedReader is the stream's rwc as a reader that keeps the record.
type timedReader stream

func (r *timedReader) Read(b []byte) (int, error) {
	r.reading.Store(time.Now().UnixNano())
	n, err := r.rwc.Read(b)
	r.reading.Store(0)
	r.received.Add(uint64(n))
	return n, err
}

// readMessage returns what the next frame that is no keep-alive holds; the memory is the caller's. A clean end
// is io.EOF.
func (s *stream) readMessage() ([]byte, error) {
	for {
		var header [frameHeader]byte
		if _, err := io.ReadFull(s.in, header[:]); err != nil {
			return nil, err
		}
		b, err := readBody(s.in, s.framing.Headroom(), frameLength(header))
		if err != nil {
			return nil, err
		}
		message, err := s.framing.Open(b)
		if err != nil {
			return nil, &ViolationError{Reason: "malformed stream", Err: err}
		}
		if len(message) > 0 {
			return message, nil
		}
	}
}

// writeMessage writes the message b[Headroom():], of which nothing is left in b then. An empty one is a keep-alive.
func (s *stream) writeMessage(b []byte) error {
	frame, err := s.framing.Seal(b)
	if err != nil {
		return err
	}
	return s.write(frame)
}

// write writes b in steps, each of which has writeTimeout.
func (s *stream) write(b []byte) error {
	for len(b) > 0 {
		step := b[:min(len(b), writeStep)]
		s.writing.Store(time.Now().UnixNano())
		n, err := s.rwc.Write(step)
		s.writing.Store(0)
		s.sent.Add(uint64(n))
		if err != nil {
			return err
		}
		b = b[len(step):]
	}
	return nil
}

// overdue says whether the remote was silent or did not read for too long.
func (s *stream) overdue(now time.Time) bool {
	since := func(v *atomic.Int64, limit time.Duration) bool {
		t := v.Load()
		return t != 0 && now.UnixNano()-t >= int64(limit)
	}
	return since(&s.reading, silence) || since(&s.writing, writeTimeout)
}

// abort ends the stream at once, also for those who are reading and writing it.
func (s *stream) abort() {
	if r, ok := s.rwc.(interface{ Reset() error }); ok {
		_ = r.Reset()
		return
	}
	_ = s.rwc.Close()
}
