package protocol

import (
	"context"
	"errors"
	"io"

	"github.com/p2pcore/p2pcore/internal/secretstream"
)

// NoiseConfig says how a Noise stream is opened.
type NoiseConfig struct {
	// Initiator says whether this side begins. Exactly one side does.
	Initiator bool
	// Seed is that of the Ed25519 key which the remote learns as our name. Zero is a fresh key for this stream.
	Seed [32]byte
}

// Noise is the encryption of one stream as the JavaScript packages have it (secret-stream): a Noise handshake, then
// libsodium's secretstream. It belongs to the Conn that is made with it.
type Noise struct {
	stream    *secretstream.Stream
	initiator bool
}

// OpenNoise shakes hands over rwc, of which it reads not a byte too many. It blocks for at most two round trips.
//
// A deadline of ctx is set on rwc, if that has a method SetDeadline, and taken off again. To break OpenNoise
// off at any other time, close rwc. After an error rwc is still the caller's to close, and nothing has been sent about
// the failure. The error is a *ViolationError if the remote's part is wrong; ctx's; or that of rwc.
func OpenNoise(ctx context.Context, rwc io.ReadWriteCloser, cfg NoiseConfig) (*Noise, error) {
	s, err := secretstream.Handshake(ctx, rwc, secretstream.Config{Initiator: cfg.Initiator, Seed: cfg.Seed})
	switch {
	case errors.Is(err, secretstream.ErrHandshake), errors.Is(err, secretstream.ErrFrame):
		return nil, &ViolationError{Reason: "handshake", Err: err}
	case err != nil:
		return nil, err
	}
	return &Noise{stream: s, initiator: cfg.Initiator}, nil
}

// Binding returns the hash of the handshake, 64 bytes, which both ends have and no other stream. It is not secret.
func (n *Noise) Binding() []byte {
	hash := n.stream.HandshakeHash()
	return hash[:]
}

// Initiator tells whether this side began.
func (n *Noise) Initiator() bool { return n.initiator }

// RemoteKey returns the Ed25519 key that the remote has proved to hold. Where the stream runs over libp2p, the peer's
// name is its libp2p peer ID, and this is not.
func (n *Noise) RemoteKey() [32]byte { return n.stream.RemotePublicKey() }
