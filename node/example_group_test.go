package node_test

import (
	"context"
	"fmt"

	datastore "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/sync"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/p2pcore/p2pcore/corestore"
	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/node"
)

// Peers of a group tell each other the keys of feeds by extension messages on the group's default feed, and load those
// feeds, which replicate over the stream that they have.
func Example_group() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	options := []node.Option{
		node.WithListenAddrs(ma.StringCast("/ip4/127.0.0.1/tcp/0")), node.WithNetwork(node.NetworkNone), node.WithMDNS(false),
	}
	read := make(chan string, 2)

	// member opens a store whose group is that of a default feed; without a key it begins one. It greets every peer with the
	// key of a feed of its own, and reads what it is told of.
	member := func(name string, group *feed.Key) (*corestore.Store, *node.Node) {
		store, err := corestore.Open(ctx, sync.MutexWrap(datastore.NewMapDatastore()),
			corestore.Options{DefaultKey: group, Extensions: []string{"load"}})
		check(err)
		own, err := store.Fresh(ctx)
		check(err)
		_, err = own.Append(ctx, []byte("a block of "+name))
		check(err)
		store.OnPeerAdd(func(ctx context.Context, p corestore.Peer) {
			check(p.Extension(ctx, "load", []byte(own.Key().String())))
		})
		store.OnExtension(func(ctx context.Context, typ string, message []byte, from corestore.Peer) {
			loaded, err := store.Get(ctx, string(message))
			check(err)
			block, err := loaded.Get(ctx, 0)
			check(err)
			read <- fmt.Sprintf("%s reads %s", name, block)
		})
		n, err := node.New(store, options...)
		check(err)
		return store, n
	}

	store, alice := member("Alice", nil)
	defer store.Close()
	defer alice.Close()
	group := store.DefaultKey() // what Alice tells Bob
	other, bob := member("Bob", &group)
	defer other.Close()
	defer bob.Close()
	check(bob.Connect(ctx, peer.AddrInfo{ID: alice.Host().ID(), Addrs: alice.Host().Addrs()}))
	for range 2 {
		fmt.Println(<-read)
	}
	// Unordered output:
	// Alice reads a block of Bob
	// Bob reads a block of Alice
}
