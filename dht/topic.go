package dht

import (
	"encoding/hex"

	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"
)

// Topic is what is announced and looked up: 32 bytes, for a feed its discovery key.
type Topic [32]byte

// String returns the first eight hex digits, enough to follow a topic through a log.
func (t Topic) String() string { return hex.EncodeToString(t[:4]) }

// Multihash returns t as a multihash whose code is blake2b-256 (0xb220) and whose digest is t itself.
//
// It is not the hash of any content: the code says what kind of value a discovery key is. Every
// Kademlia implementation of libp2p can provide and find it.
func (t Topic) Multihash() mh.Multihash {
	sum, err := mh.Encode(t[:], mh.BLAKE2B_MIN+31)
	if err != nil {
		panic("dht: multihash of 32 bytes: " + err.Error())
	}
	return sum
}

// CID returns t as a CIDv1 of codec raw over Multihash.
func (t Topic) CID() cid.Cid { return cid.NewCidV1(cid.Raw, t.Multihash()) }
