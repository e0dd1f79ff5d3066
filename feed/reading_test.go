package feed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

// contents appends random blocks, some of them empty, and returns their bytes.
func contents(t *testing.T, s *Session, random *rand.Rand, blocks int) []byte {
	t.Helper()
	var all []byte
	for range blocks {
		b := make([]byte, random.IntN(5)*random.IntN(40))
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		appendBlocks(t, s, b)
		all = append(all, b...)
	}
	return all
}

func TestReaderIsAReader(t *testing.T) {
	for _, encrypted := range []bool{false, true} {
		for _, sparse := range []bool{false, true} {
			t.Run(fmt.Sprintf("encrypted %v, sparse %v", encrypted, sparse), func(t *testing.T) {
				seed := rand.Uint64()
				t.Logf("seed %d", seed)
				random := rand.New(rand.NewPCG(seed, 2))
				w, _ := writer(t, memoryStore(), 0)
				var e Encryption
				if encrypted {
					e = NewBlockEncryption(w.Key(), false, EncryptionKey{1})
				}
				s, err := w.Session(SessionOptions{Encryption: e})
				if err != nil {
					t.Fatal(err)
				}
				want := contents(t, s, random, 60)
				if sparse {
					r := reader(t, memoryStore(), w)
					r.SetSource(&pipe{from: w, to: r})
					if s, err = r.Session(SessionOptions{Encryption: e}); err != nil {
						t.Fatal(err)
					}
				}
				r, err := s.NewReader(t.Context(), ReaderOptions{})
				if err != nil {
					t.Fatal(err)
				}
				defer r.Close()
				if r.Size() != int64(len(want)) {
					t.Fatalf("size %d, want %d", r.Size(), len(want))
				}
				if err := iotest.TestReader(r, want); err != nil {
					t.Fatal(err)
				}
				if _, err := r.Seek(0, io.SeekStart); err != nil {
					t.Fatal(err)
				}
				model := bytes.NewReader(want)
				for step := range 300 {
					switch random.IntN(4) {
					case 0:
						offset, whence := int64(random.IntN(2*len(want)+1)-len(want)), random.IntN(3)
						a, err1 := r.Seek(offset, whence)
						b, err2 := model.Seek(offset, whence)
						if (err1 == nil) != (err2 == nil) || err1 == nil && a != b {
							t.Fatalf("step %d: seek %d, %d: %d, %v; want %d, %v", step, offset, whence, a, err1, b, err2)
						}
					case 1:
						n := random.IntN(300)
						got, want := make([]byte, n), make([]byte, n)
						a, err1 := io.ReadFull(r, got)
						b, err2 := io.ReadFull(model, want)
						if a != b || err1 != err2 || !bytes.Equal(got, want) {
							t.Fatalf("step %d: read %d: %d, %v; want %d, %v", step, n, a, err1, b, err2)
						}
					case 2:
						n, off := random.IntN(300), int64(random.IntN(len(want)+10))
						got, want := make([]byte, n), make([]byte, n)
						a, err1 := r.ReadAt(got, off)
						b, err2 := model.ReadAt(want, off)
						if a != b || n > 0 && err1 != err2 || !bytes.Equal(got, want) {
							t.Fatalf("step %d: read %d at %d: %d, %v; want %d, %v", step, n, off, a, err1, b, err2)
						}
					case 3:
						var got, want bytes.Buffer
						_, err1 := r.WriteTo(&got)
						_, err2 := model.WriteTo(&want)
						if err1 != nil || err2 != nil || !bytes.Equal(got.Bytes(), want.Bytes()) {
							t.Fatalf("step %d: write %d bytes: %v; want %d, %v", step, got.Len(), err1, want.Len(), err2)
						}
					}
				}
			})
		}
	}
}

// countingSource notes which blocks are asked for.
type countingSource struct {
	*pipe
	mu    sync.Mutex
	asked []Range
}

func (c *countingSource) Fetch(ctx context.Context, w Want) error {
	c.mu.Lock()
	c.asked = append(c.asked, w.Range)
	c.mu.Unlock()
	return c.pipe.Fetch(ctx, w)
}

func TestReaderFetchesOnlyWhatItNeeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const blocks, size = 1000, 100
		w, ws := writer(t, memoryStore(), 0)
		for i := range blocks {
			appendBlocks(t, ws, bytes.Repeat([]byte{byte(i)}, size))
		}
		f := reader(t, memoryStore(), w)
		source := &countingSource{pipe: &pipe{from: w, to: f}}
		f.SetSource(source)
		r, err := session(t, f).NewReader(t.Context(), ReaderOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		p := make([]byte, 10)
		if _, err := r.ReadAt(p, 500*size+45); err != nil || p[0] != 500%256 {
			t.Fatalf("%v, %v", p, err)
		}
		synctest.Wait()
		if n := f.Info().LocalBlocks; n != 1 {
			t.Errorf("10 bytes of one block took %d blocks", n)
		}
		if _, err := r.ReadAt(p, 600*size-5); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if n := f.Info().LocalBlocks; n != 3 {
			t.Errorf("10 bytes of two blocks more: %d blocks are here", n)
		}
		// Reading on is what makes it ask ahead, a little at first.
		if _, err := r.Seek(700*size, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(io.Discard, struct{ io.Reader }{r}, 20*size); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if n := f.Info().LocalBlocks; n < 3+20 || n > 3+20+12 {
			t.Errorf("20 blocks in order brought %d", n-3)
		}
		if _, err := session(t, f).NewReader(t.Context(), ReaderOptions{Offset: blocks * size, Length: 1}); !errors.Is(err, ErrOutOfRange) {
			t.Errorf("past the end: %v", err)
		}
		part, err := session(t, f).NewReader(t.Context(), ReaderOptions{Offset: 250, Length: 100})
		if err != nil {
			t.Fatal(err)
		}
		defer part.Close()
		b, err := io.ReadAll(part)
		if want := append(bytes.Repeat([]byte{2}, 50), bytes.Repeat([]byte{3}, 50)...); err != nil || !bytes.Equal(b, want) {
			t.Errorf("bytes 250 to 350: %v, %v", b, err)
		}
		// Nor does a copy of a part, which asks ahead from the beginning, ask for what is past the part.
		synctest.Wait()
		before := f.Info().LocalBlocks
		for at, want := range map[uint64]uint64{800*size + 45: 1, 850*size - 5: 2} {
			part, err := session(t, f).NewReader(t.Context(), ReaderOptions{Offset: at, Length: 10})
			if err != nil {
				t.Fatal(err)
			}
			defer part.Close()
			if n, err := io.Copy(io.Discard, part); n != 10 || err != nil {
				t.Fatalf("copied %d bytes, %v", n, err)
			}
			synctest.Wait()
			if n := f.Info().LocalBlocks - before; n != want {
				t.Errorf("10 bytes at %d took %d blocks, want %d", at, n, want)
			}
			before += want
		}
	})
}

func TestReaderFollowsTheFeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, ws := writer(t, memoryStore(), 0)
		f := reader(t, memoryStore(), w)
		f.SetSource(&pipe{from: w, to: f})
		appendBlocks(t, ws, []byte("one "))
		r, err := session(t, f).NewReader(t.Context(), ReaderOptions{Follow: true})
		if err != nil {
			t.Fatal(err)
		}
		got := make(chan []byte, 1)
		go func() {
			b := make([]byte, 12)
			n, err := io.ReadFull(r, b)
			if err != nil {
				t.Error(err)
			}
			got <- b[:n]
		}()
		synctest.Wait()
		appendBlocks(t, ws, []byte("two "), nil, []byte("three"))
		if b := <-got; string(b) != "one two thre" {
			t.Errorf("%q", b)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(r); !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	})
}

func TestReaderOfATruncatedFeedReadsItsSnapshot(t *testing.T) {
	_, s := writer(t, memoryStore(), 0)
	want := contents(t, s, rand.New(rand.NewPCG(1, 1)), 30)
	r, err := s.NewReader(t.Context(), ReaderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := s.Truncate(t.Context(), 3, TruncateOptions{}); err != nil {
		t.Fatal(err)
	}
	appendBlocks(t, s, testBlocks(5, 50)...)
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, %v; want %d", len(got), err, len(want))
	}
}

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

func TestEntriesInBothDirections(t *testing.T) {
	ctx := t.Context()
	w, _ := writer(t, memoryStore(), 2500)
	f := reader(t, memoryStore(), w)
	f.SetSource(&pipe{from: w, to: f})
	upgrade(t, w, f)
	for _, reverse := range []bool{false, true} {
		var got []uint64
		for e, err := range session(t, f).Entries(ctx, Range{Start: 3, End: 2222}, ReadOptions{Reverse: reverse}) {
			if err != nil || !bytes.Equal(e.Data, testBlock(int(e.Index))) {
				t.Fatalf("entry %d: %q, %v", e.Index, e.Data, err)
			}
			got = append(got, e.Index)
		}
		if reverse {
			slices.Reverse(got)
		}
		if len(got) != 2219 || got[0] != 3 || !slices.IsSorted(got) {
			t.Errorf("reverse %v: %d entries from %d on", reverse, len(got), got[0])
		}
	}
}

func TestBlocksAreThoseOfTheBeginning(t *testing.T) {
	_, s := writer(t, memoryStore(), 20)
	n := 0
	for b, err := range s.Blocks(t.Context(), Range{End: 100}, ReadOptions{}) {
		if err != nil || !bytes.Equal(b, testBlock(n)) {
			t.Fatalf("block %d: %q, %v", n, b, err)
		}
		if n == 3 {
			if _, err := s.Truncate(t.Context(), 2, TruncateOptions{}); err != nil {
				t.Fatal(err)
			}
			appendBlocks(t, s, testBlocks(100, 140)...)
		}
		n++
	}
	if n != 20 {
		t.Errorf("%d blocks", n)
	}
}

func TestDownloadTellsItsProgress(t *testing.T) {
	ctx := t.Context()
	w, _ := writer(t, memoryStore(), 500)
	f := reader(t, memoryStore(), w)
	upgrade(t, w, f)
	s := session(t, f)
	if _, err := s.NewDownload(ctx, DownloadOptions{}); !errors.Is(err, ErrNotAvailable) {
		t.Errorf("without a source: %v", err)
	}
	f.SetSource(&pipe{from: w, to: f})
	d, err := s.NewDownload(ctx, DownloadOptions{Range: Range{Start: 100, End: 400}, Linear: true})
	if err != nil {
		t.Fatal(err)
	}
	last := Progress{}
	for {
		p, err := d.Next(ctx)
		if p.Total != 300 || p.Done < last.Done {
			t.Fatalf("progress %+v after %+v", p, last)
		}
		last = p
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Wait(ctx); err != nil || last.Done != 300 || f.Info().LocalBlocks != 300 {
		t.Errorf("at the end: %+v, %v", last, err)
	}
	// What is here already resolves at once, without anybody to ask.
	f.SetSource(nil)
	d, err = s.NewDownload(ctx, DownloadOptions{Blocks: []uint64{399, 100, 222}})
	if err != nil || d.Wait(ctx) != nil || d.Progress() != (Progress{3, 3}) {
		t.Errorf("of blocks that are here: %+v, %v", d.Progress(), err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestDownloadEndsWithItsCloseAndItsSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		w, _ := writer(t, memoryStore(), 5)
		f := reader(t, memoryStore(), w)
		upgrade(t, w, f)
		f.SetSource(&deaf{})
		for name, end := range map[string]func(*Download, *Session){
			"its own":       func(d *Download, _ *Session) { d.Close() },
			"the session's": func(_ *Download, s *Session) { s.Close() },
		} {
			s := session(t, f)
			d, err := s.NewDownload(ctx, DownloadOptions{Follow: true})
			if err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			select {
			case <-d.Done():
				t.Error("ended by itself")
			default:
			}
			end(d, s)
			synctest.Wait()
			if err := d.Wait(ctx); !errors.Is(err, ErrClosed) {
				t.Errorf("closed by %s close: %v", name, err)
			}
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestTypedValues(t *testing.T) {
	type event struct {
		Name string
		N    int
	}
	ctx := t.Context()
	_, s := writer(t, memoryStore(), 0)
	log := NewTyped(s, JSON[event]{})
	if info, err := log.Append(ctx, event{"a", 1}, event{"b", 2}); err != nil || info.Length != 2 {
		t.Fatalf("append: %+v, %v", info, err)
	}
	if v, err := log.Get(ctx, 1); err != nil || v != (event{"b", 2}) {
		t.Errorf("get: %+v, %v", v, err)
	}
	appendBlocks(t, s, []byte("no JSON"))
	if _, err := log.Get(ctx, 2); !errors.Is(err, ErrDecode) {
		t.Errorf("get what cannot be decoded: %v", err)
	}
	n, bad := 0, 0
	for v, err := range log.Values(ctx, Range{End: 3}, ReadOptions{}) {
		if errors.Is(err, ErrDecode) {
			bad++
		} else if err != nil || v.N != n+1 {
			t.Errorf("value %d: %+v, %v", n, v, err)
		}
		n++
	}
	if n != 3 || bad != 1 {
		t.Errorf("%d values, %d of them not decoded", n, bad)
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	times := NewTyped(s, Binary[time.Time, *time.Time]{})
	if _, err := times.Append(ctx, at); err != nil {
		t.Fatal(err)
	}
	if v, err := times.Get(ctx, 3); err != nil || !v.Equal(at) {
		t.Errorf("as a time: %v, %v", v, err)
	}
	if _, err := times.Get(ctx, 2); !errors.Is(err, ErrDecode) {
		t.Errorf("what is no time: %v", err)
	}
	text := NewTyped(s, Text{})
	if v, err := text.Get(ctx, 2); err != nil || v != "no JSON" {
		t.Errorf("as text: %q, %v", v, err)
	}
	if _, err := NewTyped(s, JSON[func()]{}).Append(ctx, func() {}); err == nil {
		t.Error("a function was encoded")
	}
}
