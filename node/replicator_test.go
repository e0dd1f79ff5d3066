package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/p2pcore/p2pcore/corestore"
	"github.com/p2pcore/p2pcore/dht"
	"github.com/p2pcore/p2pcore/feed"
)

// pipe replicates between two stores without a host, until the returned function is called.
func pipe(t *testing.T, a, b *Replicator) (hangUp func()) {
	t.Helper()
	return pipeAs(t, a, b, "pipe")
}

// pipeAs is pipe for one of several peers of a: the name is that of b.
func pipeAs(t *testing.T, a, b *Replicator, name string) (hangUp func()) {
	t.Helper()
	left, right := net.Pipe()
	binding := make([]byte, 32)
	var wg sync.WaitGroup
	run := func(r *Replicator, c net.Conn, initiator bool) {
		wg.Go(func() {
			r.HandleConnection(context.Background(), c, Conversation{Peer: name, Initiator: initiator, Binding: binding})
		})
	}
	run(a, left, true)
	run(b, right, false)
	return func() {
		left.Close()
		wg.Wait()
	}
}

func newReplicator(t *testing.T, s *corestore.Store) *Replicator {
	t.Helper()
	r := NewReplicator(s, ReplicatorOptions{})
	t.Cleanup(func() { r.Close() })
	return r
}

func TestReplicatorNeedsNoHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sa, sb := newStore(t), newStore(t)
		a, b := newReplicator(t, sa), newReplicator(t, sb)
		defer pipe(t, a, b)()
		w := named(t, sa, "log")
		appendBlocks(t, w, "first")
		wantBlocks(t, keyed(t, sb, w.Key()), "first")
	})
}

func TestStoredFeedIsLetGoWhenNobodyReadsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sa, sb := newStore(t), newStore(t)
		a, b := newReplicator(t, sa), newReplicator(t, sb)
		defer pipe(t, a, b)()
		w := named(t, sa, "log")
		appendBlocks(t, w, "first")
		dk := w.DiscoveryKey()
		w.Close()
		time.Sleep(time.Minute) // past the lingering
		if a.Exchange(dk) != nil {
			t.Fatal("a feed that nobody uses takes part in replication")
		}

		r, err := sb.Keyed(t.Context(), w.Key())
		if err != nil {
			t.Fatal(err)
		}
		wantBlocks(t, r, "first")
		time.Sleep(time.Hour)
		if a.Exchange(dk) == nil {
			t.Fatal("the feed was let go while a remote has it open")
		}
		appendAgain := named(t, sa, "log")
		appendBlocks(t, appendAgain, "second")
		wantBlocks(t, r, "first", "second")
		appendAgain.Close()

		r.Close()
		time.Sleep(2 * time.Minute)
		if a.Exchange(dk) != nil || b.Exchange(dk) != nil {
			t.Error("the feed takes part although neither side uses it")
		}
	})
}

func TestRemoteThatDoesNotKnowTheKeyHoldsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		r := newReplicator(t, s)
		w := named(t, s, "log")
		dk := w.DiscoveryKey()
		w.Close()
		time.Sleep(time.Minute)
		if x, err := r.onOpen(t.Context(), feed.DiscoveryKey{1}); x != nil || err != nil {
			t.Errorf("an unknown feed: %v, %v; want nil, nil", x, err)
		}
		x, err := r.onOpen(t.Context(), dk)
		if x == nil || err != nil {
			t.Fatalf("a stored feed: %v, %v", x, err)
		}
		time.Sleep(10 * reapAfter)
		if r.Exchange(dk) != nil {
			t.Error("the feed is kept although no channel came of it")
		}
	})
}

func TestListenFunctionsAreToldEveryChangeOnce(t *testing.T) {
	t.Parallel()
	var told []string
	r := NewReplicator(newStore(t), ReplicatorOptions{
		OnListen:   func(_ feed.DiscoveryKey, m dht.Mode) { told = append(told, fmt.Sprint("listen ", m)) },
		OnUnlisten: func(feed.DiscoveryKey) { told = append(told, "unlisten") },
	})
	t.Cleanup(func() { r.Close() })
	dk := feed.DiscoveryKey{1}
	announce := r.Listen(dk, dht.Announce)
	again := r.Listen(dk, dht.Announce)
	lookup := r.Listen(dk, dht.Lookup)
	announce()
	announce()
	again()
	lookup()
	want := []string{"listen 1", "listen 3", "listen 2", "unlisten"}
	if !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
	if len(r.listens) != 0 {
		t.Errorf("%d discovery keys remembered that nobody listens for", len(r.listens))
	}
}

func TestClosedReplicatorRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sa, sb := newStore(t), newStore(t)
		a, b := newReplicator(t, sa), newReplicator(t, sb)
		hangUp := pipe(t, a, b)
		w := named(t, sa, "log")
		appendBlocks(t, w, "first")
		wantBlocks(t, keyed(t, sb, w.Key()), "first")
		a.Close()
		hangUp()
		left, right := net.Pipe()
		defer right.Close()
		if err := a.HandleConnection(t.Context(), left, Conversation{Binding: make([]byte, 32)}); !errors.Is(err, ErrClosed) {
			t.Errorf("run after close: %v, want ErrClosed", err)
		}
	})
}
