package secretstream

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/flynn/noise"
	"golang.org/x/crypto/blake2b"
)

const (
	streamID   = 32 // bytes that name the sender's role at the start of its direction
	headerBody = streamID + streamHeader
)

// Config says how to shake hands.
type Config struct {
	// Initiator says whether this side begins. Exactly one side does.
	Initiator bool
	// Seed is that of our Ed25519 key, which the remote learns. Zero: a fresh key for this stream.
	Seed [32]byte
	// Rand gives, in this order, the seed of the fresh key if there is to be one, the seed of the
	// ephemeral key (32 bytes) and the header of our direction (24 bytes). nil: crypto/rand.
	Rand io.Reader
}

// Handshake makes a Stream over rwc, of which it reads not a byte too many: the caller may use rwc with Seal
// and Open from then on. It blocks for two flights and a half; the responder's header may still be on its
// way to the initiator afterwards, and Open swallows it.
//
// A deadline of ctx is set on rwc, if that has a method SetDeadline, and taken off again; and ctx is
// looked at between frames. To break Handshake off at any other time, close rwc. It starts no
// goroutine, and after an error rwc is still the caller's to close or reset. Nothing is sent
// about the failure.
//
// The error wraps ErrHandshake or ErrFrame (the remote's fault), ctx's error, or that of rwc or Rand. A
// stream that ends early is io.EOF or, within a frame, io.ErrUnexpectedEOF.
func Handshake(ctx context.Context, rwc io.ReadWriteCloser, cfg Config) (s *Stream, err error) {
	if at, ok := ctx.Deadline(); ok {
		if d, ok := rwc.(interface{ SetDeadline(time.Time) error }); ok {
			if err := d.SetDeadline(at); err != nil {
				return nil, err
			}
			defer func() {
				if again := d.SetDeadline(time.Time{}); err == nil && again != nil {
					s, err = nil, again
				}
			}()
		}
	}
	h, err := newHandshake(rwc, cfg)
	if err != nil {
		return nil, err
	}
	if cfg.Initiator {
		return h.initiate(ctx)
	}
	return h.respond(ctx)
}

// handshake is one that is under way.
type handshake struct {
	rwc   io.ReadWriteCloser
	cfg   Config
	noise *noise.HandshakeState
}

func newHandshake(rwc io.ReadWriteCloser, cfg Config) (*handshake, error) {
	if cfg.Rand == nil {
		cfg.Rand = rand.Reader
	}
	static := keyPair(cfg.Seed)
	if cfg.Seed == [32]byte{} {
		var err error
		if static, err = (edwards{}).GenerateKeypair(cfg.Rand); err != nil {
			return nil, fmt.Errorf("make key: %w", err)
		}
	}
	state, err := noise.NewHandshakeState(noise.Config{
		CipherSuite:   noise.NewCipherSuite(edwards{}, noise.CipherChaChaPoly, noise.HashBLAKE2b),
		Random:        cfg.Rand,
		Pattern:       noise.HandshakeXX,
		Initiator:     cfg.Initiator,
		StaticKeypair: static,
	})
	if err != nil {
		return nil, err
	}
	return &handshake{rwc: rwc, cfg: cfg, noise: state}, nil
}

func (h *handshake) initiate(ctx context.Context) (*Stream, error) {
	first, _, err := h.speak()
	if err != nil {
		return nil, err
	}
	if _, err := h.rwc.Write(first); err != nil {
		return nil, fmt.Errorf("send ephemeral key: %w", err)
	}
	if _, err := h.listen(ctx); err != nil {
		return nil, err
	}
	third, keys, err := h.speak()
	if err != nil {
		return nil, err
	}
	s, last, err := h.split(keys, third)
	if err != nil {
		return nil, err
	}
	if _, err := h.rwc.Write(last); err != nil {
		return nil, fmt.Errorf("send key: %w", err)
	}
	return s, nil
}

func (h *handshake) respond(ctx context.Context) (*Stream, error) {
	if _, err := h.listen(ctx); err != nil {
		return nil, err
	}
	second, _, err := h.speak()
	if err != nil {
		return nil, err
	}
	if _, err := h.rwc.Write(second); err != nil {
		return nil, fmt.Errorf("send key: %w", err)
	}
	keys, err := h.listen(ctx)
	if err != nil {
		return nil, err
	}
	s, last, err := h.split(keys, nil)
	if err != nil {
		return nil, err
	}
	// The initiator sent its header with its key, and on a stream without buffers it does not read before
	// both are taken off it.
	b, err := readFrame(h.rwc, nil, Headroom, maxHandshake)
	if err != nil {
		return nil, fmt.Errorf("read header: %w", err)
	}
	if _, err := s.Open(b); err != nil {
		return nil, err
	}
	if _, err := h.rwc.Write(last); err != nil {
		return nil, fmt.Errorf("send header: %w", err)
	}
	return s, nil
}

// keys are the two that the handshake ends with: of the initiator's direction, and of the responder's.
type keys [2][32]byte

func keysOf(a, b *noise.CipherState) *keys {
	if a == nil {
		return nil
	}
	return &keys{a.UnsafeKey(), b.UnsafeKey()}
}

// speak returns our next message as a frame.
func (h *handshake) speak() ([]byte, *keys, error) {
	b, first, second, err := h.noise.WriteMessage(make([]byte, lengthSize), nil)
	switch {
	case errors.Is(err, errPoint):
		return nil, nil, fmt.Errorf("%w: %w", ErrHandshake, err)
	case err != nil:
		return nil, nil, fmt.Errorf("make key: %w", err)
	}
	putLength(b, len(b)-lengthSize)
	return b, keysOf(first, second), nil
}

// listen reads the remote's next message. Its payload is ignored.
func (h *handshake) listen(ctx context.Context) (*keys, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	body, err := readFrame(h.rwc, nil, 0, maxHandshake)
	if err != nil {
		return nil, fmt.Errorf("read handshake: %w", err)
	}
	_, first, second, err := h.noise.ReadMessage(nil, body)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrHandshake, err)
	}
	return keysOf(first, second), nil
}

// split makes the stream, and appends the frame of our header to b.
func (h *handshake) split(k *keys, b []byte) (*Stream, []byte, error) {
	s := &Stream{rwc: h.rwc, hash: [64]byte(h.noise.ChannelBinding()), remote: [32]byte(h.noise.PeerStatic())}
	ours, theirs := k[0], k[1]
	id := idOf(s.hash, 0)
	s.remoteID = idOf(s.hash, 1)
	if !h.cfg.Initiator {
		ours, theirs = theirs, ours
		id, s.remoteID = s.remoteID, id
	}
	var header [streamHeader]byte
	if _, err := io.ReadFull(h.cfg.Rand, header[:]); err != nil {
		return nil, nil, fmt.Errorf("make header: %w", err)
	}
	s.receiveKey = theirs
	var err error
	if s.send, err = newState(ours[:], header[:]); err != nil {
		return nil, nil, err
	}
	b = append(b, headerBody, 0, 0)
	b = append(b, id[:]...)
	return s, append(b, header[:]...), nil
}

// idOf is the stream id of a role, 0 for the initiator and 1 for the responder: a constant of the
// package, hashed with the handshake's hash as the key.
func idOf(hash [64]byte, role byte) [streamID]byte {
	name := blake2b.Sum256([]byte("hyperswarm/secret-stream"))
	namespace := blake2b.Sum256(append(name[:], role))
	h, err := blake2b.New256(hash[:])
	if err != nil {
		panic(err) // only for keys longer than 64 bytes
	}
	h.Write(namespace[:])
	return [streamID]byte(h.Sum(nil))
}
