package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/p2pcore/p2pcore/feed"
)

// getBytes serves a feed's blocks as one content, the whole or the part that the Range header names,
// and fetches no more than that part needs. Parameters: length=N counts only the first N blocks; from and to
// name a part in bytes that is cut where the content ends; local=1 fetches nothing.
func (s *Server) getBytes(w http.ResponseWriter, r *http.Request) error {
	key, err := s.resolve(r.Context(), r.PathValue("core"))
	if err != nil {
		return err
	}
	b, err := s.newReader(r, key)
	if err != nil {
		return err
	}
	defer b.close()
	ctx := r.Context()
	b.watch = true
	info := b.session.Info()
	if info.Length == 0 && !info.Writable && !b.local && !r.URL.Query().Has("length") {
		if err := b.connect(ctx, endless); err != nil {
			return err
		}
		if _, err := b.reach.settle(ctx); err != nil {
			return err
		}
		b.sub.Take() // of the head that was waited for
		info = b.session.Info()
	}
	c := &content{b: b, fork: info.Fork, seen: info.Fork, base: info.Length, length: info.Length, size: info.ByteLength, known: true}
	if err := c.limit(r, info); err != nil {
		return err
	}
	match, err := ifMatch(r)
	if err != nil {
		return err
	}
	if err := match.check(c.fork, c.length); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	tag := etag(c.fork, c.length)
	w.Header().Set("ETag", tag)
	w.Header().Set("Accept-Ranges", "bytes")
	if noneMatch(r, tag) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	if since := r.Header.Get("If-Range"); since != "" && since != tag { // a part of another version is of no use
		r.Header.Del("Range")
	}
	if c.explicit {
		w.WriteHeader(http.StatusOK)
		return c.copy(ctx, w, c.from, c.to)
	}
	part, partial, err := parseRangeHeader(r.Header.Get("Range"), c.size)
	if err != nil || partial && !c.known {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes */%d", c.size))
		return Errorf(CodePartial, "range %q is not within the %d bytes of the content", abbreviate(r.Header.Get("Range")), c.size)
	}
	status := http.StatusOK
	if partial {
		status = http.StatusPartialContent
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", part.start, part.end-1, c.size))
	}
	if c.known {
		w.Header().Set("Content-Length", strconv.FormatUint(part.end-part.start, 10))
	} else {
		part.end = endless
	}
	w.WriteHeader(status)
	if r.Method == http.MethodHead {
		return nil
	}
	return c.copy(ctx, w, part.start, part.end)
}

// content is the bytes of the first length blocks of a feed.
type content struct {
	b        *reader
	fork     uint64 // when the request came
	seen     uint64 // the last fork that was looked at
	base     uint64 // blocks that the feed had then
	length   uint64 // blocks
	size     uint64 // bytes, if known
	known    bool
	explicit bool // from and to were given
	from, to uint64
}

// limit reads the parameters.
func (c *content) limit(r *http.Request, info feed.Info) error {
	q := r.URL.Query()
	c.to = endless
	for _, p := range []struct {
		name string
		to   *uint64
	}{{"length", &c.length}, {"from", &c.from}, {"to", &c.to}} {
		if !q.Has(p.name) {
			continue
		}
		n, err := strconv.ParseUint(q.Get(p.name), 10, 53)
		if err != nil {
			return Errorf(CodeUsage, "%s=%q is no number", p.name, abbreviate(q.Get(p.name)))
		}
		*p.to = n
		c.explicit = c.explicit || p.name != "length"
	}
	switch {
	case c.length == 0:
		c.size = 0
	case c.length != info.Length:
		c.known = false
	}
	return nil
}

// copy writes bytes [start, end), or up to the end of the content.
func (c *content) copy(ctx context.Context, w io.Writer, start, end uint64) error {
	if c.known {
		end = min(end, c.size)
	}
	if start >= end || c.length == 0 {
		return nil
	}
	index, skip, err := c.find(ctx, start)
	if errors.Is(err, feed.ErrOutOfRange) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find byte %d: %w", start, err)
	}
	c.b.want.Range = feed.Range{Start: index, End: c.length}
	if c.known && end < c.size {
		if last, _, err := c.b.session.Seek(ctx, end-1); err == nil {
			c.b.want.Range.End = min(last+1, c.length)
		}
	}
	if c.b.reach != nil { // it was needed before the range was known
		want := c.b.want
		c.b.group.Go(func(ctx context.Context) { c.b.reach.fetch(ctx, want) })
	}
	for left := end - start; left > 0 && index < c.length; index++ {
		block, err := c.get(ctx, index)
		if err != nil {
			return err
		}
		block = block[min(skip, uint64(len(block))):]
		skip = 0
		block = block[:min(left, uint64(len(block)))]
		left -= uint64(len(block))
		if _, err := w.Write(block); err != nil {
			return err
		}
	}
	return nil
}

// find returns the block that holds a byte, and where in it. The tree nodes that this takes are fetched. Past the content it
// is feed.ErrOutOfRange.
func (c *content) find(ctx context.Context, offset uint64) (index, skip uint64, err error) {
	if offset == 0 {
		return 0, 0, nil
	}
	if !c.b.local {
		if err := c.b.connect(ctx, endless); err != nil {
			return 0, 0, err
		}
	}
	if info := c.b.session.Info(); info.Length >= c.length && offset >= info.ByteLength {
		return 0, 0, feed.ErrOutOfRange // Seek would wait for the feed to grow, and what it gets does not count
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	sub := c.b.session.Feed().Subscribe()
	defer sub.Close()
	c.b.group.Go(func(context.Context) {
		for {
			change, err := sub.Next(ctx)
			if err != nil {
				return
			}
			if err := c.check(change, min(c.base, c.length)); err != nil {
				cancel(err) // of a feed that became shorter, the byte may never come
			}
		}
	})
	index, skip, err = c.b.session.Seek(ctx, offset)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	return index, skip, err
}

// get waits for a block, as long as it is of the version that the answer began with.
func (c *content) get(ctx context.Context, index uint64) ([]byte, error) {
	for {
		block, ok, err := c.b.block(ctx, index, func() uint64 { return c.length })
		if err != nil {
			return nil, err
		}
		change, err := c.b.rewriting(ctx, c.seen)
		if err != nil {
			return nil, err
		}
		if change != nil {
			c.seen = change.Head.Fork
			if err := c.check(*change, max(min(c.base, c.b.want.Range.End), index)); err != nil {
				return nil, err
			}
		}
		if ok && change == nil {
			return block, nil
		}
	}
}

// check is an error if a change of the feed took away some of its blocks before index, which the answer holds: a client must
// not take parts of two versions for one content.
func (c *content) check(change feed.Change, index uint64) error {
	if !change.Forked || change.Ancestors >= index {
		return nil
	}
	return Errorf(CodeError, "the feed was rewritten from block %d on while it was read; read it again", change.Ancestors)
}

// parseRangeHeader reads one range of RFC 9110 section 14. A header that it does not understand, or that
// names several ranges, is ignored, as the RFC allows.
func parseRangeHeader(header string, size uint64) (part byteRange, partial bool, err error) {
	whole := byteRange{0, size}
	spec, ok := strings.CutPrefix(header, "bytes=")
	if !ok || strings.Contains(spec, ",") {
		return whole, false, nil
	}
	first, last, ok := strings.Cut(strings.TrimSpace(spec), "-")
	if !ok {
		return whole, false, nil
	}
	if first == "" {
		n, ok := parsePosition(last)
		if !ok {
			return whole, false, nil
		}
		if n == 0 || size == 0 {
			return whole, true, errRange
		}
		return byteRange{size - min(n, size), size}, true, nil
	}
	start, ok := parsePosition(first)
	if !ok {
		return whole, false, nil
	}
	end := size
	if last != "" {
		n, ok := parsePosition(last)
		if !ok || n < start {
			return whole, false, nil
		}
		end = min(n+1, size)
	}
	if start >= size {
		return whole, true, errRange
	}
	return byteRange{start, end}, true, nil
}

// parsePosition reads a position or a length of a range. One that is too large for a number is past every end.
func parsePosition(s string) (n uint64, ok bool) {
	n, err := strconv.ParseUint(s, 10, 63)
	return n, err == nil || errors.Is(err, strconv.ErrRange)
}

var errRange = errors.New("api: range not satisfiable")
