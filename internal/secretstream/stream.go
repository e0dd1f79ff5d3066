package secretstream

import (
	"bufio"
	"crypto/subtle"
	"fmt"
	"io"
	"slices"
)

// Stream is an encrypted stream after its handshake. There are two ways to use it: either ReadMessage
// and WriteMessage do the reading and writing, or the caller does, and lays messages in frames
// with Seal and Open. One goroutine may send and another receive.
type Stream struct {
	// Set by Handshake.
	rwc      io.ReadWriteCloser
	hash     [64]byte
	remote   [32]byte
	remoteID [streamID]byte // what the remote's header has to begin with

	// Owned by the sender.
	send *state
	out  []byte

	// Owned by the receiver.
	receiveKey [32]byte
	receive    *state // nil until the header has come
	broken     error  // what Open fails with from now on
	in         *bufio.Reader
	buf        []byte
}

// HandshakeHash returns the value that both ends have, and no other stream. It is not secret.
func (s *Stream) HandshakeHash() [64]byte { return s.hash }

// RemotePublicKey returns the Ed25519 key that the remote has proved to hold.
func (s *Stream) RemotePublicKey() [32]byte { return s.remote }

// Close closes the byte stream below.
func (s *Stream) Close() error { return s.rwc.Close() }

// Headroom is how many bytes Seal and Open use in front of what they are given.
const Headroom = block

// Headroom returns the constant of this name.
func (s *Stream) Headroom() int { return Headroom }

// Seal makes a frame of the message b[Headroom:], in place, and returns it: a part of b if b has
// capacity for 16 bytes more. The bytes in front of the message are overwritten.
//
// The error is ErrTooLarge for a message above MaxMessage. Frames must be written in the order of Seal.
func (s *Stream) Seal(b []byte) ([]byte, error) {
	n := len(b) - Headroom
	if n > MaxMessage {
		return nil, fmt.Errorf("%w: %d bytes", ErrTooLarge, n)
	}
	b, err := s.send.seal(b, tagMessage)
	if err != nil {
		return nil, err
	}
	b = b[Headroom-tagSize-lengthSize:]
	putLength(b, n+overhead)
	return b, nil
}

// Open returns the message of the frame body b[Headroom:], decrypted in place. It is empty for a keep-alive, and
// for the remote's header, which is the first that comes. The bytes in front of the body are overwritten.
//
// The error wraps ErrFrame, or ErrHandshake for the header. It is for ever.
func (s *Stream) Open(b []byte) ([]byte, error) {
	if s.broken != nil {
		return nil, s.broken
	}
	message, err := s.open(b)
	if err != nil {
		s.broken = err
		return nil, err
	}
	return message, nil
}

func (s *Stream) open(b []byte) ([]byte, error) {
	if s.receive == nil {
		return nil, s.begin(b[Headroom:])
	}
	if n := len(b) - Headroom; n < overhead {
		return nil, fmt.Errorf("%w: body of %d bytes", ErrFrame, n)
	}
	message, ok, err := s.receive.open(b[tagSize:])
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fmt.Errorf("%w: wrong MAC", ErrFrame)
	}
	return message, nil
}

// begin reads the remote's header.
func (s *Stream) begin(header []byte) (err error) {
	if len(header) != headerBody {
		return fmt.Errorf("%w: header of %d bytes", ErrHandshake, len(header))
	}
	if subtle.ConstantTimeCompare(header[:streamID], s.remoteID[:]) != 1 {
		return fmt.Errorf("%w: header of another stream", ErrHandshake)
	}
	s.receive, err = newState(s.receiveKey[:], header[streamID:])
	return err
}

// ReadMessage returns the next message that is not empty. It is valid until the next call.
//
// The error is Open's or the stream's: io.EOF at its end, io.ErrUnexpectedEOF if that is within a frame.
func (s *Stream) ReadMessage() ([]byte, error) {
	if s.in == nil {
		s.in = bufio.NewReaderSize(s.rwc, readBuffer)
	}
	if cap(s.buf) > maxKept {
		s.buf = nil
	}
	for {
		b, err := readFrame(s.in, s.buf, Headroom, maxBody)
		if err != nil {
			return nil, err
		}
		s.buf = b
		message, err := s.Open(b)
		if err != nil || len(message) > 0 {
			return message, err
		}
	}
}

// WriteMessage writes messages, one frame each, in one Write. They are copied. An empty one is a keep-alive.
//
// The error is ErrTooLarge, and then nothing was written, or the stream's, which is useless after it.
func (s *Stream) WriteMessage(messages ...[]byte) error {
	const front = Headroom - lengthSize - tagSize // what Seal uses before the frame
	size := front
	for _, m := range messages {
		if len(m) > MaxMessage {
			return fmt.Errorf("%w: %d bytes", ErrTooLarge, len(m))
		}
		size += lengthSize + overhead + len(m)
	}
	b := slices.Grow(s.out[:0], size)[:front]
	for _, m := range messages {
		at := len(b) - front // the end of the frame before, which Seal overwrites
		before := [front]byte(b[at:])
		b = append(b, make([]byte, lengthSize+tagSize)...)
		frame, err := s.Seal(append(b, m...)[at:])
		if err != nil {
			return err
		}
		b = b[:at+front+len(frame)]
		copy(b[at:], before[:])
	}
	if s.out = b; cap(b) > maxKept {
		s.out = nil
	}
	_, err := s.rwc.Write(b[front:])
	return err
}
