package protocol

import (
	"testing"
	"testing/synctest"

	"github.com/p2pcore/p2pcore/feed"
)

// lazy returns an exchange that asks for a longer head only when somebody waits for one.
func lazy(t testing.TB, core Core) *Exchange {
	t.Helper()
	x := NewExchange(core, ExchangeOptions{Downloading: true, LazyUpgrade: true})
	t.Cleanup(func() { _ = x.Close() })
	return x
}

// A lazy reader stays at its length until somebody updates it, gets, seeks or downloads past it.
func TestLazyReadersGrowOnDemand(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		blocks := numbered(30, 100)
		w := writer(t, 1, blocks[:5]...)
		r := reader(t, w)
		x := lazy(t, r)
		newRunner(t).connect([]*Exchange{exchange(t, w, true)}, []*Exchange{x})
		s := session(t, r)
		defer s.Close()
		length := func(when string, want uint64) {
			t.Helper()
			synctest.Wait()
			if got := r.Info().Length; got != want {
				t.Fatalf("%s: length %d, want %d", when, got, want)
			}
		}
		length("connected", 0)
		if grown, err := s.Update(timed(t)); err != nil || !grown {
			t.Fatalf("update: %v, %v", grown, err)
		}
		length("updated", 5)
		appendBlocks(t, w, blocks[5:10]...)
		length("appended", 5)
		if err := s.Download(timed(t), feed.Range{End: 5}); err != nil {
			t.Fatal(err)
		}
		length("downloaded what there was", 5)
		if b, err := s.Get(timed(t), 7); err != nil || string(b) != string(blocks[7]) {
			t.Fatalf("block 7: %q, %v", b, err)
		}
		length("got past the end", 10)
		appendBlocks(t, w, blocks[10:20]...)
		length("appended", 10)
		if index, _, err := s.Seek(timed(t), w.Info().ByteLength-1); err != nil || index != 19 {
			t.Fatalf("seek: %d, %v", index, err)
		}
		length("sought past the end", 20)
		appendBlocks(t, w, blocks[20:25]...)
		if err := s.Download(timed(t), feed.Range{End: 25}); err != nil {
			t.Fatal(err)
		}
		length("downloaded past the end", 25)
		appendBlocks(t, w, blocks[25:]...)
		length("appended", 25)
		if n := x.Stats(); n.InvalidProofs+n.Refused != 0 {
			t.Errorf("the reader: %+v", n)
		}
		x.SetLazyUpgrade(false)
		length("eager", 30)
	})
}

// A lazy reader keeps the fork that it has, and what it holds of it, until somebody updates it.
func TestLazyReadersForkOnDemand(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		blocks := numbered(40, 100)
		w := writer(t, 1, blocks...)
		r := reader(t, w)
		newRunner(t).connect([]*Exchange{exchange(t, w, true)}, []*Exchange{lazy(t, r)})
		s := session(t, r)
		defer s.Close()
		if err := s.Download(timed(t), feed.Range{End: 40}); err != nil {
			t.Fatal(err)
		}
		truncate(t, w, 21)
		synctest.Wait()
		other := numbered(25, 50)
		appendBlocks(t, w, other...)
		synctest.Wait()
		if i := r.Info(); i.Fork != 0 || i.Length != 40 {
			t.Fatalf("the reader has followed: %+v", i.Head)
		}
		if b, err := s.Get(timed(t), 30); err != nil || string(b) != string(blocks[30]) {
			t.Fatalf("block 30 of the old fork: %q, %v", b, err)
		}
		// The fork comes as it was when it was looked at; what has been appended since is as any longer head.
		for i, length := range []uint64{21, 46} {
			if grown, err := s.Update(timed(t)); err != nil || !grown {
				t.Fatalf("update %d: %v, %v", i, grown, err)
			}
			synctest.Wait()
			if i := r.Info(); i.Fork != 1 || i.Length != length {
				t.Fatalf("after the update: %+v, want length %d", i.Head, length)
			}
		}
		if err := s.Download(timed(t), feed.Range{End: 46}); err != nil {
			t.Fatal(err)
		}
		sameBlocks(t, r, append(blocks[:21:21], other...))
	})
}
