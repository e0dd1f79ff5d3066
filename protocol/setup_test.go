package protocol

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	datastore "github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"

	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/internal/lifecycle"
)

var testBinding = bytes.Repeat([]byte{7}, 32)

func memory() datastore.Batching { return dssync.MutexWrap(datastore.NewMapDatastore()) }

// createFeed makes a feed in memory, which is audited and closed at the end of the test.
func createFeed(t testing.TB, opts feed.Options) *feed.Feed {
	t.Helper()
	opts.Prefix = "/00000001"
	f, err := feed.Create(context.Background(), memory(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Check(context.Background()); err != nil {
			t.Errorf("audit: %v", err)
		}
		_ = f.Close()
	})
	return f
}

func writer(t testing.TB, seed byte, blocks ...[]byte) *feed.Feed {
	t.Helper()
	pair := feed.KeyPairFromSeed([32]byte{seed})
	f := createFeed(t, feed.Options{KeyPair: &pair})
	appendBlocks(t, f, blocks...)
	return f
}

func reader(t testing.TB, of *feed.Feed) *feed.Feed {
	t.Helper()
	key := of.Key()
	return createFeed(t, feed.Options{Key: &key})
}

func session(t testing.TB, f *feed.Feed) *feed.Session {
	t.Helper()
	s, err := f.Session(feed.SessionOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func appendBlocks(t testing.TB, f *feed.Feed, blocks ...[]byte) {
	t.Helper()
	if len(blocks) == 0 {
		return
	}
	s := session(t, f)
	defer s.Close()
	if _, err := s.Append(context.Background(), blocks...); err != nil {
		t.Fatal(err)
	}
}

func truncate(t testing.TB, f *feed.Feed, length uint64) {
	t.Helper()
	s := session(t, f)
	defer s.Close()
	if _, err := s.Truncate(context.Background(), length, feed.TruncateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// numbered returns n blocks that differ, of size bytes or a few more.
func numbered(n, size int) [][]byte {
	blocks := make([][]byte, n)
	for i := range blocks {
		blocks[i] = append([]byte(fmt.Sprintf("block %d ", i)), bytes.Repeat([]byte{byte(i)}, size)...)
	}
	return blocks
}

// exchange returns an exchange that is closed at the end of the test.
func exchange(t testing.TB, core Core, downloading bool) *Exchange {
	t.Helper()
	x := NewExchange(core, ExchangeOptions{Downloading: downloading})
	t.Cleanup(func() { _ = x.Close() })
	return x
}

// bench is where tests run the connections that they make.
type runner struct {
	t     testing.TB
	group lifecycle.Group
}

func newRunner(t testing.TB) *runner {
	t.Helper()
	r := &runner{t: t}
	t.Cleanup(r.group.Close)
	return r
}

// run runs a connection until it ends or the test does, and returns where its result will be.
func (r *runner) run(c *Conn) <-chan error {
	done := make(chan error, 1)
	r.group.Go(func(ctx context.Context) { done <- c.Run(ctx) })
	return done
}

// connect joins two lists of exchanges over a stream in memory, the first being the initiator's.
func (r *runner) connect(initiator, responder []*Exchange) (a, b *Conn) {
	r.t.Helper()
	x, y := newPipe(256 << 10)
	a = NewConn(x, Config{Initiator: true, Binding: testBinding, Peer: "responder"})
	b = NewConn(y, Config{Binding: testBinding, Peer: "initiator"})
	for i, l := range [][]*Exchange{initiator, responder} {
		for _, e := range l {
			if err := []*Conn{a, b}[i].Attach(e); err != nil {
				r.t.Fatal(err)
			}
		}
	}
	r.run(a)
	r.run(b)
	return a, b
}

// sameBlocks compares what a reader has stored with what it should have.
func sameBlocks(t testing.TB, f *feed.Feed, want [][]byte) {
	t.Helper()
	s := session(t, f)
	defer s.Close()
	if got := f.Info().Length; got != uint64(len(want)) {
		t.Errorf("length %d, want %d", got, len(want))
	}
	for i, w := range want {
		if got, err := s.GetLocal(context.Background(), uint64(i)); err != nil || !bytes.Equal(got, w) {
			t.Fatalf("block %d: got %.40q, %v, want %.40q", i, got, err, w)
		}
	}
}

// follow has a feed downloaded whole, whatever becomes of it, until the test ends.
func follow(t *testing.T, x *Exchange) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = x.Fetch(ctx, feed.Want{Follow: true})
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
}

// fill has a reader fetch the blocks of a writer that lie in rs, over a connection of its own.
func fill(t *testing.T, w, r *feed.Feed, rs ...feed.Range) {
	t.Helper()
	run := newRunner(t)
	from, to := NewExchange(w, ExchangeOptions{}), NewExchange(r, ExchangeOptions{Downloading: true})
	run.connect([]*Exchange{from}, []*Exchange{to})
	s := session(t, r)
	if _, err := s.Update(timed(t)); err != nil {
		t.Fatal(err)
	}
	for _, want := range rs {
		if err := s.Download(timed(t), want); err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
	run.group.Close()
	from.Close()
	to.Close()
	if got, want := r.Info().Head, w.Info().Head; got != want {
		t.Fatalf("head %+v, want %+v", got, want)
	}
}

func sameHead(t *testing.T, f, want *feed.Feed) {
	t.Helper()
	if got, want := f.Info().Head, want.Info().Head; got != want {
		t.Errorf("head %+v, want %+v", got, want)
	}
}

// clean fails if a conversation has been anything but a model.
func clean(t *testing.T, xs ...*Exchange) {
	t.Helper()
	for i, x := range xs {
		if s := x.Stats(); s.InvalidProofs+s.InvalidRequests+s.Unsolicited+s.Stalls+s.Checks != 0 {
			t.Errorf("exchange %d: %+v", i, s)
		}
	}
}

func renamed(n int, name string) [][]byte {
	blocks := numbered(n, 10)
	for i := range blocks {
		blocks[i] = append([]byte(name), blocks[i]...)
	}
	return blocks
}
