package node

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/p2pcore/p2pcore/internal/lifecycle"
	hyper "github.com/p2pcore/p2pcore/protocol"
)

var (
	// ErrNotSpoken says that a peer was reached and speaks none of our stream protocols.
	ErrNotSpoken = errors.New("node: the peer speaks neither " + string(ProtocolPlain) + " nor " + string(ProtocolNoise))
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
	told   bool        // changed knows of conn
}

// links carries out what dedup decides. It is safe for concurrent use.
type links struct {
	// set in newLinks, serve and changed by its caller
	host    host.Host
	log     *slog.Logger
	group   *lifecycle.Group
	boot    uint64
	timeout time.Duration // openTimeout, less in tests
	serve   func(ctx context.Context, l *link, s network.Stream, t talk) error
	changed func(p peer.ID)             // a stream with p is up, or has ended; not called under mu
	refused func()                      // a stream that a peer has opened is not taken
	judge   func(p peer.ID, s standing) // what a conversation that is over has told of p; not called under mu

	mu         sync.Mutex
	dedup      *dedup                      // under mu
	all        map[streamID]*link          // under mu
	hearing    map[network.Stream]struct{} // under mu: streams whose opening frame is being read
	number     uint64                      // under mu: opening frames sent since boot
	failed     map[peer.ID]error           // under mu: why the last stream that we opened did not come up
	turned     chan struct{}               // under mu: closed and renewed when a stream is up or has ended
	closed     bool                        // under mu
	supplanted uint64                      // under mu: streams that lost against another
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

// bring waits until a stream with p is up and changed knows, opening one if none is held. The error says why the
// last one opened here did not come up.
func (ls *links) bring(ctx context.Context, p peer.ID) error {
	for opened := false; ; {
		ls.mu.Lock()
		l, held, turned := ls.liveLink(p), ls.dedup.holds(p), ls.turned
		live := l != nil && l.told
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
			ls.supplanted++
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
	ls.mu.Lock()
	s := l.stream
	ls.mu.Unlock()
	if s != nil {
		s.ResetWithError(code) // before the link ends, which resets it without this reason
	}
	l.cancel()
}

// nextStamp is the stamp of the opening frame that is sent now.
func (ls *links) nextStamp() stamp {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.number++
	return stamp{boot: ls.boot, number: ls.number}
}

// attached records the conversation of a link that has begun to run.
func (ls *links) attached(l *link, c *hyper.Conn) {
	ls.mu.Lock()
	l.conn, l.since = c, time.Now()
	delete(ls.failed, l.peer)
	ls.mu.Unlock()
	ls.changed(l.peer)
	ls.mu.Lock()
	l.told = true
	ls.turn()
	ls.mu.Unlock()
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

// refuse resets the streams that are not up yet, and all new ones.
func (ls *links) refuse() {
	ls.mu.Lock()
	ls.closed = true
	ls.turn()
	var opening []*link
	for _, l := range ls.all {
		if l.conn == nil {
			opening = append(opening, l)
		}
	}
	hearing := slices.Collect(maps.Keys(ls.hearing))
	ls.mu.Unlock()
	for _, s := range hearing {
		s.ResetWithError(network.StreamShutdown)
	}
	for _, l := range opening {
		ls.reset(l, network.StreamShutdown)
	}
}

// close is refuse, and resets the streams that are up. Their goroutines end with the group.
func (ls *links) close() {
	ls.refuse()
	ls.mu.Lock()
	all := slices.Collect(maps.Values(ls.all))
	ls.mu.Unlock()
	for _, l := range all {
		ls.reset(l, network.StreamShutdown)
	}
}
