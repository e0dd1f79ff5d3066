package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	datastore "github.com/ipfs/go-datastore"

	"github.com/p2pcore/p2pcore/corestore"
	"github.com/p2pcore/p2pcore/dht"
	"github.com/p2pcore/p2pcore/feed"
	hyper "github.com/p2pcore/p2pcore/protocol"
)

// town is a network without libp2p: replicators with names, which connect to each other by pipes.
type town struct {
	t     *testing.T
	wg    sync.WaitGroup
	made  atomic.Int64 // connections
	delay time.Duration

	mu    sync.Mutex
	homes map[string]*Replicator
	known map[feed.DiscoveryKey][]string // who announces what
}

func newTown(t *testing.T) *town {
	w := &town{t: t, homes: make(map[string]*Replicator), known: make(map[feed.DiscoveryKey][]string)}
	t.Cleanup(w.wg.Wait) // after all homes have closed
	return w
}

// settle makes a replicator that lives in the town; opts may be changed.
func (w *town) settle(name string, store *corestore.Store, change func(o *ReplicatorOptions)) *Replicator {
	o := ReplicatorOptions{Name: name}
	if change != nil {
		change(&o)
	}
	r := NewReplicator(store, o)
	w.mu.Lock()
	w.homes[name] = r
	w.mu.Unlock()
	w.t.Cleanup(func() { r.Close() })
	return r
}

// to returns the connect function of from to a home.
func (w *town) to(from, home string) func(context.Context) (io.ReadWriteCloser, Conversation, error) {
	return func(ctx context.Context) (io.ReadWriteCloser, Conversation, error) {
		w.mu.Lock()
		r := w.homes[home]
		w.mu.Unlock()
		time.Sleep(w.delay) // fake
		n := w.made.Add(1)
		here, there := net.Pipe()
		binding := make([]byte, 32)
		binding[0], binding[1] = byte(n), byte(n>>8)
		w.wg.Go(func() {
			r.HandleConnection(context.Background(), there, Conversation{Peer: from, Binding: binding})
		})
		return here, Conversation{Initiator: true, Binding: binding}, nil
	}
}

// live counts the streams of a replicator.
func live(r *Replicator) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.conns)
}

// TestHandlePeerConnectsOnce: 1,000 discoveries of one peer, for 50 discovery keys, cause one connection and 50
// replicating feeds.
func TestHandlePeerConnectsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		w.delay = time.Second
		sa, sb := newStore(t), newStore(t)
		a := w.settle("a", sa, nil)
		w.settle("b", sb, nil)
		var keys []feed.Key
		var copies []*feed.Session
		for i := range 50 {
			s := named(t, sb, fmt.Sprint(i))
			appendBlocks(t, s, fmt.Sprint("block of ", i))
			keys = append(keys, s.Key())
			copies = append(copies, keyed(t, sa, s.Key()))
		}
		var calls sync.WaitGroup
		for i := range 1000 {
			calls.Go(func() {
				if err := a.HandlePeer("b", keys[i%50].DiscoveryKey(), w.to("a", "b")); err != nil {
					t.Error(err)
				}
			})
		}
		calls.Wait()
		for i, s := range copies {
			wantBlocks(t, s, fmt.Sprint("block of ", i))
		}
		if n := w.made.Load(); n != 1 {
			t.Errorf("%d connections were made, want 1", n)
		}
		if err := a.HandlePeer("b", keys[0].DiscoveryKey(), w.to("a", "b")); err != nil || w.made.Load() != 1 {
			t.Errorf("a discovery of a connected peer: %v, %d connections", err, w.made.Load())
		}
	})
}

// TestHandlePeerReplicatesOverTheLiveStream: the feed that the peer was found for is stored and not open on either side.
func TestHandlePeerReplicatesOverTheLiveStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		sa, sb := newStore(t), newStore(t)
		a := w.settle("a", sa, nil)
		w.settle("b", sb, nil)
		one := named(t, sb, "one")
		if err := a.HandlePeer("b", one.DiscoveryKey(), w.to("a", "b")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		stored := named(t, sb, "two")
		appendBlocks(t, stored, "second")
		key := stored.Key()
		stored.Close()
		copied := keyed(t, sa, key)
		if err := a.HandlePeer("b", key.DiscoveryKey(), w.to("a", "b")); err != nil {
			t.Fatal(err)
		}
		wantBlocks(t, copied, "second")
		if n := w.made.Load(); n != 1 {
			t.Errorf("%d connections were made, want 1", n)
		}
	})
}

// TestSimultaneousStreamsEndAsOne has two peers find each other at once, in both orders of their names.
func TestSimultaneousStreamsEndAsOne(t *testing.T) {
	for _, names := range [][2]string{{"a", "b"}, {"b", "a"}} {
		synctest.Test(t, func(t *testing.T) {
			w := newTown(t)
			w.delay = time.Second
			sa, sb := newStore(t), newStore(t)
			a, b := w.settle(names[0], sa, nil), w.settle(names[1], sb, nil)
			x := named(t, sa, "x")
			appendBlocks(t, x, "first")
			dk := x.DiscoveryKey()
			copied := keyed(t, sb, x.Key())
			for range 5 {
				if err := errors.Join(
					a.HandlePeer(names[1], dk, w.to(names[0], names[1])),
					b.HandlePeer(names[0], dk, w.to(names[1], names[0])),
				); err != nil {
					t.Fatal(err)
				}
			}
			wantBlocks(t, copied, "first")
			time.Sleep(time.Minute)
			if live(a) != 1 || live(b) != 1 {
				t.Errorf("%d and %d streams, want 1 at both ends", live(a), live(b))
			}
			appendBlocks(t, x, "second")
			wantBlocks(t, copied, "first", "second")
		})
	}
}

func TestFailedConnectIsTriedAgainWithTheNextDiscovery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		sa, sb := newStore(t), newStore(t)
		a := w.settle("a", sa, nil)
		w.settle("b", sb, nil)
		s := named(t, sb, "log")
		appendBlocks(t, s, "first")
		copied := keyed(t, sa, s.Key())
		fails := 0
		for range 3 {
			err := a.HandlePeer("b", s.DiscoveryKey(), func(context.Context) (io.ReadWriteCloser, Conversation, error) {
				fails++
				return nil, Conversation{}, errors.New("not there")
			})
			if err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		if fails != 3 || len(a.peers) != 0 || a.connecting != 0 {
			t.Errorf("%d attempts, %d peers remembered, %d connecting; want 3, 0, 0", fails, len(a.peers), a.connecting)
		}
		if err := a.HandlePeer("b", s.DiscoveryKey(), w.to("a", "b")); err != nil {
			t.Fatal(err)
		}
		wantBlocks(t, copied, "first")
	})
}

func TestHandlePeerIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		a := w.settle("a", newStore(t), nil)
		wait := func(ctx context.Context) (io.ReadWriteCloser, Conversation, error) {
			<-ctx.Done()
			return nil, Conversation{}, ctx.Err()
		}
		for i := range maxConnecting {
			if err := a.HandlePeer(fmt.Sprint(i), feed.DiscoveryKey{}, wait); err != nil {
				t.Fatal(err)
			}
		}
		if err := a.HandlePeer("more", feed.DiscoveryKey{}, wait); !errors.Is(err, ErrBusy) {
			t.Errorf("one peer too many: %v, want ErrBusy", err)
		}
		for i := range maxKeysPerPeer - 1 {
			if err := a.HandlePeer("0", feed.DiscoveryKey{1, byte(i), byte(i >> 8)}, wait); err != nil {
				t.Fatal(err)
			}
		}
		if err := a.HandlePeer("0", feed.DiscoveryKey{2}, wait); !errors.Is(err, ErrBusy) {
			t.Errorf("one key too many: %v, want ErrBusy", err)
		}
		if len(a.peers) != maxConnecting {
			t.Errorf("%d peers remembered, want %d", len(a.peers), maxConnecting)
		}
	})
}

// TestAddCoreAddsAFeedToLiveAndFutureConnections puts a feed that is in no store on live and on later connections.
func TestAddCoreAddsAFeedToLiveAndFutureConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		sa, sb, sc := newStore(t), newStore(t), newStore(t)
		a := w.settle("a", sa, nil)
		w.settle("b", sb, nil)
		w.settle("c", sc, nil)
		pair := feed.KeyPairFromSeed([32]byte{1})
		f, err := feed.Create(t.Context(), datastore.NewMapDatastore(), feed.Options{Prefix: "/alone", KeyPair: &pair})
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		s, err := f.Session(feed.SessionOptions{})
		if err != nil {
			t.Fatal(err)
		}
		appendBlocks(t, s, "first")

		early := keyed(t, sb, f.Key())
		if err := a.HandlePeer("b", f.DiscoveryKey(), w.to("a", "b")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		remove, err := a.AddCore(f)
		if err != nil {
			t.Fatal(err)
		}
		wantBlocks(t, early, "first")
		if err := a.HandlePeer("c", f.DiscoveryKey(), w.to("a", "c")); err != nil {
			t.Fatal(err)
		}
		wantBlocks(t, keyed(t, sc, f.Key()), "first")

		other, err := feed.Create(t.Context(), datastore.NewMapDatastore(), feed.Options{Prefix: "/other", KeyPair: &pair})
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		if _, err := a.AddCore(other); !errors.Is(err, ErrAdded) {
			t.Errorf("a second feed of the key: %v, want ErrAdded", err)
		}
		remove()
		remove()
		if a.Exchange(f.DiscoveryKey()) != nil {
			t.Error("the feed takes part after it was removed")
		}
		// c has the key too, and serves b.
		appendBlocks(t, s, "second")
		if info := early.Info(); info.Length != 1 {
			t.Errorf("length %d at a reader, want 1", info.Length)
		}
	})
}

// TestOnDiscoveryKeyGetsTheConnection: a feed is opened when, and because, a peer asks for it.
func TestOnDiscoveryKeyGetsTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		sa, sb := newStore(t), newStore(t)
		a := w.settle("a", sa, nil)
		b := w.settle("b", sb, nil)
		s := named(t, sa, "log")
		appendBlocks(t, s, "first")
		var copied *feed.Session
		var peers []string
		stop := b.OnDiscoveryKey(s.DiscoveryKey(), func(peer string, c *hyper.Conn) {
			peers = append(peers, peer)
			if c.Peer() != peer {
				t.Errorf("the connection's peer is %q, want %q", c.Peer(), peer)
			}
			copied = keyed(t, sb, s.Key())
		})
		if err := a.HandlePeer("b", s.DiscoveryKey(), w.to("a", "b")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if !slices.Equal(peers, []string{"a"}) {
			t.Fatalf("told of %q, want a once", peers)
		}
		wantBlocks(t, copied, "first")
		stop()
		stop()
		if len(b.hooks) != 0 {
			t.Error("the hook is remembered")
		}
	})
}

// TestAnotherDiscoveryDrivesAReplicator puts a registry in the place of dht: it knows the listen events alone.
func TestAnotherDiscoveryDrivesAReplicator(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		join := func(name string) func(o *ReplicatorOptions) {
			return func(o *ReplicatorOptions) {
				o.OnListen = func(dk feed.DiscoveryKey, m dht.Mode) {
					w.mu.Lock()
					defer w.mu.Unlock()
					if m&dht.Announce != 0 {
						w.known[dk] = append(w.known[dk], name)
					}
					if m&dht.Lookup == 0 {
						return
					}
					for _, home := range w.known[dk] {
						if home != name {
							if err := w.homes[name].HandlePeer(home, dk, w.to(name, home)); err != nil {
								t.Error(err)
							}
						}
					}
				}
				o.OnUnlisten = func(dk feed.DiscoveryKey) {
					w.mu.Lock()
					defer w.mu.Unlock()
					w.known[dk] = slices.DeleteFunc(w.known[dk], func(home string) bool { return home == name })
				}
			}
		}
		sa, sb := newStore(t), newStore(t)
		a, b := w.settle("a", sa, join("a")), w.settle("b", sb, join("b"))
		s := named(t, sa, "log")
		appendBlocks(t, s, "first")
		leave := a.Listen(s.DiscoveryKey(), dht.Announce)
		copied := keyed(t, sb, s.Key())
		found := b.Listen(s.DiscoveryKey(), dht.Lookup)
		wantBlocks(t, copied, "first")
		found()
		leave()
		if homes := w.known[s.DiscoveryKey()]; len(homes) != 0 {
			t.Errorf("%q is announced after the last has left", homes)
		}
	})
}

// TestHandshakeKeyKeepsStrangersOut lets nodes of a group and others meet.
func TestHandshakeKeyKeepsStrangersOut(t *testing.T) {
	t.Parallel()
	sa, sb, sc := newStore(t), newStore(t), newStore(t)
	door := named(t, sa, "door")
	a := newNode(t, sa, WithHandshakeKey(door.Key()))
	b := newNode(t, sb, WithHandshakeKey(door.Key()))
	stranger := newNode(t, sc)
	s := named(t, sa, "log")
	appendBlocks(t, s, "first")
	if err := stranger.Connect(testContext(t), info(a)); err != nil {
		t.Fatal(err) // the stream is up, and nothing is said on it
	}
	copied := keyed(t, sc, s.Key())
	connect(t, b, a)
	wantBlocks(t, keyed(t, sb, s.Key()), "first")
	eventually(t, "the stranger is cut off", func() bool { return !stranger.links.live(a.Host().ID()) })
	if p := stranger.FeedPeers(s.Key()); len(p) != 0 || copied.Info().Length != 0 {
		t.Errorf("the stranger has peers %v and %d blocks of the feed", p, copied.Info().Length)
	}
	// With the door's feed open, it is none.
	keyed(t, sc, door.Key())
	connect(t, stranger, a)
	wantBlocks(t, copied, "first")
}

// TestHandshakeDefaultIsTheDefaultFeed: the groups of one default feed replicate, and others stay out.
func TestHandshakeDefaultIsTheDefaultFeed(t *testing.T) {
	t.Parallel()
	sa, sc := newStore(t), newStore(t)
	key := sa.DefaultKey()
	sb := newStoreWith(t, corestore.Options{DefaultKey: &key})
	a, b, stranger := newNode(t, sa, WithDefaultHandshakeKey()), newNode(t, sb, WithDefaultHandshakeKey()), newNode(t, sc, WithDefaultHandshakeKey())
	s := named(t, sa, "log")
	appendBlocks(t, s, "first")
	copied := keyed(t, sc, s.Key())
	if err := stranger.Connect(testContext(t), info(a)); err != nil {
		t.Fatal(err)
	}
	connect(t, b, a)
	wantBlocks(t, keyed(t, sb, s.Key()), "first")
	eventually(t, "the stranger is cut off", func() bool { return !stranger.links.live(a.Host().ID()) })
	if copied.Info().Length != 0 {
		t.Error("a group with another default feed has been let in")
	}
}
