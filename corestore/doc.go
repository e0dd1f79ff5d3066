// Package corestore keeps many feeds in one datastore: it turns names and namespaces into key
// pairs, and keys into open feeds, each of them open once.
//
// A feed is called core where a term of the wire, of storage or of the JavaScript packages says so;
// the name of this package is such a term. Key pairs are derived byte for byte as in Corestore 7:
// the same primary key, namespace and name give the same feed in both.
//
//	store, err := corestore.Open(ctx, ds, corestore.Options{})
//	log, err := store.Named(ctx, "journal") // *feed.Session, writable
//	info, err := log.Append(ctx, []byte("hello"))
//
// # In the datastore
//
// Every feed of a store has a number, never used twice. Records of the feed lie under "/%08x" of
// that number and are package feed's. The store's own records lie under /store (see index.go):
//
//	/store/primary             the primary key
//	/store/default             which feed is the default
//	/store/next                all numbers from here on are unused
//	/store/feed/NUMBER         key, secret and names of a feed, and whether it is removed
//	/store/key/DISCOVERYKEY    its number; the feed is stored if and only if this exists
//	/store/name/NAMESPACE/NAME the discovery key of the feed of that name
//	/store/value/KEY           settings of other packages
//	/store/encryption/DISCOVERYKEY  the feed's encryption key
//	/store/tomb/HASH           the last fork of a deleted feed that may be made again
//	/store/purge/NUMBER        the record of a feed that is being deleted
//
// # Lifetime
//
// A feed is opened by the first call that wants it and handed out as sessions ([Store.Named],
// [Store.Fresh], [Store.Keyed]) or as the feed with a release function ([Store.Resolve]). When the
// last session and the last release are gone it stays open for [Options].IdleTimeout, is closed,
// and is opened again by the next call. A store of 100,000 feeds costs nothing for those that
// nobody uses: [Open] reads three records.
//
// A feed leaves in two ways: [Store.Remove] takes it out of the group and keeps its storage, and whoever opens it
// brings it back; [Store.Delete] deletes all of it. Replication follows by [Store.OnActive] and [Store.OnRemove].
package corestore
