package protocol

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/internal/lifecycle"
	"github.com/p2pcore/p2pcore/internal/muxer"
)

// Names of the protocol that channels speak: the one that is sent, and the one that is accepted too.
const (
	channelProtocol = "hypercore/alpha"
	channelAlias    = "hypercore"
)

// Config says what a connection is between.
type Config struct {
	// Noise is the encryption of the stream, if it is JavaScript's own: then Initiator and Binding need not be set
	// and are not looked at. Nil is a plain stream, which has to be encrypted below.
	Noise *Noise
	// Initiator says whether this side opened the stream. Exactly one side has.
	Initiator bool
	// Binding is a value of 16 to 64 bytes that both sides agree on and that no other stream has,
	// such as PlainBinding or a handshake hash. It is not secret.
	Binding []byte
	// Flags are those that both opening frames of the stream carry, ours being SupportedFlags; 0 if it has no
	// opening frames.
	Flags uint64
	// Peer names the remote in logs and PeerInfo.
	Peer string
	// Door, if not nil, is what the remote has to pass before anything is said.
	Door *Door
	// OnOpen is asked for the exchange of a feed that the remote wants to talk about and that is
	// not attached. nil, nil means that the feed is unknown: the channel is rejected. An error is
	// logged and rejects it too. The exchange is attached once the remote has proved that it knows
	// the feed's key. At most Limits.Resolves calls run at once; ctx ends with the connection. A
	// nil OnOpen knows no feed.
	OnOpen func(ctx context.Context, dk feed.DiscoveryKey) (*Exchange, error)
	// OnKnown is called once, if not nil, when the remote has opened a feed's channel here with a valid capability: it
	// knows the key of something that we have. It runs on a goroutine of the connection.
	OnKnown func()
	Limits  Limits
	// Logger is silent if nil.
	Logger *slog.Logger
}

// Conn replicates feeds over one stream. All methods are safe for concurrent use.
type Conn struct {
	// Set in NewConn.
	cfg    Config
	limits Limits
	log    *slog.Logger
	stream *stream
	group  lifecycle.Group // reader's helpers: writer, watch, resolves
	wake   chan struct{}   // capacity 1: the writer may have something to do
	relief chan struct{}   // capacity 1: the muxer may not be congested any more
	stop   chan struct{}   // closed by the first fail
	done   chan struct{}   // closed when Run has returned
	quiet  chan struct{}   // capacity 2: the reader and the writer have ended

	// Under mu. It is taken before the mu of an Exchange and never held while the stream or a feed
	// is used.
	mu         sync.Mutex
	mux        *muxer.Mux
	links      map[feed.DiscoveryKey]*link
	gone       int             // links taken out, for shrink.Delete
	undecided  []*muxer.Remote // opens of the remote that wait for a resolve, oldest first
	resolving  int             // goroutines that resolve
	violations int
	probes     int             // opens by the remote without the key
	passed     bool            // the door, see door.go
	known      bool            // OnKnown was called
	knocks     bool            // the frame that is taken next is the open of the door
	held       []*muxer.Remote // opens of the remote before it has passed
	heldBytes  int
	arrived    *link // the last one whose channel the remote has opened, for the reader
	running    bool
	heard      bool  // a frame of the remote has arrived that is no keep-alive
	finishing  bool  // Finish was called: the writer ends with the last frame, what arrives is ignored
	stopped    bool  // fail was called
	err        error // what fail was called with first
}

// ConnStats counts what has gone over a connection.
type ConnStats struct {
	BytesReceived, BytesSent uint64 // with framing
	BytesWaiting             int    // to be written, without the frame that is being written
	Channels                 int    // open on both sides
	Undecided                int    // opens of the remote that wait for a decision
	Violations               int    // faults of the remote that ended or refused channels
	// Heard is set once the remote has said anything: a keep-alive, which tells no stranger anything, does not count.
	Heard bool
}

// NewConn returns a connection over rwc, which belongs to it from now on. Nothing is read or
// written before Run. It panics if the binding is not of 16 to 64 bytes. With Config.Noise, rwc is the stream that
// it was opened on, and no other Conn may have the same.
//
// Read and Write of rwc must return when it is closed or, if it has such a method, Reset.
func NewConn(rwc io.ReadWriteCloser, cfg Config) *Conn {
	var frames framing = plain{}
	if n := cfg.Noise; n != nil {
		frames, cfg.Initiator, cfg.Binding = n.stream, n.initiator, n.Binding()
	}
	if len(cfg.Binding) < minBinding || len(cfg.Binding) > maxBinding {
		panic("protocol: binding must have 16 to 64 bytes")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Conn{
		cfg: cfg, limits: cfg.Limits.withDefaults(cfg.Flags), log: cfg.Logger.With("peer", cfg.Peer),
		stream: newStream(rwc, frames),
		wake:   make(chan struct{}, 1), relief: make(chan struct{}, 1),
		stop: make(chan struct{}), done: make(chan struct{}), quiet: make(chan struct{}, 2),
		mux: muxer.New(frames.Headroom()), links: make(map[feed.DiscoveryKey]*link),
	}
	c.mux.Cork() // for good: what piles up while the writer is busy goes out as one batch
	return c
}

// Run replicates until the stream ends, then closes it. It may be called once. All attached
// exchanges are detached when it returns, and nothing that it has started goes on.
//
// The result is nil if the remote has ended the stream between two frames, or Close was called; ctx's
// error; a *ViolationError; ErrTimeout; or what the stream returned.
func (c *Conn) Run(ctx context.Context) error {
	c.mu.Lock()
	if c.running || c.stopped {
		c.mu.Unlock()
		return ErrClosed
	}
	c.running = true
	c.mu.Unlock()

	c.lockDoor()
	c.group.Go(func(context.Context) { c.writeLoop(); c.quiet <- struct{}{} })
	c.group.Go(func(context.Context) { c.watch(ctx) })
	c.fail(c.readLoop())
	c.quiet <- struct{}{}
	c.group.Close()
	err := c.end()
	close(c.done)
	return err
}

// Close ends the connection and waits until Run has returned. It must not be called from OnOpen.
func (c *Conn) Close() error {
	c.mu.Lock()
	running := c.running
	c.mu.Unlock()
	c.fail(nil)
	if running {
		<-c.done
		return nil
	}
	_ = c.end()
	return nil
}

// Supplant ends the connection without waiting, because another takes its place: err is what Run returns.
func (c *Conn) Supplant(err error) { c.fail(err) }

// Finish ends the connection in order and waits until Run has returned. What the exchanges have to tell of
// what is stored by now is sent first, then the sending side of the stream ends; a remote that has worked
// all of that off ends its own side. So after nil it knows what we have.
//
// When ctx ends first, Finish is Close and returns ctx's error. So it is, with nil, when the connection
// does not run or the stream has no method CloseWrite.
func (c *Conn) Finish(ctx context.Context) error {
	c.mu.Lock()
	_, half := c.stream.rwc.(interface{ CloseWrite() error })
	if !half || !c.running || c.stopped || c.locked() {
		c.mu.Unlock()
		return c.Close()
	}
	exchanges := make([]*Exchange, 0, len(c.links))
	for _, l := range c.links {
		exchanges = append(exchanges, l.x)
	}
	c.mu.Unlock()
	for _, x := range exchanges {
		x.settle(ctx)
	}
	c.mu.Lock()
	c.finishing = true
	c.mu.Unlock()
	signal(c.wake)
	signal(c.relief) // a reader that waits for the writer waits in vain from now on
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
		_ = c.Close()
		return context.Cause(ctx)
	}
}

// Peer returns the remote's name, as Config has it.
func (c *Conn) Peer() string { return c.cfg.Peer }

// Stats returns the counters.
func (c *Conn) Stats() ConnStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return ConnStats{
		BytesReceived: c.stream.received.Load(), BytesSent: c.stream.sent.Load(),
		BytesWaiting: c.mux.Unwritten(),
		Channels:     c.mux.Channels(), Undecided: c.mux.Pending(), Violations: c.violations + c.probes, Heard: c.heard,
	}
}

// fail ends the connection for a reason, nil for a clean end. The first call counts.
func (c *Conn) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failLocked(err)
}

func (c *Conn) failLocked(err error) {
	if c.stopped {
		return
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	c.stopped, c.err = true, err
	close(c.stop)
}

// end takes all exchanges off the connection, closes the stream and returns why it ended.
func (c *Conn) end() error {
	c.mu.Lock()
	links := c.links
	c.links = nil
	for _, l := range links {
		c.closeChannel(l)
	}
	err := c.err
	c.mu.Unlock()
	for _, l := range links {
		l.x.removeLink(l)
	}
	if err != nil {
		c.stream.abort()
	} else {
		_ = c.stream.rwc.Close()
	}
	return err
}

// watch ends the stream when ctx ends, when the connection fails, and when the remote is overdue.
func (c *Conn) watch(ctx context.Context) {
	const interval = silence / 6
	timer := time.NewTimer(interval)
	defer timer.Stop()
	for {
		select {
		case <-c.stop:
			c.unblock()
			return
		case <-ctx.Done():
			c.fail(context.Cause(ctx))
		case now := <-timer.C:
			if c.stream.overdue(now) {
				c.fail(ErrTimeout)
			}
			timer.Reset(interval)
		}
	}
}

// unblock ends the stream under the reader and the writer. At a clean end the remote shall see one
// too, so the stream is broken off only when closing it does not make them return.
func (c *Conn) unblock() {
	c.mu.Lock()
	clean := c.err == nil
	c.mu.Unlock()
	if !clean {
		c.stream.abort()
		return
	}
	_ = c.stream.rwc.Close()
	timer := time.NewTimer(closeTimeout)
	defer timer.Stop()
	for range cap(c.quiet) {
		select {
		case <-c.quiet:
		case <-timer.C:
			c.stream.abort()
			return
		}
	}
}

// writeLoop writes what is queued, and a keep-alive when there was nothing for a while.
func (c *Conn) writeLoop() {
	timer := time.NewTimer(keepAlive)
	defer timer.Stop()
	for {
		c.mu.Lock()
		f, ok := c.take()
		finishing := c.finishing
		c.mu.Unlock()
		var err error
		switch {
		case ok:
			err = c.stream.writeMessage(f.Bytes)
		case finishing:
			if err := c.stream.rwc.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
				c.fail(fmt.Errorf("end the sending side: %w", err))
			}
			return
		default:
			select {
			case <-c.wake:
				continue
			case <-c.stop:
				return
			case <-timer.C:
				err = c.stream.writeMessage(make([]byte, c.stream.framing.Headroom()))
			}
		}
		if err != nil {
			c.fail(fmt.Errorf("write: %w", err))
			return
		}
		if ok {
			c.written(f)
		}
		timer.Reset(keepAlive)
	}
}

// written gives back the credit for a frame, and its memory.
func (c *Conn) written(f muxer.Frame) {
	for _, credit := range f.Credits {
		credit.Channel.User.(*channel).credit(credit.Bytes)
	}
	c.mu.Lock()
	c.mux.Recycle(f)
	c.mu.Unlock()
	signal(c.relief)
}

// signal wakes the one who waits on a channel of capacity 1, or lets the next wait return at once.
func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// probed counts an open of a feed without its key, which was rejected as if the feed were unknown. Nothing
// else may follow from it: however often it is tried, it must not show that the feed is stored. mu is held.
func (c *Conn) probed(err error) {
	c.probes++ // not with the faults, whose number has consequences
	level := slog.LevelWarn
	if c.probes > maxViolations {
		level = slog.LevelDebug // no flood of lines
	}
	c.log.Log(context.Background(), level, "peer opened a feed without its key", "err", err)
}

// violate counts a fault of the remote that ended a channel; too many end the connection. mu is held.
func (c *Conn) violate(v *ViolationError) {
	c.violations++
	c.log.Warn("peer broke the protocol", "reason", v.Reason, "err", v.Err)
	if c.violations > maxViolations {
		c.failLocked(v)
	}
}
