package node

import (
	"testing"
	"testing/synctest"

	"github.com/p2pcore/p2pcore/feed"
	hyper "github.com/p2pcore/p2pcore/protocol"
)

// discreetTown has a discreet replicator with two feeds in use, and another one that notes which of them it is offered.
func discreetTown(t *testing.T) (w *town, a, b *Replicator, one, two *feed.Session, offered map[string]int, copyOf func(*feed.Session) *feed.Session) {
	w = newTown(t)
	sa, sb := newStore(t), newStore(t)
	a = w.settle("a", sa, func(o *ReplicatorOptions) { o.Discreet = true })
	b = w.settle("b", sb, nil)
	one, two = named(t, sa, "one"), named(t, sa, "two")
	offered = make(map[string]int)
	for name, s := range map[string]*feed.Session{"one": one, "two": two} {
		appendBlocks(t, s, name)
		b.OnDiscoveryKey(s.DiscoveryKey(), func(string, *hyper.Conn) { offered[name]++ })
	}
	return w, a, b, one, two, offered, func(s *feed.Session) *feed.Session { return keyed(t, sb, s.Key()) }
}

// TestDiscreetOffersNothingToStrangers: who connects hears of no feed until it has shown that it knows one, and then of all.
func TestDiscreetOffersNothingToStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a, b, one, _, offered, copyOf := discreetTown(t)
		if err := b.HandlePeer("a", feed.DiscoveryKey{1}, w.to("b", "a")); err != nil { // for a feed that nobody has
			t.Fatal(err)
		}
		synctest.Wait()
		if live(a) != 1 || len(offered) != 0 {
			t.Fatalf("%d streams; a stranger was offered %v", live(a), offered)
		}
		late := named(t, a.store, "late") // in use while the stranger is there
		b.OnDiscoveryKey(late.DiscoveryKey(), func(string, *hyper.Conn) { offered["late"]++ })
		synctest.Wait()
		if len(offered) != 0 {
			t.Fatalf("a stranger was offered %v", offered)
		}
		wantBlocks(t, copyOf(one), "one") // what it asks for is answered
		synctest.Wait()
		if offered["two"] != 1 || offered["late"] != 1 {
			t.Errorf("who knows one feed was offered %v, want the others too", offered)
		}
	})
}

// TestDiscreetOffersWhatAPeerWasFoundFor: whoever is found for a feed is offered that one, and all once it has
// shown that it knows it.
func TestDiscreetOffersWhatAPeerWasFoundFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a, _, one, two, offered, copyOf := discreetTown(t)
		if err := a.HandlePeer("b", one.DiscoveryKey(), w.to("a", "b")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if offered["one"] != 1 || offered["two"] != 0 {
			t.Fatalf("who was found for one feed was offered %v", offered)
		}
		if err := a.HandlePeer("b", two.DiscoveryKey(), nil); err != nil { // and for the other, on the same stream
			t.Fatal(err)
		}
		synctest.Wait()
		if offered["two"] != 1 {
			t.Errorf("who was found for the second feed too was offered %v", offered)
		}
		wantBlocks(t, copyOf(two), "two")
	})
}

// TestDiscreetNodesTrustWhomTheyName: a node is as open as ever to peers that were named to it.
func TestDiscreetNodesTrustWhomTheyName(t *testing.T) {
	t.Parallel()
	sa, sb := newStore(t), newStore(t)
	a, b := newNode(t, sa, WithDiscreet()), newNode(t, sb)
	s := named(t, sa, "log")
	appendBlocks(t, s, "first")
	heard := make(chan struct{})
	b.replicator.OnDiscoveryKey(s.DiscoveryKey(), func(string, *hyper.Conn) { close(heard) })
	connect(t, a, b)
	select {
	case <-heard:
	case <-testContext(t).Done():
		t.Error("a peer that was named was not offered the feed")
	}
}
