package dht

import (
	"encoding/hex"
	"testing"

	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"
)

func TestTopicIsReadBackFromItsCID(t *testing.T) {
	t.Parallel()
	var topic Topic
	for i := range topic {
		topic[i] = byte(i)
	}
	c := topic.CID()
	// Version 1, codec raw, code 0xb220 as a varint, length 32: written down from the specifications of CID and multihash.
	want := "0155a0e40220" + hex.EncodeToString(topic[:])
	if got := hex.EncodeToString(c.Bytes()); got != want {
		t.Errorf("CID is %s, want %s", got, want)
	}
	decoded, err := mh.Decode(c.Hash())
	if err != nil || decoded.Code != 0xb220 || string(decoded.Digest) != string(topic[:]) {
		t.Errorf("multihash decodes to %+v, %v", decoded, err)
	}
	if parsed, err := cid.Parse(c.String()); err != nil || !parsed.Equals(c) {
		t.Errorf("CID %s parses to %s, %v", c, parsed, err)
	}
}
