package interop

import (
	"fmt"
	"testing"
)

// counted are the messages that hypercore has sent and received since an earlier count.
func counted(now, before map[string]int) map[string]int {
	out := make(map[string]int)
	for name, n := range now {
		out[name] = n - before[name]
	}
	return out
}

// conversation connects writer and reader, waits until both have told all they have to tell, and returns what the
// JavaScript side has counted. Ours is counted in package protocol. The messages of a channel are in order, so an answer to
// what was sent behind all others comes behind all that they have led to; twice, for what answers lead to.
func conversation(s *scene, w, r log) (messages map[string]int) {
	s.Helper()
	there := r
	if s.setup.writer == js {
		there = w
	}
	before := there.(*jsLog).stats()
	for _, l := range []log{w, r} {
		l.extension("fence")
	}
	s.join()
	for _, l := range []log{w, r} {
		l.reach(state{synced: 1, fork: anyFork})
	}
	for i := range 2 {
		w.extend("fence", fmt.Sprint(i))
		r.extended("fence", i+1)
		r.extend("fence", fmt.Sprint(i))
		w.extended("fence", i+1)
	}
	return counted(there.(*jsLog).stats(), before)
}

// economical holds the counters against those that are not to be zero.
func economical(s *scene, got, want map[string]int) {
	s.Helper()
	for _, kind := range []string{"sync", "request", "cancel", "data", "want", "unwant", "bitfield", "range"} {
		for _, way := range []string{"Sent", "Received"} {
			equal(s.T, kind+way, got[kind+way], want[kind+way])
		}
	}
}

// withJavaScript are the setups in which one side counts messages.
func withJavaScript() (some []setup) {
	for _, s := range setups() {
		if s.writer == js || s.reader == js {
			some = append(some, s)
		}
	}
	return some
}

// Two peers that have everything tell each other so, and no more.
func TestEconomyOfCompletePeers(t *testing.T) {
	play(t, withJavaScript(), func(s *scene) {
		w := s.writer.open(opening{})
		w.fill("economy", 0, 100, 30)
		r := s.reader.open(keyed(w.key()))
		s.join()
		r.download(0, 100)
		s.writer.offline()
		s.reader.offline()
		economical(s, conversation(s, w, r), map[string]int{"syncSent": 1, "syncReceived": 1, "rangeSent": 1, "rangeReceived": 1})
	})
}

// Two peers of the same length of which neither has the first block have nothing to tell but the length.
func TestEconomyOfSparsePeers(t *testing.T) {
	play(t, withJavaScript(), func(s *scene) {
		source := s.relay()
		o := source.open(opening{})
		o.fill("economy", 0, 100, 30)
		a, b := s.writer.open(keyed(o.key())), s.reader.open(keyed(o.key()))
		for _, p := range []party{s.writer, s.reader} {
			s.chain(source, p)
		}
		a.get(70)
		b.get(30)
		for _, p := range []party{s.writer, s.reader, source} {
			p.offline()
		}
		economical(s, conversation(s, a, b), map[string]int{"syncSent": 1, "syncReceived": 1})
	})
}

func TestEconomyOfEmptyPeers(t *testing.T) {
	play(t, withJavaScript(), func(s *scene) {
		key := s.relay().open(opening{}).key()
		a, b := s.writer.open(keyed(key)), s.reader.open(keyed(key))
		economical(s, conversation(s, a, b), map[string]int{"syncSent": 1, "syncReceived": 1})
	})
}

// A download takes one request for each block and one answer; the head comes with one of them or by itself.
func TestEconomyOfDownload(t *testing.T) {
	const blocks = 500
	play(t, withJavaScript(), func(s *scene) {
		w := s.writer.open(opening{})
		w.fill("economy", 0, blocks, 30)
		r := s.reader.open(keyed(w.key()))
		s.join()
		r.download(0, blocks)
		w.reach(state{remoteContiguous: blocks, fork: anyFork})
		var requests, data int
		most := blocks + 1
		if s.setup.writer == js {
			// JavaScript answers in any order. We count on its order until a few answers have led to nodes that come
			// later; these, and what is under way then, is asked for again. That is a window once, which all of these
			// blocks may fit into.
			most += blocks
			stats := w.(*jsLog).stats()
			requests, data = stats["requestReceived"], stats["dataSent"]
		} else {
			stats := r.(*jsLog).stats()
			requests, data = stats["requestSent"], stats["dataReceived"]
		}
		equal(s.T, "answers", data, requests)
		if requests < blocks || requests > most {
			s.Fatalf("%d requests for %d blocks", requests, blocks)
		}
	})
}
