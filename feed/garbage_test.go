package feed

import (
	"context"
	"testing"
)

// assertNoGarbage fails if a block or node page is stored that the feed does not read.
func assertNoGarbage(t *testing.T, f *Feed) {
	t.Helper()
	for _, k := range garbageOf(t, f) {
		t.Errorf("%+v is garbage", k)
	}
}

// junk is a record that nobody reads.
type junk struct {
	kind       string
	generation uint32
	id, end    uint64 // end is past the last block of a page
}

func garbageOf(t *testing.T, f *Feed) (all []junk) {
	t.Helper()
	err := f.storage.query(context.Background(), true, func(key string, _ []byte, _ int) error {
		kind, g, id, ok := f.storage.parseRecordKey(key)
		switch {
		case !ok:
		case kind == 'b' && (!f.bits.Has(id) || f.head.generations.of(id) != g):
			all = append(all, junk{"block", g, id, id + 1})
		case kind == 'n' && f.head.generations.ofPage(pageID(id)) != g:
			_, end := pageID(id).blocks()
			all = append(all, junk{"page", g, id, end})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
