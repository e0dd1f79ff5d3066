package protocol

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/p2pcore/p2pcore/internal/replica"
)

var (
	// ErrExtensionTaken: the exchange has a handler for the name already.
	ErrExtensionTaken = errors.New("protocol: extension has a handler already")
	// ErrExtensionSize: an extension's name is empty or longer than 128 bytes, or its message than 1 MiB.
	ErrExtensionSize = errors.New("protocol: extension name or message of that size")
	// ErrExtensionLost: too many extension messages wait for the peer to read.
	ErrExtensionLost = errors.New("protocol: extension message lost, the peer does not read")
)

// Peer is one peer of an exchange: an open channel on one connection. It is comparable, and safe for concurrent use.
type Peer struct {
	ch *channel
}

// Name returns the name of the connection's remote, Config.Peer.
func (p Peer) Name() string { return p.ch.link.conn.cfg.Peer }

// Conn returns the connection.
func (p Peer) Conn() *Conn { return p.ch.link.conn }

// Exchange returns the exchange.
func (p Peer) Exchange() *Exchange { return p.ch.link.x }

// Initiator tells whether this side opened the connection.
func (p Peer) Initiator() bool { return p.ch.link.conn.cfg.Initiator }

// Extend sends an extension message: bytes under a name, outside of replication. Messages to one peer arrive in order,
// and are dropped there if nobody knows the name. It does not wait for the peer.
//
// A JavaScript peer gets the same bytes if its registerExtension has the encoding 'binary'. Without one it expects the
// length of the message in front, and ends the connection when that is not there.
//
// The error is ErrClosed if the channel has closed, ErrExtensionSize, or ErrExtensionLost.
func (p Peer) Extend(name string, message []byte) error {
	if name == "" || len(name) > maxExtensionName || len(message) > maxExtensionBytes {
		return fmt.Errorf("%w: %d and %d bytes", ErrExtensionSize, len(name), len(message))
	}
	return p.ch.link.x.extend(p.ch, name, message)
}

func (x *Exchange) extend(ch *channel, name string, message []byte) error {
	x.turn.Lock()
	defer x.turn.Unlock()
	if x.channels[ch.peer] != ch {
		return ErrClosed
	}
	lost := x.machine.Stats().ExtensionsLost
	x.step(time.Now(), replica.Extend{Peer: ch.peer, Name: name, Message: message})
	x.flush()
	if x.machine.Stats().ExtensionsLost != lost {
		return ErrExtensionLost
	}
	return nil
}

// Broadcast is Extend to all peers. The error joins those of the peers that did not get the message.
func (x *Exchange) Broadcast(name string, message []byte) error {
	var errs []error
	for _, p := range x.Open() {
		if err := p.Extend(name, message); err != nil && !errors.Is(err, ErrClosed) {
			errs = append(errs, fmt.Errorf("%s: %w", p.Name(), err))
		}
	}
	return errors.Join(errs...)
}

// Open returns the peers whose channel is open, in the order in which they were connected.
func (x *Exchange) Open() []Peer {
	x.turn.Lock()
	defer x.turn.Unlock()
	var peers []Peer
	for _, p := range x.machine.Peers(nil) {
		if ch := x.channels[p.Peer]; ch != nil {
			peers = append(peers, Peer{ch})
		}
	}
	return peers
}

// ExtensionHandler takes the messages of one extension. ctx ends with the exchange. The message is its own.
type ExtensionHandler func(ctx context.Context, from Peer, message []byte)

// OnExtension has fn called with the extension messages of a name, from peers present and future, until stop is called,
// which may be done twice. All handlers of an exchange, and those of OnPeers, are called one at a time, in the order
// in which things came. One that waits holds up the others, and at last the peers that go on sending, whose messages are
// read no further; so it must end with ctx. Messages that nobody knows are dropped.
//
// The error is ErrExtensionTaken, ErrExtensionSize or ErrClosed.
func (x *Exchange) OnExtension(name string, fn ExtensionHandler) (stop func(), err error) {
	if name == "" || len(name) > maxExtensionName {
		return nil, fmt.Errorf("%w: %d bytes", ErrExtensionSize, len(name))
	}
	m := &x.mail
	m.mu.Lock()
	defer m.mu.Unlock()
	select {
	case <-x.closing:
		return nil, ErrClosed
	default:
	}
	if m.handlers[name] != nil {
		return nil, fmt.Errorf("%w: %q", ErrExtensionTaken, name)
	}
	if m.handlers == nil {
		m.handlers = make(map[string]*ExtensionHandler)
	}
	h := &fn
	m.handlers[name] = h
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.handlers[name] == h {
			delete(m.handlers, name)
		}
	}, nil
}

// OnPeers has added called when a channel has opened and the remote has proved that it knows the key, with the channels
// that are open already to begin with, and removed when it has closed, until stop is called. Each is called once for a
// channel, under the rules of OnExtension; a channel that has closed before its turn came is not told of. Either
// may be nil.
func (x *Exchange) OnPeers(added, removed func(ctx context.Context, p Peer)) (stop func()) {
	w := &peerWatch{added: added, removed: removed, told: make(map[*channel]bool)}
	m := &x.mail
	open := x.Open()
	m.mu.Lock()
	m.watches = append(m.watches, w)
	for _, p := range open {
		m.tell(w, p.ch, true)
	}
	m.mu.Unlock()
	x.startMail()
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.watches = slices.DeleteFunc(m.watches, func(other *peerWatch) bool { return other == w })
		m.queue = slices.DeleteFunc(m.queue, func(l letter) bool { return l.watch == w })
	}
}

// peerWatch is what OnPeers was given.
type peerWatch struct {
	added, removed func(ctx context.Context, p Peer)
	told           map[*channel]bool // under mail.mu: that are known to be open; false until it was told
}

// letter is one thing that handlers are to be told.
type letter struct {
	ch    *channel
	watch *peerWatch // of a peer; nil for a message
	added bool

	name    string
	message []byte
	cost    load // given back to the peer when it was handled
}

// size is about what the letter takes in memory.
func (l *letter) size() int { return len(l.message) + messageCost }

// mail is what handlers have not been told yet. Its length is bounded: each message is part of what its peer may have
// unprocessed, of those whose connection has ended no more than maxLateMail stays, and a peer whose coming was not told
// is not told to go.
type mail struct {
	mu       sync.Mutex
	handlers map[string]*ExtensionHandler // under mu
	watches  []*peerWatch                 // under mu
	queue    []letter                     // under mu
	bytes    int                          // under mu: sum of their sizes
	purgeAt  int                          // under mu: the sum at which to look for those of peers that have gone
	running  bool                         // under mu
}

// deliver hands an extension message to its handler and tells whether there is one: then its cost is given back later.
func (x *Exchange) deliver(ch *channel, name string, message []byte, cost load) bool {
	m := &x.mail
	m.mu.Lock()
	known := m.handlers[name] != nil
	if known {
		if f := cost.frame; f != nil && len(message) < f.bytes/shareFrame {
			message = bytes.Clone(message) // it may wait long
		}
		m.add(letter{ch: ch, name: name, message: message, cost: cost})
	}
	m.mu.Unlock()
	if known {
		x.startMail()
	}
	return known
}

// add queues a message. Where too much waits, what peers have sent that have gone since is dropped: a remote that
// connects anew each time has a new load. mu is held.
func (m *mail) add(l letter) {
	m.queue = append(m.queue, l)
	if m.bytes += l.size(); m.bytes <= max(m.purgeAt, maxLateMail) {
		return
	}
	m.queue = slices.DeleteFunc(m.queue, func(l letter) bool {
		late := l.watch == nil && l.ch.link.ended.Load()
		if late {
			m.bytes -= l.size()
		}
		return late
	})
	m.purgeAt = 2 * m.bytes
}

// peerMoved tells the watches that a channel has opened or closed.
func (x *Exchange) peerMoved(ch *channel, added bool) {
	m := &x.mail
	m.mu.Lock()
	for _, w := range m.watches {
		m.tell(w, ch, added)
	}
	m.mu.Unlock()
	x.startMail()
}

// tell queues what w is to be told of a channel, once. mu is held.
func (m *mail) tell(w *peerWatch, ch *channel, added bool) {
	told, open := w.told[ch]
	switch {
	case added && !open:
		w.told[ch] = false
		m.queue = append(m.queue, letter{ch: ch, watch: w, added: true})
	case !added && open:
		delete(w.told, ch)
		if told {
			m.queue = append(m.queue, letter{ch: ch, watch: w})
			return
		}
		m.queue = slices.DeleteFunc(m.queue, func(l letter) bool { return l.watch == w && l.ch == ch })
	}
}

// startMail starts the goroutine that calls handlers, if there is something for it.
func (x *Exchange) startMail() {
	m := &x.mail
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.running || len(m.queue) == 0 {
		return
	}
	ctx := x.group.Context()
	m.running = x.calls.Go(func(context.Context) { x.carryMail(ctx) })
}

// carryMail calls handlers until the queue is empty.
func (x *Exchange) carryMail(ctx context.Context) {
	m := &x.mail
	for {
		m.mu.Lock()
		if len(m.queue) == 0 || ctx.Err() != nil {
			m.running = false
			m.queue, m.bytes, m.purgeAt = nil, 0, 0
			m.mu.Unlock()
			return
		}
		l := m.queue[0]
		if l.watch == nil {
			m.bytes -= l.size()
		}
		m.queue[0] = letter{}
		m.queue = m.queue[1:]
		call := m.open(&l)
		m.mu.Unlock()
		if call != nil {
			call(ctx)
		}
		l.ch.link.inbox.release(l.cost)
	}
}

// open returns the call that a letter means, or nil. mu is held.
func (m *mail) open(l *letter) func(ctx context.Context) {
	p := Peer{l.ch}
	if l.watch == nil {
		h := m.handlers[l.name]
		if h == nil {
			return nil
		}
		return func(ctx context.Context) { (*h)(ctx, p, l.message) }
	}
	fn := l.watch.removed
	if l.added {
		l.watch.told[l.ch] = true
		fn = l.watch.added
	}
	if fn == nil {
		return nil
	}
	return func(ctx context.Context) { fn(ctx, p) }
}
