package api

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/p2pcore/p2pcore/feed"
)

const (
	// maxBatchBlocks is how many blocks are appended, all or none, at a time.
	maxBatchBlocks = 1000
	// maxBatchBytes ends a batch earlier: it bounds memory, and a bigger batch is not faster.
	maxBatchBytes = 8 << 20
	// lineBufferBytes is what is read at once when the body is split into lines.
	lineBufferBytes = 256 << 10
)

// postBlocks appends the body: as one block (whole=1, the default), in blocks of chunk=N bytes, or
// one per line (lines=1; a line keeps its end, so that all blocks together are the body).
func (s *Server) postBlocks(w http.ResponseWriter, r *http.Request) error {
	key, err := s.known(r.Context(), r.PathValue("core"))
	if err != nil {
		return err
	}
	next, err := splitter(r)
	if err != nil {
		return err
	}
	session, err := s.cfg.Store.Keyed(r.Context(), key)
	if err != nil {
		return fmt.Errorf("open %s: %w", key, err)
	}
	defer session.Close()
	info := session.Info()
	if !info.Writable {
		return s.notWritable(key)
	}
	out := Appended{Key: key.Hex(), Start: info.Length, Length: info.Length, ByteLength: info.ByteLength}
	match, err := ifMatch(r)
	if err != nil {
		return err
	}
	for first := true; ; first = false {
		blocks, err := next()
		if err != nil {
			return appendFailed(err, out.Length)
		}
		if len(blocks) == 0 && !first {
			break
		}
		info, err := s.appendBatch(r.Context(), session, blocks, match)
		if err != nil {
			return appendFailed(err, out.Length)
		}
		if first {
			out.Start = info.Length - uint64(len(blocks))
		}
		match = nil
		out.Length, out.ByteLength = info.Length, info.ByteLength
		if len(blocks) == 0 {
			break
		}
	}
	return writeJSON(w, http.StatusOK, out)
}

// appendFailed says how far an append came.
func appendFailed(err error, length uint64) *Problem {
	p := *ProblemOf(err)
	p.Length = length
	return &p
}

// appendBatch appends blocks in one commit, if the feed is at a version that match names.
func (s *Server) appendBatch(ctx context.Context, session *feed.Session, blocks [][]byte, match versions) (feed.Info, error) {
	// All appends of this process come here, so the turn makes compare-and-append one step.
	select {
	case s.appending <- struct{}{}:
	case <-ctx.Done():
		return feed.Info{}, ctx.Err()
	}
	defer func() { <-s.appending }()
	info := session.Info()
	if err := match.checkInfo(info); err != nil {
		return info, err
	}
	if len(blocks) == 0 {
		return info, nil
	}
	began := time.Now()
	info, err := session.Append(ctx, blocks...)
	if err == nil {
		s.metrics.appends.Observe(time.Since(began).Seconds())
	}
	return info, err
}

// splitter returns a function that gives the body's blocks batch by batch. An empty batch is the end. The
// blocks of a batch are valid until the next call.
func splitter(r *http.Request) (func() ([][]byte, error), error) {
	q := r.URL.Query()
	lines, chunk, whole := q.Get("lines") == "1", q.Has("chunk"), q.Get("whole") == "1"
	switch {
	case lines && chunk, lines && whole, chunk && whole:
		return nil, Errorf(CodeUsage, "lines, whole and chunk exclude each other")
	case q.Get("whole") == "0" && !lines && !chunk:
		return nil, Errorf(CodeUsage, "whole=0 does not say how the body is split; want lines=1 or chunk=N")
	}
	body := bodyReader{r.Body}
	switch {
	case lines:
		in := bufio.NewReaderSize(body, lineBufferBytes)
		return func() ([][]byte, error) { return nextLines(in) }, nil
	case chunk:
		size, err := strconv.Atoi(q.Get("chunk"))
		if err != nil || size < 1 || size > feed.MaxBlockBytes {
			return nil, Errorf(CodeUsage, "chunk=%q: a block has 1 to %d bytes", q.Get("chunk"), feed.MaxBlockBytes)
		}
		var arena []byte
		return func() ([][]byte, error) {
			if arena == nil {
				arena = make([]byte, size*max(1, min(maxBatchBlocks, maxBatchBytes/size)))
			}
			return nextChunks(body, arena, size)
		}, nil
	}
	done := false
	return func() ([][]byte, error) {
		if done {
			return nil, nil
		}
		done = true
		b, err := io.ReadAll(io.LimitReader(body, feed.MaxBlockBytes+1))
		if err != nil {
			return nil, err
		}
		if len(b) > feed.MaxBlockBytes {
			return nil, tooLarge()
		}
		return [][]byte{b}, nil
	}, nil
}

func tooLarge() *Problem {
	return Errorf(CodeError, "a block has at most %d bytes; split the input with --chunk", feed.MaxBlockBytes).status(http.StatusRequestEntityTooLarge)
}

// bodyReader tells that the client failed from our own failures.
type bodyReader struct{ r io.Reader }

func (b bodyReader) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	switch {
	case err == nil, errors.Is(err, io.EOF):
		return n, err
	case errors.Is(err, os.ErrDeadlineExceeded):
		return n, Errorf(CodeError, "the process that holds the store is ending, and the input had not ended").status(http.StatusRequestTimeout)
	}
	return n, Errorf(CodeError, "the input broke off: %v", err).status(http.StatusBadRequest)
}

// nextChunks fills arena and cuts it into blocks of size; only the last of the body may be shorter.
func nextChunks(r io.Reader, arena []byte, size int) ([][]byte, error) {
	n, err := io.ReadFull(r, arena)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	var blocks [][]byte
	for start := 0; start < n; start += size {
		blocks = append(blocks, arena[start:min(start+size, n)])
	}
	return blocks, nil
}

// nextLines reads up to a batch of lines, each with its end.
func nextLines(r *bufio.Reader) ([][]byte, error) {
	var (
		blocks [][]byte
		arena  []byte // a block that was cut off it stays valid when it moves
		start  int    // of the line that is being read
	)
	for {
		part, err := r.ReadSlice('\n')
		arena = append(arena, part...)
		if len(arena)-start > feed.MaxBlockBytes {
			return nil, tooLarge()
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		if len(arena) > start {
			blocks = append(blocks, arena[start:len(arena):len(arena)])
			start = len(arena)
		}
		if err != nil || len(blocks) == maxBatchBlocks || len(arena) >= maxBatchBytes {
			return blocks, nil
		}
	}
}
