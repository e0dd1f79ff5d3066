package corestore_test

import (
	"errors"
	"fmt"
	"testing"

	datastore "github.com/ipfs/go-datastore"

	"github.com/p2pcore/p2pcore/corestore"
	"github.com/p2pcore/p2pcore/feed"
)

func TestStaticifyNamesTheContent(t *testing.T) {
	onEach(t, func(t *testing.T, ds datastore.Batching) {
		ctx := t.Context()
		s := open(t, ds, corestore.Options{})
		f := must(t)(s.Named(ctx, "log"))
		if _, err := s.Staticify(ctx, f.Key()); !errors.Is(err, feed.ErrOutOfRange) {
			t.Errorf("copy of an empty feed: %v", err)
		}
		appendText(t, f, "dropped")
		if _, err := f.Truncate(ctx, 0, feed.TruncateOptions{}); err != nil { // so that its fork is not 0
			t.Fatal(err)
		}
		var blocks []string
		for i := range 600 {
			blocks = append(blocks, fmt.Sprint("block ", i))
		}
		var all [][]byte
		for _, b := range blocks {
			all = append(all, []byte(b))
		}
		if _, err := f.Append(ctx, all...); err != nil {
			t.Fatal(err)
		}
		head := f.Info().Head
		still := must(t)(s.Staticify(ctx, f.Key()))
		wantBlocks(t, still, blocks...)
		if key := feed.StaticManifest(head).Key(); still.Key() != key {
			t.Errorf("the copy has key %s, want %s", still.Key(), key)
		}
		if err := still.Feed().Check(ctx); err != nil {
			t.Error(err)
		}
		if _, err := still.Append(ctx, []byte("more")); !errors.Is(err, feed.ErrNotWritable) {
			t.Errorf("append to the copy: %v", err)
		}

		// A copy that is there is taken as it is; what is missing in it is copied again.
		if _, err := still.Clear(ctx, feed.Range{Start: 100, End: 400}); err != nil {
			t.Fatal(err)
		}
		again := must(t)(s.Staticify(ctx, f.Key()))
		wantBlocks(t, again, blocks...)

		if _, err := f.Clear(ctx, feed.Range{Start: 7, End: 8}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Staticify(ctx, f.Key()); !errors.Is(err, feed.ErrNotAvailable) {
			t.Errorf("copy of a feed with a hole: %v", err)
		}
		if _, err := s.Staticify(ctx, feed.Key{9}); !errors.Is(err, corestore.ErrUnknownFeed) {
			t.Errorf("copy of a feed that is not here: %v", err)
		}
	})
}

// TestSignedIsPersisted: a feed with a manifest of its own comes back as it was, by its manifest and by its key.
func TestSignedIsPersisted(t *testing.T) {
	onEach(t, func(t *testing.T, ds datastore.Batching) {
		ctx := t.Context()
		one, two := feed.NewKeyPair(), feed.NewKeyPair()
		m := &feed.Manifest{Version: 1, Quorum: 1, Signers: []feed.Signer{
			{Namespace: feed.DefaultNamespace(), PublicKey: one.Public()}, {Namespace: feed.DefaultNamespace(), PublicKey: two.Public()},
		}}
		s := open(t, ds, corestore.Options{})
		blind := must(t)(s.Keyed(ctx, m.Key())) // known by its key alone at first
		reader := must(t)(s.Signed(ctx, m, nil))
		if _, err := reader.Append(ctx, []byte("x")); !errors.Is(err, feed.ErrNotWritable) || !blind.Info().HasManifest {
			t.Errorf("append without a key pair: %v; has the manifest: %v", err, blind.Info().HasManifest)
		}
		w := must(t)(s.Signed(ctx, m, &two))
		appendText(t, w, "signed by the second")
		closeStore(t, s)

		s = open(t, ds, corestore.Options{})
		again := must(t)(s.Keyed(ctx, m.Key()))
		appendText(t, again, "and again")
		wantBlocks(t, again, "signed by the second", "and again")
		if _, err := s.Signed(ctx, &feed.Manifest{Version: 1, Quorum: 3}, nil); err == nil {
			t.Error("a manifest that nobody can sign for is taken")
		}
	})
}
