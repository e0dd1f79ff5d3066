package feed

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"
)

// SessionOptions of Feed.Session.
type SessionOptions struct {
	// KeyPair signs what this session writes; nil: the feed's own, if it has one.
	KeyPair *KeyPair
	// ReadOnly refuses to write, whatever key pair there is.
	ReadOnly bool
	// Encryption turns the blocks of the application into those that are stored and replicated, and back;
	// nil: that of Options.Encryption; Plain: none, the blocks are read as they are stored.
	Encryption Encryption
	// Timeout bounds how long each call waits for the Source; then it fails with ErrTimeout. 0: no bound.
	Timeout time.Duration
	// Local never asks the Source: what is not stored is ErrNotAvailable or ErrOutOfRange at once.
	Local bool
	// Force has Get ask the Source although it is told to ask for nothing, as that of a feed which takes only what is
	// pushed (protocol.ExchangeOptions.PushOnly).
	Force bool
	// OnClose is called once, at the end of the Close that ends the session or when the feed closes.
	OnClose func()
}

// Session is a handle on a feed for an application; or on a snapshot or branch of it, or on what an atom
// is going to make of it. Sessions of one feed do not disturb each other. All methods are safe for
// concurrent use.
type Session struct {
	// set once
	feed       *Feed
	line       *line // nil: the feed itself
	options    SessionOptions
	pair       KeyPair
	encryption Encryption // nil: none

	// under mu
	mu      sync.Mutex
	closed  bool
	waiting map[*waiter]struct{}
}

// waiter is a call of a session that may wait for long.
type waiter struct {
	cancel    context.CancelCauseFunc
	unbounded bool   // by the session's Timeout
	block     uint64 // if known: what it waits for, which was below the feed's length
	known     bool
}

// Session opens a handle. The error is ErrClosed, or ErrNotWritable if a key pair is given that is of no
// signer of the feed.
func (f *Feed) Session(o SessionOptions) (*Session, error) {
	pair, err := f.pairFor(o)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, ErrClosed
	}
	s := f.sessionLocked(nil, o)
	s.pair = pair
	return s, nil
}

// Exclusive opens a session when no other exclusive one is open, and waits for that. So those who write in
// several steps that belong together take turns; other sessions are not kept from anything. The error is
// ErrClosed, ErrNotWritable, or wraps ctx's.
func (f *Feed) Exclusive(ctx context.Context, o SessionOptions) (*Session, error) {
	closing := f.ops.Context()
	select {
	case f.alone <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-closing.Done():
		return nil, ErrClosed
	}
	then := o.OnClose
	o.OnClose = func() {
		<-f.alone
		if then != nil {
			then()
		}
	}
	s, err := f.Session(o)
	if err != nil {
		<-f.alone
	}
	return s, err
}

// pairFor returns what a session with these options signs with.
func (f *Feed) pairFor(o SessionOptions) (KeyPair, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	switch {
	case o.ReadOnly:
		return KeyPair{}, nil
	case o.KeyPair == nil:
		return f.pair, nil
	case !f.writableLocked(*o.KeyPair):
		return KeyPair{}, ErrNotWritable
	}
	return *o.KeyPair, nil
}

// sessionLocked makes a session of l, or of the feed itself if it is nil.
func (f *Feed) sessionLocked(l *line, o SessionOptions) *Session {
	s := &Session{feed: f, line: l, options: o, encryption: o.Encryption, waiting: make(map[*waiter]struct{})}
	if s.encryption == nil {
		s.encryption = f.encryption
	}
	if s.encryption == Plain {
		s.encryption = nil
	}
	f.sessions[s] = struct{}{}
	if l != nil {
		l.users++
		f.lines[l] = struct{}{}
	}
	return s
}

// Close ends the session: its calls that wait return ErrClosed. The feed stays open. It may be called
// twice.
func (s *Session) Close() error {
	f := s.feed
	f.mu.Lock()
	_, open := f.sessions[s]
	delete(f.sessions, s)
	free := open && s.line != nil && f.leaveLineLocked(s.line)
	f.mu.Unlock()
	s.end()
	if free {
		f.sweepAfterClose()
	}
	return nil
}

// leaveLineLocked counts a session of l less, and reports whether that may have made garbage.
func (f *Feed) leaveLineLocked(l *line) bool {
	l.users--
	if l.users > 0 || l.name != "" && !l.gone {
		return false
	}
	delete(f.lines, l)
	f.sweepDue.Store(true)
	return true
}

// sweepAfterClose deletes what a snapshot has kept, unless somebody is writing: then it is swept after that.
func (f *Feed) sweepAfterClose() {
	ctx, leave, ok := f.ops.Enter()
	defer leave()
	if !ok {
		return // the next Open does it
	}
	select {
	case f.turn <- struct{}{}:
	default:
		return
	}
	f.sweepIfQuiet(ctx)
	dead := f.storage.takeDead()
	<-f.turn
	if err := f.storage.compact(ctx, dead); err != nil {
		f.log.Warn("compaction failed", "err", err)
	}
}

func (s *Session) end() {
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	for w := range s.waiting {
		w.cancel(ErrClosed)
	}
	s.mu.Unlock()
	if first && s.options.OnClose != nil {
		s.options.OnClose()
	}
}

// cancelWaiting ends all calls that wait.
func (s *Session) cancelWaiting(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for w := range s.waiting {
		w.cancel(why)
	}
}

// lose ends the calls that wait for blocks which were there before a rewriting and are gone.
func (s *Session) lose(lost Range) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for w := range s.waiting {
		if w.known && lost.Start <= w.block && w.block < lost.End {
			w.cancel(ErrSnapshotNotAvailable)
		}
	}
}

// enter begins a call that may wait: ctx ends with the session as well, and with its timeout. done must be
// called.
func (s *Session) enter(parent context.Context) (ctx context.Context, done func(), err error) {
	return s.enterFor(parent, &waiter{})
}

func (s *Session) enterFor(parent context.Context, w *waiter) (ctx context.Context, done func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, nil, ErrClosed
	}
	ctx, w.cancel = context.WithCancelCause(parent)
	stop := func() {}
	if s.options.Timeout > 0 && !w.unbounded {
		ctx, stop = context.WithTimeoutCause(ctx, s.options.Timeout, ErrTimeout)
	}
	s.waiting[w] = struct{}{}
	return ctx, func() {
		s.mu.Lock()
		delete(s.waiting, w)
		s.mu.Unlock()
		stop()
		w.cancel(nil)
	}, nil
}

// Closed reports whether the session has ended: it was closed, or its feed was.
func (s *Session) Closed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// because returns why a call ended: the session did, or its timeout; the block that it waited for is gone.
func because(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	cause := context.Cause(ctx)
	for _, own := range []error{ErrClosed, ErrTimeout, ErrSnapshotNotAvailable, ErrFrozen} {
		if errors.Is(cause, own) {
			return cause
		}
	}
	return err
}

// source returns who brings what is missing, or nil if nobody does for this session.
func (s *Session) source() Source {
	if s.options.Local {
		return nil
	}
	return s.feed.Source()
}

// Feed returns the feed, for replication.
func (s *Session) Feed() *Feed { return s.feed }

// Key returns the feed's key.
func (s *Session) Key() Key { return s.feed.key }

// DiscoveryKey returns the name under which the feed is looked for.
func (s *Session) DiscoveryKey() DiscoveryKey { return s.feed.dk }

// Info returns the state at this moment, from memory. Writable speaks of this session, ByteLength of the
// blocks of the application: the padding of encrypted ones does not count.
func (s *Session) Info() Info {
	f := s.feed
	f.mu.RLock()
	defer f.mu.RUnlock()
	info := f.infoLocked()
	info.Writable = f.writableLocked(s.pair)
	if l := s.line; l != nil {
		info.SignedLength = l.shared
		info.Head = l.tree.Head()
		info.ContiguousLength = min(f.firstMissingLocked(l, 0), info.Length)
		info.LocalBlocks = f.bits.Count(0, l.shared) + l.bits.Count(l.shared, info.Length)
		info.Writable = !l.frozen && !l.gone && !s.options.ReadOnly
	}
	info.Padding = paddingOf(s.encryption)
	info.ByteLength -= min(info.ByteLength, info.Padding*info.Length)
	return info
}

func paddingOf(e Encryption) uint64 {
	if e == nil {
		return 0
	}
	return e.Padding()
}

// Has reports whether block index is stored.
func (s *Session) Has(index uint64) bool {
	return index < maxLength && s.HasRange(Range{Start: index, End: index + 1})
}

// HasRange reports whether all blocks of r are stored. It is true for an empty range.
func (s *Session) HasRange(r Range) bool {
	s.feed.mu.RLock()
	defer s.feed.mu.RUnlock()
	return s.feed.hasRangeLocked(s.line, r)
}

// Append adds blocks at the end, all or none, and returns the state after it; without blocks it does
// nothing. When it returns they are on stable storage (but see Options.NoSync) and no peer has heard
// of them before. The blocks are not kept. Appends of several goroutines wait for each other.
//
// The error is ErrNotWritable, ErrBlockTooLarge (more than MaxBlockBytes), ErrNoSpace, ErrFrozen,
// ErrRecovering, ErrClosed, ctx's or the datastore's. After an error the feed is as before.
func (s *Session) Append(ctx context.Context, blocks ...[]byte) (Info, error) {
	return s.AppendWith(ctx, blocks, AppendOptions{})
}

// AppendWith is Append with options.
func (s *Session) AppendWith(ctx context.Context, blocks [][]byte, o AppendOptions) (Info, error) {
	if s.Closed() {
		return Info{}, ErrClosed
	}
	by, err := s.signs(o.KeyPair, o.Signature)
	if err != nil {
		return Info{}, err
	}
	a := appending{signing: by, line: s.line, blocks: blocks, encryption: s.encryption, maxLength: o.MaxLength, condition: o.If, appended: o.Appended}
	if err := s.feed.append(ctx, &a); err != nil {
		return Info{}, err
	}
	return s.Info(), nil
}

// Truncate drops all blocks from length on and makes the feed one of a new fork, which its readers follow,
// and returns the state after it. Snapshots and branches keep what they have. It is durable when it
// returns, and no peer has heard of it before.
//
// The error is ErrOutOfRange (past the end, or below the prologue), ErrStaleFork (a fork that does not
// grow), ErrMissingNode (a sparse feed does not have the roots of that length), and those of Append.
func (s *Session) Truncate(ctx context.Context, length uint64, o TruncateOptions) (Info, error) {
	if s.Closed() {
		return Info{}, ErrClosed
	}
	by, err := s.signs(o.KeyPair, o.Signature)
	if err != nil {
		return Info{}, err
	}
	if err := s.feed.truncate(ctx, &truncating{by, s.line, length, o.Fork, o.Force}); err != nil {
		return Info{}, err
	}
	return s.Info(), nil
}

// signs says by whom what the session writes is signed.
func (s *Session) signs(pair *KeyPair, signature []byte) (signing, error) {
	switch {
	case s.line != nil && s.line.frozen, s.options.ReadOnly:
		return signing{}, ErrNotWritable
	case pair != nil:
		return signing{*pair, signature}, nil
	}
	return signing{s.pair, signature}, nil
}

// Clear drops the blocks of r that are stored, and the tree nodes that only they need, and tells the
// peers. Length and head stay; the blocks can be fetched again, also by the writer. What proves the
// other blocks and the length is kept, so everything that is announced can be served. Snapshots keep what
// they have. It is durable when it returns, and the datastore has been made to give the space back if it
// is worth while.
//
// The error is ErrNotWritable on a branch, snapshot, or in an atom; ErrClosed, ctx's or the datastore's.
func (s *Session) Clear(ctx context.Context, r Range) (Cleared, error) {
	if s.Closed() {
		return Cleared{}, ErrClosed
	}
	if s.line != nil {
		return Cleared{}, fmt.Errorf("%w: only the feed itself can be cleared", ErrNotWritable)
	}
	return s.feed.clear(ctx, func() iter.Seq2[uint64, uint64] { return s.feed.stored(r) })
}
