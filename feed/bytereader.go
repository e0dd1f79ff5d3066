package feed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"
)

// ReaderOptions of Session.NewReader.
type ReaderOptions struct {
	// Offset is where the content begins, Length how long it is, in bytes; Length 0: to the end. They may
	// not lie past the end.
	Offset, Length uint64
	// Prefetch is how many blocks ahead are asked for at most while somebody reads on; 0: 32, less than 0:
	// none. Nothing is asked for ahead before several blocks have been read in order.
	Prefetch int
	// Follow reads the feed itself and not a snapshot of it, so that it has no end: Read waits for growth,
	// also where there is no Source. After a truncation Read goes on at the same byte of what is there then. It
	// has no meaning on a snapshot or branch, or in an atom.
	Follow bool
}

// Reader reads the bytes of a feed, those of all blocks one after the other, and fetches only what it
// needs: a Read somewhere in the middle takes the nodes that lead there and the blocks that it touches.
//
// It is of a snapshot of the feed, so what it reads does not change (but see ReaderOptions.Follow).
// ReadAt and Size are safe for concurrent use; the other methods share a position and take turns.
//
// The errors of reading are those of Session.Get and Session.Seek; ErrClosed after Close.
type Reader struct {
	// set once
	ctx      context.Context // of NewReader: io's interfaces have none
	cancel   context.CancelCauseFunc
	s        *Session
	own      bool // s is a snapshot of ours
	start    uint64
	size     uint64
	follow   bool
	prefetch uint64

	mu    sync.Mutex
	at    uint64 // position, from start on
	block cursor
	run   uint64 // blocks read in order
	ahead uint64 // blocks before it have been asked for
	last  uint64 // the block after the last one; 0: not known yet
}

var (
	_ io.ReadSeekCloser = (*Reader)(nil)
	_ io.ReaderAt       = (*Reader)(nil)
	_ io.WriterTo       = (*Reader)(nil)
)

// cursor is a block and where its bytes begin in the feed. It is at no block if data is nil.
type cursor struct {
	index, offset uint64
	fork          uint64 // in which it was found; only if the feed is followed
	data          []byte
}

func (c *cursor) has(offset uint64) bool {
	return c.data != nil && offset >= c.offset && offset-c.offset < uint64(len(c.data))
}

// NewReader returns a Reader of the feed's bytes as it is now. If the feed is empty it asks for a head
// first. Everything that the Reader reads is bounded by ctx, until Close. A Reader that does not follow may
// outlive the session, and keeps what it reads from being deleted, as a snapshot does.
//
// The error is ErrOutOfRange if the options lie past the end, ErrClosed, or one of Update.
func (s *Session) NewReader(ctx context.Context, o ReaderOptions) (*Reader, error) {
	if s.Info().Length == 0 {
		if _, err := s.Update(ctx); err != nil {
			return nil, err
		}
	}
	o.Follow = o.Follow && s.line == nil
	r := &Reader{s: s, start: o.Offset, follow: o.Follow, prefetch: defaultPrefetch}
	if o.Prefetch != 0 {
		r.prefetch = uint64(min(max(o.Prefetch, 0), readAhead))
	}
	if !o.Follow && !s.ofAtom() {
		snapshot, err := s.Snapshot()
		if err != nil {
			return nil, err
		}
		r.s, r.own = snapshot, true
	}
	end := r.s.Info().ByteLength
	switch {
	case o.Follow && o.Length == 0:
		r.size = math.MaxInt64
	case o.Length > 0 && (o.Follow || o.Offset <= end && o.Length <= end-o.Offset):
		r.size = o.Length
	case o.Length == 0 && o.Offset <= end:
		r.size = end - o.Offset
	default:
		return nil, errors.Join(fmt.Errorf("%w: %d bytes from %d on, of %d", ErrOutOfRange, o.Length, o.Offset, end), r.Close())
	}
	r.ctx, r.cancel = context.WithCancelCause(ctx)
	return r, nil
}

func (s *Session) ofAtom() bool { return s.line != nil && s.line.mem != nil }

// Size returns the number of bytes, which does not change; the greatest int64 if the Reader follows the
// feed without an end.
func (r *Reader) Size() int64 { return int64(min(r.size, math.MaxInt64)) }

// Close ends the Reader: calls that wait return, and the snapshot is closed. The session stays open.
func (r *Reader) Close() error {
	if r.cancel != nil {
		r.cancel(ErrClosed)
	}
	if r.own {
		return r.s.Close()
	}
	return nil
}

// Read implements io.Reader. It returns the bytes of one block at most.
func (r *Reader) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(p) == 0 {
		return 0, nil
	}
	b, err := r.next(r.prefetchNow())
	if err != nil {
		return 0, err
	}
	n := copy(p, b)
	r.at += uint64(n)
	return n, nil
}

// WriteTo implements io.WriterTo: it writes all that is left, a block at a time and without copying, and
// asks for blocks ahead from the beginning.
func (r *Reader) WriteTo(w io.Writer) (total int64, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		b, err := r.next(r.prefetch)
		if errors.Is(err, io.EOF) {
			return total, nil
		}
		if err != nil {
			return total, err
		}
		n, err := w.Write(b)
		r.at += uint64(n)
		total += int64(n)
		if err != nil {
			return total, err
		}
		if n < len(b) {
			return total, io.ErrShortWrite
		}
	}
}

// next returns the bytes from the position on that are in its block, at least one.
func (r *Reader) next(ahead uint64) ([]byte, error) {
	if err := r.ended(); err != nil {
		return nil, err
	}
	if r.at >= r.size {
		return nil, io.EOF
	}
	offset := r.start + r.at
	for !r.block.has(offset) || r.block.fork != r.fork() {
		if err := r.move(offset, ahead); err != nil {
			r.block.data = nil
			if errors.Is(err, errForked) {
				continue
			}
			return nil, err
		}
	}
	b := r.block.data[offset-r.block.offset:]
	return b[:min(uint64(len(b)), r.size-r.at)], nil
}

// ended returns why nothing can be read any more, also of what is stored.
func (r *Reader) ended() error { return because(r.ctx, r.ctx.Err()) }

// move brings the cursor to the block of an offset. The error is errForked if that is not the block any more.
func (r *Reader) move(offset, ahead uint64) error {
	c, fork := &r.block, r.fork()
	if c.data != nil && offset == c.offset+uint64(len(c.data)) && c.fork == fork {
		r.run++
		c.index, c.offset = c.index+1, offset
	} else {
		index, inside, err := r.find(offset)
		if err != nil {
			return err
		}
		r.run, r.ahead = 0, 0
		*c = cursor{index: index, offset: offset - inside, fork: fork}
	}
	for ; ; c.index++ {
		if err := r.askAhead(ahead); err != nil {
			return err
		}
		b, err := r.get(c.index, fork)
		if err != nil {
			return err
		}
		if inside := offset - c.offset; inside > 0 && inside >= uint64(len(b)) {
			return r.short(c.index, len(b), inside)
		}
		if len(b) > 0 {
			c.data = b
			return nil
		}
	}
}

// short is the error of a block that has fewer bytes than the tree says: of one that its writer has
// not encrypted as this session decrypts, or of a damaged one.
func (r *Reader) short(index uint64, n int, inside uint64) error {
	err := ErrCorrupt
	if r.s.encryption != nil {
		err = ErrDecrypt
	}
	return fmt.Errorf("%w: block %d has %d bytes, and no byte %d", err, index, n, inside)
}

// prefetchNow grows with what has been read in order, so that little is fetched in vain.
func (r *Reader) prefetchNow() uint64 { return min(r.prefetch, r.run/2) }

// askAhead asks for up to n blocks after the one of the cursor, none of them past the end.
func (r *Reader) askAhead(n uint64) error {
	c := r.block.index
	if n == 0 || r.ahead > c+n/2 || r.s.source() == nil {
		return nil
	}
	want := Range{Start: max(r.ahead, c), End: c + 1 + n}
	if r.s.HasRange(want) {
		return nil
	}
	end, err := r.end()
	if err != nil {
		return err
	}
	if want.End = min(want.End, end); want.Start < want.End {
		r.s.fetchAhead(r.ctx, Want{Range: want, Linear: true})
		r.ahead = want.End
	}
	return nil
}

// end returns the block after the last one that there is to read. If that is not the end of the feed, the way
// to it is looked up once, which may take nodes from the Source.
func (r *Reader) end() (uint64, error) {
	info := r.s.Info()
	switch {
	case r.follow:
		return math.MaxUint64, nil
	case r.last > 0:
		return r.last, nil
	case r.start+r.size == info.ByteLength:
		return info.Length, nil
	}
	index, _, err := r.find(r.start + r.size - 1)
	if err != nil {
		return 0, err
	}
	r.last = index + 1
	return r.last, nil
}

// Seek implements io.Seeker. Nothing is fetched before the next Read.
func (r *Reader) Seek(offset int64, whence int) (int64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	base := int64(0)
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		base = int64(r.at)
	case io.SeekEnd:
		if r.size >= math.MaxInt64 {
			return 0, fmt.Errorf("%w: a feed that is followed has no end", ErrOutOfRange)
		}
		base = int64(r.size)
	default:
		return 0, fmt.Errorf("feed: seek: whence %d", whence)
	}
	if offset > 0 && base > math.MaxInt64-offset || base+offset < 0 {
		return 0, fmt.Errorf("%w: seek to before the beginning", ErrOutOfRange)
	}
	r.at = uint64(base + offset)
	return base + offset, nil
}

// ReadAt implements io.ReaderAt. The blocks of a large read are asked for together.
func (r *Reader) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, fmt.Errorf("%w: offset %d", ErrOutOfRange, off)
	}
	if err := r.ended(); err != nil {
		return 0, err
	}
	at := uint64(off)
	if at >= r.size {
		return 0, io.EOF
	}
	short := uint64(len(p)) > r.size-at
	if short {
		p = p[:r.size-at]
	}
	for fork := r.fork(); ; {
		n, err = r.readAt(p, r.start+at, fork)
		now := r.fork()
		if now == fork {
			break
		}
		fork = now // what was read may be of both
	}
	if err == nil && short {
		err = io.EOF
	}
	return n, err
}

func (r *Reader) readAt(p []byte, offset, fork uint64) (n int, err error) {
	if len(p) == 0 {
		return 0, nil
	}
	index, inside, err := r.find(offset)
	if err != nil {
		return 0, err
	}
	for first, asked := index, index+1; ; index++ {
		if index == asked && index > first {
			if asked, err = r.askFor(index, offset+uint64(len(p))-1); err != nil {
				return n, err
			}
		}
		b, err := r.get(index, fork)
		if err != nil {
			return n, err
		}
		if inside > 0 && inside >= uint64(len(b)) {
			return n, r.short(index, len(b), inside)
		}
		n += copy(p[n:], b[inside:])
		inside = 0
		if n == len(p) {
			return n, nil
		}
	}
}

// askFor asks for the blocks from index on to the one of a byte, but for no more than a window of them; it returns where
// to ask again.
func (r *Reader) askFor(index, offset uint64) (next uint64, err error) {
	if r.s.source() == nil || r.s.Has(index) {
		return index + 1, nil
	}
	last, _, err := r.find(offset)
	if err != nil {
		return 0, err
	}
	next = min(last+1, index+readAhead)
	r.s.fetchAhead(r.ctx, Want{Range: Range{Start: index, End: next}, Linear: true})
	return max(next, index+1), nil
}
