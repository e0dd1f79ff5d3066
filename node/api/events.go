package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/p2pcore/p2pcore/feed"
)

const (
	// maxEvents is how many of the last events are kept, for clients that come back or are slow.
	maxEvents = 4096
	// eventInterval is the least time between two looks at a feed: what happens meanwhile becomes one event.
	eventInterval = 100 * time.Millisecond
	// peerInterval is how often the peers are looked at.
	peerInterval = time.Second
)

// StoreEvent is something that has happened in the store or to its node, as GET /v1/events tells it.
//
//	head     Core, Fork, Length, ByteLength: the feed has grown
//	forked   Core, Fork, Length, Ancestors: it was rewritten, only its first blocks are those of before
//	blocks   Core, Added, Dropped: what of it is stored has changed
//	frozen   Core: contradicting heads were seen, nothing of the feed is taken any more
//	opened   Core: somebody uses the feed now
//	closed   Core: nobody does any more
//	seeding  Core, On: the feed is on the list of what is seeded, or off it
//	peer     Peer, On: feeds are replicated with the peer now, or no more
//	lost     events were lost: the client was too slow, or has been away for too long
type StoreEvent struct {
	Event      string      `json:"event"`
	Time       time.Time   `json:"time"`
	Core       string      `json:"core,omitempty"`
	Fork       uint64      `json:"fork,omitempty"`
	Length     uint64      `json:"length,omitempty"`
	ByteLength uint64      `json:"byteLength,omitempty"`
	Ancestors  uint64      `json:"ancestors,omitempty"`
	Added      [][2]uint64 `json:"added,omitempty"` // [start, end) of blocks
	Dropped    [][2]uint64 `json:"dropped,omitempty"`
	On         *bool       `json:"on,omitempty"`
	Peer       string      `json:"peer,omitempty"`
}

// hub gathers the events once somebody has asked for them. It keeps the last ones.
type hub struct {
	s     *Server
	begin sync.Once
	boot  string // tells the events of this process from another's

	mu    sync.Mutex
	ring  []StoreEvent  // under mu: the last maxEvents at most
	first uint64        // under mu: number of ring[0]
	more  chan struct{} // under mu: closed, and replaced, by every event

	feeds map[*feed.Feed]*watched // under mu
	dirty map[*feed.Feed]struct{} // under mu: with changes to be told
	wake  chan struct{}           // capacity 1: there is something dirty
}

// watched is a feed whose changes are told.
type watched struct {
	sub  *feed.Subscription
	last feed.Info
}

func newHub(s *Server) *hub {
	return &hub{
		s: s, boot: strconv.FormatInt(time.Now().UnixNano(), 36), more: make(chan struct{}),
		feeds: make(map[*feed.Feed]*watched), dirty: make(map[*feed.Feed]struct{}), wake: make(chan struct{}, 1),
	}
}

// start begins to gather events, once.
func (h *hub) start() {
	h.begin.Do(func() {
		stop := h.s.cfg.Store.OnActive(h.active)
		for f := range h.s.cfg.Store.Active() {
			h.active(f, true)
		}
		if !h.s.group.Go(func(ctx context.Context) { defer stop(); h.run(ctx) }) {
			stop()
		}
	})
}

// publish adds an event.
func (h *hub) publish(e StoreEvent) {
	h.mu.Lock()
	defer h.mu.Unlock()
	e.Time = time.Now().UTC()
	if len(h.ring) == maxEvents {
		h.ring = append(h.ring[:0], h.ring[maxEvents/4:]...)
		h.first += maxEvents / 4
	}
	h.ring = append(h.ring, e)
	close(h.more)
	h.more = make(chan struct{})
}

// active follows the store. It must not wait.
func (h *hub) active(f *feed.Feed, active bool) {
	h.mu.Lock()
	w := h.feeds[f]
	if active == (w != nil) {
		h.mu.Unlock()
		return
	}
	if active {
		w = &watched{last: f.Info()}
		w.sub = f.SubscribeFunc(func() { h.changed(f) })
		h.feeds[f] = w
	} else {
		delete(h.feeds, f)
	}
	h.mu.Unlock()
	core := f.Key().String()
	if active {
		h.publish(StoreEvent{Event: "opened", Core: core})
		return
	}
	h.tell(f, w)
	w.sub.Close()
	h.publish(StoreEvent{Event: "closed", Core: core})
}

// changed notes that f has changes. It must not wait.
func (h *hub) changed(f *feed.Feed) {
	h.mu.Lock()
	h.dirty[f] = struct{}{}
	h.mu.Unlock()
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// run tells changes, at most every eventInterval, and looks at the peers.
func (h *hub) run(ctx context.Context) {
	tick := time.NewTicker(peerInterval)
	defer tick.Stop()
	peers := make(map[string]bool)
	for {
		select {
		case <-h.wake:
			h.mu.Lock()
			dirty := h.dirty
			h.dirty = make(map[*feed.Feed]struct{})
			h.mu.Unlock()
			for f := range dirty {
				h.mu.Lock()
				w := h.feeds[f]
				h.mu.Unlock()
				if w != nil {
					h.tell(f, w)
				}
			}
			sleep(ctx, eventInterval)
		case <-tick.C:
			h.lookAtPeers(peers)
		case <-ctx.Done():
			return
		}
	}
}

// tell publishes the pending changes of a feed.
func (h *hub) tell(f *feed.Feed, w *watched) {
	c, ok := w.sub.Take()
	if !ok {
		return
	}
	core := f.Key().String()
	h.mu.Lock()
	last := w.last
	w.last.Head = c.Head
	h.mu.Unlock()
	switch {
	case c.Forked:
		h.publish(StoreEvent{Event: "forked", Core: core, Fork: c.Head.Fork, Length: c.Head.Length, ByteLength: c.Head.ByteLength, Ancestors: c.Ancestors})
	case c.Head.Length != last.Length:
		h.publish(StoreEvent{Event: "head", Core: core, Fork: c.Head.Fork, Length: c.Head.Length, ByteLength: c.Head.ByteLength})
	}
	if len(c.Added)+len(c.Dropped) > 0 {
		h.publish(StoreEvent{Event: "blocks", Core: core, Added: pairs(c.Added), Dropped: pairs(c.Dropped)})
	}
	if c.Frozen {
		h.publish(StoreEvent{Event: "frozen", Core: core})
	}
}

// lookAtPeers publishes who has come and who has gone. known is changed.
func (h *hub) lookAtPeers(known map[string]bool) {
	now := make(map[string]bool)
	if n := h.s.running(); n != nil {
		for _, p := range n.Peers() {
			if p.Replicating {
				now[p.ID.String()] = true
			}
		}
	}
	for id := range now {
		if !known[id] {
			known[id] = true
			h.publish(StoreEvent{Event: "peer", Peer: id, On: flag(true)})
		}
	}
	for id := range known {
		if !now[id] {
			delete(known, id)
			h.publish(StoreEvent{Event: "peer", Peer: id, On: flag(false)})
		}
	}
}

func pairs(ranges []feed.Range) [][2]uint64 {
	out := make([][2]uint64, len(ranges))
	for i, r := range ranges {
		out[i] = [2]uint64{r.Start, r.End}
	}
	return out
}

func flag(on bool) *bool { return &on }

// after returns the events from number on, and the number that comes after them; lost tells that there were others
// before. With none it returns a channel that is closed by the next.
func (h *hub) after(number uint64) (events []StoreEvent, next uint64, lost bool, more <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	end := h.first + uint64(len(h.ring))
	if number < h.first {
		lost = true
		number = h.first
	}
	if number > end { // of another process
		number = end
	}
	return append(events, h.ring[number-h.first:]...), end, lost, h.more
}

// getEvents streams events until the client goes away: Server-Sent Events, with IDs by which a client that comes back
// misses none, or lines.
func (s *Server) getEvents(w http.ResponseWriter, r *http.Request) error {
	s.events.start()
	_, next, _, _ := s.events.after(1<<63 - 1)
	lost := false
	if id := r.Header.Get("Last-Event-ID"); id != "" {
		boot, number, ok := strings.Cut(id, ".")
		n, err := strconv.ParseUint(number, 10, 63)
		if !ok || err != nil {
			return Errorf(CodeUsage, "Last-Event-ID %q is no ID of this stream", abbreviate(id))
		}
		if lost = boot != s.events.boot; !lost {
			next = n + 1
		}
	}
	if !strings.HasPrefix(r.Header.Get("Accept"), contentSSE) && r.Header.Get("Accept") != contentLines {
		r.Header.Set("Accept", contentSSE) // which a browser's EventSource asks for, and curl does not
	}
	out := newStream(w, r)
	if err := out.flush(); err != nil {
		return err
	}
	alive := time.NewTicker(aliveInterval)
	defer alive.Stop()
	for {
		events, end, dropped, more := s.events.after(next)
		if dropped = dropped || lost; dropped {
			lost = false
			s.metrics.eventsLost.Inc()
			if err := out.storeEvent("", StoreEvent{Event: "lost", Time: time.Now().UTC()}); err != nil {
				return err
			}
		}
		first := end - uint64(len(events))
		for i, e := range events {
			if err := out.storeEvent(fmt.Sprintf("%s.%d", s.events.boot, first+uint64(i)), e); err != nil {
				return err
			}
		}
		next = end
		if dropped || len(events) > 0 {
			if err := out.flush(); err != nil {
				return err
			}
			continue
		}
		select {
		case <-more:
		case <-alive.C:
			if !out.sse {
				continue
			}
			if err := out.comment(); err != nil {
				return err
			}
		case <-r.Context().Done():
			return r.Context().Err()
		}
	}
}

// storeEvent writes an event; it may wait in a buffer until the next flush.
func (s *eventStream) storeEvent(id string, e StoreEvent) error {
	b, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if s.sse {
		return s.message(id, e.Event, b)
	}
	_, err = s.w.Write(append(b, '\n'))
	return err
}
