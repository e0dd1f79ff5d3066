package api

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/p2pcore/p2pcore/feed"
)

// ContentFrames is the media type of a stream of frames.
const ContentFrames = "application/vnd.p2pcore.frames"

const (
	contentLines = "application/x-ndjson"
	contentSSE   = "text/event-stream"
)

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

// eventStream writes events: JSON lines, or frames or Server-Sent Events if the client asked for them. One goroutine
// writes at a time.
type eventStream struct {
	w           http.ResponseWriter
	flush       func() error
	frames, sse bool
	head        [frameHeaderBytes]byte
}

// newStream begins the answer.
func newStream(w http.ResponseWriter, r *http.Request) *eventStream {
	accept := r.Header.Get("Accept")
	s := &eventStream{w: w, frames: accept == ContentFrames, sse: strings.HasPrefix(accept, contentSSE)}
	s.flush = http.NewResponseController(w).Flush
	content := contentLines
	switch {
	case s.frames:
		content = ContentFrames
	case s.sse:
		content = contentSSE
	}
	w.Header().Set("Content-Type", content)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Vary", "Accept")
	w.WriteHeader(http.StatusOK)
	return s
}

// event sends one event at once.
func (s *eventStream) event(e Event) error {
	b, err := json.Marshal(e)
	if err != nil {
		return err
	}
	switch {
	case s.frames:
		err = s.frame(FrameEvent, b)
	case s.sse:
		err = s.message("", e.Event, b)
	default:
		_, err = s.w.Write(append(b, '\n'))
	}
	if err != nil {
		return err
	}
	return s.flush()
}

// block sends a block as a Server-Sent Event, at once.
func (s *eventStream) block(id string, line BlockLine) error {
	b, err := json.Marshal(line)
	if err != nil {
		return err
	}
	if err := s.message(id, "block", b); err != nil {
		return err
	}
	return s.flush()
}

// message writes a Server-Sent Event. data is one line.
func (s *eventStream) message(id, name string, data []byte) error {
	var b bytes.Buffer
	if id != "" {
		fmt.Fprintf(&b, "id: %s\n", id)
	}
	fmt.Fprintf(&b, "event: %s\ndata: %s\n\n", name, data)
	_, err := s.w.Write(b.Bytes())
	return err
}

// comment sends a Server-Sent Event that clients ignore.
func (s *eventStream) comment() error {
	if _, err := io.WriteString(s.w, ":\n\n"); err != nil {
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
