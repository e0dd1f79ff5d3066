package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/p2pcore/p2pcore/cmd/p2pcore/internal/client"
	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/node/api"
)

const (
	// pieceBytes is what goes into one request at most. Blocks are never cut by the end of a piece, so
	// one block may make a piece longer. The server appends as much at a time.
	pieceBytes = 8 << 20
	// readBytes is one read of the input. Pieces are made of all reads that are there when the last piece is done:
	// slow input is stored as it comes, fast input in large batches.
	readBytes = 256 << 10
)

// splitting is how an input becomes blocks.
type splitting struct {
	lines, whole bool
	chunk        int // bytes
}

func (s splitting) query() url.Values {
	switch {
	case s.lines:
		return url.Values{"lines": {"1"}}
	case s.whole:
		return url.Values{"whole": {"1"}}
	}
	return url.Values{"chunk": {strconv.Itoa(s.chunk)}}
}

// complete returns how much of b can be sent: what the rest of the input cannot change.
func (s splitting) complete(b []byte) int {
	switch {
	case s.lines:
		return bytes.LastIndexByte(b, '\n') + 1
	case s.whole:
		return 0
	}
	return len(b) / s.chunk * s.chunk
}

// parseSize reads the size of a block, such as 4096, 64KiB or 1MiB.
func parseSize(text string) (int, error) {
	n, err := parseBytes(text)
	if err != nil || n < 1 || n > feed.MaxBlockBytes {
		return 0, fmt.Errorf("size %q: want a number of bytes such as 4096, 64KiB or 1MiB, at most %d MiB", text, feed.MaxBlockBytes>>20)
	}
	return int(n), nil
}

// parseBytes reads a number of bytes, not negative, with a unit or without.
func parseBytes(text string) (int64, error) {
	number, unit := strings.TrimSpace(text), int64(1)
	for _, u := range []struct {
		suffix string
		factor int64
	}{
		{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"kB", 1000}, {"KB", 1000}, {"MB", 1000_000}, {"GB", 1000_000_000},
		{"K", 1 << 10}, {"M", 1 << 20}, {"G", 1 << 30}, {"B", 1},
	} {
		if rest, ok := strings.CutSuffix(number, u.suffix); ok {
			number, unit = strings.TrimSpace(rest), u.factor
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		return 0, err
	}
	if n < 0 || n > math.MaxInt64/unit {
		return 0, strconv.ErrRange
	}
	return n * unit, nil
}

// input is a file or standard input, open for reading.
type input struct {
	name string // for messages
	r    io.Reader
	size int64 // 0 if not known
	io.Closer
}

// openInput opens a file, or standard input for "-".
func (a *app) openInput(path string) (*input, error) {
	if path == "-" {
		return &input{name: "standard input", r: a.stdin, Closer: io.NopCloser(nil)}, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, readError(path, err)
	}
	info, err := f.Stat()
	if err == nil && info.IsDir() {
		err = errors.New("it is a directory; pack it first, for example with tar")
	}
	if err == nil && info.Mode().IsRegular() {
		_, err = f.Read(nil)
	}
	if err != nil {
		f.Close()
		return nil, readError(path, err)
	}
	in := &input{name: path, r: f, Closer: f}
	if info.Mode().IsRegular() {
		in.size = info.Size()
	}
	return in, nil
}

func readError(path string, err error) error {
	var known *api.Problem
	if errors.As(err, &known) {
		return err // says it all
	}
	var pathErr *os.PathError
	if errors.As(err, &pathErr) {
		err = pathErr.Err
	}
	return api.Errorf(api.CodeError, "cannot read %s: %v", path, err)
}

// part is one read of an input.
type part struct {
	b   []byte
	err error // after the last
}

// read reads an input ahead. The goroutine may hang in a read of standard input when the command ends.
func (a *app) read(ctx context.Context, in *input) <-chan part {
	parts := make(chan part, 2*pieceBytes/readBytes)
	a.group.Go(func(context.Context) {
		defer close(parts)
		for {
			p := part{b: make([]byte, readBytes)}
			var n int
			n, p.err = in.r.Read(p.b)
			p.b = p.b[:n]
			select {
			case parts <- p:
			case <-ctx.Done():
				return
			}
			if p.err != nil {
				return
			}
		}
	})
	return parts
}

// importer appends inputs to one feed.
type importer struct {
	app    *app
	client *client.Client
	core   string // key of the feed
	base   uint64 // blocks of the feed before the import
	split  splitting

	result   api.Appended // of the last piece; Start is of the first
	started  bool
	lines    uint64 // of this input that are appended
	imported uint64 // bytes, of all inputs
	total    uint64 // bytes, 0 if not known
}

// add appends one input.
func (i *importer) add(ctx context.Context, in *input) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	parts := i.app.read(ctx, in)
	i.lines = 0
	var piece []byte
	for last := false; !last; {
		p, err := nextPart(ctx, parts)
		if err != nil {
			return err
		}
		piece, last = append(piece, p.b...), p.err != nil
		failed := p.err
		for !last && len(piece) < pieceBytes {
			more, ok := readyPart(parts)
			if !ok {
				break
			}
			piece, last, failed = append(piece, more.b...), more.err != nil, more.err
		}
		if last && !errors.Is(failed, io.EOF) {
			return readError(in.name, failed)
		}
		n := len(piece)
		if !last {
			n = i.split.complete(piece)
			if n == 0 && len(piece) <= feed.MaxBlockBytes {
				continue
			}
		}
		if err := i.checkSizes(in, piece, n); err != nil {
			return err
		}
		if n == 0 && i.started && !i.split.whole {
			continue
		}
		if err := i.send(ctx, piece[:n]); err != nil {
			return err
		}
		piece = append(piece[:0], piece[n:]...)
	}
	return nil
}

// checkSizes refuses a piece with a block that is too large, with the place of it. n bytes of the piece are whole blocks.
func (i *importer) checkSizes(in *input, piece []byte, n int) error {
	if !i.split.lines {
		if i.split.whole && len(piece) > feed.MaxBlockBytes {
			return api.Errorf(api.CodeError, "%s has more than the %d bytes of a block; split it with --chunk", in.name, feed.MaxBlockBytes)
		}
		return nil
	}
	lines := i.lines
	for rest := piece; len(rest) > 0; {
		end := bytes.IndexByte(rest, '\n') + 1
		if end == 0 {
			end = len(rest)
		}
		lines++
		if end > feed.MaxBlockBytes {
			return api.Errorf(api.CodeError, "line %d of %s has more than the %d bytes of a block; shorten it, or split by --chunk (the first %d lines are appended)",
				lines, in.name, feed.MaxBlockBytes, i.lines)
		}
		rest = rest[end:]
	}
	i.lines += uint64(bytes.Count(piece[:n], []byte{'\n'}))
	return nil
}

func nextPart(ctx context.Context, parts <-chan part) (part, error) {
	select {
	case p := <-parts:
		return p, nil
	case <-ctx.Done():
		return part{}, context.Cause(ctx)
	}
}

func readyPart(parts <-chan part) (part, bool) {
	select {
	case p, ok := <-parts:
		return p, ok
	default:
		return part{}, false
	}
}

// send appends a piece. If the holder of the store goes away meanwhile, the feed tells whether the
// piece, or a part of it, has been stored.
func (i *importer) send(ctx context.Context, piece []byte) error {
	request := client.Request{
		Method: http.MethodPost,
		Path:   corePath(i.core, "/blocks"),
		Query:  i.split.query(),
		Body:   func() io.Reader { return bytes.NewReader(piece) },
		Length: int64(len(piece)),
		Once:   true,
	}
	var result api.Appended
	for {
		err := i.client.JSON(ctx, request, &result)
		if err == nil {
			break
		}
		if !errors.Is(err, client.ErrLost) {
			return i.failed(err)
		}
		var info api.CoreInfo
		if err := i.client.JSON(ctx, client.Request{Method: http.MethodGet, Path: corePath(i.core, "")}, &info); err != nil {
			return i.failed(err)
		}
		if before := max(i.base, i.result.Length); info.Length != before {
			return api.Errorf(api.CodeError, "%v while blocks were appended; the feed has %d blocks now: append what comes after them", client.ErrLost, info.Length)
		}
	}
	if i.started {
		result.Start = i.result.Start
	}
	i.result, i.started = result, true
	i.imported += uint64(len(piece))
	i.app.out.Show("bytes imported", api.Event{Done: i.imported, Total: max(i.imported, i.total)}, false)
	return nil
}

// failed says how far the import came.
func (i *importer) failed(err error) error {
	var p *api.Problem
	if errors.As(err, &p) && p.Length > 0 {
		q := *p
		q.Detail = fmt.Sprintf("%s (the feed has %d blocks now)", p.Detail, p.Length)
		return &q
	}
	return err
}
