package interop

import (
	"fmt"
	"testing"
)

func TestGet(t *testing.T) {
	play(t, setups(), func(s *scene) {
		w := s.writer.open(opening{})
		w.append("one", "two", "", "four")
		r := s.reader.open(keyed(w.key()))
		s.join()
		equal(s.T, "block 1", r.get(1), "two")
		equal(s.T, "block 2", r.get(2), "")
		equal(s.T, "length", r.info().Length, 4)
		equal(s.T, "bytes", r.info().ByteLength, w.info().ByteLength)
		equal(s.T, "block 0 stored", r.has(0, 1), false)
		equal(s.T, "tree", r.treeHash(4), w.treeHash(4))
	})
}

func TestBulkDownload(t *testing.T) {
	const blocks, size = 10_000, 100
	play(t, setups(), func(s *scene) {
		w := s.writer.open(opening{})
		w.fill("bulk", 0, blocks, size)
		r := s.reader.open(keyed(w.key()))
		s.join()
		r.download(0, blocks)
		r.check("bulk", 0, blocks, size)
		equal(s.T, "contiguous", r.info().ContiguousLength, blocks)
		w.reach(state{remoteContiguous: blocks, fork: 0})
	})
}

func TestTwentyFeedsOnOneConnection(t *testing.T) {
	const feeds = 20
	play(t, setups(), func(s *scene) {
		var w, r []log
		for i := range feeds {
			w = append(w, s.writer.open(opening{name: fmt.Sprint("feed ", i)}))
			w[i].fill(fmt.Sprint("feed ", i), 0, 10+i, 50)
			r = append(r, s.reader.open(keyed(w[i].key())))
		}
		s.join()
		var waits []func() bool
		for i := range feeds {
			waits = append(waits, meanwhile(s.T, func() bool { r[i].download(0, 10+i); return true }))
		}
		for i, wait := range waits {
			wait()
			r[i].check(fmt.Sprint("feed ", i), 0, 10+i, 50)
		}
	})
}

// Both sides come to know a feed only when the connection is up.
func TestLateAttach(t *testing.T) {
	play(t, setups(), func(s *scene) {
		first := s.writer.open(opening{name: "first"})
		first.append("first")
		r := s.reader.open(keyed(first.key()))
		s.join()
		equal(s.T, "first", r.get(0), "first")

		second := s.writer.open(opening{name: "second"})
		second.append("a", "b")
		equal(s.T, "second", s.reader.open(keyed(second.key())).get(1), "b")

		// The reader is there first and waits.
		third := s.writer.open(opening{name: "third"})
		reading := s.reader.open(keyed(third.key()))
		block := meanwhile(s.T, func() string { return reading.get(0) })
		third.append("c")
		equal(s.T, "third", block(), "c")
	})
}

func TestStoredButUnopened(t *testing.T) {
	play(t, setups(), func(s *scene) {
		w := s.writer.open(opening{name: "stored"})
		w.append("a", "b", "c")
		key := w.key()
		w.close()
		s.join()
		r := s.reader.open(keyed(key))
		r.download(0, 3)
		equal(s.T, "block", r.get(2), "c")
	})
}

// Each side writes a feed that the other tails.
func TestLiveTailBothWays(t *testing.T) {
	const blocks = 30
	play(t, setups(), func(s *scene) {
		mine, theirs := s.writer.open(opening{name: "a"}), s.reader.open(opening{name: "b"})
		there, here := s.reader.open(keyed(mine.key())), s.writer.open(keyed(theirs.key()))
		s.join()
		a := meanwhile(s.T, func() []string { return there.tail(0, blocks) })
		b := meanwhile(s.T, func() []string { return here.tail(0, blocks) })
		for i := range blocks {
			mine.append(content("a", i, 40))
			theirs.append(content("b", i, 40))
		}
		for i, block := range a() {
			equal(s.T, "block of a", block, content("a", i, 40))
		}
		for i, block := range b() {
			equal(s.T, "block of b", block, content("b", i, 40))
		}
	})
}

// A request waits for a block that does not exist yet, and the head and the block come together.
func TestReadAhead(t *testing.T) {
	play(t, across(), func(s *scene) {
		w := s.writer.open(opening{})
		w.fill("ahead", 0, 5, 30)
		r := s.reader.open(keyed(w.key()))
		s.join()
		block := meanwhile(s.T, func() string { return r.get(9) })
		r.reach(state{length: 5})
		w.fill("ahead", 5, 10, 30)
		equal(s.T, "block", block(), content("ahead", 9, 30))
		equal(s.T, "length", r.info().Length, 10)
	})
}

func TestUpdate(t *testing.T) {
	play(t, across(), func(s *scene) {
		w := s.writer.open(opening{})
		w.fill("update", 0, 7, 30)
		r := s.reader.open(keyed(w.key()))
		s.join()
		r.reach(state{length: 7, synced: 1})
		equal(s.T, "grown", r.update(), false)
		equal(s.T, "block stored", r.has(0, 7), false)
	})
}

func TestLargeBlocks(t *testing.T) {
	const size = 15 << 20
	play(t, across(), func(s *scene) {
		w := s.writer.open(opening{})
		w.append("small")
		w.fill("large", 1, 3, size)
		r := s.reader.open(keyed(w.key()))
		s.join()
		r.download(0, 3)
		r.check("large", 1, 3, size)
		equal(s.T, "small block", r.get(0), "small")
	})
}
