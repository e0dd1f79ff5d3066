package node

import (
	"fmt"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/p2pcore/p2pcore/dht"
)

func (c *connector) wantedPeers() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.targets)
}

func TestOneTopicCannotTakeAllPlaces(t *testing.T) {
	t.Parallel()
	n := newNode(t, newStore(t))
	one := reason{kind: byTopic, topic: dht.Topic{1}}
	taken := 0
	for i := range 2 * maxWantedPerTopic {
		if n.connector.want(peer.AddrInfo{ID: peer.ID(fmt.Sprint("one ", i))}, one) {
			taken++
		}
	}
	if taken != maxWantedPerTopic {
		t.Errorf("one topic took %d places, want %d", taken, maxWantedPerTopic)
	}
	if !n.connector.want(peer.AddrInfo{ID: "two"}, reason{kind: byTopic, topic: dht.Topic{2}}) {
		t.Error("another topic got no place")
	}
	if n.connector.want(peer.AddrInfo{ID: n.Host().ID()}, one) {
		t.Error("the node wants itself")
	}
	n.connector.unwantAll(one)
	eventually(t, "the topic's peers are forgotten", func() bool { return n.connector.wantedPeers() <= 1 })
}

func TestPeersInUseAreProtected(t *testing.T) {
	t.Parallel()
	a, b := newNode(t, newStore(t)), newNode(t, newStore(t))
	connect(t, a, b)
	protected := func() bool { return a.Host().ConnManager().IsProtected(b.Host().ID(), serviceName) }
	if !protected() {
		t.Error("the peer is not protected while a stream with it is up")
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the protection ends with the stream", func() bool { return !protected() })
}

func TestPeerOfTheConfigurationIsTriedUntilItIsThere(t *testing.T) {
	t.Parallel()
	sa, sb := newStore(t), newStore(t)
	early := newNode(t, sb)
	key, addr := early.Host().Peerstore().PrivKey(early.Host().ID()), early.Host().Addrs()
	target := info(early)
	if err := early.Close(); err != nil {
		t.Fatal(err)
	}
	a := newNode(t, sa)
	remove := a.AddPeer(target)
	eventually(t, "a failed attempt", func() bool {
		a.connector.mu.Lock()
		defer a.connector.mu.Unlock()
		return a.connector.targets[target.ID].redial.fails > 0
	})
	newNode(t, sb, WithIdentity(key), WithListenAddrs(addr...))
	eventually(t, "a stream", func() bool { return a.links.live(target.ID) })
	remove()
	eventually(t, "the peer is forgotten", func() bool { return a.connector.wantedPeers() == 0 })
	if !a.links.live(target.ID) {
		t.Error("the stream ended because the peer is wanted no more")
	}
}

func TestPeerAddedTwiceStaysUntilItIsRemovedTwice(t *testing.T) {
	t.Parallel()
	a, b := newNode(t, newStore(t)), newNode(t, newStore(t))
	first, second := a.AddPeer(info(b)), a.AddPeer(info(b))
	eventually(t, "the peer is connected", func() bool { return a.links.live(b.Host().ID()) })
	first()
	first() // a second call is of no effect
	wanted := func() bool {
		a.connector.mu.Lock()
		defer a.connector.mu.Unlock()
		_, forever := a.connector.targets[b.Host().ID()].reasons[reason{kind: byConfig}]
		return forever
	}
	if !wanted() {
		t.Error("the peer is forgotten although one of two who added it keeps it")
	}
	second()
	eventually(t, "the peer is forgotten", func() bool { return a.connector.wantedPeers() == 0 })
}
