package node_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/p2pcore/p2pcore/corestore"
	"github.com/p2pcore/p2pcore/corestore/disk"
	"github.com/p2pcore/p2pcore/dht"
	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/node"
)

// README.md shows publish and read as they stand here.

// publish appends to a feed of the store in dir, and serves it while wait runs.
func publish(ctx context.Context, dir string, wait func(*node.Node, feed.Key), opts ...node.Option) {
	files, err := disk.Open(dir, disk.Options{})
	check(err)
	defer files.Close()
	store, err := corestore.Open(ctx, files.Datastore(), corestore.Options{})
	check(err)
	defer store.Close()
	n, err := node.New(store, opts...) // without options: a node of the public network
	check(err)
	defer n.Close()

	journal, err := store.Named(ctx, "journal") // made at first use; its secret key stays in the store
	check(err)
	defer journal.Close()
	_, err = journal.Append(ctx, []byte("hello"), []byte("world")) // signed and durable
	check(err)
	leave, err := n.Join(journal.Key(), dht.Announce)
	check(err)
	defer leave()
	wait(n, journal.Key())
}

// read prints the first two blocks of somebody's feed. Get waits until a peer has sent the block and its proof fits.
func read(ctx context.Context, store *corestore.Store, n *node.Node, key feed.Key) {
	copied, err := store.Keyed(ctx, key)
	check(err)
	defer copied.Close()
	leave, err := n.Join(key, dht.Lookup)
	check(err)
	defer leave()
	for i := range uint64(2) {
		block, err := copied.Get(ctx, i)
		check(err)
		fmt.Printf("%s\n", block)
	}
}

// The functions that README.md shows.
func Example_readme() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "readme")
	check(err)
	defer os.RemoveAll(dir)
	here := []node.Option{
		node.WithListenAddrs(ma.StringCast("/ip4/127.0.0.1/tcp/0")), node.WithNetwork(node.NetworkNone), node.WithMDNS(false),
	}
	publish(ctx, filepath.Join(dir, "writer"), func(writer *node.Node, key feed.Key) {
		files, err := disk.Open(filepath.Join(dir, "reader"), disk.Options{})
		check(err)
		defer files.Close()
		store, err := corestore.Open(ctx, files.Datastore(), corestore.Options{})
		check(err)
		defer store.Close()
		reader, err := node.New(store, here...)
		check(err)
		defer reader.Close()
		known, err := peer.AddrInfoFromP2pAddr(writer.Addrs()[0])
		check(err)
		check(reader.Connect(ctx, *known))
		read(ctx, store, reader, key)
	}, here...)
	// Output:
	// hello
	// world
}
