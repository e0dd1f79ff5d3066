package corestore

import (
	"golang.org/x/crypto/blake2b"

	"github.com/p2pcore/p2pcore/feed"
)

// Namespace is the 32 byte name space that names belong to. The zero value is the root.
type Namespace [32]byte

// Child returns the namespace called name in n: H(n || name), formats.md 6.
func (n Namespace) Child(name string) Namespace {
	return blake2b.Sum256(append(n[:], name...))
}

// derivation is namespace("corestore", 0) of formats.md 3; it keeps the hash below apart from all
// other uses of the primary key.
var derivation = func() [32]byte {
	name := blake2b.Sum256([]byte("corestore"))
	return blake2b.Sum256(append(name[:], 0))
}()

// secret is the primary key: what all key pairs of named feeds come from. It has no String and no
// exported field; keep it out of logs and errors.
type secret struct{ key [32]byte }

// keyPair returns the key pair of name in ns: Ed25519 from the seed
// H_primaryKey(derivation || ns || name), formats.md 6.
func (s secret) keyPair(ns Namespace, name string) feed.KeyPair {
	h, err := blake2b.New256(s.key[:])
	if err != nil {
		panic(err) // only for keys longer than 64 bytes
	}
	h.Write(derivation[:])
	h.Write(ns[:])
	h.Write([]byte(name))
	var seed [32]byte
	h.Sum(seed[:0])
	return feed.KeyPairFromSeed(seed)
}

// manifest returns what a feed written by public alone begins with.
func manifest(version int, public [32]byte) *feed.Manifest {
	m := feed.DefaultManifest(public)
	m.Version = version
	return m
}

// pairOf returns the key pair of a record; ok is false if there is none, or if the feed itself holds it.
func (s secret) pairOf(r *record) (pair feed.KeyPair, ok bool) {
	switch r.kind {
	case derivedSecret:
		return s.keyPair(r.origin.Namespace, r.origin.Name), true
	case keptSecret:
		return feed.KeyPairFromSeed(r.seed), true
	}
	return pair, false
}

// manifestOf returns the manifest of key if pair alone writes the feed, else nil.
func manifestOf(key feed.Key, pair feed.KeyPair) *feed.Manifest {
	for _, version := range []int{1, 2} {
		if m := manifest(version, pair.Public()); m.Key() == key {
			return m
		}
	}
	return nil
}
