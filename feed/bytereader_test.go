package feed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
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
