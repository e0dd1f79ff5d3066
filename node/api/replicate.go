package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/internal/lifecycle"
	"github.com/p2pcore/p2pcore/node"
	"github.com/p2pcore/p2pcore/protocol"
)

const (
	maxReplicated = 1024 // feeds that one request may name
	// quietAfter is how long nothing must have come or gone before two sides of which one is sparse count as level:
	// neither tells the other what it does not want.
	quietAfter = 2 * time.Second
	// reconnectMin and reconnectMax bound the pause before a lost connection is made again; it doubles.
	reconnectMin = time.Second
	reconnectMax = 30 * time.Second
)

// tcpRun is one run of GET /v1/replicate: feeds that are replicated over one raw TCP connection.
type tcpRun struct {
	s     *Server
	n     *node.Node
	addr  string
	live  bool // for ever, over as many connections as it takes
	feeds []*tcpFeed
	out   *eventStream

	peer  string // name of the connection in FeedPeers; empty while there is none
	bytes uint64 // received and sent, at the last look
	moved time.Time
}

// tcpFeed is one feed of a tcpRun.
type tcpFeed struct {
	session *feed.Session
	before  uint64 // blocks stored when it began
	level   bool   // told that it is
}

// getReplicate replicates the feeds of the core parameters with a JavaScript peer over raw TCP until both sides are
// level or, with live, until the client goes away. It tells progress, waiting, synced for each feed and, at the end,
// done.
func (s *Server) getReplicate(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	run := &tcpRun{s: s, addr: q.Get("tcp"), live: q.Get("live") == "1", moved: time.Now()}
	if _, port, err := net.SplitHostPort(run.addr); err != nil || port == "" {
		return Errorf(CodeUsage, "tcp address %q: want HOST:PORT", abbreviate(run.addr))
	}
	if n := len(q["core"]); n == 0 || n > maxReplicated {
		return Errorf(CodeUsage, "%d feeds named; want 1 to %d", n, maxReplicated)
	}
	defer run.close()
	for _, text := range q["core"] {
		if err := run.open(r.Context(), text); err != nil {
			return err
		}
	}
	var err error
	if run.n, err = s.online(r.Context()); err != nil {
		return err
	}
	run.out = newStream(w, r)
	return run.out.fail(r, run.run(r.Context()))
}

func (t *tcpRun) open(ctx context.Context, text string) error {
	key, err := t.s.resolve(ctx, text)
	if err != nil {
		return err
	}
	session, err := t.s.cfg.Store.Keyed(ctx, key)
	if err != nil {
		return fmt.Errorf("open %s: %w", key, err)
	}
	t.feeds = append(t.feeds, &tcpFeed{session: session, before: session.Info().LocalBlocks})
	return nil
}

func (t *tcpRun) close() {
	for _, f := range t.feeds {
		f.session.Close()
	}
}

// run makes the connection, again and again if it is to live.
func (t *tcpRun) run(ctx context.Context) error {
	group := t.s.group.Child()
	defer group.Close()
	for _, f := range t.feeds {
		group.Go(func(ctx context.Context) { f.follow(ctx) })
	}
	for wait := reconnectMin; ; wait = min(2*wait, reconnectMax) {
		began := time.Now()
		done, err := t.connection(ctx)
		if done || !t.live || ctx.Err() != nil || errors.Is(err, feed.ErrClosed) {
			return err
		}
		if time.Since(began) > reconnectMax {
			wait = reconnectMin
		}
		reason, message := "no-peers", fmt.Sprintf("%s is not reached: %v; trying again in %v", t.addr, err, wait)
		if p := ProblemOf(err); p.Code == CodeDenied {
			reason, message = p.Reason, fmt.Sprintf("%s; trying again in %v", p.Detail, wait)
		}
		if err := t.out.event(Event{Event: "waiting", Reason: reason, Message: message}); err != nil {
			return err
		}
		if !sleep(ctx, wait) {
			return ctx.Err()
		}
	}
}

// follow downloads whatever there is, and will be, of f.
func (f *tcpFeed) follow(ctx context.Context) {
	for !f.session.Closed() {
		if src := f.session.Feed().Source(); src != nil {
			src.Fetch(ctx, feed.Want{Range: feed.Range{End: endless}, Follow: true}) // ends with ctx, or the source
		}
		if !sleep(ctx, retryFetch) {
			return
		}
	}
}

// connection replicates over one connection. done means that both sides are level.
func (t *tcpRun) connection(ctx context.Context) (done bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	group := lifecycle.NewGroup()
	defer group.Close() // after cancel
	defer cancel()
	started, ended := make(chan *protocol.Conn, 1), make(chan error, 1)
	group.Go(func(context.Context) {
		ended <- t.n.ReplicateTCP(ctx, t.addr, func(c *protocol.Conn) { started <- c })
	})
	tick := time.NewTicker(progressInterval)
	defer tick.Stop()
	m := waitMeter{since: time.Now()}
	var conn *protocol.Conn
	t.peer = ""
	for {
		select {
		case conn = <-started:
			t.peer = conn.Peer()
		case err := <-ended:
			switch {
			case errors.Is(err, node.ErrRefused):
				err = t.refused()
			case err == nil:
				err = Errorf(CodeError, "%s has ended the connection before both sides had the same", t.addr)
			}
			return false, err
		case <-tick.C:
			level, err := t.look(&m)
			if err != nil {
				return false, err
			}
			if level && !t.live {
				ctx, cancel := context.WithTimeout(ctx, quietAfter)
				defer cancel()
				if err := conn.Finish(ctx); err != nil {
					t.s.log.Debug("raw TCP connection not ended in order", "peer", t.peer, "err", err)
				}
				return true, t.end()
			}
		}
	}
}

// refused is the error for a peer that ends the connection at once.
func (t *tcpRun) refused() *Problem {
	p := Errorf(CodeDenied, "%s refuses: it ended the connection before anything was said (too many connections, no Hypercore peer, or a group that lets in only its members); check the address with its operator, or try again later", t.addr)
	p.Reason = reasonDenied
	return p
}

// waitMeter tells when nothing has come for a while.
type waitMeter struct {
	since time.Time // of the last movement
	told  string
}

// look tells how far it is, and whether both sides are level.
func (t *tcpRun) look(m *waitMeter) (level bool, err error) {
	e := Event{Event: "progress"}
	level = true
	now := time.Now()
	var missing string
	var moved uint64
	for _, f := range t.feeds {
		if f.session.Closed() {
			return false, feed.ErrClosed
		}
		info := f.session.Info()
		e.Done += info.LocalBlocks
		e.Total += info.Length
		stats := t.n.FeedStats(info.Key)
		e.Bytes += stats.BytesReceived
		moved += stats.BytesReceived + stats.BytesSent
		p, ok := t.remote(info.Key)
		if !ok {
			level, missing = false, fmt.Sprintf("%s does not share feed %s", t.addr, info.Key)
			continue
		}
		e.Peers = 1
		state := f.state(info, p)
		if state == lagging {
			level, missing = false, fmt.Sprintf("%s has told of %d blocks of feed %s and sends no proof of them", t.addr, p.RemoteLength, info.Key)
		}
		if state == even && !f.level || state != lagging && now.Sub(t.moved) >= quietAfter && !f.level {
			f.level = true
			if err := t.out.event(f.synced(info)); err != nil {
				return false, err
			}
		}
		level = level && (state == even || now.Sub(t.moved) >= quietAfter)
	}
	if moved != t.bytes {
		t.bytes, t.moved, m.since, m.told = moved, now, now, ""
	}
	if missing != "" && missing != m.told && now.Sub(m.since) >= waitingAfter {
		m.told = missing
		if err := t.out.event(Event{Event: "waiting", Reason: "no-data", Message: missing}); err != nil {
			return false, err
		}
	}
	return level, t.out.event(e)
}

// remote returns what is known of the peer at the other end of the connection.
func (t *tcpRun) remote(key feed.Key) (protocol.PeerInfo, bool) {
	for _, p := range t.n.FeedPeers(key) {
		if p.Name == t.peer && p.Synced {
			return p, true
		}
	}
	return protocol.PeerInfo{}, false
}

// How the two sides of a feed stand.
const (
	lagging = iota // the peer has a head that we have not
	sparse         // one side lacks blocks, which it may not want
	even           // both have all of the same
)

func (f *tcpFeed) state(info feed.Info, p protocol.PeerInfo) int {
	switch complete := info.ContiguousLength == info.Length; {
	case p.RemoteFork > info.Fork, p.RemoteFork == info.Fork && p.RemoteLength > info.Length:
		return lagging
	case p.RemoteFork == info.Fork && p.RemoteLength == info.Length && complete && p.RemoteContiguous == info.Length:
		return even
	}
	return sparse
}

func (f *tcpFeed) synced(info feed.Info) Event {
	e := Event{Event: "synced", Core: info.Key.String(), Length: info.Length, ByteLength: info.ByteLength, Done: info.LocalBlocks, Total: info.Length}
	if info.LocalBlocks > f.before {
		e.Fetched = info.LocalBlocks - f.before
	}
	return e
}

// end sends the last event.
func (t *tcpRun) end() error {
	e := Event{Event: "done"}
	for _, f := range t.feeds {
		info := f.session.Info()
		e.Done += info.LocalBlocks
		e.Total += info.Length
		if info.LocalBlocks > f.before {
			e.Fetched += info.LocalBlocks - f.before
		}
	}
	return t.out.event(e)
}
