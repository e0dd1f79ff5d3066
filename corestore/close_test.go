package corestore_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	datastore "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"

	"github.com/p2pcore/p2pcore/corestore"
	"github.com/p2pcore/p2pcore/feed"
)

// counting counts what reaches the datastore.
type counting struct {
	datastore.Batching
	reads, writes atomic.Int64
}

func (c *counting) Get(ctx context.Context, k datastore.Key) ([]byte, error) {
	c.reads.Add(1)
	return c.Batching.Get(ctx, k)
}

func (c *counting) Has(ctx context.Context, k datastore.Key) (bool, error) {
	c.reads.Add(1)
	return c.Batching.Has(ctx, k)
}

func (c *counting) Query(ctx context.Context, q query.Query) (query.Results, error) {
	c.reads.Add(1)
	return c.Batching.Query(ctx, q)
}

func (c *counting) Put(ctx context.Context, k datastore.Key, v []byte) error {
	c.writes.Add(1)
	return c.Batching.Put(ctx, k, v)
}

func (c *counting) Sync(ctx context.Context, k datastore.Key) error {
	c.writes.Add(1)
	return c.Batching.Sync(ctx, k)
}

func (c *counting) Batch(ctx context.Context) (datastore.Batch, error) {
	c.writes.Add(1)
	return c.Batching.Batch(ctx)
}

func (c *counting) total() int64 { return c.reads.Load() + c.writes.Load() }

func TestOpenReadsThreeRecordsAndAListHoweverManyFeeds(t *testing.T) {
	ctx := t.Context()
	ds := newMemory()
	s := open(t, ds, corestore.Options{})
	for i := range 200 {
		if err := must(t)(s.Named(ctx, fmt.Sprint(i))).Close(); err != nil {
			t.Fatal(err)
		}
	}
	closeStore(t, s)
	c := &counting{Batching: ds}
	s = open(t, c, corestore.Options{})
	if n := c.total(); n != 4 { // the list is that of feeds whose deletion was interrupted
		t.Errorf("Open used the datastore %d times, want 4", n)
	}
	if n := len(list(t, s)); n != 200 {
		t.Errorf("%d feeds, want 200", n)
	}
}

func TestNothingTouchesTheDatastoreAfterClose(t *testing.T) {
	ctx := t.Context()
	c := &counting{Batching: newMemory()}
	s := open(t, c, corestore.Options{})
	session := must(t)(s.Named(ctx, "a"))
	appendText(t, session, "x")
	ns := s.Namespace("n")
	f, release, err := s.Resolve(ctx, session.DiscoveryKey())
	if err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	before := c.total()

	_, appendErr := session.Append(ctx, []byte("y"))
	_, getErr := session.GetLocal(ctx, 0)
	_, proveErr := f.Prove(ctx, []feed.Request{{}})
	for _, err := range []error{appendErr, getErr, proveErr} {
		if !errors.Is(err, feed.ErrClosed) {
			t.Errorf("feed: %v, want ErrClosed", err)
		}
	}
	_, namedErr := s.Named(ctx, "a")
	_, nsErr := ns.Named(ctx, "a")
	_, freshErr := s.Fresh(ctx)
	_, _, resolveErr := s.Resolve(ctx, session.DiscoveryKey())
	_, valueErr := s.Value(ctx, "v")
	_, storedErr := s.Stored(ctx, session.Key())
	_, _, findErr := s.Find(ctx, session.Key())
	_, _, lookupErr := s.LookupName(ctx, "a")
	var listErr error
	for _, err := range s.List(ctx) {
		listErr = err
	}
	for i, err := range []error{namedErr, nsErr, freshErr, resolveErr, valueErr, storedErr, findErr, lookupErr, listErr,
		s.SetValue(ctx, "v", nil), s.Alias(ctx, "b", session.Key())} {
		if !errors.Is(err, corestore.ErrClosed) {
			t.Errorf("call %d: %v, want ErrClosed", i, err)
		}
	}
	release()
	release()
	if err := session.Close(); err != nil {
		t.Errorf("close session: %v", err)
	}
	closeStore(t, s)
	if n := c.total() - before; n != 0 {
		t.Errorf("the datastore was used %d times after Close", n)
	}
}

func TestCloseOfANamespaceEndsItsSessionsOnly(t *testing.T) {
	ctx := t.Context()
	s := open(t, newMemory(), corestore.Options{})
	ns := s.Namespace("n")
	a, b := must(t)(ns.Named(ctx, "a")), must(t)(s.Named(ctx, "a"))
	other := must(t)(s.Keyed(ctx, a.Key()))
	if err := ns.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Append(ctx, []byte("x")); !errors.Is(err, feed.ErrClosed) {
		t.Errorf("session of the namespace: %v, want ErrClosed", err)
	}
	appendText(t, b, "x")
	appendText(t, other, "y")
	if _, err := ns.Named(ctx, "b"); !errors.Is(err, corestore.ErrClosed) {
		t.Errorf("closed namespace: %v, want ErrClosed", err)
	}
}

func TestCorruptIndexIsRefused(t *testing.T) {
	ctx := t.Context()
	ds := newMemory()
	s := open(t, ds, corestore.Options{})
	session := must(t)(s.Named(ctx, "a"))
	key := session.Key()
	closeStore(t, s)
	put := func(k string, v []byte) (undo func()) {
		t.Helper()
		old, err := ds.Get(ctx, datastore.NewKey(k))
		if err != nil {
			t.Fatal(err)
		}
		if err := ds.Put(ctx, datastore.NewKey(k), v); err != nil {
			t.Fatal(err)
		}
		return func() {
			if err := ds.Put(ctx, datastore.NewKey(k), old); err != nil {
				t.Fatal(err)
			}
		}
	}
	dk := key.DiscoveryKey()
	for _, k := range []string{"/store/primary", "/store/next"} {
		undo := put(k, []byte{0xff})
		if _, err := corestore.Open(ctx, ds, corestore.Options{}); !errors.Is(err, corestore.ErrCorrupt) {
			t.Errorf("%s: %v, want ErrCorrupt", k, err)
		}
		undo()
	}
	s = open(t, ds, corestore.Options{})
	for k, v := range map[string][]byte{
		"/store/key/" + dk.String(): {5},
		"/store/feed/00000000":      {1, 0, 1},
	} {
		undo := put(k, v)
		if _, err := s.Keyed(ctx, key); !errors.Is(err, corestore.ErrCorrupt) {
			t.Errorf("%s: %v, want ErrCorrupt", k, err)
		}
		undo()
	}
	must(t)(s.Keyed(ctx, key))
	if err := ds.Delete(ctx, datastore.NewKey("/store/primary")); err != nil {
		t.Fatal(err)
	}
	if _, err := corestore.Open(ctx, ds, corestore.Options{}); !errors.Is(err, corestore.ErrCorrupt) {
		t.Errorf("no primary key: %v, want ErrCorrupt", err)
	}
}
