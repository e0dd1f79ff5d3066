package api

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/p2pcore/p2pcore/feed"
)

// ContentFrames is the media type of a stream of frames.
const ContentFrames = "application/vnd.p2pcore.frames"

const contentLines = "application/x-ndjson"

// A stream of frames carries blocks, with events between them. A frame is
//
//	kind    1 byte: 'b' a block, 'e' an Event in JSON
//	length  4 bytes, big endian
//	bytes
const (
	FrameBlock = 'b'
	FrameEvent = 'e'

	frameHeaderBytes = 5
	// A block is the largest thing in a frame.
	maxFrameBytes = feed.MaxBlockBytes
)

// ReadFrame reads the next frame into buf, which it grows as needed and returns. The error is io.EOF at a
// proper end of the stream.
func ReadFrame(r io.Reader, buf []byte) (kind byte, body []byte, err error) {
	var head [frameHeaderBytes]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, buf[:0], err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > maxFrameBytes {
		return 0, buf[:0], fmt.Errorf("api: a frame of %d bytes", n)
	}
	if uint32(cap(buf)) < n {
		buf = make([]byte, n)
	}
	buf = buf[:n]
	if _, err := io.ReadFull(r, buf); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return 0, buf[:0], err
	}
	return head[0], buf, nil
}

// eventStream writes events: JSON lines, or frames if the client asked for them. One goroutine writes.
type eventStream struct {
	w      http.ResponseWriter
	flush  func() error
	frames bool
	head   [frameHeaderBytes]byte
}

// newStream begins the answer.
func newStream(w http.ResponseWriter, r *http.Request) *eventStream {
	s := &eventStream{w: w, frames: r.Header.Get("Accept") == ContentFrames}
	s.flush = http.NewResponseController(w).Flush
	content := contentLines
	if s.frames {
		content = ContentFrames
	}
	w.Header().Set("Content-Type", content)
	w.WriteHeader(http.StatusOK)
	return s
}

// event sends one event at once.
func (s *eventStream) event(e Event) error {
	b, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if s.frames {
		err = s.frame(FrameEvent, b)
	} else {
		_, err = s.w.Write(append(b, '\n'))
	}
	if err != nil {
		return err
	}
	return s.flush()
}

// line sends any other value as one line, at once.
func (s *eventStream) line(v any) error {
	if err := s.buffered(v); err != nil {
		return err
	}
	return s.flush()
}

// buffered is line without the flush.
func (s *eventStream) buffered(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = s.w.Write(append(b, '\n'))
	return err
}

// frame sends bytes; they may wait in a buffer until the next flush.
func (s *eventStream) frame(kind byte, b []byte) error {
	s.head[0] = kind
	binary.BigEndian.PutUint32(s.head[1:], uint32(len(b)))
	if _, err := s.w.Write(s.head[:]); err != nil {
		return err
	}
	if len(b) == 0 {
		return nil
	}
	_, err := s.w.Write(b)
	return err
}

// fail ends the stream with a problem that the client can read. An error that means the end of the
// server or of the client is returned: the stream is then cut.
func (s *eventStream) fail(r *http.Request, err error) error {
	if err == nil || r.Context().Err() != nil {
		return err
	}
	return s.event(Event{Event: "error", Problem: ProblemOf(err)})
}
