package feed

import (
	"context"
	"fmt"
	"io"
)

// WriterOptions of Session.NewWriter.
type WriterOptions struct {
	// ChunkSize is the size of the blocks that the bytes are cut into; 0: 64 KiB. At most MaxBlockBytes less the
	// padding of the session's encryption.
	ChunkSize int
	// Records makes one block of each Write instead, also of an empty one.
	Records bool
}

// Writer appends what is written to it. It holds back up to 4 MiB, or 1,024 blocks, and appends them
// together: what is not flushed may be lost, what Flush or Close have returned nil for is durable (but see
// Options.NoSync). An error of an append ends the Writer: it is returned by all calls that follow, and what was held back
// is not in the feed. A Writer is not safe for concurrent use.
type Writer struct {
	ctx     context.Context // of NewWriter: io's interfaces have none
	s       *Session
	chunk   int
	most    int // bytes of a block
	records bool

	pending [][]byte
	size    int    // bytes of pending and open
	open    []byte // a block that is not full
	err     error  // of an append
	closed  bool
}

var (
	_ io.WriteCloser = (*Writer)(nil)
	_ io.ReaderFrom  = (*Writer)(nil)
)

// NewWriter returns a Writer that appends to the session's feed, branch or atom. ctx bounds its appends.
// The error is ErrBlockTooLarge if the chunk size is past its bound.
func (s *Session) NewWriter(ctx context.Context, o WriterOptions) (*Writer, error) {
	if o.ChunkSize == 0 {
		o.ChunkSize = defaultChunkSize
	}
	most := MaxBlockBytes - int(paddingOf(s.encryption))
	if o.ChunkSize < 0 || o.ChunkSize > most {
		return nil, fmt.Errorf("%w: chunks of %d bytes, not 1 to %d", ErrBlockTooLarge, o.ChunkSize, most)
	}
	return &Writer{ctx: ctx, s: s, chunk: o.ChunkSize, most: most, records: o.Records}, nil
}

// Write implements io.Writer. The bytes are copied. A record that is too large is ErrBlockTooLarge and does not end the
// Writer.
func (w *Writer) Write(p []byte) (n int, err error) {
	if err := w.ended(); err != nil {
		return 0, err
	}
	if w.records {
		if len(p) > w.most {
			return 0, fmt.Errorf("%w: a record of %d bytes", ErrBlockTooLarge, len(p))
		}
		if err := w.add(append([]byte{}, p...)); err != nil {
			return 0, err
		}
		return len(p), nil
	}
	for n < len(p) {
		if w.open == nil {
			w.open = make([]byte, 0, w.chunk)
		}
		m := min(w.chunk-len(w.open), len(p)-n)
		w.open = append(w.open, p[n:n+m]...)
		n += m
		if len(w.open) == w.chunk {
			full := w.open
			w.open = nil
			if err := w.add(full); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

// ReadFrom implements io.ReaderFrom: it reads straight into blocks. With Records it makes a block of each Read.
func (w *Writer) ReadFrom(r io.Reader) (total int64, err error) {
	if w.records {
		return io.Copy(struct{ io.Writer }{w}, r)
	}
	if err := w.ended(); err != nil {
		return 0, err
	}
	for {
		if w.open == nil {
			w.open = make([]byte, 0, w.chunk)
		}
		n, err := r.Read(w.open[len(w.open):w.chunk])
		w.open = w.open[:len(w.open)+n]
		total += int64(n)
		if len(w.open) == w.chunk {
			full := w.open
			w.open = nil
			if err := w.add(full); err != nil {
				return total, err
			}
		}
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

func (w *Writer) ended() error {
	if w.err == nil && w.closed {
		return ErrClosed
	}
	return w.err
}

// add takes over a block that is complete.
func (w *Writer) add(block []byte) error {
	w.pending = append(w.pending, block)
	w.size += len(block)
	if w.size >= writeBatchBytes || len(w.pending) >= writeBatchBlocks {
		return w.append()
	}
	return nil
}

func (w *Writer) append() error {
	if w.err != nil || len(w.pending) == 0 {
		return w.err
	}
	if _, err := w.s.Append(w.ctx, w.pending...); err != nil {
		w.err = err
		return err
	}
	clear(w.pending)
	w.pending, w.size = w.pending[:0], 0
	return nil
}

// Flush appends all that was written, so that it is durable: also a block that is not full, which stays short.
func (w *Writer) Flush() error {
	if err := w.ended(); err != nil {
		return err
	}
	if len(w.open) > 0 {
		w.pending = append(w.pending, w.open)
		w.open = nil
	}
	return w.append()
}

// Close flushes and ends the Writer. It does not close the session. It may be called twice and returns the same then.
func (w *Writer) Close() error {
	if w.closed || w.err != nil {
		return w.err
	}
	err := w.Flush()
	w.closed, w.open = true, nil
	return err
}
