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
// the children. A node whose hash was computed from below has the true size. A node that came in a
// proof has it too when its sibling was computed from below, which is so for every node of a block
// proof and of an upgrade. Only where a proof's two lowest nodes both came from the peer (a proof
// of a hash or of a seek) their sizes could be shifted between them without any hash changing: the
// format does not protect them. Such a lie can mislead a search by byte offset; it cannot change a
// block, a head or a tree hash, and the first block proof that covers the node replaces it.
package merkle
