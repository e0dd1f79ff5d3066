package protocol

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/p2pcore/p2pcore/feed"
)

// rivals returns two writers with one key, which part after three blocks; the first has signed five, the second six.
func rivals(t *testing.T) (w1, w2 *feed.Feed) {
	t.Helper()
	common := numbered(3, 10)
	w1, w2 = writer(t, 1, common...), writer(t, 1, common...)
	appendBlocks(t, w1, renamed(2, "one ")...)
	appendBlocks(t, w2, renamed(3, "two ")...)
	return w1, w2
}

// isFrozen fails unless a feed has frozen with evidence that convinces others.
func isFrozen(t *testing.T, fs ...*feed.Feed) {
	t.Helper()
	for i, f := range fs {
		c := f.Conflict()
		if !f.Info().Frozen || c == nil {
			t.Errorf("feed %d is not frozen", i)
			continue
		}
		if err := feed.VerifyConflict(f.Key(), c); err != nil {
			t.Errorf("feed %d: evidence: %v", i, err)
		}
	}
}

// getLater reads a block in the background.
func getLater(t *testing.T, f *feed.Feed, index uint64) <-chan error {
	t.Helper()
	s := session(t, f)
	t.Cleanup(func() { s.Close() })
	done := make(chan error, 1)
	go func() {
		_, err := s.Get(context.Background(), index)
		done <- err
	}()
	return done
}

func TestAConflictFreezesReaderAndWriter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w1, w2 := rivals(t)
		r := reader(t, w1)
		fill(t, w1, r, feed.Range{End: 5})
		one, two, to := exchange(t, w1, true), exchange(t, w2, true), exchange(t, r, true)
		run := newRunner(t)
		run.connect([]*Exchange{one}, []*Exchange{to})
		synctest.Wait()
		late := getLater(t, r, 9)
		direct := make(chan error, 1)
		go func() { direct <- to.Fetch(context.Background(), feed.Want{Follow: true}) }()
		synctest.Wait()
		a, b := run.connect([]*Exchange{two}, []*Exchange{to})
		synctest.Wait()
		isFrozen(t, r, w2)
		if w1.Info().Frozen {
			t.Error("the writer whose head the reader has froze for it")
		}
		var c *feed.ConflictError
		for _, err := range []error{<-late, <-direct} {
			if !errors.As(err, &c) || !errors.Is(err, feed.ErrFrozen) {
				t.Errorf("who waited got %v", err)
			}
		}
		s := session(t, w2)
		defer s.Close()
		if _, err := s.Append(timed(t), []byte("more")); !errors.Is(err, feed.ErrFrozen) {
			t.Errorf("append to the frozen feed: %v", err)
		}
		time.Sleep(10 * time.Minute)
		if n := a.Stats().Violations + b.Stats().Violations; n != 0 {
			t.Errorf("%d violations", n)
		}
		before := one.Stats().Requests + two.Stats().Requests + to.Stats().Requests
		time.Sleep(10 * time.Minute)
		if n := one.Stats().Requests + two.Stats().Requests + to.Stats().Requests; n != before {
			t.Errorf("%d requests of frozen feeds", n-before)
		}
	})
}

// TestAWriterSeesItsRival: no reader is needed.
func TestAWriterSeesItsRival(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w1, w2 := rivals(t)
		newRunner(t).connect([]*Exchange{exchange(t, w1, true)}, []*Exchange{exchange(t, w2, true)})
		synctest.Wait()
		isFrozen(t, w1, w2)
	})
}

// TestAConflictOfBlocks: the heads are of the same length, and differ when a block comes.
func TestAConflictOfBlocks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w1, w2 := rivals(t)
		appendBlocks(t, w1, []byte("sixth"))
		r := reader(t, w1)
		fill(t, w1, r, feed.Range{End: 3})
		newRunner(t).connect([]*Exchange{exchange(t, r, true)}, []*Exchange{exchange(t, w2, true)})
		synctest.Wait()
		if r.Info().Frozen {
			t.Fatal("frozen before anything was asked")
		}
		if err := <-getLater(t, r, 5); !errors.Is(err, feed.ErrFrozen) {
			t.Errorf("get: %v", err)
		}
		synctest.Wait()
		isFrozen(t, r, w2)
	})
}

// TestAFrozenFeedStaysSo: after reopening it asks and serves nothing, and warns whoever has a head; until it
// is thawed.
func TestAFrozenFeedStaysSo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w1, w2 := rivals(t)
		key, ds := w1.Key(), memory()
		r, err := feed.Create(t.Context(), ds, feed.Options{Prefix: "/00000001", Key: &key})
		if err != nil {
			t.Fatal(err)
		}
		fill(t, w1, r, feed.Range{End: 5})
		run := newRunner(t)
		x := NewExchange(r, ExchangeOptions{Downloading: true})
		run.connect([]*Exchange{exchange(t, w2, true)}, []*Exchange{x})
		synctest.Wait()
		isFrozen(t, r, w2)
		x.Close()
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		r, err = feed.Open(t.Context(), ds, feed.Options{Prefix: "/00000001"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := r.Check(context.Background()); err != nil {
				t.Error(err)
			}
			r.Close()
		})
		isFrozen(t, r)

		to, fresh := exchange(t, r, true), reader(t, w1)
		appendBlocks(t, w1, []byte("sixth"))
		third := writer(t, 1, numbered(8, 8)...) // one more rival, which does not know yet
		other, one := exchange(t, fresh, true), exchange(t, w1, true)
		run.connect([]*Exchange{to}, []*Exchange{other})
		run.connect([]*Exchange{to}, []*Exchange{one})
		gone, _ := run.connect([]*Exchange{to}, []*Exchange{exchange(t, third, true)})
		synctest.Wait()
		isFrozen(t, third)
		if got := fresh.Info().Length; got != 0 || w1.Info().Frozen {
			t.Errorf("the reader got %d blocks of a frozen feed; the writer froze %v", got, w1.Info().Frozen)
		}
		if s := to.Stats(); s.Requests != 0 || s.BlocksSent != 0 {
			t.Errorf("a frozen feed has asked or served: %+v", s)
		}
		if err := <-getLater(t, r, 5); !errors.Is(err, feed.ErrFrozen) {
			t.Errorf("get: %v", err)
		}

		_ = gone.Close() // or it would tell of the conflict again
		if err := r.Thaw(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := <-getLater(t, r, 5); err != nil {
			t.Errorf("get after the thaw: %v", err)
		}
		follow(t, other)
		time.Sleep(2 * time.Minute) // channels that were closed are opened again after a while
		sameHead(t, fresh, w1)
	})
}

// damaged is a feed whose storage gives another block 3 than it had taken.
type damaged struct{ *feed.Feed }

func (d damaged) Prove(ctx context.Context, reqs []feed.Request) ([]feed.Proved, error) {
	proved, err := d.Feed.Prove(ctx, reqs)
	for _, p := range proved {
		if p.Proof != nil && p.Proof.Block != nil && p.Proof.Block.Index == 3 {
			p.Proof.Block.Value = []byte("rotten")
		}
	}
	return proved, err
}

// TestADamagedBlockIsNoConflict: a peer with one is still good for the others.
func TestADamagedBlockIsNoConflict(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		blocks := numbered(12, 10)
		w := writer(t, 1, blocks...)
		r := reader(t, w)
		to := exchange(t, r, true)
		run := newRunner(t)
		a, b := run.connect([]*Exchange{exchange(t, damaged{w}, false)}, []*Exchange{to})
		s := session(t, r)
		defer s.Close()
		done := make(chan error, 1)
		go func() { done <- s.Download(timed(t), feed.Range{End: 12}) }()
		synctest.Wait()
		if got := r.Info().LocalBlocks; got != 11 || r.Info().Frozen {
			t.Errorf("%d blocks, want all but the damaged one; frozen %v", got, r.Info().Frozen)
		}
		st := to.Stats()
		if st.Checks != 1 || st.InvalidProofs != 1 || a.Stats().Violations+b.Stats().Violations != 0 || st.Peers != 1 {
			t.Errorf("%+v", st)
		}
		other := reader(t, w) // the same feed, and whole
		fill(t, w, other, feed.Range{End: 12})
		run.connect([]*Exchange{exchange(t, other, false)}, []*Exchange{to})
		if err := <-done; err != nil {
			t.Error(err)
		}
		sameBlocks(t, r, blocks)
	})
}
