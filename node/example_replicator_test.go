package node_test

import (
	"context"
	"fmt"
	"io"
	"net"

	datastore "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/sync"

	"github.com/p2pcore/p2pcore/corestore"
	"github.com/p2pcore/p2pcore/dht"
	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/node"
	"github.com/p2pcore/p2pcore/protocol"
)

// docs/corestore.md shows pieces of the examples as they stand here.

// open returns a store in memory.
func open(opts corestore.Options) *corestore.Store {
	store, err := corestore.Open(context.Background(), sync.MutexWrap(datastore.NewMapDatastore()), opts)
	check(err)
	return store
}

// A replicator needs no libp2p: connections, and the discovery of peers, are whatever the application has.
func ExampleReplicator() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	store, theirs := open(corestore.Options{}), open(corestore.Options{})
	defer store.Close()
	defer theirs.Close()
	journal, err := theirs.Named(ctx, "journal")
	check(err)
	_, err = journal.Append(ctx, []byte("hello"))
	check(err)
	key, dk := journal.Key(), journal.DiscoveryKey()
	other := node.NewReplicator(theirs, node.ReplicatorOptions{Name: "Bob"})
	defer other.Close()

	replicator := node.NewReplicator(store, node.ReplicatorOptions{
		Name:       "Alice",
		OnListen:   func(dk feed.DiscoveryKey, m dht.Mode) { fmt.Println("listen", m == dht.Lookup) },
		OnUnlisten: func(dk feed.DiscoveryKey) { fmt.Println("unlisten") },
	})
	defer replicator.Close()
	leave := replicator.Listen(dk, dht.Lookup) // some discovery may look for peers now
	connected := make(chan string, 1)
	stop := replicator.OnDiscoveryKey(dk, func(peer string, c *protocol.Conn) { connected <- peer })
	defer stop()

	// connect makes a connection to Bob, of which he is told too. The binding is what both ends of it know, and no other
	// connection shares; over libp2p it comes out of the handshake.
	binding := make([]byte, 32)
	connect := func(ctx context.Context) (io.ReadWriteCloser, node.Conversation, error) {
		here, there := net.Pipe()
		go other.HandleConnection(ctx, there, node.Conversation{Peer: "Alice", Binding: binding})
		return here, node.Conversation{Initiator: true, Binding: binding}, nil
	}
	for range 3 { // found three times, connected once
		check(replicator.HandlePeer("Bob", dk, connect))
	}
	fmt.Println("connected to", <-connected)
	copied, err := store.Keyed(ctx, key)
	check(err)
	block, err := copied.Get(ctx, 0)
	check(err)
	fmt.Printf("%s\n", block)
	leave()
	// Output:
	// listen true
	// connected to Bob
	// hello
	// unlisten
}

// A feed that is in no store takes part, and a feed has extension messages of its own.
func ExampleReplicator_AddCore() {
	ctx := context.Background()
	store, theirs := open(corestore.Options{}), open(corestore.Options{})
	defer store.Close()
	defer theirs.Close()
	replicator, other := node.NewReplicator(store, node.ReplicatorOptions{}), node.NewReplicator(theirs, node.ReplicatorOptions{})
	defer replicator.Close()
	defer other.Close()
	here, there := net.Pipe()
	binding := make([]byte, 32)
	go other.HandleConnection(ctx, there, node.Conversation{Binding: binding})
	go replicator.HandleConnection(ctx, here, node.Conversation{Initiator: true, Binding: binding})

	pair := feed.NewKeyPair()
	core, err := feed.Create(ctx, datastore.NewMapDatastore(), feed.Options{Prefix: "/alone", KeyPair: &pair})
	check(err)
	defer core.Close()
	remove, err := replicator.AddCore(core) // to all live and future connections
	check(err)
	defer remove()

	copied, err := theirs.Keyed(ctx, core.Key())
	check(err)
	defer copied.Close()
	said := make(chan string, 1)
	stop, err := other.Exchange(copied.DiscoveryKey()).OnExtension("chat", func(ctx context.Context, from protocol.Peer, message []byte) {
		said <- string(message)
	})
	check(err)
	defer stop()
	replicator.Exchange(core.DiscoveryKey()).OnPeers(func(ctx context.Context, p protocol.Peer) {
		check(p.Extend("chat", []byte("about this feed")))
	}, nil)
	fmt.Println(<-said)

	check(replicator.AddExtensions("load", "seen")) // for the messages of the group, also on connections that live
	fmt.Println(replicator.Extensions())
	// Output:
	// about this feed
	// [load seen]
}

// A group that speaks only with those who know its default feed, and is announced under that one's discovery key alone.
func ExampleReplicatorOptions() {
	ctx := context.Background()
	store := open(corestore.Options{})
	defer store.Close()
	door := store.DefaultKey()
	options := node.ReplicatorOptions{HandshakeKey: &door, Announce: node.AnnounceDefault}
	replicator := node.NewReplicator(store, options)
	defer replicator.Close()
	journal, err := store.Named(ctx, "journal")
	check(err)
	_, err = journal.Append(ctx, []byte("hello"))
	check(err)

	theirs := open(corestore.Options{DefaultKey: &door})
	defer theirs.Close()
	other := node.NewReplicator(theirs, options)
	defer other.Close()
	here, there := net.Pipe()
	binding := make([]byte, 32)
	dk := door.DiscoveryKey() // Bob has dialled for it, so he knocks
	go replicator.HandleConnection(ctx, here, node.Conversation{Peer: "Bob", Binding: binding})
	go other.HandleConnection(ctx, there, node.Conversation{Peer: "Alice", Initiator: true, Binding: binding, DiscoveryKey: &dk})
	copied, err := theirs.Keyed(ctx, journal.Key())
	check(err)
	block, err := copied.Get(ctx, 0)
	check(err)
	fmt.Printf("%s\n", block)
	// Output: hello
}
