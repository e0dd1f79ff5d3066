package feed

import (
	"bytes"
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
// together: what is not flushed may be lost, what Flush or Close have returned for is durable. An error of
// an append ends the Writer: it is returned by all calls that follow. A Writer is not safe for concurrent use.
type Writer struct {
	ctx     context.Context // of NewWriter: io's interfaces have none
	s       *Session
	chunk   int
	records bool

	pending [][]byte
	size    int    // bytes of pending and open
	open    []byte // a block that is not full
	err     error
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
	if most := MaxBlockBytes - int(paddingOf(s.encryption)); o.ChunkSize < 0 || o.ChunkSize > most {
		return nil, fmt.Errorf("%w: chunks of %d bytes, not 1 to %d", ErrBlockTooLarge, o.ChunkSize, most)
	}
	return &Writer{ctx: ctx, s: s, chunk: o.ChunkSize, records: o.Records}, nil
}

// Write implements io.Writer. The bytes are copied.
func (w *Writer) Write(p []byte) (n int, err error) {
	if w.err != nil {
		return 0, w.err
	}
	if w.records {
		return len(p), w.add(bytes.Clone(append([]byte{}, p...)))
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
	for w.err == nil {
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
	return total, w.err
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
	w.pending, w.size = w.pending[:0], 0
	return nil
}

// Flush appends what is complete; a block that is not full yet is still held back, unless it is the
// last: see Close.
func (w *Writer) Flush() error { return w.append() }

// Close appends what is left, the last block as long as it is. It does not close the session. It may be called
// twice.
func (w *Writer) Close() error {
	if w.err != nil {
		return w.err
	}
	if len(w.open) > 0 {
		w.pending = append(w.pending, w.open)
		w.open = nil
	}
	if err := w.append(); err != nil {
		return err
	}
	w.err = ErrClosed
	return nil
}
