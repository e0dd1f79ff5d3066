package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/p2pcore/p2pcore/dht"
	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/internal/lifecycle"
)

const (
	progressInterval = 200 * time.Millisecond
	waitingEarly     = 500 * time.Millisecond // without progress: the reason of a timeout has to be known
	waitingAfter     = 2 * time.Second        // without progress: somebody may wonder
	waitingInterval  = 10 * time.Second       // between two notices of the same reason
	rateWindow       = 2 * time.Second
	// endless is past the end of every feed: block indexes have 53 bits.
	endless = 1<<53 - 1
)

// syncParams is what a transfer is to bring.
type syncParams struct {
	length *uint64 // blocks of the feed that count; nil: the longest head that can be had
	bytes  *byteRange
	peers  []peer.AddrInfo
	strict bool // that nobody is found is an error
}

// byteRange is [start, end) in bytes; end may be endless.
type byteRange struct{ start, end uint64 }

// transfer is one run of GET …/sync.
type transfer struct {
	params  syncParams
	session *feed.Session
	before  spans // stored when the transfer began

	mu     sync.Mutex
	target feed.Range // blocks that are to come, as far as known
	exact  bool       // target is final
	length uint64     // of the feed as far as it counts

	told bool // the head event is sent; owned by run
}

// getSync brings a feed's blocks here and tells of it: progress, waiting, head and, at the end, done.
func (s *Server) getSync(w http.ResponseWriter, r *http.Request) error {
	params, err := readSyncParams(r)
	if err != nil {
		return err
	}
	key, err := s.resolve(r.Context(), r.PathValue("core"))
	if err != nil {
		return err
	}
	session, err := s.cfg.Store.Keyed(r.Context(), key)
	if err != nil {
		return fmt.Errorf("open %s: %w", key, err)
	}
	defer session.Close()
	t := &transfer{params: params, session: session}
	for span := range session.Feed().Ranges(feed.Range{End: endless}) {
		t.before = append(t.before, span)
	}
	if t.isHere() {
		if t.length == 0 && len(params.peers) > 0 {
			if err := s.greet(r.Context(), session, params.peers); err != nil {
				return err
			}
		}
		out := newStream(w, r)
		return out.event(t.doneEvent())
	}
	reach, err := s.reach(r.Context(), session, dht.Lookup, params.peers)
	if err != nil {
		return err
	}
	defer reach.close()
	out := newStream(w, r)
	return out.fail(r, t.run(r.Context(), reach, out))
}

func readSyncParams(r *http.Request) (syncParams, error) {
	var p syncParams
	var err error
	q := r.URL.Query()
	if q.Has("length") {
		n, err := strconv.ParseUint(q.Get("length"), 10, 53)
		if err != nil {
			return p, Errorf(CodeUsage, "length=%q is no number of blocks", q.Get("length"))
		}
		p.length = &n
	}
	if q.Has("bytes") {
		b, err := ParseRange(q.Get("bytes"))
		if err != nil {
			return p, err
		}
		p.bytes = &byteRange{b.Start, b.End}
	}
	p.strict = q.Get("strict") == "1"
	p.peers, err = peerParams(r)
	return p, err
}

// ParseRange reads A:B, both optional, as the half-open range of bytes or blocks [A, B). Without B it has no end.
func ParseRange(s string) (feed.Range, error) {
	bad := Errorf(CodeUsage, "range %q: want A:B, two numbers with A not above B; either may be left out", abbreviate(s))
	a, b, ok := strings.Cut(s, ":")
	if !ok {
		return feed.Range{}, bad
	}
	out := feed.Range{End: endless}
	for _, side := range []struct {
		text string
		to   *uint64
	}{{a, &out.Start}, {b, &out.End}} {
		if side.text == "" {
			continue
		}
		n, err := strconv.ParseUint(side.text, 10, 53)
		if err != nil {
			return feed.Range{}, bad
		}
		*side.to = n
	}
	if out.Start > out.End {
		return feed.Range{}, bad
	}
	return out, nil
}

// isHere settles the target if nothing has to be fetched for it.
func (t *transfer) isHere() bool {
	info := t.session.Info()
	length := info.Length
	switch {
	case t.params.length != nil:
		length = *t.params.length
	case !info.Writable:
		return false
	}
	if length > info.Length || t.params.bytes != nil && !t.session.Has(0) && length > 0 {
		return false
	}
	want := feed.Range{End: length}
	if t.params.bytes != nil && t.before.within(want) < length {
		return false // which blocks the bytes need is found on the way
	}
	if t.before.within(want) < length {
		return false
	}
	t.settle(want, length)
	return true
}

func (t *transfer) settle(target feed.Range, length uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.target, t.length, t.exact = target, length, true
}

// aim is the target as far as it is known now.
func (t *transfer) aim() (target feed.Range, length uint64, exact bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.exact {
		n := t.session.Info().Length
		if t.params.length != nil {
			n = *t.params.length
		}
		return feed.Range{End: n}, n, false
	}
	return t.target, t.length, true
}

// run fetches, and sends an event whenever there is something to say.
func (t *transfer) run(ctx context.Context, reach *reach, out *eventStream) error {
	group := reach.s.group.Child()
	defer group.Close()
	ended := make(chan error, 1)
	if !group.Go(func(ctx context.Context) { ended <- t.fetch(ctx, group, reach) }) {
		return errClosing
	}
	meter := newMeter(reach)
	tick := time.NewTicker(progressInterval)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			if err != nil {
				return err
			}
			if err := t.tellHead(out); err != nil {
				return err
			}
			if err := out.event(t.progress(meter)); err != nil {
				return err
			}
			return out.event(t.doneEvent())
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := t.tellHead(out); err != nil {
			return err
		}
		p := t.progress(meter)
		if err := out.event(p); err != nil {
			return err
		}
		if e, ok := meter.waiting(p.Done); ok {
			if err := out.event(e); err != nil {
				return err
			}
		}
		if t.params.strict && reach.nobody() {
			return reach.errNobody()
		}
	}
}

// tellHead sends the event head once the length is settled.
func (t *transfer) tellHead(out *eventStream) error {
	_, length, settled := t.aim()
	if !settled || t.told {
		return nil
	}
	t.told = true
	return out.event(Event{Event: "head", Length: length, Exact: t.params.length != nil})
}

// fetch finds out what is wanted and brings it.
func (t *transfer) fetch(ctx context.Context, group *lifecycle.Group, reach *reach) error {
	length, err := t.findLength(ctx, group, reach)
	if err != nil {
		return err
	}
	want := feed.Range{End: length}
	if t.params.bytes != nil {
		if err := reach.until(ctx, length); err != nil {
			return err
		}
		want, err = t.seek(ctx, length)
		if err != nil {
			return err
		}
	}
	t.settle(want, length)
	for want.Start < want.End && !t.session.Feed().Has(want) {
		if err := reach.fetch(ctx, feed.Want{Range: want}); err != nil {
			return fmt.Errorf("fetch %s: %w", t.session.Key(), err)
		}
	}
	return nil
}

// findLength returns the length that was asked for, or the longest head; meanwhile it
// downloads what there is.
func (t *transfer) findLength(ctx context.Context, group *lifecycle.Group, reach *reach) (uint64, error) {
	if t.params.length != nil {
		return *t.params.length, nil
	}
	if t.params.bytes == nil {
		early := group.Child()
		defer early.Close()
		early.Go(func(ctx context.Context) {
			reach.fetch(ctx, feed.Want{Range: feed.Range{End: endless}, Follow: true}) // ends with ctx
		})
	}
	return reach.settle(ctx)
}

// seek turns the wanted bytes into blocks; a range past the end has fewer, or none.
func (t *transfer) seek(ctx context.Context, length uint64) (feed.Range, error) {
	want := feed.Range{Start: length, End: length}
	if t.params.bytes.start >= t.params.bytes.end {
		return want, nil
	}
	if info := t.session.Info(); info.Length >= length && t.params.bytes.start >= info.ByteLength {
		return want, nil // nothing is waited for past the length that counts
	}
	start, _, err := t.session.Seek(ctx, t.params.bytes.start)
	if errors.Is(err, feed.ErrOutOfRange) {
		return want, nil
	}
	if err != nil {
		return want, fmt.Errorf("find byte %d: %w", t.params.bytes.start, err)
	}
	want.Start = min(start, length)
	if t.params.bytes.end >= t.session.Info().ByteLength {
		return want, nil
	}
	last, _, err := t.session.Seek(ctx, t.params.bytes.end-1)
	if err != nil {
		return want, fmt.Errorf("find byte %d: %w", t.params.bytes.end-1, err)
	}
	want.End = min(last+1, length)
	return want, nil
}

// local counts the blocks of r that are stored.
func (t *transfer) local(r feed.Range) uint64 {
	var n uint64
	for span := range t.session.Feed().Ranges(r) {
		n += span.End - span.Start
	}
	return n
}

func (t *transfer) progress(m *meter) Event {
	target, _, _ := t.aim()
	done := t.local(target)
	bytes, rate, peers := m.measure()
	return Event{Event: "progress", Done: done, Total: target.End - target.Start, Bytes: bytes, Rate: rate, Peers: peers}
}

func (t *transfer) doneEvent() Event {
	target, length, _ := t.aim()
	local := t.before.within(target)
	e := Event{
		Event: "done", Core: t.session.Key().String(), Length: length, Local: local, Fetched: target.End - target.Start - local,
		Done: target.End - target.Start, Total: target.End - target.Start, Exact: t.params.length != nil,
	}
	if info := t.session.Info(); info.Length == length {
		e.ByteLength = info.ByteLength
	}
	return e
}
