package feed

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/p2pcore/p2pcore/internal/merkle"
)

// SessionOptions of Feed.Session.
type SessionOptions struct {
	// KeyPair signs what this session appends; nil: the feed's own, if it has one.
	KeyPair *KeyPair
	// ReadOnly refuses to append, whatever key pair there is.
	ReadOnly bool
	// OnClose is called once, at the end of the Close that ends the session or when the feed closes.
	OnClose func()
}

// Session is a handle on a feed for an application. Sessions of one feed do not disturb each other.
// All methods are safe for concurrent use.
type Session struct {
	// set once
	feed    *Feed
	pair    KeyPair
	onClose func()

	// under mu
	mu      sync.Mutex
	closed  bool
	waiting map[*waiter]struct{}
}

// waiter is a call of a session that may wait for long.
type waiter struct{ cancel context.CancelCauseFunc }

// Session opens a handle. The error is ErrClosed, or ErrNotWritable if a key pair is given that may
// not sign for the feed.
func (f *Feed) Session(o SessionOptions) (*Session, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, ErrClosed
	}
	s := &Session{feed: f, onClose: o.OnClose, waiting: make(map[*waiter]struct{})}
	switch {
	case o.ReadOnly:
	case o.KeyPair != nil:
		if s.pair = *o.KeyPair; !f.writableLocked(s.pair) {
			return nil, ErrNotWritable
		}
	default:
		s.pair = f.pair
	}
	f.sessions[s] = struct{}{}
	return s, nil
}

// Close ends the session: its calls that wait return ErrClosed. The feed stays open. It may be called
// twice.
func (s *Session) Close() error {
	s.feed.mu.Lock()
	delete(s.feed.sessions, s)
	s.feed.mu.Unlock()
	s.end()
	return nil
}

func (s *Session) end() {
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	for w := range s.waiting {
		w.cancel(ErrClosed)
	}
	s.mu.Unlock()
	if first && s.onClose != nil {
		s.onClose()
	}
}

// enter begins a call that may wait: ctx ends with the session as well. done must be called.
func (s *Session) enter(parent context.Context) (ctx context.Context, done func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, nil, ErrClosed
	}
	ctx, cancel := context.WithCancelCause(parent)
	w := &waiter{cancel}
	s.waiting[w] = struct{}{}
	return ctx, func() {
		s.mu.Lock()
		delete(s.waiting, w)
		s.mu.Unlock()
		cancel(nil)
	}, nil
}

func (s *Session) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// because makes ErrClosed of the error of a call that ended because the session did.
func because(ctx context.Context, err error) error {
	if err != nil && errors.Is(context.Cause(ctx), ErrClosed) {
		return ErrClosed
	}
	return err
}

// Feed returns the feed, for replication.
func (s *Session) Feed() *Feed { return s.feed }

// Key returns the feed's key.
func (s *Session) Key() Key { return s.feed.key }

// DiscoveryKey returns the name under which the feed is looked for.
func (s *Session) DiscoveryKey() DiscoveryKey { return s.feed.dk }

// Info returns the state at this moment, from memory. Writable speaks of this session.
func (s *Session) Info() Info {
	f := s.feed
	f.mu.RLock()
	defer f.mu.RUnlock()
	info := f.infoLocked()
	info.Writable = f.writableLocked(s.pair)
	return info
}

// Has reports whether block index is stored.
func (s *Session) Has(index uint64) bool {
	return index < maxLength && s.feed.Has(Range{Start: index, End: index + 1})
}

// Append adds blocks at the end, all or none, and returns the state after it; without blocks it does
// nothing. When it returns they are on stable storage (but see Options.NoSync) and no peer has heard
// of them before. The blocks are not kept. Appends of several goroutines wait for each other.
//
// The error is ErrNotWritable, ErrBlockTooLarge (more than MaxBlockBytes), ErrNoSpace, ErrFrozen,
// ErrClosed, ctx's or the datastore's. After an error the feed is as before.
func (s *Session) Append(ctx context.Context, blocks ...[]byte) (Info, error) {
	if s.isClosed() {
		return Info{}, ErrClosed
	}
	if err := s.feed.append(ctx, s.pair, blocks); err != nil {
		return Info{}, err
	}
	return s.Info(), nil
}

// GetLocal returns block index if it is stored. The result is the caller's.
//
// The error is ErrOutOfRange, ErrNotAvailable, ErrClosed, ErrCorrupt, or the datastore's.
func (s *Session) GetLocal(ctx context.Context, index uint64) ([]byte, error) {
	if s.isClosed() {
		return nil, ErrClosed
	}
	return s.feed.getLocal(ctx, index)
}

func (f *Feed) getLocal(ctx context.Context, index uint64) ([]byte, error) {
	f.mu.RLock()
	has, length, g := f.bits.Has(index), f.head.length, f.head.generations
	f.mu.RUnlock()
	switch {
	case index >= length:
		return nil, fmt.Errorf("%w: block %d of %d", ErrOutOfRange, index, length)
	case !has:
		return nil, fmt.Errorf("%w: block %d", ErrNotAvailable, index)
	}
	_, leave, ok := f.ops.Enter()
	defer leave()
	if !ok {
		return nil, ErrClosed
	}
	return f.readBlock(ctx, g, index)
}

// Get returns block index. Past the end it waits for the feed to grow.
//
// If the block is not stored, Get asks the feed's Source and waits until the block has been verified
// and stored, or ctx ends. The result is the caller's to keep.
//
// The error is ErrOutOfRange (past the end, no Source; or past what any feed can have, such as
// length - 1 of an empty one), ErrNotAvailable (not stored, no Source), ErrClosed, ErrCorrupt, ctx's,
// or the datastore's or Source's.
func (s *Session) Get(ctx context.Context, index uint64) ([]byte, error) {
	b, err := s.GetLocal(ctx, index)
	if err == nil || !missing(err) || index >= maxLength {
		return b, err
	}
	source := s.feed.Source()
	if source == nil {
		return nil, err
	}
	ctx, done, err := s.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	want := Want{Range: Range{Start: index, End: index + 1}}
	for {
		if err := source.Fetch(ctx, want); err != nil {
			return nil, because(ctx, err)
		}
		// A block that has come may be gone again, lost in a truncation.
		if b, err = s.feed.getLocal(ctx, index); err == nil || !missing(err) {
			return b, because(ctx, err)
		}
		if err := ctx.Err(); err != nil {
			return nil, because(ctx, err)
		}
	}
}

// missing reports whether a block could not be had because it is not here (yet).
func missing(err error) bool {
	return errors.Is(err, ErrOutOfRange) || errors.Is(err, ErrNotAvailable)
}

// Download returns when all blocks of r are stored. Past the end it waits for the feed to grow.
//
// The error is ErrNotAvailable if some are not and there is no Source, ErrClosed, ctx's, or the
// Source's.
func (s *Session) Download(ctx context.Context, r Range) error {
	ctx, done, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer done()
	if s.feed.Has(r) {
		return nil
	}
	source := s.feed.Source()
	if source == nil {
		return fmt.Errorf("%w: some of %d to %d", ErrNotAvailable, r.Start, r.End)
	}
	return because(ctx, source.Fetch(ctx, Want{Range: r}))
}

// Update asks the Source for a longer head and reports whether the feed has grown. It is false at once
// without a Source and on a writable session: nobody is ahead of the writer.
func (s *Session) Update(ctx context.Context) (grown bool, err error) {
	ctx, done, err := s.enter(ctx)
	if err != nil {
		return false, err
	}
	defer done()
	source := s.feed.Source()
	if source == nil || s.Info().Writable {
		return false, nil
	}
	grown, err = source.Upgrade(ctx)
	return grown, because(ctx, err)
}

// Seek returns the block in which byte number byteOffset of the feed lies, and the byte's offset in
// it; the byte length of the feed is offset 0 of the block past the end. Blocks without bytes are
// passed over. Nodes that it takes and that are not stored are fetched from the Source.
//
// The error is ErrOutOfRange (past the end, no Source; or past 2^53-1), ErrNotAvailable (nodes missing, no Source or
// none that helps), ErrClosed, ctx's, or the datastore's or Source's.
func (s *Session) Seek(ctx context.Context, byteOffset uint64) (index, offset uint64, err error) {
	ctx, done, err := s.enter(ctx)
	if err != nil {
		return 0, 0, err
	}
	defer done()
	if byteOffset > merkle.MaxSize {
		return 0, 0, fmt.Errorf("%w: byte %d", ErrOutOfRange, byteOffset)
	}
	var before Place
	var length uint64
	for tried := false; ; tried = true {
		place, err := s.feed.Locate(ctx, byteOffset, 0)
		if err != nil {
			return 0, 0, because(ctx, err)
		}
		if place.Found {
			return place.Block, place.Offset, nil
		}
		source := s.feed.Source()
		now := s.feed.Info().Length
		switch {
		case source == nil && place.Beyond:
			return 0, 0, fmt.Errorf("%w: byte %d", ErrOutOfRange, byteOffset)
		case source == nil || tried && place == before && now == length:
			return 0, 0, fmt.Errorf("%w: byte %d", ErrNotAvailable, byteOffset)
		}
		before, length = place, now
		if err := source.Seek(ctx, byteOffset); err != nil {
			return 0, 0, because(ctx, err)
		}
	}
}
