package interop

import (
	"slices"
	"testing"

	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/node"
)

// pushed opens a feed that takes pushes; only: and asks for nothing.
func pushed(s *scene, p party, key feed.Key, only bool) log {
	s.Helper()
	if js, ok := p.(*jsParty); ok {
		return js.get(keyed(key), args{"allowPush": true, "pushOnly": only})
	}
	p.(*goParty).online().SetPush(key, node.PushMode{AllowPush: true, PushOnly: only})
	return p.open(keyed(key))
}

// push pushes blocks [start, end) of a feed to all peers.
func push(l log, start, end int) {
	if js, ok := l.(*jsLog); ok {
		js.t.Helper()
		for i := start; i < end; i++ {
			js.do("push", args{"index": i}, nil)
		}
		return
	}
	g := l.(*goLog)
	g.node.Push(g.key(), feed.Range{Start: uint64(start), End: uint64(end)})
}

// requests is how many requests a feed has sent.
func requests(l log) int {
	if js, ok := l.(*jsLog); ok {
		return js.stats()["requestSent"]
	}
	g := l.(*goLog)
	return int(g.node.FeedStats(g.key()).Requests)
}

func TestPush(t *testing.T) {
	play(t, setups(), func(s *scene) {
		w := s.writer.open(opening{})
		w.fill("push", 0, 5, 40)
		r := pushed(s, s.reader, w.key(), true)
		s.join()
		w.reach(state{synced: 1, fork: anyFork})
		equal(s.T, "length of what is not pushed", r.info().Length, 0)
		push(w, 4, 5)
		r.reach(state{length: 5})
		push(w, 0, 5)
		r.reach(state{length: 5, contiguous: 5})
		for i := 5; i < 20; i++ {
			w.fill("push", i, i+1, 40)
			push(w, i, i+1)
		}
		r.reach(state{length: 20, contiguous: 20})
		r.check("push", 0, 20, 40)
		equal(s.T, "tree", r.treeHash(20), w.treeHash(20))
		equal(s.T, "requests", requests(r), 0)
	})
}

// A JavaScript writer answers the first upgrade on a channel of a reader that allows pushes from length 0, whatever it asked
// for.
func TestUpgradeOfAReaderThatAllowsPushes(t *testing.T) {
	play(t, across(), func(s *scene) {
		w := s.writer.open(opening{})
		w.fill("push", 0, 5, 40)
		r := pushed(s, s.reader, w.key(), false)
		s.join()
		r.download(0, 5)
		s.reader.offline()
		s.writer.offline()
		w.fill("push", 5, 7, 40)
		pushedAgain(s, w.key())
		s.join()
		r.download(0, 7)
		r.check("push", 0, 7, 40)
	})
}

// pushedAgain tells a node of ours, which was replaced by a new one, that pushes are allowed.
func pushedAgain(s *scene, key feed.Key) {
	if g, ok := s.reader.(*goParty); ok {
		g.online().SetPush(key, node.PushMode{AllowPush: true})
	}
}

// Two that push the head to an empty reader at the same time are not taken for rivals. Where JavaScript pushes they are:
// two of its own pushers freeze a JavaScript reader, and one of them alone shows nothing.
func TestPushesOfTwoToAnEmptyReader(t *testing.T) {
	wePush := slices.DeleteFunc(across(), func(s setup) bool { return s.writer == js })
	play(t, wePush, func(s *scene) {
		mirror := s.party(ours)
		w := s.writer.open(opening{})
		w.fill("push", 0, 5, 40)
		m := mirror.open(keyed(w.key()))
		r := pushed(s, s.reader, w.key(), true)
		s.connect(mirror, s.writer)
		m.download(0, 5)
		s.connect(s.reader, s.writer)
		s.connect(s.reader, mirror)
		w.reach(state{synced: 2, fork: anyFork})
		m.reach(state{synced: 2, fork: anyFork})
		push(w, 4, 5)
		push(m, 4, 5)
		push(w, 0, 5)
		push(m, 0, 5)
		r.reach(state{length: 5, contiguous: 5})
		r.check("push", 0, 5, 40)
		mirror.stop()
	})
}
