package node

import (
	"context"
	"encoding/hex"
	"errors"
	"io"

	"github.com/p2pcore/p2pcore/feed"
	hyper "github.com/p2pcore/p2pcore/protocol"
)

// NoiseConversation describes the stream that is handed to RunNoise.
type NoiseConversation struct {
	// Peer names the remote; without it, it is the remote's static key in hexadecimal. JavaScript peers make a new one
	// for each stream unless they are told otherwise.
	Peer string
	// Initiator is set at the end that opened the stream.
	Initiator bool
	// Seed is that of the Ed25519 key which the remote learns as our name. Zero is a fresh key for this stream.
	Seed [32]byte
	// DiscoveryKey is that of the feed for which the connection was made, see Conversation.
	DiscoveryKey *feed.DiscoveryKey
	// OnStart is called, if not nil, when the conversation begins.
	OnStart func(c *hyper.Conn)
}

// RunNoise is HandleConnection for a stream of JavaScript's: it shakes hands over rwc first, for which there are 10 s. So a TCP
// connection can be replicated over with store.replicate of the package corestore at the other end.
//
// rwc is closed when RunNoise returns. The error may also be that of the handshake, see hyper.OpenNoise.
func (r *Replicator) RunNoise(ctx context.Context, rwc io.ReadWriteCloser, conv NoiseConversation) error {
	n, err := r.openNoise(ctx, rwc, conv)
	if err != nil {
		rwc.Close()
		return err
	}
	if conv.Peer == "" {
		key := n.RemoteKey()
		conv.Peer = hex.EncodeToString(key[:])
	}
	return r.HandleConnection(ctx, rwc, Conversation{
		Peer: conv.Peer, Noise: n, DiscoveryKey: conv.DiscoveryKey, OnStart: conv.OnStart,
	})
}

// openNoise shakes hands. When the time is over, ctx ends or r closes, it closes rwc.
func (r *Replicator) openNoise(ctx context.Context, rwc io.ReadWriteCloser, conv NoiseConversation) (*hyper.Noise, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	group := r.group.Child()
	done := make(chan struct{})
	watched := group.Go(func(closing context.Context) {
		select {
		case <-done:
		case <-ctx.Done():
		case <-closing.Done():
		}
		select {
		case <-done: // and the group is closed after it
		default:
			rwc.Close()
		}
	})
	if !watched {
		return nil, ErrClosed
	}
	n, err := hyper.OpenNoise(ctx, rwc, hyper.NoiseConfig{Initiator: conv.Initiator, Seed: conv.Seed})
	close(done)
	switch closing := r.group.Context().Err() != nil; {
	case closing:
		err = ErrClosed
	case err != nil && ctx.Err() != nil:
		err = errors.Join(context.Cause(ctx), err)
	}
	group.Close()
	if err == nil {
		err = context.Cause(ctx) // rwc may have been closed just now
	}
	return n, err
}
