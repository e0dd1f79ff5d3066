package corestore_test

import (
	"context"
	"fmt"
	"log"

	datastore "github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"

	"github.com/p2pcore/p2pcore/corestore"
)

// A store holds any number of feeds; those with names are the same whenever it is opened.
func Example() {
	ctx := context.Background()
	ds := dssync.MutexWrap(datastore.NewMapDatastore()) // or disk.Open(dir, disk.Options{})
	store, err := corestore.Open(ctx, ds, corestore.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()

	journal, err := store.Named(ctx, "journal")
	if err != nil {
		log.Fatal(err)
	}
	defer journal.Close()
	info, err := journal.Append(ctx, []byte("hello"))
	if err != nil {
		log.Fatal(err)
	}
	block, err := journal.Get(ctx, 0)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(info.Length, string(block))
	// Output: 1 hello
}

// Namespaces keep the names of the parts of a program apart.
func ExampleStore_Namespace() {
	ctx := context.Background()
	store, err := corestore.Open(ctx, dssync.MutexWrap(datastore.NewMapDatastore()), corestore.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()

	a, err := store.Namespace("chat").Named(ctx, "log")
	if err != nil {
		log.Fatal(err)
	}
	b, err := store.Namespace("mail").Named(ctx, "log")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(a.Key() == b.Key())
	// Output: false
}
