package node

import (
	"testing"

	"github.com/p2pcore/p2pcore/feed"
)

// TestFiguresOutliveFeeds wants the counters of a feed to stay in the sum when nobody uses the feed any more.
func TestFiguresOutliveFeeds(t *testing.T) {
	t.Parallel()
	sa, sb := newStore(t), newStore(t)
	a, b := newNode(t, sa), newNode(t, sb)
	log, err := sa.Named(t.Context(), "log")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	if _, err := log.Append(t.Context(), []byte("hello"), []byte("you")); err != nil {
		t.Fatal(err)
	}
	connect(t, a, b)
	copied, err := sb.Keyed(t.Context(), log.Key())
	if err != nil {
		t.Fatal(err)
	}
	defer copied.Close()
	if err := copied.Download(t.Context(), feed.Range{End: 2}); err != nil {
		t.Fatal(err)
	}
	// The feed has the blocks, and with them the download, a moment before they are counted.
	eventually(t, "the blocks are counted", func() bool { return b.Figures().Replication.BlocksReceived == 2 })
	if f := b.Figures(); f.Replication.BlocksReceived != 2 || f.Replication.BytesReceived != 8 || f.Streams != 1 || f.Feeds != 1 {
		t.Errorf("after a download: %+v", f)
	}
	states := a.Feeds()
	if len(states) != 1 || states[0].Info.Key != log.Key() || !states[0].Active || len(states[0].Peers) != 1 {
		t.Errorf("feeds of the writer: %+v", states)
	}
	// What ends a feed's exchange: its entry leaves the books.
	r := b.replicator
	r.mu.Lock()
	e := r.entries[log.DiscoveryKey()]
	delete(r.entries, e.dk)
	r.leaving[e] = struct{}{}
	r.mu.Unlock()
	if f := b.Figures(); f.Replication.BlocksReceived != 2 || f.Feeds != 0 {
		t.Errorf("while the feed leaves: %+v", f)
	}
	r.drop(e)
	f := b.Figures().Replication
	if f.BlocksReceived != 2 || f.BytesReceived != 8 {
		t.Errorf("after the feed has gone: %+v", f)
	}
}
