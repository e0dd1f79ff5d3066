package corestore

import (
	"testing"

	datastore "github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"

	"github.com/p2pcore/p2pcore/feed"
)

// TestCopyingOfAFeedThatGrows: what is appended while a feed is copied has no part in the copy.
func TestCopyingOfAFeedThatGrows(t *testing.T) {
	ctx := t.Context()
	s, err := Open(ctx, dssync.MutexWrap(datastore.NewMapDatastore()), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	f, err := s.Named(ctx, "log")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Append(ctx, []byte("one"), []byte("two"), []byte("three")); err != nil {
		t.Fatal(err)
	}
	head := f.Info().Head
	if _, err := f.Append(ctx, []byte("four"), []byte("five")); err != nil {
		t.Fatal(err)
	}
	still, err := s.Signed(ctx, feed.StaticManifest(head), nil)
	if err != nil {
		t.Fatal(err)
	}
	c := copying{from: f.Feed(), to: still.Feed(), head: head}
	if err := c.run(ctx); err != nil {
		t.Fatal(err)
	}
	if got := still.Info(); got.Length != 3 || got.ContiguousLength != 3 || got.ByteLength != head.ByteLength {
		t.Errorf("the copy is %+v, want 3 blocks", got)
	}
	if err := still.Feed().Check(ctx); err != nil {
		t.Error(err)
	}
}
