// Package feed is one signed, append-only log of blocks: its durable state, and the only way to change
// it. The network and its JavaScript packages call such a log a core; the word here is feed, except
// where a wire or storage term says otherwise.
//
// A feed is named by its Key. Whoever has the key can read it and verify every block; only the signers
// that its Manifest names can append. The blocks are the leaves of a Merkle tree; what is signed is the
// Head: fork, length and tree hash. So a reader needs no trust in whoever brings it a block: the Proof
// that comes along leads from the block to a signed head.
//
// A Feed is opened once per datastore. Applications use a Session of it: Append, Get, Blocks, Seek.
// Replication uses the Feed itself: it asks what is there (Has, Ranges, Info) from memory, answers
// peers with Prove, takes their answers with Apply, and hears of changes by Subscribe. What brings
// missing blocks for an application is the feed's Source; without one, a feed is what is stored of it.
//
// # Crashes
//
// An append that returned is on stable storage. Downloads are not synced: a crash may lose the newest of
// them. It never leaves a head that its blocks and nodes contradict: if the datastore says that its
// batches are atomic (AtomicBatcher), each change is one batch; otherwise blocks and nodes are stored
// before the head that makes them count. See storage.go for the records.
package feed
