package node

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/p2pcore/p2pcore/corestore"
	"github.com/p2pcore/p2pcore/dht"
	"github.com/p2pcore/p2pcore/feed"
	hyper "github.com/p2pcore/p2pcore/protocol"
)

// takeOut is Remove and Delete of a feed.
var takeOut = map[string]func(s *corestore.Store, key feed.Key) error{
	"remove": func(s *corestore.Store, key feed.Key) error { return s.Remove(context.Background(), key) },
	"delete": func(s *corestore.Store, key feed.Key) error {
		return s.Delete(context.Background(), key, corestore.DeleteOptions{})
	},
}

// openAgain opens the default feed without a context that could end the wait.
func openAgain(t *testing.T, s *corestore.Store) {
	session, err := s.Default(context.Background())
	if err != nil {
		t.Errorf("the default feed: %v", err)
		return
	}
	session.Close()
}

// TestPeerRemoveMayOpenTheDefaultFeed: that peers have gone because the default feed leaves the group is told when
// it has left, once per peer and in order, also if callbacks open it.
func TestPeerRemoveMayOpenTheDefaultFeed(t *testing.T) {
	for name, out := range takeOut {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newTown(t)
				sa := newGroup(t, nil, "chat")
				key := sa.DefaultKey()
				a := w.settle("a", sa, nil)
				sa.OnPeerRemove(func(context.Context, corestore.Peer) { openAgain(t, sa) })
				var want []string
				da := keepDiary(sa)
				for _, peer := range []string{"b", "c"} {
					b := w.settle(peer, newGroup(t, &key, "chat"), nil)
					if err := b.HandlePeer("a", key.DiscoveryKey(), w.to(peer, "a")); err != nil {
						t.Fatal(err)
					}
					da.want(t, peer+" came")
					want = append(want, peer+" went")
				}
				// The streams end while the feed leaves, so that both ends find that the peers have gone.
				a.mu.Lock()
				var conns []*hyper.Conn
				for c := range a.conns {
					conns = append(conns, c)
				}
				a.mu.Unlock()
				for _, c := range conns {
					go c.Close()
				}
				if err := out(sa, key); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				da.mu.Lock()
				defer da.mu.Unlock()
				slices.Sort(da.lines)
				if !slices.Equal(da.lines, want) {
					t.Errorf("noted %q, want %q", da.lines, want)
				}
				if n := len(sa.Peers()); n != 0 {
					t.Errorf("%d peers are left", n)
				}
			})
		})
	}
}

// TestGroupCallbacksMayTakeOutTheDefaultFeed, and open it again: OnPeerAdd, OnExtension and OnPeerRemove run within
// what the removal ends.
func TestGroupCallbacksMayTakeOutTheDefaultFeed(t *testing.T) {
	for name, out := range takeOut {
		for _, what := range []string{"add", "message", "remove"} {
			t.Run(name+" in "+what, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newTown(t)
					sa := newGroup(t, nil, "chat")
					key := sa.DefaultKey()
					sb := newGroup(t, &key, "chat")
					a, b := w.settle("a", sa, nil), w.settle("b", sb, nil)
					called := make(chan struct{})
					once := sync.OnceFunc(func() {
						openAgain(t, sa)
						if err := out(sa, key); err != nil {
							t.Errorf("%s: %v", name, err)
						}
						openAgain(t, sa)
						close(called)
					})
					switch what {
					case "add":
						sa.OnPeerAdd(func(context.Context, corestore.Peer) { once() })
					case "message":
						sa.OnExtension(func(context.Context, string, []byte, corestore.Peer) { once() })
					case "remove":
						sa.OnPeerRemove(func(context.Context, corestore.Peer) { once() })
					}
					db := keepDiary(sb)
					if err := b.HandlePeer("a", key.DiscoveryKey(), w.to("b", "a")); err != nil {
						t.Fatal(err)
					}
					synctest.Wait()
					send(t, db.last(), "chat", "x")
					synctest.Wait()
					if what == "remove" {
						if err := b.Close(); err != nil {
							t.Error(err)
						}
					}
					<-called
					if err := a.Close(); err != nil {
						t.Error(err)
					}
					if n := len(sa.Peers()); n != 0 {
						t.Errorf("%d peers after Close", n)
					}
				})
			})
		}
	}
}

// TestClosingTheStoreWaitsForWhatIsLeftToTell of a removal and of a peer that has gone.
func TestClosingTheStoreWaitsForWhatIsLeftToTell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		sa := newGroup(t, nil, "chat")
		key := sa.DefaultKey()
		w.settle("a", sa, nil)
		b := w.settle("b", newGroup(t, &key, "chat"), nil)
		called, gate := make(chan struct{}), make(chan struct{})
		var told atomic.Bool
		sa.OnPeerRemove(func(context.Context, corestore.Peer) {
			close(called)
			<-gate
			told.Store(true)
		})
		if err := b.HandlePeer("a", key.DiscoveryKey(), w.to("b", "a")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if err := sa.Remove(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		<-called
		closed := make(chan error, 1)
		go func() { closed <- sa.Close() }()
		synctest.Wait()
		if len(closed) > 0 {
			t.Error("the store was closed while a callback ran")
		}
		close(gate)
		if err := <-closed; err != nil || !told.Load() {
			t.Errorf("closed: %v, told: %v", err, told.Load())
		}
	})
}

// TestListenFunctionsMayCallBack: they open the feed that is being removed, and listen for the key that they are told of.
func TestListenFunctionsMayCallBack(t *testing.T) {
	for _, policy := range []AnnouncePolicy{AnnounceChosen, AnnounceAll} {
		t.Run(policy.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStore(t)
				var r *Replicator
				var told []string
				var key feed.Key
				opened := make(chan struct{})
				r = NewReplicator(s, ReplicatorOptions{
					Announce: policy,
					OnListen: func(dk feed.DiscoveryKey, m dht.Mode) {
						told = append(told, "listen")
						if m&dht.Lookup == 0 {
							r.Listen(dk, dht.Lookup)()
						}
					},
					OnUnlisten: func(feed.DiscoveryKey) {
						told = append(told, "unlisten")
						session, err := s.Keyed(context.Background(), key)
						if err != nil {
							t.Error(err)
							return
						}
						session.Close()
						close(opened)
					},
				})
				defer r.Close()
				w := named(t, s, "log")
				key = w.Key()
				synctest.Wait()
				if policy == AnnounceChosen {
					r.Listen(w.DiscoveryKey(), dht.Announce)
				}
				if err := s.Remove(context.Background(), key); err != nil {
					t.Fatal(err)
				}
				<-opened
				synctest.Wait()
				if want := []string{"listen", "unlisten", "listen"}; !slices.Equal(told, want) {
					t.Errorf("told %q, want %q", told, want)
				}
			})
		})
	}
}

// neighbours are two replicators that can reach each other, and a feed of one block in the store of a.
type neighbours struct {
	*town
	sa, sb *corestore.Store
	a, b   *Replicator
	key    feed.Key
}

func newNeighbours(t *testing.T) *neighbours {
	n := &neighbours{town: newTown(t), sa: newStore(t), sb: newStore(t)}
	n.a, n.b = n.settle("a", n.sa, nil), n.settle("b", n.sb, nil)
	f := named(t, n.sa, "log")
	appendBlocks(t, f, "block")
	n.key = f.Key()
	return n
}

// meet has b open a stream to a because of the feed.
func (n *neighbours) meet(t *testing.T) {
	t.Helper()
	if err := n.b.HandlePeer("a", n.key.DiscoveryKey(), n.to("b", "a")); err != nil {
		t.Fatal(err)
	}
}

// removes takes the feed out of a's store.
func (n *neighbours) removes(t *testing.T) {
	if err := n.sa.Remove(context.Background(), n.key); err != nil {
		t.Error(err)
	}
}

// TestDiscoveryKeyHooksMayTakeOutTheFeed that a peer has popped up for, and open it.
func TestDiscoveryKeyHooksMayTakeOutTheFeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNeighbours(t)
		n.a.OnDiscoveryKey(n.key.DiscoveryKey(), func(string, *hyper.Conn) {
			n.removes(t)
			keyed(t, n.sa, n.key)
		})
		reader := keyed(t, n.sb, n.key)
		n.meet(t)
		wantBlocks(t, reader, "block")
	})
}

// TestExtensionHandlersMayTakeOutTheirFeed: the application's own, of a feed's exchange.
func TestExtensionHandlersMayTakeOutTheirFeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNeighbours(t)
		taken := make(chan struct{})
		if _, err := n.a.Exchange(n.key.DiscoveryKey()).OnExtension("x", func(context.Context, hyper.Peer, []byte) {
			defer close(taken)
			n.removes(t)
		}); err != nil {
			t.Fatal(err)
		}
		wantBlocks(t, keyed(t, n.sb, n.key)) // opens it
		n.meet(t)
		synctest.Wait()
		if err := n.b.Exchange(n.key.DiscoveryKey()).Broadcast("x", nil); err != nil {
			t.Fatal(err)
		}
		<-taken
	})
}
