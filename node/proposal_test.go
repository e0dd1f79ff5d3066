package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/p2pcore/p2pcore/corestore"
	"github.com/p2pcore/p2pcore/feed"
	hyper "github.com/p2pcore/p2pcore/protocol"
)

// TestReplicateTheWholeGroup: one stream carries all feeds that both sides have, those opened later and those that are only
// stored at the other side among them, and no others.
func TestReplicateTheWholeGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		sa, sb := newStore(t), newStore(t)
		a, b := w.settle("a", sa, nil), w.settle("b", sb, nil)
		var shared []*feed.Session
		for i := range 10 {
			f := named(t, sa, fmt.Sprint(i))
			appendBlocks(t, f, fmt.Sprint("block of ", i))
			if i%2 == 0 {
				shared = append(shared, keyed(t, sb, f.Key()))
			}
		}
		own := named(t, sb, "b's own")
		if err := a.HandlePeer("b", own.DiscoveryKey(), w.to("a", "b")); err != nil {
			t.Fatal(err)
		}
		for i, f := range shared {
			wantBlocks(t, f, fmt.Sprint("block of ", 2*i))
		}

		late := named(t, sb, "opened later")
		appendBlocks(t, late, "late")
		wantBlocks(t, keyed(t, sa, late.Key()), "late")
		stored := named(t, sa, "only stored")
		appendBlocks(t, stored, "stored")
		key := stored.Key()
		stored.Close()
		time.Sleep(time.Hour) // past all lingering
		if a.Exchange(key.DiscoveryKey()) != nil {
			t.Fatal("a feed that nobody uses takes part")
		}
		wantBlocks(t, keyed(t, sb, key), "stored")

		open := 0
		for e := range sa.List(t.Context()) {
			open += channels(a, e.DiscoveryKey)
		}
		if want := len(shared) + 2; open != want || w.made.Load() != 1 || live(a) != 1 || live(b) != 1 {
			t.Errorf("%d channels on %d connections, %d and %d live; want %d on 1", open, w.made.Load(), live(a), live(b), want)
		}
	})
}

// TestStartReplicationForNewConnectionsInboundAndOutbound: whoever opened the connection, both sides' feeds go over it.
func TestStartReplicationForNewConnectionsInboundAndOutbound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		middle := newStore(t)
		m := w.settle("middle", middle, nil)
		own := named(t, middle, "own")
		appendBlocks(t, own, "of the middle")
		for i, inbound := range []bool{true, false} {
			name := fmt.Sprint("peer ", i)
			store := newStore(t)
			r := w.settle(name, store, nil)
			theirs := named(t, store, "log")
			appendBlocks(t, theirs, name)
			from, to, dialler := name, "middle", r
			if !inbound {
				from, to, dialler = "middle", name, m
			}
			if err := dialler.HandlePeer(to, own.DiscoveryKey(), w.to(from, to)); err != nil {
				t.Fatal(err)
			}
			wantBlocks(t, keyed(t, store, own.Key()), "of the middle")
			wantBlocks(t, keyed(t, middle, theirs.Key()), name)
		}
		if live(m) != 2 {
			t.Errorf("%d connections, want 2", live(m))
		}
	})
}

// TestHandleConnectionOfAPeerForADiscoveryKey: the hook of the discovery key gets the connection, under the name that the peer
// was given, and the feed, which is only stored, is replicated over it.
func TestHandleConnectionOfAPeerForADiscoveryKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		sa, sb := newStore(t), newStore(t)
		a := w.settle("a", sa, nil)
		w.settle("b", sb, nil)
		stored := named(t, sa, "log")
		appendBlocks(t, stored, "first")
		dk := stored.DiscoveryKey()
		stored.Close()
		var got []string
		defer a.OnDiscoveryKey(dk, func(peer string, c *hyper.Conn) { got = append(got, peer+" "+c.Peer()) })()
		copied := keyed(t, sb, stored.Key())
		for _, name := range []string{"b", ""} { // a peer with a name, and one without
			rwc, conv, err := w.to("a", "b")(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			conv.Peer, conv.DiscoveryKey = name, &dk
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- a.HandleConnection(ctx, rwc, conv) }()
			wantBlocks(t, copied, "first")
			synctest.Wait()
			if want := name + " " + name; !slices.Equal(got, []string{want}) {
				t.Errorf("the hook was called for %q, want %q once", got, want)
			}
			got = nil
			cancel()
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("HandleConnection after its context's end: %v", err)
			}
		}
	})
}

// TestPeerExtensionReachesThatPeerAlone: a message to one of three peers is for nobody else.
func TestPeerExtensionReachesThatPeerAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		sa := newGroup(t, nil, "chat")
		key := sa.DefaultKey()
		w.settle("a", sa, nil)
		names := []string{"b", "c", "d"}
		diaries := make(map[string]*diary)
		for _, name := range names {
			s := newGroup(t, &key, "chat")
			diaries[name] = keepDiary(s)
			if err := w.settle(name, s, nil).HandlePeer("a", key.DiscoveryKey(), w.to(name, "a")); err != nil {
				t.Fatal(err)
			}
			diaries[name].want(t, "a came")
		}
		for i, p := range sa.Peers() {
			if p.Name() != names[i] {
				t.Errorf("peer %d is %q, want %q", i, p.Name(), names[i])
			}
			send(t, p, "chat", "for "+p.Name())
			for _, name := range names {
				if name == p.Name() {
					diaries[name].want(t, "a chat: for "+name)
				} else {
					diaries[name].want(t)
				}
			}
		}
	})
}

// TestExtensionMessagesOnTheHypercores: a feed has extensions of its own; messages over it are not the store's, although the
// store has declared their type.
func TestExtensionMessagesOnTheHypercores(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		sa := newGroup(t, nil, "chat")
		key := sa.DefaultKey()
		sb := newGroup(t, &key, "chat")
		a, b := w.settle("a", sa, nil), w.settle("b", sb, nil)
		da, db := keepDiary(sa), keepDiary(sb)
		f := named(t, sa, "log")
		keyed(t, sb, f.Key())
		if err := b.HandlePeer("a", key.DiscoveryKey(), w.to("b", "a")); err != nil {
			t.Fatal(err)
		}
		da.want(t, "b came")
		db.want(t, "a came")
		var got []string
		stop, err := b.Exchange(f.DiscoveryKey()).OnExtension("chat", func(_ context.Context, from hyper.Peer, message []byte) {
			got = append(got, from.Name()+": "+string(message))
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Exchange(f.DiscoveryKey()).Broadcast("chat", []byte("on the feed")); err != nil {
			t.Fatal(err)
		}
		send(t, da.last(), "chat", "in the group")
		db.want(t, "a chat: in the group")
		if !slices.Equal(got, []string{"a: on the feed"}) {
			t.Errorf("the feed's handler got %q", got)
		}
		stop()
		if err := a.Exchange(f.DiscoveryKey()).Broadcast("chat", []byte("to nobody")); err != nil {
			t.Fatal(err)
		}
		db.want(t)
	})
}

// TestFeedThatAPeerAsksForIsResolvedThroughTheStore: one that is stored is served, though it is not open; an unknown, a
// removed and a deleted one are rejected, each by itself.
func TestFeedThatAPeerAsksForIsResolvedThroughTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		sa, sb := newStore(t), newStore(t)
		a, b := w.settle("a", sa, nil), w.settle("b", sb, nil)
		var keys []feed.Key
		for _, name := range []string{"stored", "removed", "deleted"} {
			f := named(t, sa, name)
			appendBlocks(t, f, name)
			keys = append(keys, f.Key())
			f.Close()
		}
		if err := errors.Join(sa.Remove(t.Context(), keys[1]), sa.Delete(t.Context(), keys[2], corestore.DeleteOptions{})); err != nil {
			t.Fatal(err)
		}
		if err := b.HandlePeer("a", keys[0].DiscoveryKey(), w.to("b", "a")); err != nil {
			t.Fatal(err)
		}
		rejected := []*feed.Session{keyed(t, sb, feed.Key{1}), keyed(t, sb, keys[1]), keyed(t, sb, keys[2])}
		synctest.Wait()
		wantBlocks(t, keyed(t, sb, keys[0]), "stored")
		time.Sleep(time.Hour)
		for i, f := range rejected {
			if f.Info().Length != 0 || channels(b, f.DiscoveryKey()) != 0 || a.Exchange(f.DiscoveryKey()) != nil {
				t.Errorf("rejected feed %d: %d blocks, %d channels", i, f.Info().Length, channels(b, f.DiscoveryKey()))
			}
		}
		if live(a) != 1 || w.made.Load() != 1 {
			t.Errorf("%d live streams of %d, want 1 of 1", live(a), w.made.Load())
		}
	})
}
