package node_test

import (
	"context"
	"fmt"
	"log"

	datastore "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/sync"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/p2pcore/p2pcore/corestore"
	"github.com/p2pcore/p2pcore/dht"
	"github.com/p2pcore/p2pcore/node"
)

// A writer announces a feed in a private network; a reader that knows nothing but the network and the feed's
// key finds it there, and every block that it reads has been verified.
func Example() {
	ctx := context.Background()
	loopback := node.WithListenAddrs(ma.StringCast("/ip4/127.0.0.1/tcp/0"))

	// A private network has a meeting point. The public network needs none of this, nor the options below.
	meeting, err := node.StartBootstrap(ctx, node.BootstrapOptions{Network: "example", Options: []node.Option{loopback}})
	check(err)
	defer meeting.Close()
	door, err := peer.AddrInfoFromP2pAddr(meeting.Addrs()[0])
	check(err)
	network := []node.Option{loopback, node.WithNetwork("example"), node.WithBootstrap(*door), node.WithMDNS(false)}

	// The writer.
	store, err := corestore.Open(ctx, sync.MutexWrap(datastore.NewMapDatastore()), corestore.Options{})
	check(err)
	defer store.Close()
	journal, err := store.Named(ctx, "journal")
	check(err)
	writer, err := node.New(store, network...)
	check(err)
	defer writer.Close()
	leave, err := writer.Join(journal.Key(), dht.Announce)
	check(err)
	defer leave()
	_, err = journal.Append(ctx, []byte("hello"), []byte("world"))
	check(err)

	// The reader, elsewhere.
	elsewhere, err := corestore.Open(ctx, sync.MutexWrap(datastore.NewMapDatastore()), corestore.Options{})
	check(err)
	defer elsewhere.Close()
	reader, err := node.New(elsewhere, network...)
	check(err)
	defer reader.Close()
	copied, err := elsewhere.Keyed(ctx, journal.Key())
	check(err)
	stop, err := reader.Join(copied.Key(), dht.Lookup)
	check(err)
	defer stop()
	for i := range uint64(2) {
		block, err := copied.Get(ctx, i) // waits until a peer has brought it
		check(err)
		fmt.Printf("%s\n", block)
	}
	// Output:
	// hello
	// world
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
