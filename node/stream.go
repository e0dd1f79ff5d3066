package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/security/insecure"
	"github.com/multiformats/go-multistream"

	"github.com/p2pcore/p2pcore/internal/lifecycle"
	hyper "github.com/p2pcore/p2pcore/protocol"
)

var (
	// ErrNotSpoken says that a peer was reached and does not speak our stream protocol.
	ErrNotSpoken = errors.New("node: the peer does not speak " + string(ProtocolPlain))
	// ErrLimited says that the only connection to a peer is a relayed one with limits, over which nothing is
	// replicated.
	ErrLimited = errors.New("node: only a limited, relayed connection")

	errUnauthenticated = errors.New("the connection does not authenticate the remote")
	errSupplanted      = errors.New("another stream to the same peer took this one's place")
)

// link is one stream of ours with a peer, from the decision to open it, or the arrival of its opening frame,
// to its end.
type link struct {
	// set when made
	id       streamID
	peer     peer.ID
	outbound bool
	verdict  chan error // capacity 1: nil to go on, errSupplanted to give up
	cancel   context.CancelFunc
	ctx      context.Context

	// under links.mu
	stream network.Stream // nil while it is being opened
	lost   bool
	conn   *hyper.Conn // the conversation once the stream is attached
	since  time.Time   // when it was attached
}

// links carries out what dedup decides. It is safe for concurrent use.
type links struct {
	// set in newLinks, serve and changed by its caller
	host    host.Host
	log     *slog.Logger
	group   *lifecycle.Group
	boot    uint64
	timeout time.Duration // openTimeout, less in tests
	serve   func(ctx context.Context, l *link, rw network.Stream, binding []byte) error
	changed func(p peer.ID) // a stream with p is up, or has ended; not called under mu

	mu      sync.Mutex
	dedup   *dedup                      // under mu
	all     map[streamID]*link          // under mu
	hearing map[network.Stream]struct{} // under mu: streams whose opening frame is being read
	number  uint64                      // under mu: opening frames sent since boot
	failed  map[peer.ID]error           // under mu: why the last stream that we opened did not come up
	turned  chan struct{}               // under mu: closed and renewed when a stream is up or has ended
	closed  bool                        // under mu
}

func newLinks(h host.Host, group *lifecycle.Group, boot uint64, log *slog.Logger) *links {
	return &links{
		host: h, group: group, boot: boot, log: log, timeout: openTimeout,
		dedup:   newDedup(h.ID()),
		all:     make(map[streamID]*link),
		hearing: make(map[network.Stream]struct{}),
		failed:  make(map[peer.ID]error),
		turned:  make(chan struct{}),
	}
}

// open opens a stream to p unless one is held. What comes of it is told to changed.
func (ls *links) open(p peer.ID) {
	ls.mu.Lock()
	if ls.closed {
		ls.mu.Unlock()
		return
	}
	ls.dedup.wanted(p)
	ls.carryOut(p)
}

// holds tells whether a stream with p is up or expected.
func (ls *links) holds(p peer.ID) bool {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return ls.dedup.holds(p)
}

// live tells whether a stream with p is up.
func (ls *links) live(p peer.ID) bool {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return ls.liveLink(p) != nil
}

// liveLink returns the link with p that is up, or nil. mu is held.
func (ls *links) liveLink(p peer.ID) *link {
	pr := ls.dedup.pairs[p]
	if pr == nil || pr.held == nil {
		return nil
	}
	if l := ls.all[pr.held.id]; l != nil && l.conn != nil {
		return l
	}
	return nil
}

// bring waits until a stream with p is up, opening one if none is held. The error says why the last one
// opened here did not come up.
func (ls *links) bring(ctx context.Context, p peer.ID) error {
	for opened := false; ; {
		ls.mu.Lock()
		live, held, turned := ls.liveLink(p) != nil, ls.dedup.holds(p), ls.turned
		err := ls.failed[p]
		if !held {
			delete(ls.failed, p)
		}
		closed := ls.closed
		ls.mu.Unlock()
		switch {
		case closed:
			return ErrClosed
		case live:
			return nil
		case !held && opened:
			if err == nil {
				err = errSupplanted
			}
			return err
		case !held:
			opened = true
			ls.open(p)
			continue
		}
		select {
		case <-turned:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// carryOut performs the decisions about p's streams. mu is held on entry and not on return: a stream is never
// touched under it.
func (ls *links) carryOut(p peer.ID) {
	var acts []func()
	for _, dec := range ls.dedup.take() {
		l := ls.all[dec.stream]
		switch dec.do {
		case doOpen:
			l = ls.add(dec.stream, p, true)
			acts = append(acts, func() {
				if !ls.group.Go(func(context.Context) { ls.outbound(l) }) {
					ls.ended(l)
				}
			})
		case doAttach:
			acts = append(acts, func() { l.verdict <- nil })
		case doReset:
			l.lost = true
			acts = append(acts, func() {
				ls.reset(l, network.StreamSupplanted)
				select {
				case l.verdict <- errSupplanted:
				default: // it runs, and the reset ends it
				}
			})
		}
	}
	ls.mu.Unlock()
	for _, act := range acts {
		act()
	}
}

// add makes a link. mu is held.
func (ls *links) add(id streamID, p peer.ID, outbound bool) *link {
	l := &link{id: id, peer: p, outbound: outbound, verdict: make(chan error, 1)}
	l.ctx, l.cancel = context.WithCancel(ls.group.Context())
	ls.all[id] = l
	return l
}

// reset ends l's stream with a code, and what is waiting for it.
func (ls *links) reset(l *link, code network.StreamErrorCode) {
	l.cancel()
	ls.mu.Lock()
	s := l.stream
	ls.mu.Unlock()
	if s != nil {
		s.ResetWithError(code)
	}
}

// nextStamp is the stamp of the opening frame that is sent now.
func (ls *links) nextStamp() stamp {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.number++
	return stamp{boot: ls.boot, number: ls.number}
}

func (ls *links) opening() (hyper.Opening, []byte) {
	st := ls.nextStamp()
	o := hyper.Opening{Boot: st.boot, Number: st.number}
	rand.Read(o.Random[:]) // never fails
	return o, o.Append(nil)
}

// outbound opens a stream, sends our opening frame at once (libp2p negotiates lazily: the remote sees nothing
// until bytes flow), and serves the stream when it is answered and is the one.
func (ls *links) outbound(l *link) {
	defer ls.ended(l)
	s, ours, theirs, err := ls.ask(l)
	if err == nil {
		ls.mu.Lock()
		ls.dedup.answered(l.peer, l.id, stamp{theirs.opening.Boot, theirs.opening.Number})
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
	binding := hyper.PlainBinding([]byte(ls.host.ID()), []byte(l.peer), ours, theirs.raw)
	ls.run(l, s, binding[:])
}

// openingFrame is one side's first frame: the bytes, which the binding covers, and what they say.
type openingFrame struct {
	raw     []byte
	opening hyper.Opening
}

// ask opens l's stream and exchanges opening frames.
func (ls *links) ask(l *link) (s network.Stream, ours []byte, theirs openingFrame, err error) {
	ctx, cancel := context.WithTimeout(l.ctx, ls.timeout)
	defer cancel()
	if ls.host.Network().Connectedness(l.peer) == network.Limited {
		return nil, nil, theirs, ErrLimited
	}
	s, err = ls.host.NewStream(network.WithNoDial(ctx, "replication"), l.peer, ProtocolPlain)
	if err != nil {
		var unspoken multistream.ErrNotSupported[protocol.ID]
		if errors.As(err, &unspoken) {
			err = ErrNotSpoken
		}
		return nil, nil, theirs, fmt.Errorf("open stream: %w", err)
	}
	if err := ls.admit(l, s); err != nil {
		return s, nil, theirs, err
	}
	_, ours = ls.opening()
	if err := s.SetDeadline(time.Now().Add(ls.timeout)); err != nil {
		return s, nil, theirs, err
	}
	if err := hyper.WriteFrame(s, ours); err != nil {
		return s, nil, theirs, fmt.Errorf("send opening frame: %w", err)
	}
	if theirs, err = readOpening(s); err != nil {
		return s, nil, theirs, err
	}
	return s, ours, theirs, s.SetDeadline(time.Time{})
}

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
	id := ls.dedup.incoming(p, stamp{frame.opening.Boot, frame.opening.Number})
	l := ls.add(id, p, false)
	l.stream = s
	ls.carryOut(p)
	defer ls.ended(l)

	if err := ls.await(l); err != nil {
		s.ResetWithError(codeOf(err))
		return
	}
	_, ours := ls.opening()
	if err := ls.reply(s, ours); err != nil {
		s.ResetWithError(codeOf(err))
		ls.log.Debug("stream not answered", "peer", p, "err", err)
		return
	}
	binding := hyper.PlainBinding([]byte(p), []byte(ls.host.ID()), frame.raw, ours)
	ls.run(l, s, binding[:])
}

// hear reads the opening frame of a stream that a peer opened.
func (ls *links) hear(s network.Stream) (openingFrame, error) {
	if err := fit(s); err != nil {
		return openingFrame{}, err
	}
	if err := s.Scope().SetService(serviceName); err != nil {
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

func (ls *links) reply(s network.Stream, ours []byte) error {
	if err := s.SetWriteDeadline(time.Now().Add(ls.timeout)); err != nil {
		return err
	}
	if err := hyper.WriteFrame(s, ours); err != nil {
		return fmt.Errorf("send opening frame: %w", err)
	}
	return s.SetWriteDeadline(time.Time{})
}

func readOpening(s network.Stream) (openingFrame, error) {
	raw, err := hyper.ReadFrame(s, maxOpening)
	if err != nil {
		return openingFrame{}, fmt.Errorf("read opening frame: %w", err)
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
func (ls *links) run(l *link, s network.Stream, binding []byte) {
	err := ls.serve(l.ctx, l, s, binding)
	if err != nil {
		s.ResetWithError(codeOf(err))
	} else {
		s.Close()
	}
	ls.log.Debug("stream ended", "peer", l.peer, "err", err)
}

// attached records the conversation of a link that has begun to run.
func (ls *links) attached(l *link, c *hyper.Conn) {
	ls.mu.Lock()
	l.conn, l.since = c, time.Now()
	delete(ls.failed, l.peer)
	ls.turn()
	ls.mu.Unlock()
	ls.changed(l.peer)
}

// ended tells dedup that nothing of l runs any more.
func (ls *links) ended(l *link) {
	l.cancel()
	ls.mu.Lock()
	delete(ls.all, l.id)
	ls.dedup.ended(l.peer, l.id)
	ls.turn()
	ls.carryOut(l.peer)
	ls.changed(l.peer)
}

// turn wakes those in bring. mu is held.
func (ls *links) turn() {
	close(ls.turned)
	ls.turned = make(chan struct{})
}

// close resets all streams and refuses new ones. Their goroutines end with the group.
func (ls *links) close() {
	ls.mu.Lock()
	ls.closed = true
	ls.turn()
	all := slices.Collect(maps.Values(ls.all))
	hearing := slices.Collect(maps.Keys(ls.hearing))
	ls.mu.Unlock()
	for _, s := range hearing {
		s.ResetWithError(network.StreamShutdown)
	}
	for _, l := range all {
		ls.reset(l, network.StreamShutdown)
	}
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
