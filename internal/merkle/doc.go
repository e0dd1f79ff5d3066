// Package merkle is the tree of a feed: hashing, appending, proving and verifying. It knows no
// datastore, no keys and no manifest; nodes come from a NodeReader, signatures are judged by a
// SigVerifier.
//
// A feed's blocks are the leaves of a list of perfect binary trees, the largest first, numbered as
// package flattree says. The roots of these trees and the fork number are all of a Tree; the Head
// derived from them is what a writer signs.
//
// Proofs are those of Hypercore 11: a Request names what a reader lacks, a Proof carries exactly
// the nodes that the reader cannot compute from what it has. Both are plain values.
//
// # What a size is worth
//
// A hash commits to the byte length of its own subtree, not to how this length is divided between
// the children: a peer that sends two siblings can move bytes from one to the other, and no hash
// changes. So the size of a node is proven if the node was computed from below, or if its sibling's
// size is; and that of a root by the tree hash. That is so for all nodes of a block proof. It is not
// for the two lowest nodes of a proof of a hash or of a seek, and for the nodes of an upgrade that
// merge with additional ones.
//
// A Batch and a Reorg tell the two kinds apart: only nodes with a proven size are meant to be stored.
// The others are good enough to hold proofs against, by their hash, and to guess by where a byte is.
package merkle
