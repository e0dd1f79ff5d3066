package feed_test

import (
	"context"
	"fmt"
	"log"

	datastore "github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"

	"github.com/p2pcore/p2pcore/feed"
)

// Two of three signers have to agree. Each writes a branch of its own copy; they may be of different
// lengths. What both have is signed, and committed by whoever has the signatures.
func ExampleAssemble() {
	ctx := context.Background()
	manifest := feed.Manifest{Version: feed.AutoVersion, AllowPatch: true}
	var pairs []feed.KeyPair
	for i := range byte(3) {
		pairs = append(pairs, feed.KeyPairFromSeed([32]byte{i + 1}))
		manifest.Signers = append(manifest.Signers, feed.Signer{PublicKey: pairs[i].Public()})
	}
	m, err := manifest.Normalize()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("quorum", m.Quorum)
	key := m.Key()

	var copies, branches []*feed.Session
	for _, blocks := range []string{"abcde", "abc"} {
		ds := dssync.MutexWrap(datastore.NewMapDatastore())
		f, err := feed.Create(ctx, ds, feed.Options{Prefix: "/00000001", Manifest: m})
		if err != nil {
			log.Fatal(err)
		}
		defer f.Close()
		s, err := f.Session(feed.SessionOptions{})
		if err != nil {
			log.Fatal(err)
		}
		branch, err := s.Branch(ctx, "draft", feed.BranchOptions{})
		if err != nil {
			log.Fatal(err)
		}
		for _, b := range blocks {
			if _, err := branch.Append(ctx, []byte(string(b))); err != nil {
				log.Fatal(err)
			}
		}
		copies, branches = append(copies, s), append(branches, branch)
	}

	// Each signer sends its contribution to the length that a quorum has.
	length := feed.SignableLength([]uint64{branches[0].Info().Length, branches[1].Info().Length}, m.Quorum)
	var parts []feed.Partial
	for i, branch := range branches {
		p, err := branch.SignPartial(ctx, pairs[i], key, m, length)
		if err != nil {
			log.Fatal(err)
		}
		sent, err := feed.ParsePartial(p.Append(nil))
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("signer", sent.Signer, "has signed", sent.Patch, "blocks beyond length", length)
		parts = append(parts, sent)
	}

	_, err = feed.Assemble(m, parts[:1])
	fmt.Println(err)
	signature, err := feed.Assemble(m, parts)
	if err != nil {
		log.Fatal(err)
	}
	info, err := copies[0].Commit(ctx, branches[0], feed.CommitOptions{Length: length, Signature: signature})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("committed", info.Length, "blocks")
	// Output:
	// quorum 2
	// signer 0 has signed 2 blocks beyond length 3
	// signer 1 has signed 0 blocks beyond length 3
	// feed: no quorum of signatures: 1 of 2
	// committed 3 blocks
}
