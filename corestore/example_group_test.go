package corestore_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	datastore "github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"

	"github.com/p2pcore/p2pcore/corestore"
)

// docs/corestore.md shows pieces of the examples as they stand here.

// A store is a group of feeds, which has a face: the default feed.
func ExampleStore() {
	ctx := context.Background()
	ds := dssync.MutexWrap(datastore.NewMapDatastore()) // or disk.Open(dir, disk.Options{})
	store, err := corestore.Open(ctx, ds, corestore.Options{Extensions: []string{"load"}})
	check(err)
	defer store.Close()

	face, err := store.Default(ctx) // made now; its key is derived from the primary key
	check(err)
	fresh, err := store.Fresh(ctx) // a random key pair, which the store remembers
	check(err)
	named, err := store.Namespace("chat").Named(ctx, "log") // the same feed in Corestore 7, of the same primary key
	check(err)
	for entry, err := range store.List(ctx) {
		check(err)
		fmt.Printf("%v %v %q\n", entry.Default, entry.Writable, entry.Name)
	}
	fmt.Println(face.Key() == store.DefaultKey())

	_, err = fresh.Append(ctx, []byte("hello"))
	check(err)
	again, err := store.Get(ctx, "pear://"+fresh.Key().String()) // every textual form of a key
	check(err)
	block, err := again.Get(ctx, 0)
	check(err)
	fmt.Printf("%s\n", block)
	stored, err := store.Discovered(ctx, named.DiscoveryKey()) // only if it is stored
	check(err)
	fmt.Println(stored.Key() == named.Key())

	// Another member of the group begins with the key of its default feed.
	key := store.DefaultKey()
	elsewhere := dssync.MutexWrap(datastore.NewMapDatastore())
	member, err := corestore.Open(ctx, elsewhere, corestore.Options{DefaultKey: &key, Extensions: []string{"load"}})
	check(err)
	defer member.Close()
	copied, err := member.Keyed(ctx, fresh.Key()) // not stored: empty, read-only, waiting for peers
	check(err)
	fmt.Println(copied.Info().Writable, copied.Info().Length)
	// Output:
	// true true ""
	// false true ""
	// false true "log"
	// true
	// hello
	// true
	// false 0
}

// A feed leaves the group and keeps its storage, or it is deleted for good.
func ExampleStore_Remove() {
	ctx := context.Background()
	store, err := corestore.Open(ctx, dssync.MutexWrap(datastore.NewMapDatastore()), corestore.Options{})
	check(err)
	defer store.Close()
	core, err := store.Fresh(ctx)
	check(err)
	key, dk := core.Key(), core.DiscoveryKey()
	_, err = core.Append(ctx, []byte("hello"))
	check(err)

	check(store.Remove(ctx, key)) // its sessions and channels close, and it is not announced any more
	_, _, err = store.Resolve(ctx, dk)
	fmt.Println(errors.Is(err, corestore.ErrRemoved)) // so a peer that asks for it is rejected
	back, err := store.Keyed(ctx, key)
	check(err)
	fmt.Println("length", back.Info().Length)
	check(back.Close())

	check(store.Delete(ctx, key, corestore.DeleteOptions{})) // nobody has the feed open, and need not
	stored, err := store.Stored(ctx, key)
	check(err)
	fmt.Println("stored", stored)
	// Output:
	// true
	// length 1
	// stored false
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
