package api

import (
	"testing"

	"github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"
	"github.com/p2pcore/p2pcore/corestore"
)

// TestLagIsThatOfTheSlowestOfEachKind follows a feed of five blocks.
func TestLagIsThatOfTheSlowestOfEachKind(t *testing.T) {
	t.Parallel()
	store, err := corestore.Open(t.Context(), dssync.MutexWrap(datastore.NewMapDatastore()), corestore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	session, err := store.Named(t.Context(), "log")
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	for range 5 {
		if _, err := session.Append(t.Context(), []byte("block")); err != nil {
			t.Fatal(err)
		}
	}
	var c consumers
	want := func(lines, sse, frames uint64) {
		t.Helper()
		got := c.lags()
		if len(got) != 3 || got[consumerLines] != lines || got[consumerSSE] != sse || got[consumerFrames] != frames {
			t.Errorf("got %v, want ndjson %d, sse %d, frames %d", got, lines, sse, frames)
		}
	}
	want(0, 0, 0)
	stream := func(out eventStream, sent uint64) func() {
		bs := &blockStream{b: &reader{session: session}, out: &out}
		bs.sent.Store(sent)
		return c.add(bs)
	}
	slow, fast := stream(eventStream{}, 1), stream(eventStream{}, 4)
	early := stream(eventStream{sse: true}, 9) // waits for a block that is not there yet
	frames := stream(eventStream{frames: true}, 5)
	want(4, 0, 0)
	slow()
	want(1, 0, 0)
	fast()
	early()
	frames()
	behind := stream(eventStream{sse: true}, 3)
	want(0, 2, 0)
	behind()
	want(0, 0, 0)
	if len(c.all) != 0 {
		t.Errorf("%d streams are kept after they have ended", len(c.all))
	}
}
