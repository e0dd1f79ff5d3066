package protocol

import (
	"slices"
	"testing"
	"testing/synctest"

	"github.com/p2pcore/p2pcore/feed"
)

// A writer hears how far its readers are, and still knows it when they have gone; what it cuts off nobody holds.
func TestTheWriterHearsHowFarAnyReaderHasCome(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := writer(t, 1, numbered(10, 100)...)
		r := reader(t, w)
		var told []uint64 // one call at a time, and read at rest
		from := NewExchange(w, ExchangeOptions{OnRemoteContiguous: func(length uint64) { told = append(told, length) }})
		t.Cleanup(func() { _ = from.Close() })
		to := exchange(t, r, true)
		expect := func(when string, length uint64, calls ...uint64) {
			t.Helper()
			synctest.Wait()
			if got := from.RemoteContiguous(); got != length || !slices.Equal(told, calls) {
				t.Errorf("%s: %d, told of %d, want %d and %d", when, got, told, length, calls)
			}
			told = nil
		}
		run := newRunner(t)
		c, _ := run.connect([]*Exchange{from}, []*Exchange{to})
		expect("nothing is downloaded", 0)
		s := session(t, r)
		defer s.Close()
		download := func(end uint64) {
			t.Helper()
			if err := s.Download(timed(t), feed.Range{End: end}); err != nil {
				t.Fatal(err)
			}
		}
		download(10)
		expect("all is downloaded", 10, 10)
		_ = c.Close()
		expect("the reader has gone", 10)
		appendBlocks(t, w, numbered(5, 100)...)
		expect("the feed has grown", 10)
		truncate(t, w, 4)
		expect("the feed was truncated", 4)
		appendBlocks(t, w, numbered(4, 50)...)
		expect("it has grown again", 4)
		run.connect([]*Exchange{from}, []*Exchange{to})
		synctest.Wait()
		download(8)
		expect("the reader has come back", 8, 8)
	})
}
