// Package node puts the parts together: a libp2p host, a store of feeds, replication and discovery.
//
// A Node replicates every feed of its store that has a session, with every peer it has a stream to, over
// one stream per peer, and serves what is only stored to whoever knows its key. Peers come from
// the DHT (Join), from the local network, and from Connect.
//
//	store, err := corestore.Open(ctx, ds, corestore.Options{})
//	journal, err := store.Named(ctx, "journal")
//	n, err := node.New(store)
//	leave, err := n.Join(journal.Key(), dht.Announce)
//
// # One stream per peer
//
// Two nodes that find each other at the same moment would end with two streams, and libp2p keeps two
// connections. The rule that leaves one stream, the same at both ends, is a machine without sockets in
// dedup.go; links.go and stream.go carry out what it decides, connector.go says whom to call and when,
// replicator.go brings feeds and streams together, and knows nothing of libp2p.
package node
