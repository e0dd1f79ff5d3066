package protocol

import (
	"bytes"
	"testing"
	"testing/synctest"

	"github.com/p2pcore/p2pcore/feed"
)

// TestTheManifestIsPassedOnWithoutBlocks has a reader without data pass on the manifest of a feed that is empty.
func TestTheManifestIsPassedOnWithoutBlocks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := writer(t, 1)
		near, far := reader(t, w), reader(t, w)
		xs := []*Exchange{exchange(t, w, false), exchange(t, near, true), exchange(t, far, true)}
		run := newRunner(t)
		run.connect(xs[1:2], xs[2:])
		synctest.Wait()
		if far.Info().HasManifest {
			t.Fatal("the manifest came from nowhere")
		}
		run.connect(xs[:1], xs[1:2])
		synctest.Wait()
		for i, f := range []*feed.Feed{near, far} {
			if m := f.Manifest(); m == nil || !bytes.Equal(m.Append(nil), w.Manifest().Append(nil)) {
				t.Errorf("reader %d: manifest %v", i, m)
			}
		}
		if got := far.Info().Length; got != 0 {
			t.Errorf("length %d", got)
		}
		clean(t, xs...)
	})
}
