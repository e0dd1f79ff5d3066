package protocol

import (
	"strings"
	"testing"
	"testing/synctest"

	datastore "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"

	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/internal/merkle"
	"github.com/p2pcore/p2pcore/internal/wire"
)

// answerTo returns the answer to a request, which is the only thing that is sent because of it.
func (r raw) answerTo(q *wire.Request) wire.Message {
	r.t.Helper()
	if err := r.send(1, q); err != nil {
		r.t.Fatal(err)
	}
	recs := r.read()
	if len(recs) != 1 || recs[0].channel == 0 {
		r.t.Fatalf("request %d is answered with %v", q.ID, recs)
	}
	m, err := wire.Parse(recs[0].typ, recs[0].payload)
	if err != nil {
		r.t.Fatal(err)
	}
	return m
}

// unavailable says whether a message refuses request id as not available.
func unavailable(m wire.Message, id uint64) bool {
	n, ok := m.(*wire.NoData)
	return ok && n.ID == id && n.Reason == wire.ReasonNotAvailable
}

// A peer that asks for a proof that we lack a tree node for is told so, as often as it asks, and gets everything else.
// JavaScript ends the connection.
func TestAMissingTreeNodeIsNotAvailable(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const length = 300
		ctx := t.Context()
		pair := feed.KeyPairFromSeed([32]byte{1})
		opts := feed.Options{Prefix: "/00000001", KeyPair: &pair}
		ds := memory()
		w, err := feed.Create(ctx, ds, opts)
		if err != nil {
			t.Fatal(err)
		}
		appendBlocks(t, w, numbered(length, 10)...)
		key := w.Key()
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		loseFirstNodes(t, ds)
		if w, err = feed.Open(ctx, ds, feed.Options{Prefix: opts.Prefix, Key: &key}); err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		c, r, done := victim(t, Config{}, exchange(t, w, false))
		if err := r.open(1, w.DiscoveryKey(), Capability(key, testBinding, true)); err != nil {
			t.Fatal(err)
		}
		if err := r.send(1, &wire.Sync{Length: length, RemoteLength: length, Uploading: true, Downloading: true}); err != nil {
			t.Fatal(err)
		}
		r.read()
		id := uint64(0)
		ask := func(q merkle.Request) wire.Message {
			id++
			return r.answerTo(&wire.Request{ID: id, Request: q})
		}
		for b := range uint64(length) {
			m := ask(merkle.Request{Block: &merkle.BlockRequest{Index: b, Nodes: 2}})
			if b < 64 {
				if !unavailable(m, id) {
					t.Fatalf("block %d, whose nodes are lost: answered with %+v", b, m)
				}
				continue
			}
			if d, ok := m.(*wire.Data); !ok || d.ID != id || d.Proof.Block == nil || d.Proof.Block.Index != b {
				t.Fatalf("block %d: answered with %+v", b, m)
			}
		}
		// The roots of 5 blocks are lost too, those of 256 are not.
		for start, lost := range map[uint64]bool{5: true, 256: false} {
			m := ask(merkle.Request{Upgrade: &merkle.UpgradeRequest{Start: start, Length: length - start}})
			if unavailable(m, id) != lost {
				t.Errorf("an upgrade from %d: answered with %+v", start, m)
			}
		}
		if m := ask(merkle.Request{Hash: &merkle.HashRequest{Index: 20, Nodes: 2}}); !unavailable(m, id) {
			t.Errorf("a lost hash: answered with %+v", m)
		}
		wantUnharmed(t, c, done)
	})
}

// wantUnharmed wants a connection to have found no fault with its remote, and to go on.
func wantUnharmed(t *testing.T, c *Conn, done <-chan error) {
	t.Helper()
	if n := c.Stats().Violations; n != 0 {
		t.Errorf("%d violations", n)
	}
	select {
	case err := <-done:
		t.Errorf("ended with %v", err)
	default:
	}
}

// loseFirstNodes deletes the tree nodes that are above the first 64 blocks and nothing else, of a feed that is not open.
func loseFirstNodes(t *testing.T, ds datastore.Batching) {
	t.Helper()
	ctx := t.Context()
	results, err := ds.Query(ctx, query.Query{KeysOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	entries, err := results.Rest()
	if err != nil {
		t.Fatal(err)
	}
	lost := 0
	for _, e := range entries {
		// /n, generation, page: page 0 of the lowest level is above the first 64 blocks.
		if strings.HasPrefix(e.Key, "/00000001/n") && strings.HasSuffix(e.Key, strings.Repeat("0", 12)) {
			lost++
			if err := ds.Delete(ctx, datastore.RawKey(e.Key)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if lost != 1 {
		t.Fatalf("%d pages of nodes are the first one", lost)
	}
}
