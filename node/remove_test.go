package node

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/p2pcore/p2pcore/corestore"
	"github.com/p2pcore/p2pcore/dht"
	"github.com/p2pcore/p2pcore/feed"
)

func channels(r *Replicator, dk feed.DiscoveryKey) int {
	x := r.Exchange(dk)
	if x == nil {
		return 0
	}
	return len(x.Peers())
}

// store.remove(core): the channels close on every connection, the feed is not announced any more, not opened again for
// peers that ask, and get brings all of it back.
func TestRemoveClosesChannelsOnEveryConnectionAndUnlistens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sa, sb, sc := newStore(t), newStore(t), newStore(t)
		var mu sync.Mutex
		var told []string
		tell := func(s string) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, s)
		}
		a := NewReplicator(sa, ReplicatorOptions{
			OnListen:   func(_ feed.DiscoveryKey, m dht.Mode) { tell(fmt.Sprint("listen ", m)) },
			OnUnlisten: func(feed.DiscoveryKey) { tell("unlisten") },
		})
		defer a.Close()
		b, c := newReplicator(t, sb), newReplicator(t, sc)
		defer pipeAs(t, a, b, "b")()
		defer pipeAs(t, a, c, "c")()
		other := named(t, sa, "other")
		appendBlocks(t, other, "stays")
		w := named(t, sa, "log")
		key, dk := w.Key(), w.DiscoveryKey()
		appendBlocks(t, w, "first")
		leave := a.Listen(dk, dht.Announce)
		rb, rc := keyed(t, sb, key), keyed(t, sc, key)
		wantBlocks(t, rb, "first")
		wantBlocks(t, rc, "first")

		if err := sa.Remove(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if a.Exchange(dk) != nil || channels(b, dk) != 0 || channels(c, dk) != 0 {
			t.Errorf("channels left after Remove: %d at b, %d at c", channels(b, dk), channels(c, dk))
		}
		if _, err := w.GetLocal(t.Context(), 0); !errors.Is(err, feed.ErrClosed) {
			t.Errorf("the session: %v, want ErrClosed", err)
		}
		// A new connection does not get it either, and its peer asks.
		sd := newStore(t)
		d := newReplicator(t, sd)
		defer pipeAs(t, a, d, "d")()
		keyed(t, sd, key)
		wantBlocks(t, keyed(t, sd, other.Key()), "stays") // the others go on
		time.Sleep(time.Minute)
		if a.Exchange(dk) != nil || channels(d, dk) != 0 {
			t.Error("the feed was opened for a peer that asked")
		}

		back := keyed(t, sa, key)
		appendBlocks(t, back, "second")
		wantBlocks(t, rb, "first", "second")
		wantBlocks(t, rc, "first", "second")
		synctest.Wait()
		leave()
		if want := []string{"listen 1", "unlisten", "listen 1", "unlisten"}; !slices.Equal(told, want) {
			t.Errorf("told %q, want %q", told, want)
		}
	})
}

func TestListenOutlivesARemoval(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	r := newReplicator(t, s)
	w := named(t, s, "log")
	leave := r.Listen(w.DiscoveryKey(), dht.Announce)
	if err := s.Remove(t.Context(), w.Key()); err != nil {
		t.Fatal(err)
	}
	leave()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.listens) != 0 {
		t.Errorf("%d discovery keys remembered that nobody listens for", len(r.listens))
	}
}

// A feed is deleted and made again, removed and brought back, again and again, while its writer appends and a peer keeps
// asking for it. In the end the peer has what the writer has.
func TestDeleteAndRemoveUnderReplication(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		sa, sb := newStore(t), newStore(t)
		a, b := newReplicator(t, sa), newReplicator(t, sb)
		defer pipe(t, a, b)()
		w := named(t, sa, "log")
		key, dk := w.Key(), w.DiscoveryKey()
		appendBlocks(t, w, "first")
		reader := keyed(t, sb, key)
		wantBlocks(t, reader, "first")

		stop := make(chan struct{})
		var wg sync.WaitGroup
		loop := func(work func() error) {
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					if err := work(); err != nil && !errors.Is(err, feed.ErrClosed) && !errors.Is(err, feed.ErrNotAvailable) && !errors.Is(err, feed.ErrOutOfRange) {
						t.Error(err)
						return
					}
					time.Sleep(time.Millisecond)
				}
			})
		}
		loop(func() error {
			f, err := sa.Named(ctx, "log")
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = f.Append(ctx, []byte("block"))
			return err
		})
		loop(func() error { // the peer asks, whether or not the feed is there
			_, err := reader.Update(ctx)
			if info := reader.Info(); err == nil && info.Length > 0 {
				_, err = reader.GetLocal(ctx, info.Length-1)
			}
			return err
		})
		fork := uint64(0)
		for i := range 20 {
			time.Sleep(7 * time.Millisecond)
			var err error
			if i%2 == 0 {
				err = sa.Delete(ctx, key, corestore.DeleteOptions{})
			} else {
				err = sa.Remove(ctx, key)
			}
			if err != nil && !errors.Is(err, corestore.ErrUnknownFeed) {
				t.Errorf("turn %d: %v", i, err)
			}
		}
		close(stop)
		wg.Wait()

		w = named(t, sa, "log")
		appendBlocks(t, w, "last")
		info := w.Info()
		if fork = info.Fork; fork == 0 {
			t.Error("the feed was never made again")
		}
		for i := range info.Length {
			got, err := reader.Get(ctx, i)
			for err == nil && reader.Info().Fork != fork { // the peer still follows the older one
				time.Sleep(time.Millisecond)
				got, err = reader.Get(ctx, i)
			}
			want, _ := w.GetLocal(ctx, i)
			if err != nil || string(got) != string(want) {
				t.Fatalf("block %d at the peer: %q, %v; want %q", i, got, err, want)
			}
		}
		if got := reader.Info(); got.Fork != fork || got.Frozen {
			t.Errorf("the peer has %+v, want fork %d", got, fork)
		}
		for _, s := range []*feed.Session{w, reader} {
			if err := s.Feed().Check(ctx); err != nil {
				t.Error(err)
			}
		}
		if err := sa.Delete(ctx, key, corestore.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if a.Exchange(dk) != nil {
			t.Error("the deleted feed takes part although a peer only asks for it")
		}
		if ok, err := sa.Stored(ctx, key); ok || err != nil {
			t.Errorf("stored: %v, %v", ok, err)
		}
	})
}
