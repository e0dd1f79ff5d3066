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
	"testing/synctest"
)

// patient is a Source without peers: it waits until what is wanted has come by itself.
type patient struct {
	deaf
	to *Feed
}

func (p *patient) Fetch(ctx context.Context, w Want) error {
	return p.wait(ctx, func() bool {
		for _, b := range w.Blocks {
			if !p.to.Has(Range{Start: b, End: b + 1}) {
				return false
			}
		}
		return p.to.Has(w.Range)
	})
}

func (p *patient) Seek(ctx context.Context, offset, _ uint64) error {
	return p.wait(ctx, func() bool { return p.to.Info().ByteLength >= offset })
}

func (p *patient) wait(ctx context.Context, until func() bool) error {
	sub := p.to.Subscribe()
	defer sub.Close()
	for !until() {
		if _, err := sub.Next(ctx); err != nil {
			return err
		}
	}
	return nil
}

// readInto reads n bytes and sends them when they have come.
func readInto(t *testing.T, r io.Reader, n int) <-chan string {
	t.Helper()
	got := make(chan string, 1)
	go func() {
		b := make([]byte, n)
		n, err := io.ReadFull(r, b)
		if err != nil {
			t.Error(err)
		}
		got <- string(b[:n])
	}()
	return got
}

func follower(t *testing.T, s *Session) *Reader {
	t.Helper()
	r, err := s.NewReader(t.Context(), ReaderOptions{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func TestReaderFollowsAFeedWithoutASource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, s := writer(t, memoryStore(), 0)
		r := follower(t, s)
		got := readInto(t, r, 7)
		synctest.Wait()
		appendBlocks(t, s, []byte("one "))
		synctest.Wait()
		appendBlocks(t, s, nil, []byte("two "))
		if b := <-got; b != "one two" {
			t.Errorf("%q", b)
		}
		p := make([]byte, 3)
		at := make(chan error, 1)
		go func() {
			_, err := r.ReadAt(p, 8)
			at <- err
		}()
		synctest.Wait()
		appendBlocks(t, s, []byte("six"))
		if err := <-at; err != nil || string(p) != "six" {
			t.Errorf("read at: %q, %v", p, err)
		}
	})
}

// A truncation moves the bytes to other blocks, also while a Read waits for one that never comes.
func TestReaderFollowsTheBytesOfAnotherFork(t *testing.T) {
	for _, source := range []bool{false, true} {
		t.Run(fmt.Sprintf("source %v", source), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, s := writer(t, memoryStore(), 0)
				if source {
					f.SetSource(&patient{to: f})
				}
				for range 5 {
					appendBlocks(t, s, []byte("0123456789"))
				}
				r := follower(t, s)
				if b := <-readInto(t, r, 50); len(b) != 50 {
					t.Fatalf("%q", b)
				}
				got := readInto(t, r, 5)
				synctest.Wait()
				if _, err := s.Truncate(t.Context(), 2, TruncateOptions{}); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				appendBlocks(t, s, bytes.Repeat([]byte("abcdefghij"), 10)) // bytes 20 to 120 in one block
				if b := <-got; b != "abcde" {
					t.Errorf("bytes 50 to 55: %q", b)
				}
				// What it has in memory of a block that is gone does not count any more.
				if _, err := s.Truncate(t.Context(), 2, TruncateOptions{}); err != nil {
					t.Fatal(err)
				}
				appendBlocks(t, s, bytes.Repeat([]byte("z"), 100))
				if b := <-readInto(t, r, 5); b != "zzzzz" {
					t.Errorf("bytes 55 to 60: %q", b)
				}
			})
		})
	}
}

func TestReaderFollowsAnyProgram(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 2))
	_, s := writer(t, memoryStore(), 0)
	var blocks [][]byte
	r, at := follower(t, s), 0
	for step := range 500 {
		switch random.IntN(5) {
		case 0:
			n := random.IntN(len(blocks) + 1)
			if n == len(blocks) {
				continue
			}
			if _, err := s.Truncate(t.Context(), uint64(n), TruncateOptions{}); err != nil {
				t.Fatal(err)
			}
			blocks = blocks[:n:n]
		case 1, 2:
			b := bytes.Repeat([]byte{byte(random.Uint32())}, random.IntN(30))
			appendBlocks(t, s, b)
			blocks = append(blocks, b)
		default:
			all := bytes.Join(blocks, nil)
			if len(all) <= at {
				continue
			}
			want := all[at : at+1+random.IntN(len(all)-at)]
			got := make([]byte, len(want))
			if _, err := io.ReadFull(r, got); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("step %d: %d bytes from %d on: %x, %v; want %x", step, len(want), at, got, err, want)
			}
			if _, err := r.ReadAt(got, int64(at)); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("step %d: at %d: %x, %v; want %x", step, at, got, err, want)
			}
			at += len(want)
			if random.IntN(3) == 0 {
				at = random.IntN(at)
				if _, err := r.Seek(int64(at), io.SeekStart); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

func TestReaderEndsWithCloseAndContext(t *testing.T) {
	_, s := writer(t, memoryStore(), 30)
	for _, follow := range []bool{false, true} {
		ctx, cancel := context.WithCancel(t.Context())
		for want, end := range map[error]func(*Reader){
			ErrClosed:        func(r *Reader) { r.Close() },
			context.Canceled: func(*Reader) { cancel() },
		} {
			r, err := s.NewReader(ctx, ReaderOptions{Follow: follow})
			if err != nil {
				t.Fatal(err)
			}
			p := make([]byte, 3)
			if _, err := io.ReadFull(r, p); err != nil {
				t.Fatal(err)
			}
			end(r)
			_, err1 := r.Read(p)
			_, err2 := r.ReadAt(p, 5)
			_, err3 := r.WriteTo(io.Discard)
			for _, err := range []error{err1, err2, err3} {
				if !errors.Is(err, want) {
					t.Errorf("follow %v: %v, want %v", follow, err, want)
				}
			}
			if err := errors.Join(r.Close(), r.Close()); err != nil {
				t.Error(err)
			}
			ctx, cancel = context.WithCancel(t.Context())
		}
		cancel()
	}
}

func TestReaderReadsAtMayOverlap(t *testing.T) {
	w, ws := writer(t, memoryStore(), 0)
	want := contents(t, ws, rand.New(rand.NewPCG(3, 3)), 200)
	f := reader(t, memoryStore(), w)
	f.SetSource(&pipe{from: w, to: f})
	r, err := session(t, f).NewReader(t.Context(), ReaderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var group sync.WaitGroup
	for worker := range 8 {
		group.Go(func() {
			random := rand.New(rand.NewPCG(uint64(worker), 1))
			for range 50 {
				off := random.IntN(len(want))
				p := make([]byte, random.IntN(200))
				n, err := r.ReadAt(p, int64(off))
				if err != nil && err != io.EOF || !bytes.Equal(p[:n], want[off:min(off+len(p), len(want))]) {
					t.Errorf("%d bytes at %d: %d, %v", len(p), off, n, err)
				}
			}
		})
	}
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, want) {
		t.Errorf("read beside: %d bytes, %v", len(got), err)
	}
	group.Wait()
}

// shrinking is an encryption that gives back less than was stored.
type shrinking struct{ plain }

func (shrinking) Decrypt(_ uint64, stored []byte) ([]byte, error) { return stored[:len(stored)/2], nil }

func TestReaderOfBlocksThatAreShorterThanTheTreeSays(t *testing.T) {
	f, s := writer(t, memoryStore(), 0)
	appendBlocks(t, s, make([]byte, 10), make([]byte, 10), []byte("short"), make([]byte, 90))
	for name, e := range map[string]Encryption{
		"shrinking":       shrinking{},
		"never encrypted": NewBlockEncryption(f.Key(), false, EncryptionKey{1}),
	} {
		s, err := f.Session(SessionOptions{Encryption: e})
		if err != nil {
			t.Fatal(err)
		}
		r, err := s.NewReader(t.Context(), ReaderOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		failed := 0
		for at := range r.Size() {
			p := make([]byte, 3)
			_, err1 := r.ReadAt(p, at)
			if _, err := r.Seek(at, io.SeekStart); err != nil {
				t.Fatal(err)
			}
			_, err2 := io.Copy(io.Discard, r)
			for _, err := range []error{err1, err2} {
				if errors.Is(err, ErrDecrypt) {
					failed++
				}
			}
		}
		if failed == 0 {
			t.Errorf("%s: every block was decrypted", name)
		}
	}
}

func TestReadAtAsksForWindowsOfBlocks(t *testing.T) {
	const blocks = 3 * readAhead
	w, ws := writer(t, memoryStore(), 0)
	var all [][]byte
	for i := range blocks {
		all = append(all, []byte(fmt.Sprintf("%04d", i)))
	}
	appendBlocks(t, ws, all...)
	f := reader(t, memoryStore(), w)
	source := &countingSource{pipe: &pipe{from: w, to: f}}
	f.SetSource(source)
	r, err := session(t, f).NewReader(t.Context(), ReaderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p := make([]byte, 4*(blocks-20))
	if _, err := r.ReadAt(p, 40); err != nil || !bytes.Equal(p, bytes.Join(all[10:blocks-10], nil)) {
		t.Fatal(err)
	}
	source.mu.Lock()
	defer source.mu.Unlock()
	windows := 0
	for _, a := range source.asked {
		if a.End > blocks-10 {
			t.Errorf("asked for %v", a)
		}
		if a.End-a.Start > 1 {
			windows++
		}
	}
	if windows != 3 {
		t.Errorf("asked for %d windows", windows)
	}
}
