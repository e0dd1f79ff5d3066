package api

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/p2pcore/p2pcore/dht"
	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/internal/lifecycle"
)

// BlockLine is a block as a line of JSON: Text when the bytes are UTF-8, else Data.
type BlockLine struct {
	Index  uint64  `json:"index"`
	Length int     `json:"length"`
	Text   *string `json:"text,omitempty"`
	Data   *string `json:"data,omitempty"` // base64
}

// NewBlockLine describes a block.
func NewBlockLine(index uint64, block []byte) BlockLine {
	l := BlockLine{Index: index, Length: len(block)}
	if utf8.Valid(block) {
		text := string(block)
		l.Text = &text
	} else {
		data := base64.StdEncoding.EncodeToString(block)
		l.Data = &data
	}
	return l
}

// reader gives blocks in order, and fetches what is missing. One goroutine calls its methods.
type reader struct {
	s       *Server
	session *feed.Session
	sub     *feed.Subscription
	group   *lifecycle.Group
	peers   []peer.AddrInfo
	local   bool // never wait, never fetch
	want    feed.Want
	reach   *reach // nil while everything was here

	watch  bool         // forked is looked at
	forked *feed.Change // the feed was rewritten

	asked time.Time // since when the next block is waited for; zero: it was here
}

func (s *Server) newReader(r *http.Request, key feed.Key) (*reader, error) {
	peers, err := peerParams(r)
	if err != nil {
		return nil, err
	}
	session, err := s.cfg.Store.Keyed(r.Context(), key)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", key, err)
	}
	return &reader{
		s:       s,
		session: session,
		sub:     session.Feed().Subscribe(),
		group:   s.group.Child(),
		peers:   peers,
		local:   r.URL.Query().Get("local") == "1",
		want:    feed.Want{Linear: true},
	}, nil
}

func (b *reader) close() {
	b.group.Close()
	if b.reach != nil {
		b.reach.close()
	}
	b.sub.Close()
	b.session.Close()
}

// connect makes the node look for the feed, and fetch it from block index on.
func (b *reader) connect(ctx context.Context, index uint64) error {
	if b.reach != nil || b.local || b.session.Info().Writable {
		return nil
	}
	reach, err := b.s.reach(ctx, b.session, dht.Lookup, b.peers)
	if err != nil {
		return err
	}
	b.reach = reach
	want := b.want
	want.Range.Start = max(index, want.Range.Start)
	if want.Range.Start >= want.Range.End {
		return nil
	}
	b.group.Go(func(ctx context.Context) {
		reach.fetch(ctx, want) // its outcome shows in the store; waiting says what is missing
	})
	return nil
}

// here returns a block if it is stored.
func (b *reader) here(ctx context.Context, index uint64) ([]byte, bool, error) {
	if !b.session.Has(index) {
		return nil, false, nil
	}
	began := time.Now()
	block, err := b.session.GetLocal(ctx, index)
	if errors.Is(err, feed.ErrNotAvailable) {
		return nil, false, nil // a crash has lost it; it is fetched again
	}
	if err != nil {
		return nil, false, fmt.Errorf("read block %d: %w", index, err)
	}
	if b.asked.IsZero() {
		b.s.metrics.getLocal.Observe(time.Since(began).Seconds())
	} else {
		b.s.metrics.getPeer.Observe(time.Since(b.asked).Seconds())
		b.asked = time.Time{}
	}
	return block, true, nil
}

// block waits for a block, or until end tells that it will not be needed: then it returns nil, false.
func (b *reader) block(ctx context.Context, index uint64, end func() uint64) ([]byte, bool, error) {
	for index < end() {
		block, ok, err := b.here(ctx, index)
		if ok || err != nil {
			return block, ok, err
		}
		if b.asked.IsZero() {
			b.asked = time.Now()
		}
		if b.local {
			return nil, false, Errorf(CodeError, "block %d is not stored here; without --local it would be fetched", index)
		}
		if err := b.connect(ctx, index); err != nil {
			return nil, false, err
		}
		step, cancel := context.WithTimeout(ctx, headPoll*2)
		change, err := b.sub.Next(step)
		expired := step.Err() != nil
		cancel()
		if err != nil && !expired || ctx.Err() != nil {
			return nil, false, err
		}
		if err == nil && change.Forked && b.watch {
			b.forked = &change
			return nil, false, nil
		}
	}
	return nil, false, nil
}

// rewriting returns the rewriting of the feed, if its fork is not the given one any more: several are one. What is read before
// it is called is of that fork unless it returns one.
func (b *reader) rewriting(ctx context.Context, fork uint64) (*feed.Change, error) {
	last := b.forked
	b.forked = nil
	for {
		change, told := b.sub.Take()
		// A fork is visible a moment before it is told.
		if now := b.session.Info().Fork; !told && now != fork && (last == nil || last.Head.Fork != now) {
			var err error
			if change, err = b.sub.Next(ctx); err != nil {
				return nil, err
			}
			told = true
		}
		switch {
		case !told && last != nil && last.Head.Fork == fork:
			return nil, nil // of before the reading began
		case !told:
			return last, nil
		case !change.Forked:
		case last != nil:
			change.Ancestors = min(change.Ancestors, last.Ancestors)
			fallthrough
		default:
			last = &change
		}
	}
}

// findEnd settles where a reader without an end stops. It returns at once if that needs nobody else; else the
// result of end is endless until it is known.
func (b *reader) findEnd(ctx context.Context) (end func() uint64, err error) {
	info := b.session.Info()
	if b.local || info.Writable {
		return func() uint64 { return info.Length }, nil
	}
	if err := b.connect(ctx, 0); err != nil {
		return nil, err
	}
	var mu sync.Mutex
	length := uint64(endless)
	b.group.Go(func(ctx context.Context) {
		if n, err := b.reach.settle(ctx); err == nil {
			mu.Lock()
			defer mu.Unlock()
			length = n
		}
	})
	return func() uint64 {
		mu.Lock()
		defer mu.Unlock()
		return length
	}, nil
}

// notices sends waiting events while index does not move, until the group ends.
func (b *reader) notices(ctx context.Context, moved func() uint64, send func(Event) error) {
	b.group.Go(func(context.Context) {
		var m *meter
		for sleep(ctx, progressInterval) {
			if m == nil {
				m = &meter{reach: b.reach, since: time.Now()}
			}
			if e, ok := m.waiting(moved()); ok && send(e) != nil {
				return
			}
		}
	})
}

// ContentProof is the media type of a detached proof, see feed.Feed.ProveDetached.
const ContentProof = "application/vnd.p2pcore.proof"

// getBlock gives one block's bytes, or a proof of it that holds them, and waits for it if it has to be fetched.
func (s *Server) getBlock(w http.ResponseWriter, r *http.Request) error {
	index, err := strconv.ParseUint(r.PathValue("index"), 10, 53)
	if err != nil {
		return Errorf(CodeUsage, "%q is no block index", abbreviate(r.PathValue("index")))
	}
	key, err := s.resolve(r.Context(), r.PathValue("core"))
	if err != nil {
		return err
	}
	b, err := s.newReader(r, key)
	if err != nil {
		return err
	}
	defer b.close()
	b.want.Range = feed.Range{Start: index, End: index + 1}
	if info := b.session.Info(); info.Writable && index >= info.Length {
		return Errorf(CodeError, "feed %s has %d blocks, and is written here: there is no block %d", key, info.Length, index).status(http.StatusNotFound)
	}
	block, ok, err := b.block(r.Context(), index, func() uint64 { return endless })
	if err != nil {
		return err
	}
	if !ok {
		return Errorf(CodeError, "feed %s has no block %d", key, index)
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Vary", "Accept")
	if r.Header.Get("Accept") == ContentProof {
		w.Header().Set("Content-Type", ContentProof)
		if block, err = b.session.Feed().ProveDetached(r.Context(), &index); err != nil {
			return fmt.Errorf("prove block %d of %s: %w", index, key, err)
		}
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(block)))
	_, err = w.Write(block)
	return err
}
