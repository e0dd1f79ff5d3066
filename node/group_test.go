package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	datastore "github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"

	"github.com/p2pcore/p2pcore/corestore"
	"github.com/p2pcore/p2pcore/feed"
	hyper "github.com/p2pcore/p2pcore/protocol"
)

// newGroup returns a store whose default feed is that of key, or its own.
func newGroup(t testing.TB, key *feed.Key, types ...string) *corestore.Store {
	t.Helper()
	store, err := corestore.Open(testContext(t), dssync.MutexWrap(datastore.NewMapDatastore()), corestore.Options{DefaultKey: key, Extensions: types})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return store
}

// diary notes what a store is told of its peers.
type diary struct {
	mu    sync.Mutex
	lines []string
	peers []corestore.Peer
}

func keepDiary(s *corestore.Store) *diary {
	d := &diary{}
	note := func(p corestore.Peer, format string, args ...any) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.lines = append(d.lines, p.Name()+" "+fmt.Sprintf(format, args...))
	}
	s.OnPeerAdd(func(_ context.Context, p corestore.Peer) {
		note(p, "came")
		d.mu.Lock()
		defer d.mu.Unlock()
		d.peers = append(d.peers, p)
	})
	s.OnPeerRemove(func(_ context.Context, p corestore.Peer) { note(p, "went") })
	s.OnExtension(func(_ context.Context, typ string, message []byte, p corestore.Peer) { note(p, "%s: %s", typ, message) })
	return d
}

// want compares what was noted since the last time.
func (d *diary) want(t *testing.T, lines ...string) {
	t.Helper()
	synctest.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	if !slices.Equal(d.lines, lines) {
		t.Errorf("noted %q, want %q", d.lines, lines)
	}
	d.lines = nil
}

func (d *diary) last() corestore.Peer {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.peers[len(d.peers)-1]
}

func send(t *testing.T, p corestore.Peer, typ, message string) {
	t.Helper()
	if err := p.Extension(t.Context(), typ, []byte(message)); err != nil {
		t.Error(err)
	}
}

// TestStoreOnExtensionForTheDeclaredTypes: messages go both ways between peers who share the default feed, in order, and
// what one of them has not declared is not sent, or not taken.
func TestStoreOnExtensionForTheDeclaredTypes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		sa := newGroup(t, nil, "chat", "only a")
		key := sa.DefaultKey()
		sb := newGroup(t, &key, "chat", "only b")
		a, b := w.settle("a", sa, nil), w.settle("b", sb, nil)
		da, db := keepDiary(sa), keepDiary(sb)
		if got := a.Extensions(); !slices.Equal(got, []string{"chat", "only a"}) {
			t.Errorf("extensions of a: %q", got)
		}
		if err := b.HandlePeer("a", key.DiscoveryKey(), w.to("b", "a")); err != nil {
			t.Fatal(err)
		}
		da.want(t, "b came")
		db.want(t, "a came")
		for i := range 3 {
			send(t, da.last(), "chat", fmt.Sprint("to b ", i))
			send(t, db.last(), "chat", fmt.Sprint("to a ", i))
		}
		send(t, da.last(), "only a", "lost")
		da.want(t, "b chat: to a 0", "b chat: to a 1", "b chat: to a 2")
		db.want(t, "a chat: to b 0", "a chat: to b 1", "a chat: to b 2")

		p := da.last()
		if err := p.Extension(t.Context(), "only b", nil); !errors.Is(err, corestore.ErrUndeclared) {
			t.Errorf("a type that was not declared: %v", err)
		}
		if err := p.Extension(t.Context(), "chat", make([]byte, 1<<20+1)); !errors.Is(err, hyper.ErrExtensionSize) {
			t.Errorf("a message of more than 1 MiB: %v", err)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := p.Extension(ended, "chat", nil); !errors.Is(err, context.Canceled) {
			t.Errorf("after ctx: %v", err)
		}
		if got := sa.Peers(); !slices.Equal(got, []corestore.Peer{p}) {
			t.Errorf("peers of a: %v", got)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		da.want(t, "b went")
		db.want(t, "a went")
		if err := p.Extension(t.Context(), "chat", nil); !errors.Is(err, hyper.ErrClosed) {
			t.Errorf("to a peer that has gone: %v", err)
		}
		if len(sa.Peers()) != 0 {
			t.Errorf("peers of a: %v", sa.Peers())
		}
	})
}

// TestAddExtensionsWhileConnected: types that are declared on live connections work on them, also the first ones, for
// which the default feed has to be opened.
func TestAddExtensionsWhileConnected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		sa := newGroup(t, nil)
		key := sa.DefaultKey()
		sb := newGroup(t, &key)
		a, b := w.settle("a", sa, nil), w.settle("b", sb, nil)
		da, db := keepDiary(sa), keepDiary(sb)
		if err := a.HandlePeer("b", key.DiscoveryKey(), w.to("a", "b")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		da.want(t)
		if err := a.AddExtensions("one"); err != nil {
			t.Fatal(err)
		}
		if err := b.AddExtensions("one", "two", "one"); err != nil {
			t.Fatal(err)
		}
		da.want(t, "b came")
		db.want(t, "a came")
		send(t, db.last(), "one", "first")
		send(t, db.last(), "two", "lost")
		da.want(t, "b one: first")
		if err := a.AddExtensions("two", "one"); err != nil {
			t.Fatal(err)
		}
		send(t, db.last(), "two", "second")
		send(t, da.last(), "two", "answer")
		da.want(t, "b two: second")
		db.want(t, "a two: answer")
		if got := a.Extensions(); !slices.Equal(got, []string{"one", "two"}) {
			t.Errorf("extensions of a: %q", got)
		}
		for _, bad := range []string{"", strings.Repeat("x", corestore.MaxExtensionBytes+1)} {
			if err := a.AddExtensions("three", bad); !errors.Is(err, corestore.ErrExtension) {
				t.Errorf("a type of %d bytes: %v", len(bad), err)
			}
		}
		if sa.Declared("three") {
			t.Error("a type was declared although another one was refused")
		}
		many := make([]string, corestore.MaxExtensions)
		for i := range many {
			many[i] = fmt.Sprint(i)
		}
		if err := a.AddExtensions(many...); !errors.Is(err, corestore.ErrExtension) {
			t.Errorf("too many types: %v", err)
		}
	})
}

// TestPeerAddAndPeerRemoveOncePerPeer: not for each feed, nor for each connection, of which a new one takes an old one's
// place; and a stranger, who does not know the default feed's key, is no peer of the group.
func TestPeerAddAndPeerRemoveOncePerPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		sa := newGroup(t, nil, "chat")
		key := sa.DefaultKey()
		sb, sc := newGroup(t, &key, "chat"), newGroup(t, nil, "chat")
		a, b, c := w.settle("a", sa, nil), w.settle("b", sb, nil), w.settle("c", sc, nil)
		da, db, dc := keepDiary(sa), keepDiary(sb), keepDiary(sc)
		for i := range 5 {
			f := named(t, sa, fmt.Sprint(i))
			appendBlocks(t, f, "block")
			keyed(t, sb, f.Key())
			keyed(t, sc, f.Key())
		}
		for _, r := range []*Replicator{b, c} {
			if err := r.HandlePeer("a", key.DiscoveryKey(), w.to(r.opts.Name, "a")); err != nil {
				t.Fatal(err)
			}
		}
		da.want(t, "b came")
		db.want(t, "a came")
		dc.want(t)
		first := da.last()
		for range 3 { // b begins another stream, having lost the one before, of which a does not know yet
			here, conv, err := w.to("b", "a")(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			conv.Peer = "a"
			synctest.Wait() // a lets go of the old one, and b sees that
			db.want(t, "a went")
			w.wg.Go(func() { b.HandleConnection(context.Background(), here, conv) })
			db.want(t, "a came")
			send(t, db.last(), "chat", "again")
			da.want(t, "b chat: again")
		}
		send(t, first, "chat", "still you")
		db.want(t, "a chat: still you")
		if err := a.Close(); err != nil {
			t.Error(err)
		}
		da.want(t, "b went")
		db.want(t, "a went")
		dc.want(t)
	})
}

// TestPeersWithoutANameAreOnePerConnection and go with it.
func TestPeersWithoutANameAreOnePerConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sa := newGroup(t, nil, "chat")
		key := sa.DefaultKey()
		a := NewReplicator(sa, ReplicatorOptions{})
		defer a.Close()
		da := keepDiary(sa)
		var wg sync.WaitGroup
		var ends []context.CancelFunc
		for range 2 {
			sb := newGroup(t, &key, "chat")
			b := NewReplicator(sb, ReplicatorOptions{})
			defer b.Close()
			here, there := net.Pipe()
			ctx, cancel := context.WithCancel(t.Context())
			ends = append(ends, cancel)
			binding := make([]byte, 32)
			wg.Go(func() { a.HandleConnection(t.Context(), here, Conversation{Binding: binding}) })
			wg.Go(func() { b.HandleConnection(ctx, there, Conversation{Binding: binding, Initiator: true}) })
		}
		da.want(t, " came", " came")
		for _, end := range ends {
			end()
			da.want(t, " went")
		}
		wg.Wait()
	})
}

// TestClosingEndsACallbackThatWaits, with a peer added, removed, or heard of.
func TestClosingEndsACallbackThatWaits(t *testing.T) {
	for _, what := range []string{"add", "message"} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newTown(t)
				sa := newGroup(t, nil, "chat")
				key := sa.DefaultKey()
				sb := newGroup(t, &key, "chat")
				a, b := w.settle("a", sa, nil), w.settle("b", sb, nil)
				db := keepDiary(sb)
				waiting := make(chan struct{})
				wait := func(ctx context.Context) { close(waiting); <-ctx.Done() }
				if what == "add" {
					sa.OnPeerAdd(func(ctx context.Context, _ corestore.Peer) { wait(ctx) })
				} else {
					sa.OnExtension(func(ctx context.Context, _ string, _ []byte, _ corestore.Peer) { wait(ctx) })
				}
				da := keepDiary(sa)
				if err := b.HandlePeer("a", key.DiscoveryKey(), w.to("b", "a")); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				send(t, db.last(), "chat", "x")
				<-waiting
				if err := a.Close(); err != nil {
					t.Error(err)
				}
				synctest.Wait()
				if n := len(sa.Peers()); n != 0 {
					t.Errorf("%d peers after Close", n)
				}
				da.mu.Lock()
				defer da.mu.Unlock()
				if len(da.lines) < 2 || da.lines[0] != "b came" || da.lines[len(da.lines)-1] != "b went" {
					t.Errorf("noted %q", da.lines)
				}
			})
		})
	}
}

// TestRemovedDefaultFeedCarriesNothing, and is not opened again for the next connection; the peer stays as long as its stream.
func TestRemovedDefaultFeedCarriesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		sa := newGroup(t, nil, "chat")
		key := sa.DefaultKey()
		sb := newGroup(t, &key, "chat")
		a, b := w.settle("a", sa, nil), w.settle("b", sb, nil)
		da, db := keepDiary(sa), keepDiary(sb)
		if err := b.HandlePeer("a", key.DiscoveryKey(), w.to("b", "a")); err != nil {
			t.Fatal(err)
		}
		da.want(t, "b came")
		if err := sa.Remove(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for _, p := range []corestore.Peer{da.last(), db.last()} {
			if err := p.Extension(t.Context(), "chat", nil); !errors.Is(err, hyper.ErrClosed) {
				t.Errorf("a message to %s: %v", p.Name(), err)
			}
		}
		da.want(t)
		back, err := sa.Default(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer back.Close()
		synctest.Wait()
		send(t, da.last(), "chat", "back")
		db.want(t, "a came", "a chat: back")
		if err := a.Close(); err != nil {
			t.Error(err)
		}
		da.want(t, "b went")
	})
}
