package interop

import (
	"testing"

	"github.com/p2pcore/p2pcore/feed"
)

// lazy opens a feed that asks for a longer head only for who waits. Corestore does not hand JavaScript's option eagerUpgrade
// on, so it is set where it would have led to.
func lazy(s *scene, p party, key feed.Key) log {
	s.Helper()
	if js, ok := p.(*jsParty); ok {
		l := js.get(keyed(key), nil)
		l.do("lazy", nil, nil)
		return l
	}
	p.(*goParty).online().SetLazyUpgrade(key, true)
	return p.open(keyed(key))
}

func TestLazyReader(t *testing.T) {
	play(t, across(), func(s *scene) {
		w := s.writer.open(opening{})
		w.fill("lazy", 0, 5, 40)
		r := lazy(s, s.reader, w.key())
		s.join()
		r.reach(state{remoteLength: 5})
		equal(s.T, "length of what nobody waits for", r.info().Length, 0)
		equal(s.T, "grown", r.update(), true)
		r.reach(state{length: 5})
		w.fill("lazy", 5, 7, 40)
		r.reach(state{remoteLength: 7})
		equal(s.T, "length of what nobody waits for", r.info().Length, 5)
		equal(s.T, "block past the end", r.get(6), content("lazy", 6, 40))
		r.reach(state{length: 7})

		w.truncate(3)
		w.fill("fork", 3, 9, 40)
		r.reach(state{remoteLength: 9}) // and still of the old fork
		equal(s.T, "block of the old fork", r.get(6), content("lazy", 6, 40))
		equal(s.T, "forked", r.update(), true)
		r.reach(state{fork: 1})
		r.get(8)
		r.reach(state{fork: 1, length: 9})
		r.download(0, 9)
		r.check("lazy", 0, 3, 40)
		r.check("fork", 3, 9, 40)
		equal(s.T, "tree", r.treeHash(9), w.treeHash(9))
	})
}
