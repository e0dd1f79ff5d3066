package feed

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/iotest"
)

func TestWriterCutsIntoChunks(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 2))
	data := make([]byte, 100_000)
	for i := range data {
		data[i] = byte(random.Uint32())
	}
	for _, chunk := range []int{1 << 10, 777, 64 << 10} {
		for name, copying := range map[string]func(*Writer) error{
			"Write": func(w *Writer) error {
				for rest := data; len(rest) > 0; {
					n := min(len(rest), 1+random.IntN(3000))
					if m, err := w.Write(rest[:n]); err != nil || m != n {
						return fmt.Errorf("%d of %d: %w", m, n, err)
					}
					rest = rest[n:]
				}
				return nil
			},
			"ReadFrom": func(w *Writer) error {
				n, err := io.Copy(w, iotest.HalfReader(bytes.NewReader(data)))
				if n != int64(len(data)) {
					return fmt.Errorf("%d bytes: %w", n, err)
				}
				return err
			},
		} {
			_, s := writer(t, memoryStore(), 0)
			w, err := s.NewWriter(t.Context(), WriterOptions{ChunkSize: chunk})
			if err != nil {
				t.Fatal(err)
			}
			if err := copying(w); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if err := errors.Join(w.Close(), w.Close()); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if got, want := s.Info().Length, uint64((len(data)+chunk-1)/chunk); got != want {
				t.Errorf("%s: %d blocks of %d bytes, want %d", name, got, chunk, want)
			}
			var all []byte
			for b, err := range s.Blocks(t.Context(), Range{End: 1 << 40}, ReadOptions{}) {
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, b...)
			}
			if !bytes.Equal(all, data) {
				t.Errorf("%s: the bytes are others", name)
			}
		}
	}
}

func TestWriterFlushesABlockThatIsNotFull(t *testing.T) {
	_, s := writer(t, memoryStore(), 0)
	w, err := s.NewWriter(t.Context(), WriterOptions{ChunkSize: 4})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"abcdef", "", "gh"} {
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	var got []string
	for b, err := range s.Blocks(t.Context(), Range{End: 9}, ReadOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(b))
	}
	if want := []string{"abcd", "ef", "gh"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	_, err1 := w.Write([]byte("x"))
	_, err2 := w.ReadFrom(bytes.NewReader([]byte("x")))
	for _, err := range []error{err1, err2, w.Flush()} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	}
}

func TestWriterOfRecordsAndItsErrors(t *testing.T) {
	f, s := writer(t, memoryStore(), 0)
	w, err := s.NewWriter(t.Context(), WriterOptions{Records: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"a", "", "ccc"} {
		if _, err := fmt.Fprint(w, text); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Write(nil); err != nil {
		t.Fatal(err)
	}
	if f.Info().Length != 0 {
		t.Error("appended before a flush")
	}
	if _, err := w.Write(make([]byte, MaxBlockBytes+1)); !errors.Is(err, ErrBlockTooLarge) {
		t.Errorf("a record too large: %v", err)
	}
	if err := w.Flush(); err != nil || f.Info().Length != 4 {
		t.Errorf("flush: %v, %d blocks", err, f.Info().Length)
	}
	if _, err := s.NewWriter(t.Context(), WriterOptions{ChunkSize: MaxBlockBytes + 1}); !errors.Is(err, ErrBlockTooLarge) {
		t.Errorf("too large: %v", err)
	}
	only, err := f.Session(SessionOptions{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	w, err = only.NewWriter(t.Context(), WriterOptions{ChunkSize: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := w.Close(); !errors.Is(err, ErrNotWritable) {
			t.Errorf("close: %v", err)
		}
	}
}
