package feed

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

func TestSessionTimeoutAndLocal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := writer(t, memoryStore(), 3)
		r := reader(t, memoryStore(), w)
		upgrade(t, w, r)
		r.SetSource(&deaf{})
		s, err := r.Session(SessionOptions{Timeout: 5e9})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Get(t.Context(), 1); !errors.Is(err, ErrTimeout) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("get: %v", err)
		}
		if _, _, err := s.Seek(t.Context(), 1); !errors.Is(err, ErrTimeout) {
			t.Errorf("seek: %v", err)
		}
		local, err := r.Session(SessionOptions{Local: true})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := local.Get(t.Context(), 1); !errors.Is(err, ErrNotAvailable) {
			t.Errorf("local get: %v", err)
		}
		if _, err := local.Get(t.Context(), 9); !errors.Is(err, ErrOutOfRange) {
			t.Errorf("local get past the end: %v", err)
		}
	})
}

func TestSessionHasItsOwnKeyPair(t *testing.T) {
	ctx := t.Context()
	pair := KeyPairFromSeed([32]byte{7})
	w, _ := writer(t, memoryStore(), 3)
	r := reader(t, memoryStore(), w)
	upgrade(t, w, r)
	own, err := r.Session(SessionOptions{KeyPair: &pair})
	if err != nil || !own.Info().Writable {
		t.Fatalf("session with a key pair: %v", err)
	}
	appendBlocks(t, own, []byte("x"))
	if _, err := session(t, r).Append(ctx, []byte("y")); !errors.Is(err, ErrNotWritable) {
		t.Errorf("session without: %v", err)
	}
	stranger := KeyPairFromSeed([32]byte{8})
	if _, err := r.Session(SessionOptions{KeyPair: &stranger}); !errors.Is(err, ErrNotWritable) {
		t.Errorf("a stranger's: %v", err)
	}
	if _, err := session(t, r).AppendWith(ctx, [][]byte{[]byte("z")}, AppendOptions{KeyPair: &pair}); err != nil {
		t.Errorf("append with a key pair: %v", err)
	}
}

func TestAppendWithConditions(t *testing.T) {
	ctx := t.Context()
	f, s := writer(t, memoryStore(), 3)
	head := f.Info().Head
	if info, err := s.AppendWith(ctx, testBlocks(0, 3), AppendOptions{MaxLength: 5}); err != nil || info.Length != 3 {
		t.Errorf("past the greatest length: %+v, %v", info, err)
	}
	if info, err := s.AppendWith(ctx, testBlocks(0, 1), AppendOptions{MaxLength: 5, If: &head}); err != nil || info.Length != 4 {
		t.Errorf("if the head is the head: %+v, %v", info, err)
	}
	if _, err := s.AppendWith(ctx, testBlocks(0, 1), AppendOptions{If: &head}); !errors.Is(err, ErrDiverged) {
		t.Errorf("if the head is another: %v", err)
	}
}

// The hook of an append sees what was stored, and nobody else has heard of it; where nothing was appended it is not called.
func TestAppendedIsCalledBeforeAnybodyHears(t *testing.T) {
	ctx := t.Context()
	f, s := writer(t, memoryStore(), 3)
	sub := f.Subscribe()
	defer sub.Close()
	called := 0
	o := AppendOptions{Appended: func() {
		called++
		if c, ok := sub.Take(); ok {
			t.Errorf("a subscription has heard %+v", c)
		}
		b, err := s.GetLocal(ctx, 3)
		if err != nil || s.Info().Length != 5 || len(b) == 0 {
			t.Errorf("block 3 of %d is %q, %v", s.Info().Length, b, err)
		}
	}}
	if _, err := s.AppendWith(ctx, testBlocks(3, 5), o); err != nil || called != 1 {
		t.Fatalf("called %d times, %v", called, err)
	}
	if c, ok := sub.Take(); !ok || c.Head.Length != 5 {
		t.Errorf("after it: %+v, %v", c, ok)
	}
	bounded := o
	bounded.MaxLength = 5
	head := Head{Length: 1}
	diverged := AppendOptions{Appended: o.Appended, If: &head}
	_, err := s.AppendWith(ctx, nil, o)
	_, err2 := s.AppendWith(ctx, testBlocks(5, 6), bounded)
	_, err3 := s.AppendWith(ctx, testBlocks(5, 6), diverged)
	if err != nil || err2 != nil || !errors.Is(err3, ErrDiverged) || called != 1 {
		t.Errorf("nothing was appended: called %d times, %v, %v, %v", called, err, err2, err3)
	}

	branch, err := s.Branch(ctx, "draft", BranchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer branch.Close()
	length := uint64(0)
	drafted := func() { length = branch.Info().Length }
	if _, err := branch.AppendWith(ctx, testBlocks(5, 6), AppendOptions{Appended: drafted}); err != nil || length != 6 {
		t.Errorf("in the hook the branch has length %d, %v", length, err)
	}
}

func TestExclusiveSessionsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		f, s := writer(t, memoryStore(), 1)
		first, err := f.Exclusive(ctx, SessionOptions{})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan *Session, 1)
		go func() {
			second, err := f.Exclusive(ctx, SessionOptions{})
			if err != nil {
				t.Error(err)
			}
			done <- second
		}()
		synctest.Wait()
		appendBlocks(t, s, []byte("others are not kept from it"))
		select {
		case <-done:
			t.Fatal("two exclusive sessions at once")
		default:
		}
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
		second := <-done
		defer second.Close()
		timed, cancel := context.WithCancel(ctx)
		cancel()
		if _, err := f.Exclusive(timed, SessionOptions{}); !errors.Is(err, context.Canceled) {
			t.Errorf("with a context that has ended: %v", err)
		}
	})
}

// TestReadingIsNoEndOfASession: what is read through a session takes snapshots of it, and their end is not the session's.
func TestReadingIsNoEndOfASession(t *testing.T) {
	ctx := t.Context()
	f, _ := writer(t, memoryStore(), 3)
	closed := 0
	s, err := f.Session(SessionOptions{OnClose: func() { closed++ }})
	if err != nil {
		t.Fatal(err)
	}
	alone, err := f.Exclusive(ctx, SessionOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*Session{s, alone} {
		for range s.Blocks(ctx, Range{End: 3}, ReadOptions{}) {
		}
		r, err := s.NewReader(ctx, ReaderOptions{})
		if err != nil {
			t.Fatal(err)
		}
		snapshot, err := s.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(r.Close(), snapshot.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if closed != 0 {
		t.Errorf("OnClose was called %d times while the session is open", closed)
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := f.Exclusive(gone, SessionOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("a second exclusive session: %v", err)
	}
	if err := errors.Join(s.Close(), alone.Close()); err != nil {
		t.Fatal(err)
	}
	if closed != 1 {
		t.Errorf("OnClose was called %d times", closed)
	}
	alone, err = f.Exclusive(ctx, SessionOptions{})
	if err != nil {
		t.Fatal(err)
	}
	alone.Close()
}
