package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/p2pcore/p2pcore/feed"
)

// aliveInterval is how often a comment is sent on a stream of Server-Sent Events, for proxies that close quiet ones.
const aliveInterval = 15 * time.Second

// blockParams are what GET …/blocks is asked for.
type blockParams struct {
	start, end uint64
	last       *uint64 // the last so many blocks instead of start
	counted    bool    // last was given
	follow     bool
	resume     string // Last-Event-ID
}

func readBlockParams(r *http.Request) (blockParams, error) {
	p := blockParams{end: endless, follow: r.URL.Query().Get("follow") == "1", resume: r.Header.Get("Last-Event-ID")}
	var last uint64
	for _, param := range []struct {
		name string
		to   *uint64
	}{{"start", &p.start}, {"end", &p.end}, {"last", &last}} {
		if !r.URL.Query().Has(param.name) {
			continue
		}
		text := r.URL.Query().Get(param.name)
		n, err := strconv.ParseUint(text, 10, 53)
		if err != nil {
			return p, Errorf(CodeUsage, "%s=%q is no number of blocks", param.name, abbreviate(text))
		}
		*param.to = n
		if param.name == "last" {
			p.last, p.counted = &last, true
		}
	}
	switch {
	case p.last != nil && r.URL.Query().Has("start"):
		return p, Errorf(CodeUsage, "start and last exclude each other")
	case p.start > p.end:
		return p, Errorf(CodeUsage, "start=%d lies behind end=%d", p.start, p.end)
	}
	if p.resume != "" {
		if _, _, err := parseEventID(p.resume); err != nil {
			return p, err
		}
	}
	return p, nil
}

// blockStream is one run of GET …/blocks.
type blockStream struct {
	b      *reader
	params blockParams
	until  func() uint64 // the end as far as it is known
	fork   uint64        // of the blocks that are sent now
	told   bool          // notices are being sent
	empty  bool          // there was no head when the stream began, and nothing has been sent since

	sent atomic.Uint64 // next, for those who may not wait for mu: it is held while a client does not read

	mu   sync.Mutex
	out  *eventStream // under mu
	next uint64       // under mu
}

// getBlocks streams blocks in order.
func (s *Server) getBlocks(w http.ResponseWriter, r *http.Request) error {
	params, err := readBlockParams(r)
	if err != nil {
		return err
	}
	find := s.resolve
	if r.URL.Query().Get("local") == "1" {
		find = s.known
	}
	key, err := find(r.Context(), r.PathValue("core"))
	if err != nil {
		return err
	}
	b, err := s.newReader(r, key)
	if err != nil {
		return err
	}
	defer b.close()
	b.watch = true
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	info := b.session.Info()
	bs := &blockStream{b: b, params: params, fork: info.Fork, empty: info.Length == 0}
	b.want.Range = feed.Range{Start: params.start, End: params.end}
	b.want.Follow = params.end == endless
	if err := bs.prepare(ctx); err != nil {
		return err
	}
	bs.out = newStream(w, r)
	bs.sent.Store(params.start)
	if params.follow {
		defer s.consumers.add(bs)()
	}
	return bs.out.fail(r, bs.run(ctx))
}

// prepare settles where the stream ends, and starts if that is near the end.
func (bs *blockStream) prepare(ctx context.Context) error {
	b, p := bs.b, &bs.params
	bs.until = func() uint64 { return p.end }
	if p.last != nil && (b.local || b.session.Info().Writable) {
		length := b.session.Info().Length
		p.start, p.last = length-min(*p.last, length), nil
		b.want.Range.Start = p.start
	}
	if p.last != nil {
		return b.connect(ctx, endless) // and the start is found when the head is
	}
	if p.end != endless || p.follow {
		return nil
	}
	ending, err := b.findEnd(ctx)
	if err != nil {
		return err
	}
	bs.until = ending
	if p.start > b.session.Info().Length {
		// Who names an index past the end means that block: it is waited for.
		bs.until = func() uint64 { return max(ending(), p.start+1) }
	}
	return nil
}

// findStart waits for the head and counts back from it.
func (bs *blockStream) findStart(ctx context.Context) error {
	b, p := bs.b, &bs.params
	bs.notice(ctx)
	if _, err := b.reach.settle(ctx); err != nil {
		return err
	}
	b.sub.Take() // the heads that were waited for
	info := b.session.Info()
	length := info.Length
	bs.fork, bs.empty = info.Fork, length == 0
	p.start = length - min(*p.last, length)
	if !p.follow {
		end := min(p.end, length)
		bs.until = func() uint64 { return end }
		b.want.Range.End, b.want.Follow = end, false
	}
	b.want.Range.Start = p.start
	if want := b.want; want.Range.Start < want.Range.End {
		b.group.Go(func(ctx context.Context) { b.reach.fetch(ctx, want) })
	}
	return nil
}

func (bs *blockStream) run(ctx context.Context) error {
	if bs.out.sse {
		bs.keepAlive()
	}
	if bs.params.last != nil {
		if err := bs.findStart(ctx); err != nil {
			return err
		}
	}
	if err := bs.begin(); err != nil {
		return err
	}
	for index := bs.position(); index < bs.until(); {
		block, ok, err := bs.get(ctx, index)
		if err != nil {
			return err
		}
		change, err := bs.b.rewriting(ctx, bs.fork)
		switch {
		case err != nil:
			return err
		case change != nil:
			if index, err = bs.rewritten(index, change); err != nil {
				return err
			}
			continue
		case !ok:
			return bs.end()
		}
		bs.empty = false
		if err := bs.send(index, block); err != nil {
			return err
		}
		index++
	}
	return bs.end()
}

// begin settles where the stream starts, and tells who did not say it.
func (bs *blockStream) begin() error {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	bs.next = bs.params.start
	if bs.params.resume != "" {
		fork, index, err := parseEventID(bs.params.resume)
		switch {
		case err != nil:
			return err
		case fork == bs.fork:
			bs.next = max(bs.next, index+1)
		default: // nobody knows what the client has of this fork
			if err := bs.out.event(Event{Event: "forked", Fork: bs.fork, Length: bs.next}); err != nil {
				return err
			}
		}
	}
	bs.sent.Store(bs.next)
	if !bs.params.counted {
		return nil
	}
	return bs.out.event(Event{Event: "start", Start: bs.next, Fork: bs.fork})
}

// get returns a block, and waits for it if it is not here.
func (bs *blockStream) get(ctx context.Context, index uint64) ([]byte, bool, error) {
	block, ok, err := bs.b.here(ctx, index)
	if ok || err != nil {
		return block, ok, err
	}
	bs.mu.Lock()
	err = bs.out.flush()
	bs.mu.Unlock()
	if err != nil {
		return nil, false, err
	}
	if err := bs.b.connect(ctx, index); err != nil {
		return nil, false, err
	}
	bs.notice(ctx)
	return bs.b.block(ctx, index, bs.until)
}

// notice begins to tell of waiting, once there is somebody to wait for.
func (bs *blockStream) notice(ctx context.Context) {
	if bs.told || bs.b.reach == nil {
		return
	}
	bs.told = true
	bs.b.notices(ctx, bs.position, func(e Event) error {
		bs.mu.Lock()
		defer bs.mu.Unlock()
		return bs.out.event(e)
	})
}

func (bs *blockStream) position() uint64 {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	return bs.next
}

func (bs *blockStream) send(index uint64, block []byte) (err error) {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	bs.next = index + 1
	switch {
	case bs.out.frames:
		err = bs.out.frame(FrameBlock, block)
	case bs.out.sse:
		err = bs.out.block(fmt.Sprintf("%d.%d", bs.fork, index), NewBlockLine(index, block))
	default:
		err = bs.out.buffered(NewBlockLine(index, block))
	}
	if err == nil {
		bs.sent.Store(bs.next)
	}
	return err
}

// rewritten goes back to where the feed was cut, and tells the client. It returns the next index.
func (bs *blockStream) rewritten(index uint64, c *feed.Change) (uint64, error) {
	if bs.empty {
		// The first head of a feed that was rewritten before comes as a rewriting too, and there was nothing to read.
		bs.empty, bs.fork = false, c.Head.Fork
		return index, nil
	}
	if !bs.params.follow {
		return 0, Errorf(CodeError, "the feed was rewritten from block %d on while it was read; read it again", c.Ancestors)
	}
	bs.mu.Lock()
	defer bs.mu.Unlock()
	bs.fork = c.Head.Fork
	first := bs.params.start
	if bs.params.counted { // from an end that is no more
		first = 0
	}
	bs.next = min(index, max(c.Ancestors, first))
	bs.sent.Store(bs.next)
	return bs.next, bs.out.event(Event{Event: "forked", Fork: bs.fork, Length: bs.next})
}

func (bs *blockStream) end() error {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	return bs.out.event(Event{Event: "end", Length: bs.next})
}

// keepAlive sends a comment now and then.
func (bs *blockStream) keepAlive() {
	bs.b.group.Go(func(ctx context.Context) {
		for sleep(ctx, aliveInterval) {
			bs.mu.Lock()
			err := bs.out.comment()
			bs.mu.Unlock()
			if err != nil {
				return
			}
		}
	})
}

// parseEventID reads the ID of an event that carries a block: FORK.INDEX.
func parseEventID(s string) (fork, index uint64, err error) {
	a, b, ok := strings.Cut(s, ".")
	fork, errFork := strconv.ParseUint(a, 10, 53)
	index, errIndex := strconv.ParseUint(b, 10, 53)
	if !ok || errors.Join(errFork, errIndex) != nil {
		return 0, 0, Errorf(CodeUsage, "Last-Event-ID %q is no ID of this stream: FORK.INDEX", abbreviate(s))
	}
	return fork, index, nil
}
