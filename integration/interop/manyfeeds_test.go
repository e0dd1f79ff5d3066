package interop

import (
	"fmt"
	"sync"
	"testing"
)

// More feeds than are looked up at a time: JavaScript has them all open when it connects, so their opens come at once, and
// it never repeats one. The store on the other side has them all, and none open.
func TestManyFeedsOpenedAtOnce(t *testing.T) {
	const feeds = 1500
	kinds := []setup{{tcp, ours, js, false, ""}, {libp2p, ours, js, true, ""}}
	if *baseline {
		kinds = []setup{{tcp, js, js, false, ""}}
	}
	play(t, kinds, func(s *scene) {
		copies := make([]log, feeds)
		for i := range copies {
			w := s.writer.open(opening{name: fmt.Sprint("feed ", i)})
			w.append(fmt.Sprint("block of ", i))
			copies[i] = s.reader.open(keyed(w.key()))
			w.close()
		}
		s.join()
		var reads sync.WaitGroup
		for i, r := range copies {
			reads.Go(func() {
				if got, want := r.get(0), fmt.Sprint("block of ", i); got != want {
					s.Errorf("block of feed %d: %q, want %q", i, got, want)
				}
			})
		}
		reads.Wait()
	})
}
