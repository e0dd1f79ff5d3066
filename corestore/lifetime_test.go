package corestore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	datastore "github.com/ipfs/go-datastore"

	"github.com/p2pcore/p2pcore/corestore"
	"github.com/p2pcore/p2pcore/feed"
)

// isClosed reports whether f is closed.
func isClosed(f *feed.Feed) bool {
	s, err := f.Session(feed.SessionOptions{ReadOnly: true})
	if err != nil {
		return errors.Is(err, feed.ErrClosed)
	}
	s.Close()
	return false
}

func TestIdleFeedsCloseAndReopen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		s := open(t, newMemory(), corestore.Options{})
		opened := 0
		defer s.OnOpen(func(*feed.Feed) { opened++ })()

		session := must(t)(s.Named(ctx, "a"))
		appendText(t, session, "x")
		f := session.Feed()
		f2, release, err := s.Resolve(ctx, f.DiscoveryKey())
		if err != nil || f2 != f {
			t.Fatalf("Resolve: %p, %v; want %p", f2, err, f)
		}
		session.Close()
		session.Close()
		time.Sleep(time.Hour)
		if isClosed(f) {
			t.Fatal("closed while somebody holds it")
		}
		release()
		release()
		time.Sleep(corestore.DefaultIdleTimeout - time.Millisecond)
		session = must(t)(s.Named(ctx, "a"))
		time.Sleep(time.Hour)
		if isClosed(f) || session.Feed() != f || opened != 1 {
			t.Fatalf("closed %v, the same %v, opened %d times", isClosed(f), session.Feed() == f, opened)
		}
		session.Close()
		time.Sleep(corestore.DefaultIdleTimeout)
		synctest.Wait()
		if !isClosed(f) {
			t.Fatal("not closed when idle")
		}
		session = must(t)(s.Keyed(ctx, f.Key()))
		if session.Feed() == f || opened != 2 {
			t.Errorf("opened %d times, want 2", opened)
		}
		wantBlocks(t, session, "x")
	})
}

func TestSuspendClosesWhatNobodyUses(t *testing.T) {
	onEach(t, func(t *testing.T, ds datastore.Batching) {
		ctx := t.Context()
		s := open(t, ds, corestore.Options{IdleTimeout: -1})
		unused, used := must(t)(s.Named(ctx, "unused")), must(t)(s.Named(ctx, "used"))
		appendText(t, unused, "x")
		f := unused.Feed()
		unused.Close()
		if isClosed(f) {
			t.Fatal("closed although idle feeds stay open")
		}
		if err := s.Suspend(ctx); err != nil {
			t.Fatal(err)
		}
		if !isClosed(f) || isClosed(used.Feed()) {
			t.Errorf("unused feed closed: %v, used feed closed: %v", isClosed(f), isClosed(used.Feed()))
		}
		appendText(t, used, "goes on")
		wantBlocks(t, must(t)(s.Named(ctx, "unused")), "x")
		closeStore(t, s)
		if err := s.Suspend(ctx); !errors.Is(err, corestore.ErrClosed) {
			t.Errorf("a closed store: %v", err)
		}
	})
}

func TestResolveOfUnknownFeeds(t *testing.T) {
	ctx := t.Context()
	s := open(t, newMemory(), corestore.Options{})
	f, release, err := s.Resolve(ctx, feed.Key{1}.DiscoveryKey())
	if !errors.Is(err, corestore.ErrUnknownFeed) || f != nil || release != nil {
		t.Errorf("got %v, %v; want ErrUnknownFeed", f, err)
	}
	if n := len(list(t, s)); n != 0 {
		t.Errorf("%d feeds after Resolve, want 0", n)
	}
}

func TestActiveFollowsSessions(t *testing.T) {
	ctx := t.Context()
	s := open(t, newMemory(), corestore.Options{IdleTimeout: -1})
	var seen []string
	stop := s.OnActive(func(f *feed.Feed, active bool) { seen = append(seen, fmt.Sprint(f.Key().Hex()[:4], active)) })
	var opened []feed.Key
	s.OnOpen(func(f *feed.Feed) { opened = append(opened, f.Key()) })

	a1 := must(t)(s.Named(ctx, "a"))
	a2 := must(t)(s.Keyed(ctx, a1.Key()))
	b := must(t)(s.Fresh(ctx))
	_, release, err := s.Resolve(ctx, b.DiscoveryKey())
	if err != nil {
		t.Fatal(err)
	}
	b.Close()
	if active := slices.Collect(s.Active()); len(active) != 1 || active[0] != a1.Feed() {
		t.Errorf("active: %v", active)
	}
	a1.Close()
	a2.Close()
	a3 := must(t)(s.Named(ctx, "a"))
	ka, kb := a1.Key().Hex()[:4], b.Key().Hex()[:4]
	want := []string{ka + "true", kb + "true", kb + "false", ka + "false", ka + "true"}
	if !slices.Equal(seen, want) {
		t.Errorf("told %v, want %v", seen, want)
	}
	if want := []feed.Key{a1.Key(), b.Key()}; !slices.Equal(opened, want) {
		t.Errorf("opened %v, want %v", opened, want)
	}
	stop()
	a3.Close()
	release()
	if len(seen) != len(want) {
		t.Errorf("told %v after stop", seen)
	}
}

// slow lets the test hold up reads.
type slow struct {
	datastore.Batching
	mu   sync.Mutex
	hold func(ctx context.Context) error // nil: no
}

func (s *slow) Get(ctx context.Context, k datastore.Key) ([]byte, error) {
	s.mu.Lock()
	hold := s.hold
	s.mu.Unlock()
	if hold != nil {
		if err := hold(ctx); err != nil {
			return nil, err
		}
	}
	return s.Batching.Get(ctx, k)
}

func (s *slow) set(hold func(context.Context) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hold = hold
}

// Callers that wait for the opening of a feed outlive the one that opens it.
func TestCancelledOpenerHarmsNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ds := &slow{Batching: newMemory()}
		s := open(t, ds, corestore.Options{})
		session := must(t)(s.Fresh(t.Context()))
		key := session.Key()
		session.Close()
		time.Sleep(time.Minute)
		synctest.Wait()

		ds.set(func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
		first, cancelFirst := context.WithCancel(t.Context())
		second, cancelSecond := context.WithCancel(t.Context())
		errs := make([]error, 3)
		var feeds [3]*feed.Session
		var all sync.WaitGroup
		for i, ctx := range []context.Context{first, second, t.Context()} {
			all.Go(func() { feeds[i], errs[i] = s.Keyed(ctx, key) })
			synctest.Wait()
		}
		cancelSecond() // a waiter
		synctest.Wait()
		ds.set(nil)
		cancelFirst() // the opener
		all.Wait()
		if !errors.Is(errs[0], context.Canceled) || !errors.Is(errs[1], context.Canceled) || errs[2] != nil {
			t.Errorf("errors %v", errs)
		}
	})
}

func TestCloseWaitsForOpenings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ds := &slow{Batching: newMemory()}
		s := open(t, ds, corestore.Options{})
		proceed := make(chan struct{})
		ds.set(func(context.Context) error { <-proceed; return nil })
		var err error
		var all sync.WaitGroup
		all.Go(func() { _, err = s.Named(t.Context(), "a") })
		synctest.Wait()
		closed := false
		all.Go(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			closed = true
		})
		synctest.Wait()
		if closed {
			t.Error("Close did not wait")
		}
		close(proceed)
		all.Wait()
		if err == nil {
			t.Error("a feed was opened in a store that was closing")
		}
	})
}

// Many callers, few feeds, a short idle time: a feed is never open twice.
func TestEachFeedIsOpenOnce(t *testing.T) {
	onEach(t, func(t *testing.T, ds datastore.Batching) {
		ctx := t.Context()
		s := open(t, ds, corestore.Options{IdleTimeout: time.Microsecond})
		var mu sync.Mutex
		last := make(map[feed.Key]*feed.Feed)
		opened := 0
		s.OnOpen(func(f *feed.Feed) {
			mu.Lock()
			defer mu.Unlock()
			if old := last[f.Key()]; old != nil && !isClosed(old) {
				t.Error("a feed was opened while it was open")
			}
			last[f.Key()] = f
			opened++
		})
		active := make(map[feed.Key]bool)
		s.OnActive(func(f *feed.Feed, now bool) {
			mu.Lock()
			defer mu.Unlock()
			if active[f.Key()] == now {
				t.Errorf("told twice that active is %v", now)
			}
			active[f.Key()] = now
		})
		const feeds, callers = 20, 1000
		keys := make([]feed.Key, feeds)
		for i := range keys {
			keys[i] = feed.DefaultManifest(s.KeyPair(fmt.Sprint(i)).Public()).Key()
		}
		var all sync.WaitGroup
		for c := range callers {
			all.Go(func() {
				rnd := rand.New(rand.NewPCG(1, uint64(c)))
				for range 5 {
					i := rnd.IntN(feeds)
					var session *feed.Session
					var err error
					switch rnd.IntN(3) {
					case 0:
						session, err = s.Named(ctx, fmt.Sprint(i))
					case 1:
						session, err = s.Keyed(ctx, keys[i])
					case 2:
						f, release, err := s.Resolve(ctx, keys[i].DiscoveryKey())
						if errors.Is(err, corestore.ErrUnknownFeed) {
							continue
						}
						if err != nil || f.Key() != keys[i] || isClosed(f) {
							t.Errorf("Resolve: %v", err)
							return
						}
						release()
						continue
					}
					if err != nil || session.Key() != keys[i] {
						t.Errorf("feed %d: %v", i, err)
						return
					}
					if rnd.IntN(10) == 0 && session.Info().Writable {
						if _, err := session.Append(ctx, []byte{byte(c)}); err != nil {
							t.Errorf("append: %v", err)
						}
					}
					session.Close()
				}
			})
		}
		all.Wait()
		closeStore(t, s)
		t.Logf("%d openings of %d feeds", opened, feeds)
		s = open(t, ds, corestore.Options{})
		for i, e := range list(t, s) {
			if err := must(t)(s.Keyed(ctx, e.Key)).Feed().Check(ctx); err != nil {
				t.Errorf("feed %d: %v", i, err)
			}
		}
	})
}

// renaming calls then, once, when a name has been read.
type renaming struct {
	datastore.Batching
	then func()
}

func (r *renaming) Get(ctx context.Context, k datastore.Key) ([]byte, error) {
	b, err := r.Batching.Get(ctx, k)
	if then := r.then; then != nil && strings.HasPrefix(k.String(), "/store/name/") {
		r.then = nil
		then()
	}
	return b, err
}

// TestNamedCanAppendToWhatWasDeletedAndOpenedByKey since its name was read: the feed that is stored then has neither name
// nor secret.
func TestNamedCanAppendToWhatWasDeletedAndOpenedByKey(t *testing.T) {
	ctx := t.Context()
	ds := &renaming{Batching: newMemory()}
	s := open(t, ds, corestore.Options{})
	first := must(t)(s.Named(ctx, "log"))
	key := first.Key()
	appendText(t, first, "before")
	ds.then = func() {
		if err := s.Delete(ctx, key, corestore.DeleteOptions{}); err != nil {
			t.Error(err)
		}
		must(t)(s.Keyed(ctx, key))
	}
	again := must(t)(s.Named(ctx, "log"))
	if ds.then != nil {
		t.Fatal("no name was read")
	}
	appendText(t, again, "after")
	if info := again.Info(); again.Key() != key || info.Fork == 0 {
		t.Errorf("feed %s of fork %d, want %s past fork 0", again.Key(), info.Fork, key)
	}
	if found, ok, err := s.LookupName(ctx, "log"); err != nil || !ok || found != key {
		t.Errorf("the name leads to %s, %t, %v; want %s", found, ok, err, key)
	}
	wantBlocks(t, again, "after")
}
