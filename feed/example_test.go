package feed_test

import (
	"context"
	"fmt"
	"log"

	datastore "github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"

	"github.com/p2pcore/p2pcore/feed"
)

// A feed of its own in a datastore in memory; corestore manages many of them in one datastore.
func Example() {
	ctx := context.Background()
	ds := dssync.MutexWrap(datastore.NewMapDatastore())
	pair := feed.KeyPairFromSeed([32]byte{1})
	f, err := feed.Create(ctx, ds, feed.Options{Prefix: "/00000001", KeyPair: &pair})
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	s, err := f.Session(feed.SessionOptions{})
	if err != nil {
		log.Fatal(err)
	}
	info, err := s.Append(ctx, []byte("hello"), []byte("world"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(info.Length, "blocks,", info.ByteLength, "bytes")
	for block, err := range s.Blocks(ctx, feed.Range{End: info.Length}, feed.ReadOptions{}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s\n", block)
	}
	fmt.Println(f.Check(ctx))
	// Output:
	// 2 blocks, 10 bytes
	// hello
	// world
	// <nil>
}

// A reader knows the key only. It takes nothing on trust: what a proof brings is verified first.
func ExampleFeed_Apply() {
	ctx := context.Background()
	pair := feed.KeyPairFromSeed([32]byte{1})
	writer, err := feed.Create(ctx, dssync.MutexWrap(datastore.NewMapDatastore()), feed.Options{Prefix: "/00000001", KeyPair: &pair})
	if err != nil {
		log.Fatal(err)
	}
	defer writer.Close()
	s, err := writer.Session(feed.SessionOptions{})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := s.Append(ctx, []byte("hello"), []byte("world")); err != nil {
		log.Fatal(err)
	}

	key := writer.Key()
	reader, err := feed.Create(ctx, dssync.MutexWrap(datastore.NewMapDatastore()), feed.Options{Prefix: "/00000001", Key: &key})
	if err != nil {
		log.Fatal(err)
	}
	defer reader.Close()
	proved, err := writer.Prove(ctx, []feed.Request{{
		Block:    &feed.BlockRequest{Index: 1},
		Upgrade:  &feed.UpgradeRequest{Length: 2},
		Manifest: true,
	}})
	if err != nil {
		log.Fatal(err)
	}
	proof := proved[0].Proof
	proof.Block.Value[0] = 'W'
	applied, err := reader.Apply(ctx, []*feed.Proof{proof})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(applied[0].Stored, applied[0].Err != nil)
	proof.Block.Value[0] = 'w'
	if applied, err = reader.Apply(ctx, []*feed.Proof{proof}); err != nil {
		log.Fatal(err)
	}
	fmt.Println(applied[0].Stored, applied[0].Err, reader.Info().Length)
	// Output:
	// false true
	// true <nil> 2
}

// A proof that stands alone: a receipt for one block, for who has the feed's key and nothing else.
func ExampleVerifyDetached() {
	ctx := context.Background()
	pair := feed.KeyPairFromSeed([32]byte{1})
	f, err := feed.Create(ctx, dssync.MutexWrap(datastore.NewMapDatastore()), feed.Options{Prefix: "/00000001", KeyPair: &pair})
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	s, err := f.Session(feed.SessionOptions{})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := s.Append(ctx, []byte("one"), []byte("two")); err != nil {
		log.Fatal(err)
	}
	index := uint64(1)
	proof, err := f.ProveDetached(ctx, &index)
	if err != nil {
		log.Fatal(err)
	}

	// Elsewhere, offline:
	v, err := feed.VerifyDetached(f.Key(), proof)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("block %d of %d is %q\n", v.Index, v.Head.Length, v.Block)
	proof[50] ^= 1
	_, err = feed.VerifyDetached(f.Key(), proof)
	fmt.Println("changed:", err != nil)
	// Output:
	// block 1 of 2 is "two"
	// changed: true
}
