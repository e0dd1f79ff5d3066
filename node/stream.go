package node

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/security/insecure"
	"github.com/multiformats/go-multistream"

	hyper "github.com/p2pcore/p2pcore/protocol"
)

func (ls *links) opening() (hyper.Opening, []byte) {
	st := ls.nextStamp()
	o := hyper.Opening{Boot: st.boot, Number: st.number, Flags: hyper.SupportedFlags}
	rand.Read(o.Random[:]) // never fails
	return o, o.Append(nil)
}

// talk is what the opening of a stream has settled.
type talk struct {
	stamp   stamp        // the remote's
	binding []byte       // of a plain stream
	flags   uint64       // that both opening frames of a plain stream carry
	noise   *hyper.Noise // of the other kind
}

// outbound opens a stream, begins to speak at once (libp2p negotiates lazily: the remote sees nothing
// until bytes flow), and serves the stream when it is answered and is the one.
func (ls *links) outbound(l *link) {
	defer ls.ended(l)
	s, t, err := ls.ask(l)
	if err == nil {
		ls.mu.Lock()
		ls.dedup.answered(l.peer, l.id, t.stamp, t.noise != nil)
		ls.carryOut(l.peer)
		err = ls.await(l)
	}
	if err != nil {
		if s != nil {
			s.ResetWithError(codeOf(err))
		}
		ls.log.Debug("stream not opened", "peer", l.peer, "err", err)
		ls.mu.Lock()
		ls.failed[l.peer] = err
		ls.mu.Unlock()
		return
	}
	ls.run(l, s, t)
}

// ask opens l's stream, of the plain protocol if the remote speaks it, and exchanges opening frames or shakes hands.
func (ls *links) ask(l *link) (s network.Stream, t talk, err error) {
	ctx, cancel := context.WithTimeout(l.ctx, ls.timeout)
	defer cancel()
	if ls.host.Network().Connectedness(l.peer) == network.Limited {
		return nil, t, ErrLimited
	}
	s, err = ls.host.NewStream(network.WithNoDial(ctx, "replication"), l.peer, ProtocolPlain, ProtocolNoise)
	if err != nil {
		var unspoken multistream.ErrNotSupported[protocol.ID]
		if errors.As(err, &unspoken) {
			err = ErrNotSpoken
		} else if ctx.Err() == nil && ls.host.Network().Connectedness(l.peer) == network.NotConnected {
			err = errors.Join(ErrRefused, err) // it was connected a moment ago
		}
		return nil, t, fmt.Errorf("open stream: %w", err)
	}
	if err := ls.admit(l, s); err != nil {
		return s, t, err
	}
	if s.Protocol() == ProtocolNoise {
		t.noise, err = hyper.OpenNoise(ctx, s, hyper.NoiseConfig{Initiator: true})
		return s, t, err
	}
	_, ours := ls.opening()
	if err := s.SetDeadline(time.Now().Add(ls.timeout)); err != nil {
		return s, t, err
	}
	if err := hyper.WriteFrame(s, ours); err != nil {
		return s, t, fmt.Errorf("send opening frame: %w", err)
	}
	theirs, err := readOpening(s)
	if err != nil {
		return s, t, err
	}
	binding := hyper.PlainBinding([]byte(ls.host.ID()), []byte(l.peer), ours, theirs.raw)
	t.stamp, t.binding, t.flags = theirs.stamp(), binding[:], theirs.flags()
	return s, t, s.SetDeadline(time.Time{})
}

// openingFrame is one side's first frame: the bytes, which the binding covers, and what they say.
type openingFrame struct {
	raw     []byte
	opening hyper.Opening
	noise   bool // it begins a handshake, and says nothing
}

// flags are those that both sides send.
func (f openingFrame) flags() uint64 { return f.opening.Flags & hyper.SupportedFlags }

func (f openingFrame) stamp() stamp { return stamp{f.opening.Boot, f.opening.Number} }

// admit makes s the stream of l, unless l has lost or the connection is unfit.
func (ls *links) admit(l *link, s network.Stream) error {
	if err := fit(s); err != nil {
		return err
	}
	if err := s.Scope().SetService(serviceName); err != nil {
		return err
	}
	ls.mu.Lock()
	defer ls.mu.Unlock()
	l.stream = s
	if l.lost || ls.closed {
		return errSupplanted
	}
	return nil
}

// fit refuses connections over which nothing is replicated.
func fit(s network.Stream) error {
	c := s.Conn()
	if c.Stat().Limited {
		return ErrLimited
	}
	key := c.RemotePublicKey()
	if key == nil || c.ConnState().Security == insecure.ID || !c.RemotePeer().MatchesPublicKey(key) {
		return errUnauthenticated
	}
	return nil
}

// inbound serves a stream that a peer opened. It runs on libp2p's goroutine.
func (ls *links) inbound(s network.Stream) {
	_, leave, ok := ls.group.Enter()
	if !ok {
		s.ResetWithError(network.StreamShutdown)
		return
	}
	defer leave()
	frame, err := ls.hear(s)
	if err != nil {
		s.ResetWithError(codeOf(err))
		ls.log.Debug("stream refused", "peer", s.Conn().RemotePeer(), "err", err)
		return
	}

	p := s.Conn().RemotePeer()
	ls.mu.Lock()
	if ls.closed {
		ls.mu.Unlock()
		s.ResetWithError(network.StreamShutdown)
		return
	}
	id := ls.dedup.incoming(p, frame.stamp(), frame.noise)
	l := ls.add(id, p, false)
	l.stream = s
	ls.carryOut(p)
	defer ls.ended(l)

	err = ls.await(l)
	var t talk
	if err == nil {
		t, err = ls.reply(l, s, frame)
	}
	if err != nil {
		s.ResetWithError(codeOf(err))
		ls.log.Debug("stream not answered", "peer", p, "err", err)
		return
	}
	ls.run(l, s, t)
}

// hear reads the opening frame of a stream that a peer opened.
func (ls *links) hear(s network.Stream) (openingFrame, error) {
	if err := fit(s); err != nil {
		ls.refused()
		return openingFrame{}, err
	}
	if err := s.Scope().SetService(serviceName); err != nil {
		ls.refused()
		return openingFrame{}, err
	}
	if err := s.SetReadDeadline(time.Now().Add(ls.timeout)); err != nil {
		return openingFrame{}, err
	}
	ls.mu.Lock()
	closed := ls.closed
	ls.hearing[s] = struct{}{} // for close, which ends the reading
	ls.mu.Unlock()
	defer func() {
		ls.mu.Lock()
		delete(ls.hearing, s)
		ls.mu.Unlock()
	}()
	if closed {
		return openingFrame{}, ErrClosed
	}
	frame, err := readOpening(s)
	if err != nil {
		return openingFrame{}, err
	}
	return frame, s.SetReadDeadline(time.Time{})
}

// reply answers the first frame of a stream that a peer opened.
func (ls *links) reply(l *link, s network.Stream, theirs openingFrame) (t talk, err error) {
	if theirs.noise {
		ctx, cancel := context.WithTimeout(l.ctx, ls.timeout)
		defer cancel()
		var head bytes.Buffer
		if err := hyper.WriteFrame(&head, theirs.raw); err != nil {
			return t, err
		}
		t.noise, err = hyper.OpenNoise(ctx, &reread{s, io.MultiReader(&head, s)}, hyper.NoiseConfig{})
		return t, err
	}
	_, ours := ls.opening()
	if err := s.SetWriteDeadline(time.Now().Add(ls.timeout)); err != nil {
		return t, err
	}
	if err := hyper.WriteFrame(s, ours); err != nil {
		return t, fmt.Errorf("send opening frame: %w", err)
	}
	binding := hyper.PlainBinding([]byte(l.peer), []byte(ls.host.ID()), theirs.raw, ours)
	t.stamp, t.binding, t.flags = theirs.stamp(), binding[:], theirs.flags()
	return t, s.SetWriteDeadline(time.Time{})
}

// reread is a stream of which a part was read before.
type reread struct {
	network.Stream
	r io.Reader
}

func (s *reread) Read(b []byte) (int, error) { return s.r.Read(b) }

func readOpening(s network.Stream) (openingFrame, error) {
	raw, err := hyper.ReadFrame(s, maxOpening)
	if err != nil {
		return openingFrame{}, fmt.Errorf("read opening frame: %w", err)
	}
	if s.Protocol() == ProtocolNoise {
		return openingFrame{raw: raw, noise: true}, nil
	}
	o, err := hyper.ParseOpening(raw)
	if err != nil {
		return openingFrame{}, err
	}
	return openingFrame{raw: raw, opening: o}, nil
}

// await waits for dedup's verdict on l.
func (ls *links) await(l *link) error {
	select {
	case err := <-l.verdict:
		return err
	case <-l.ctx.Done():
		return errSupplanted
	}
}

// run serves an attached stream to its end.
func (ls *links) run(l *link, s network.Stream, t talk) {
	err := ls.serve(l.ctx, l, s, t)
	ls.mu.Lock()
	conn := l.conn
	ls.mu.Unlock()
	switch {
	case conn == nil:
	case conn.Stats().Heard:
		ls.judge(l.peer, answered)
	case errors.Is(ended(l.ctx, conn, err), ErrRefused):
		ls.judge(l.peer, refused)
	case errors.Is(err, hyper.ErrTimeout):
		ls.judge(l.peer, unreached)
	}
	if err != nil {
		s.ResetWithError(codeOf(err))
	} else {
		s.Close()
	}
	ls.log.Debug("stream ended", "peer", l.peer, "err", err)
}

// codeOf is the code with which a stream is reset because of err.
func codeOf(err error) network.StreamErrorCode {
	var violation *hyper.ViolationError
	switch {
	case errors.Is(err, errSupplanted):
		return network.StreamSupplanted
	case errors.Is(err, network.ErrResourceLimitExceeded):
		return network.StreamResourceLimitExceeded
	case errors.As(err, &violation), errors.Is(err, errUnauthenticated), errors.Is(err, ErrLimited):
		return network.StreamProtocolViolation
	case errors.Is(err, context.Canceled), errors.Is(err, ErrClosed):
		return network.StreamShutdown
	}
	return network.StreamNoError
}
