package protocol_test

import (
	"context"
	"fmt"
	"net"

	datastore "github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"

	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/protocol"
)

// Two feeds with the same key, one of which has the blocks, are joined over a stream.
func Example() {
	ctx := context.Background()
	pair := feed.KeyPairFromSeed([32]byte{1})
	source, err := feed.Create(ctx, dssync.MutexWrap(datastore.NewMapDatastore()), feed.Options{Prefix: "/1", KeyPair: &pair})
	check(err)
	defer source.Close()
	key := source.Key()
	replica, err := feed.Create(ctx, dssync.MutexWrap(datastore.NewMapDatastore()), feed.Options{Prefix: "/1", Key: &key})
	check(err)
	defer replica.Close()
	writer, err := source.Session(feed.SessionOptions{})
	check(err)
	_, err = writer.Append(ctx, []byte("hello"))
	check(err)

	serving := protocol.NewExchange(source, protocol.ExchangeOptions{})
	defer serving.Close()
	fetching := protocol.NewExchange(replica, protocol.ExchangeOptions{Downloading: true})
	defer fetching.Close()

	// On a real network the stream is authenticated and encrypted, and the binding comes from it.
	binding := make([]byte, 32)
	a, b := net.Pipe()
	one := protocol.NewConn(a, protocol.Config{Initiator: true, Binding: binding})
	two := protocol.NewConn(b, protocol.Config{Binding: binding})
	check(one.Attach(serving))
	check(two.Attach(fetching))
	go one.Run(ctx)
	go two.Run(ctx)
	defer one.Close()
	defer two.Close()

	reader, err := replica.Session(feed.SessionOptions{})
	check(err)
	block, err := reader.Get(ctx, 0)
	check(err)
	fmt.Printf("%s\n", block)
	// Output: hello
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
