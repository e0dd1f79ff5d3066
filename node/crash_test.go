package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/p2pcore/p2pcore/corestore"
	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/internal/brittle"
)

// departure is one run of a store whose feed is deleted or removed, and made again, while it is appended to and two peers
// ask for it, one of which connects again and again. The n-th operation of its datastore fails since then. It lives in
// fake time: who sleeps lets the others go on until they wait.
type departure struct {
	*testing.T
	remove bool // else delete
	dead   bool // all later operations fail too

	ds     *brittle.Store
	store  *corestore.Store
	a      *Replicator
	b      *Replicator    // a peer, whose store does not fail
	reader *feed.Session  // of b
	key    feed.Key       // of the feed
	prefix string         // of all records of the feed in its first life
	acked  blocks         // of the first life; by the appender until it has ended
	again  blocks         // of the second life
	gone   bool           // delete has succeeded
	stop   chan struct{}  // closed for the peers and the appender to end
	busy   sync.WaitGroup // those
}

// blocks are those whose append was acknowledged, by their index. An append that failed may have been done.
type blocks map[uint64]string

func (b *blocks) add(info feed.Info, text string) {
	if *b == nil {
		*b = make(blocks)
	}
	(*b)[info.Length-1] = text
}

// TestDeleteAndRemoveUnderReplicationWithACrashAtEveryOperation: afterwards the feed is whole or gone without a record, the
// other feed is as it was, and the peer has what the writer has, once that goes on.
func TestDeleteAndRemoveUnderReplicationWithACrashAtEveryOperation(t *testing.T) {
	const leastOps = 8 // of a departure; less means that nothing was tried
	for _, remove := range []bool{false, true} {
		for _, atomic := range []bool{true, false} {
			for _, dead := range []bool{true, false} {
				t.Run(fmt.Sprintf("remove=%v,atomic=%v,dead=%v", remove, atomic, dead), func(t *testing.T) {
					t.Parallel()
					for n := 1; ; n++ {
						broken := false
						synctest.Test(t, func(t *testing.T) {
							d := &departure{T: t, remove: remove, dead: dead, ds: brittle.New(atomic, uint64(n)), stop: make(chan struct{})}
							d.prepare()
							d.ds.Fail(n, dead)
							broken = d.fail()
							d.verify()
						})
						if t.Failed() {
							t.Fatalf("operation %d failed", n)
						}
						if !broken {
							if n <= leastOps {
								t.Errorf("only %d operations", n-1)
							}
							return
						}
					}
				})
			}
		}
	}
}

// open opens the store and replicates with b.
func (d *departure) open() (hangUp func()) {
	d.Helper()
	var err error
	if d.store, err = corestore.Open(d.Context(), d.ds, corestore.Options{PrimaryKey: &[32]byte{5}}); err != nil {
		d.Fatalf("open: %v", err)
	}
	d.a = NewReplicator(d.store, ReplicatorOptions{})
	return pipeAs(d.T, d.a, d.b, "b")
}

// close ends what open has begun. What fails is the datastore's fault only.
func (d *departure) close(hangUp func()) {
	d.Helper()
	hangUp()
	d.allow("close", errors.Join(d.a.Close(), d.store.Close()))
}

func (d *departure) allow(what string, err error, also ...error) {
	d.Helper()
	for _, a := range append(also, brittle.Err) {
		if err == nil || errors.Is(err, a) {
			return
		}
	}
	d.Errorf("%s: %v", what, err)
}

func (d *departure) prepare() {
	d.b = newReplicator(d.T, newStore(d.T))
	hangUp := d.open()
	d.Cleanup(func() { d.close(hangUp) })
	ctx := d.Context()
	other := named(d.T, d.store, "other")
	appendBlocks(d.T, other, "stays")
	before := make(map[string]bool)
	for _, k := range d.ds.Keys() {
		before[k] = true
	}
	w := named(d.T, d.store, "log")
	appendBlocks(d.T, w, "one", "two")
	d.key, d.acked = w.Key(), blocks{0: "one", 1: "two"}
	for _, k := range d.ds.Keys() {
		if !before[k] && !strings.HasPrefix(k, "/store/") {
			d.prefix = k[:strings.Index(k[1:], "/")+2]
		}
	}
	d.reader = keyed(d.T, d.b.store, d.key)
	wantBlocks(d.T, d.reader, "one", "two")
	wantBlocks(d.T, keyed(d.T, d.b.store, other.Key()), "stays")

	d.loop(func(i int) error {
		text := fmt.Sprint("block ", i)
		info, err := w.Append(ctx, []byte(text))
		if err == nil {
			d.acked.add(info, text)
		}
		return err
	})
	d.loop(func(int) error {
		_, err := d.reader.Update(ctx)
		return err
	})
	c := newReplicator(d.T, newStore(d.T))
	asks := keyed(d.T, c.store, d.key)
	a := d.a
	d.loop(func(int) error {
		defer pipeAs(d.T, a, c, "c")()
		_, err := asks.Update(ctx)
		return err
	})
}

// loop does something again and again until stop is closed.
func (d *departure) loop(work func(i int) error) {
	d.busy.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-d.stop:
				return
			default:
			}
			d.allow("meanwhile", work(i), feed.ErrClosed)
			time.Sleep(time.Millisecond)
		}
	})
}

// leave deletes or removes the feed.
func (d *departure) leave(ctx context.Context) error {
	if d.remove {
		return d.store.Remove(ctx, d.key)
	}
	err := d.store.Delete(ctx, d.key, corestore.DeleteOptions{})
	d.gone = d.gone || err == nil || errors.Is(err, corestore.ErrUnknownFeed)
	return err
}

// write appends a block to the feed, which is made again or brought back if need be.
func (d *departure) write(text string) error {
	w, err := d.store.Named(d.Context(), "log")
	if err != nil {
		return err
	}
	defer w.Close()
	info, err := w.Append(d.Context(), []byte(text))
	switch {
	case err != nil:
	case info.Fork == 0:
		d.acked.add(info, text)
	default:
		d.again.add(info, text)
	}
	return err
}

// fail lets the feed leave and come back. It reports whether an operation has failed.
func (d *departure) fail() (broken bool) {
	time.Sleep(2 * time.Millisecond) // in the midst of the others
	left := d.leave(d.Context())
	time.Sleep(2 * time.Millisecond) // it is asked for, and not there
	close(d.stop)
	d.busy.Wait()
	d.allow("leave", left)
	d.allow("write", d.write("again"))
	synctest.Wait()
	if broken = d.ds.Broken(); d.dead {
		return broken
	}
	// The datastore works again, and so does the store.
	d.ds.Heal()
	if err := d.leave(d.Context()); err != nil && !errors.Is(err, corestore.ErrUnknownFeed) {
		d.Errorf("leave, once nothing fails: %v", err)
	}
	d.again = nil
	d.converge("once nothing fails")
	return broken
}

// verify crashes, twice, and looks at what is left.
func (d *departure) verify() {
	ctx := d.Context()
	_ = errors.Join(d.a.Close(), d.store.Close())
	d.ds.Crash()
	d.ds.FailAmong(20, true)
	if s, err := corestore.Open(ctx, d.ds, corestore.Options{}); err == nil {
		_ = s.Close()
	} else {
		d.allow("open", err)
	}
	d.ds.Crash()
	hangUp := d.open()
	defer func() { d.close(hangUp) }()

	d.whole()
	other := named(d.T, d.store, "other")
	wantBlocks(d.T, other, "stays")
	if err := other.Feed().Check(ctx); err != nil {
		d.Errorf("the other feed: %v", err)
	}
	d.converge("after the crash")
}

// whole checks that the feed is there with all that was acknowledged, or that nothing of its first life is left.
func (d *departure) whole() {
	d.Helper()
	ctx := d.Context()
	first := false
	for _, k := range d.ds.Keys() {
		first = first || strings.HasPrefix(k, d.prefix)
		if strings.HasPrefix(k, "/store/purge/") {
			d.Errorf("record %s is left", k)
		}
	}
	f, release, err := d.store.Inspect(ctx, d.key)
	if errors.Is(err, corestore.ErrUnknownFeed) {
		if first || d.remove || len(d.again) > 0 {
			d.Errorf("the feed is not there: records of its first life are: %v, blocks of its second: %v", first, d.again)
		}
		return
	}
	if err != nil {
		d.Fatal(err)
	}
	defer release()
	if err := f.Check(ctx); err != nil {
		d.Error(err)
	}
	want := d.acked
	if f.Info().Fork > 0 {
		want = d.again
	}
	if first != (f.Info().Fork == 0) || first && d.gone {
		d.Errorf("fork %d, records of the first life: %v, deleted: %v", f.Info().Fork, first, d.gone)
	}
	s, err := f.Session(feed.SessionOptions{})
	if err != nil {
		d.Fatal(err)
	}
	defer s.Close()
	for i, text := range want {
		if b, err := s.GetLocal(ctx, i); err != nil || string(b) != text {
			d.Errorf("acknowledged block %d: %q, %v, want %q", i, b, err, text)
		}
	}
}

// converge goes on writing, and waits until the peer has all of it, in the same fork.
func (d *departure) converge(when string) {
	d.Helper()
	if err := d.write(when); err != nil {
		d.Fatalf("write, %s: %v", when, err)
	}
	w := named(d.T, d.store, "log")
	want := w.Info()
	d.Cleanup(func() {
		if d.Failed() {
			d.Logf("want %+v, got %+v", want, d.reader.Info())
		}
	})
	eventually(d.T, "the peer follows "+when, func() bool {
		got := d.reader.Info()
		return got.Fork == want.Fork && got.Length == want.Length
	})
	var blocks []string
	for i := range want.Length {
		b, err := w.GetLocal(d.Context(), i)
		if err != nil {
			d.Fatal(err)
		}
		blocks = append(blocks, string(b))
	}
	wantBlocks(d.T, d.reader, blocks...)
	if d.reader.Info().Frozen || !d.remove && want.Fork == 0 && d.gone {
		d.Errorf("%s: fork %d, frozen: %v", when, want.Fork, d.reader.Info().Frozen)
	}
	for _, s := range []*feed.Session{w, d.reader} {
		if err := s.Feed().Check(d.Context()); err != nil {
			d.Errorf("%s: %v", when, err)
		}
	}
}
