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

// readBody reads n bytes. Memory is taken as they arrive.
func readBody(r io.Reader, n int) ([]byte, error) {
	b := make([]byte, min(n, frameStep))
	for at := 0; ; {
		if _, err := io.ReadFull(r, b[at:]); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		if len(b) == n {
			return b, nil
		}
		at = len(b)
		b = append(b, make([]byte, min(n-at, at))...)
	}
}

// stream is the byte stream below a connection, with a record of when it last made progress. The
// reader and the writer use one direction each; anybody may ask for overdue and abort.
type stream struct {
	rwc io.ReadWriteCloser
	in  *bufio.Reader

	// Unix nanoseconds since which a Read or a Write is in progress, 0 if none is.
	reading, writing atomic.Int64
	received, sent   atomic.Uint64 // bytes
}

func newStream(rwc io.ReadWriteCloser) *stream {
	s := &stream{rwc: rwc}
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

// readFrame returns the next frame that is not a keep-alive; the frame is the caller's. A clean end is io.EOF.
func (s *stream) readFrame() ([]byte, error) {
	for {
		var header [frameHeader]byte
		if _, err := io.ReadFull(s.in, header[:]); err != nil {
			return nil, err
		}
		if n := frameLength(header); n > 0 {
			return readBody(s.in, n)
		}
	}
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
