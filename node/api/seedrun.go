package api

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/p2pcore/p2pcore/dht"
	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/internal/lifecycle"
)

// maxSeeded bounds the feeds that one request may name.
const maxSeeded = 1024

// seedRun is one run of GET /v1/seed: feeds that are seeded for as long as the request lasts.
type seedRun struct {
	s      *Server
	group  *lifecycle.Group
	feeds  []*seededFeed
	until  bool // ends when all feeds are synced
	strict bool // or nobody is found who has them
	out    *eventStream
}

// seededFeed is one feed of a seedRun.
type seededFeed struct {
	session *feed.Session
	reach   *reach
	meter   *meter
	before  uint64 // blocks stored when it began

	since  time.Time // since when all is here that is known
	synced bool      // and was told
	failed *Problem
}

// getSeed seeds the feeds of the core parameters until the client goes away or, with until=synced, until all that is
// known of them is here. It tells ready for each, progress, waiting, synced and failed for each, and at the end done.
func (s *Server) getSeed(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	if n := len(q["core"]); n == 0 || n > maxSeeded {
		return Errorf(CodeUsage, "%d feeds named; want 1 to %d", n, maxSeeded)
	}
	peers, err := peerParams(r)
	if err != nil {
		return err
	}
	run := &seedRun{s: s, group: s.group.Child(), until: q.Get("until") == "synced", strict: q.Get("strict") == "1"}
	defer run.close()
	for _, text := range q["core"] {
		key, err := s.resolve(r.Context(), text)
		if err != nil {
			return err
		}
		session, err := s.cfg.Store.Keyed(r.Context(), key)
		if err != nil {
			return fmt.Errorf("open %s: %w", key, err)
		}
		f := &seededFeed{session: session, before: session.Info().LocalBlocks}
		run.feeds = append(run.feeds, f)
		if f.reach, err = s.reach(r.Context(), session, dht.Announce|dht.Lookup, peers); err != nil {
			return err
		}
		f.meter = newMeter(f.reach)
		if !session.Info().Writable {
			run.group.Go(func(ctx context.Context) { s.follow(ctx, session) })
		}
	}
	run.out = newStream(w, r)
	return run.out.fail(r, run.run(r.Context()))
}

func (run *seedRun) close() {
	run.group.Close()
	for _, f := range run.feeds {
		if f.reach != nil {
			f.reach.close()
		}
		f.session.Close()
	}
}

func (run *seedRun) run(ctx context.Context) error {
	for _, f := range run.feeds {
		info := f.session.Info()
		_, encrypted, err := run.s.cfg.Store.EncryptionKey(ctx, info.Key)
		if err != nil {
			return fmt.Errorf("open %s: %w", info.Key, err)
		}
		if err := run.out.event(Event{Event: "ready", Core: info.Key.String(), Shared: describeShared(f.reach.n, info, "", encrypted)}); err != nil {
			return err
		}
	}
	tick := time.NewTicker(progressInterval)
	defer tick.Stop()
	for {
		open, err := run.look()
		if err != nil {
			return err
		}
		if run.until && open == 0 || run.over() {
			return run.end()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// look tells how far the feeds are, and returns how many have not come to an end.
func (run *seedRun) look() (open int, err error) {
	sum := Event{Event: "progress"}
	for _, f := range run.feeds {
		info := f.session.Info()
		bytes, rate, peers := f.meter.measure()
		sum.Done += info.LocalBlocks
		sum.Total += info.Length
		sum.Bytes += bytes
		sum.Rate += rate
		sum.Peers = max(sum.Peers, peers)
		if f.failed != nil {
			continue
		}
		if f.session.Closed() {
			if err := run.fail(f, ProblemOf(feed.ErrClosed)); err != nil {
				return 0, err
			}
			continue
		}
		if f.complete(info) {
			if !f.synced {
				f.synced = true
				if err := run.out.event(f.event("synced", info)); err != nil {
					return 0, err
				}
			}
			continue
		}
		f.synced = false
		open++
		if run.until && run.strict && f.reach.nobody() {
			if err := run.fail(f, f.reach.errNobody()); err != nil {
				return 0, err
			}
			continue
		}
		if e, ok := f.meter.waiting(info.LocalBlocks); ok {
			e.Core = info.Key.String()
			if err := run.out.event(e); err != nil {
				return 0, err
			}
		}
	}
	return open, run.out.event(sum)
}

// fail notes that f cannot be seeded, and tells why.
func (run *seedRun) fail(f *seededFeed, why *Problem) error {
	f.failed = why
	e := f.event("failed", f.session.Info())
	e.Problem = why
	return run.out.event(e)
}

// over tells whether no feed is left that could be seeded.
func (run *seedRun) over() bool {
	return !slices.ContainsFunc(run.feeds, func(f *seededFeed) bool { return f.failed == nil })
}

// complete tells whether all that is known of the feed is stored. Whoever writes a feed knows all; others believe it
// when peers have told their heads and none is ahead, and the look-up under way has ended, or headPatience after that.
func (f *seededFeed) complete(info feed.Info) bool {
	if info.Writable {
		return true
	}
	peers := f.reach.n.FeedPeers(info.Key)
	all, some := true, false
	for _, p := range peers {
		switch {
		case !p.Synced:
			all = false
		case p.RemoteFork > info.Fork, p.RemoteFork == info.Fork && p.RemoteLength > info.Length:
			f.since = time.Time{}
			return false
		default:
			some = true
		}
	}
	if info.LocalBlocks < info.Length || !some && !f.synced {
		f.since = time.Time{}
		return false
	}
	if f.since.IsZero() {
		f.since = time.Now()
	}
	return f.synced || all && f.reach.pending.Load() == 0 && info.Length > 0 || time.Since(f.since) >= headPatience
}

func (f *seededFeed) event(name string, info feed.Info) Event {
	e := Event{
		Event: name, Core: info.Key.String(), Length: info.Length, ByteLength: info.ByteLength,
		Done: info.LocalBlocks, Total: info.Length,
	}
	if info.LocalBlocks > f.before {
		e.Fetched = info.LocalBlocks - f.before
	}
	return e
}

// end sends the last event: all feeds are synced, or some could not be, which is an error.
func (run *seedRun) end() error {
	failed := 0
	var first *Problem
	for _, f := range run.feeds {
		if f.failed != nil {
			failed++
			first = f.failed
		}
	}
	switch {
	case failed == 0:
		return run.out.event(Event{Event: "done"})
	case failed == len(run.feeds):
		return first
	}
	p := Errorf(CodePartial, "%d of %d feeds are not synced: %s", failed, len(run.feeds), first.Detail)
	p.Reason = first.Reason
	return p
}
