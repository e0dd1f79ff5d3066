package feed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/p2pcore/p2pcore/internal/merkle"
)

// GetLocal returns block index if it is stored. The result is the caller's.
//
// The error is ErrOutOfRange, ErrNotAvailable, ErrSnapshotNotAvailable, ErrClosed, ErrCorrupt, ErrDecrypt, or
// the datastore's.
func (s *Session) GetLocal(ctx context.Context, index uint64) ([]byte, error) {
	if s.Closed() {
		return nil, ErrClosed
	}
	return s.getLocal(ctx, index)
}

func (s *Session) getLocal(ctx context.Context, index uint64) ([]byte, error) {
	f, l := s.feed, s.line
	f.mu.RLock()
	length, shared := f.head.length, uint64(math.MaxUint64)
	if l != nil {
		length, shared = l.head.length, l.shared
	}
	g, has, b := f.whereLocked(l, index)
	e := f.epoch
	e.readers.Add(1)
	f.mu.RUnlock()
	defer e.leave()
	switch {
	case index >= length && l != nil && l.frozen:
		return nil, fmt.Errorf("%w: block %d of a snapshot of %d", ErrSnapshotNotAvailable, index, length)
	case index >= length:
		return nil, fmt.Errorf("%w: block %d of %d", ErrOutOfRange, index, length)
	case !has && index >= shared:
		return nil, fmt.Errorf("%w: block %d", ErrSnapshotNotAvailable, index)
	case !has:
		return nil, fmt.Errorf("%w: block %d", ErrNotAvailable, index)
	}
	_, leave, ok := f.ops.Enter()
	defer leave()
	if !ok {
		return nil, ErrClosed
	}
	if f.marks.on.Load() {
		f.marks.mark(Range{Start: index, End: index + 1})
	}
	if b == nil {
		var err error
		if b, err = f.readBlock(ctx, g, index); err != nil {
			return nil, err
		}
	} else {
		b = bytes.Clone(b)
	}
	if s.encryption == nil {
		return b, nil
	}
	b, err := s.encryption.Decrypt(index, b)
	if err != nil {
		return nil, fmt.Errorf("feed: block %d: %w", index, err)
	}
	return b, nil
}

// Get returns block index. Past the end it waits for the feed to grow.
//
// If the block is not stored, Get asks the feed's Source and waits until the block has been verified
// and stored, or ctx or the session's Timeout ends. The result is the caller's to keep.
//
// The error is ErrOutOfRange (past the end, no Source; or past what any feed can have, such as
// length - 1 of an empty one), ErrNotAvailable (not stored, no Source), ErrSnapshotNotAvailable (a
// snapshot does not have it; or the feed was truncated below it meanwhile), ErrTimeout, ErrClosed,
// ErrCorrupt, ErrDecrypt, ctx's, or the datastore's or Source's.
func (s *Session) Get(ctx context.Context, index uint64) ([]byte, error) {
	b, err := s.GetLocal(ctx, index)
	if err == nil || !missing(err) || index >= maxLength || s.line != nil && errors.Is(err, ErrOutOfRange) {
		return b, err
	}
	source := s.source()
	if source == nil {
		return nil, err
	}
	if err := s.feed.frozenError(); err != nil {
		return nil, err
	}
	ctx, done, err := s.enterFor(ctx, &waiter{block: index, known: errors.Is(err, ErrNotAvailable)})
	if err != nil {
		return nil, err
	}
	defer done()
	want := Want{Range: Range{Start: index, End: index + 1}, Priority: getPriority, Force: s.options.Force}
	for {
		if err := source.Fetch(ctx, want); err != nil {
			return nil, because(ctx, err)
		}
		// A block that has come may be gone again, lost in a truncation.
		if b, err = s.getLocal(ctx, index); err == nil || !missing(err) {
			return b, because(ctx, err)
		}
		if err := ctx.Err(); err != nil {
			return nil, because(ctx, err)
		}
	}
}

// getPriority is above all that runs ahead of its user, and what Hypercore's get asks with: a peer that is backed up serves it
// first.
const getPriority = 1

// missing reports whether a block could not be had because it is not here (yet).
func missing(err error) bool {
	return errors.Is(err, ErrOutOfRange) || errors.Is(err, ErrNotAvailable)
}

// Download returns when all blocks of r are stored. Past the end it waits for the feed to grow.
//
// The error is ErrNotAvailable if some are not and there is no Source, ErrSnapshotNotAvailable on a snapshot or branch
// where some cannot come any more, ErrFrozen, ErrTimeout, ErrClosed, ctx's, or the Source's.
func (s *Session) Download(ctx context.Context, r Range) error {
	ctx, done, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer done()
	d := Download{s: s, o: DownloadOptions{Range: r}}
	return because(ctx, d.run(ctx))
}

// Update asks the Source for a longer head and reports whether the feed has grown. It is false at once
// without a Source, on a snapshot or branch, and on a writable session: nobody is ahead of the writer.
func (s *Session) Update(ctx context.Context) (grown bool, err error) {
	ctx, done, err := s.enter(ctx)
	if err != nil {
		return false, err
	}
	defer done()
	source := s.source()
	if source == nil || s.line != nil || s.Info().Writable {
		return false, nil
	}
	if err := s.feed.frozenError(); err != nil {
		return false, err
	}
	before := s.Info()
	if grown, err = source.Upgrade(ctx); err != nil {
		return grown, because(ctx, err)
	}
	now := s.Info() // it may have grown before the Source began to look
	return grown || now.Fork != before.Fork || now.Length != before.Length, nil
}

// Seek returns the block in which byte number byteOffset of the feed lies, and the byte's offset in
// it; the byte length of the feed is offset 0 of the block past the end. Blocks without bytes are
// passed over. Nodes that it takes and that are not stored are fetched from the Source, and the block too
// where only it can show that the peer has not lied about the sizes of the last two. Without a Source, the
// place of a block that is not stored may be what a peer has said.
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
		place, sure, err := s.feed.locate(ctx, s.line, byteOffset, paddingOf(s.encryption))
		if err != nil {
			return 0, 0, because(ctx, err)
		}
		source := s.source()
		now := s.Info().Length
		if place.Found && (sure || source == nil) {
			return place.Block, place.Offset, nil
		}
		switch {
		case place.Beyond && s.line != nil:
			return 0, 0, fmt.Errorf("%w: byte %d", ErrOutOfRange, byteOffset)
		case s.line != nil && place.Window.End > s.shared():
			return 0, 0, fmt.Errorf("%w: byte %d", ErrSnapshotNotAvailable, byteOffset)
		case source == nil && place.Beyond:
			return 0, 0, fmt.Errorf("%w: byte %d", ErrOutOfRange, byteOffset)
		case source == nil || tried && place == before && now == length:
			return 0, 0, fmt.Errorf("%w: byte %d", ErrNotAvailable, byteOffset)
		}
		before, length = place, now
		if err := s.feed.frozenError(); err != nil {
			return 0, 0, err
		}
		if place.Found {
			err = source.Fetch(ctx, Want{Range: Range{Start: place.Block, End: place.Block + 1}})
		} else {
			err = source.Seek(ctx, byteOffset, paddingOf(s.encryption))
		}
		if err != nil {
			return 0, 0, because(ctx, err)
		}
	}
}

// shared returns how much of a snapshot or branch is the feed's: what is missing past it cannot come.
func (s *Session) shared() uint64 {
	s.feed.mu.RLock()
	defer s.feed.mu.RUnlock()
	return s.line.shared
}
