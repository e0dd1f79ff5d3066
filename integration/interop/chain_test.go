package interop

import "testing"

// A machine in the middle holds a few blocks; whoever is behind it gets these, and others as they come there.
func TestSparseMiddle(t *testing.T) {
	const blocks = 300
	play(t, chains(), func(s *scene) {
		middle := s.relay()
		w := s.writer.open(opening{})
		w.fill("chain", 0, blocks, 40)
		m, r := middle.open(keyed(w.key())), s.reader.open(keyed(w.key()))
		s.chain(s.writer, middle)
		m.download(10, 30)
		equal(s.T, "block", m.get(blocks-1), content("chain", blocks-1, 40))
		s.chain(middle, s.reader)
		r.download(10, 30)
		r.check("chain", 10, 30, 40)
		equal(s.T, "the last block", r.get(blocks-1), content("chain", blocks-1, 40))

		block := meanwhile(s.T, func() string { return r.get(200) })
		m.get(200)
		equal(s.T, "block", block(), content("chain", 200, 40))

		w.fill("chain", blocks, blocks+50, 40)
		r.reach(state{length: blocks + 50})
		block = meanwhile(s.T, func() string { return r.get(blocks + 49) })
		m.get(blocks + 49)
		equal(s.T, "new block", block(), content("chain", blocks+49, 40))
		equal(s.T, "tree", r.treeHash(blocks+50), w.treeHash(blocks+50))
		equal(s.T, "others stored", r.has(30, 100), false)
	})
}

// All comes through a machine that begins with a few blocks.
func TestMiddleFillsUp(t *testing.T) {
	const blocks = 1000
	play(t, chains(), func(s *scene) {
		middle := s.relay()
		w := s.writer.open(opening{})
		w.fill("chain", 0, blocks, 40)
		m, r := middle.open(keyed(w.key())), s.reader.open(keyed(w.key()))
		s.chain(s.writer, middle)
		for i := 0; i < blocks; i += 70 {
			m.get(i)
		}
		s.chain(middle, s.reader)
		all := meanwhile(s.T, func() bool { r.download(0, blocks); return true })
		m.follow()
		all()
		r.check("chain", 0, blocks, 40)
	})
}

// A reader is at a length to which its peer, who came later, has no roots, so it cannot be brought further by it. It says
// so, and somebody else does it.
func TestMiddleWithoutRoots(t *testing.T) {
	play(t, chains(), func(s *scene) {
		middle := s.relay()
		w := s.writer.open(opening{})
		w.fill("chain", 0, 101, 40)
		m, r := middle.open(keyed(w.key())), s.reader.open(keyed(w.key()))
		s.chain(s.writer, s.reader)
		r.reach(state{length: 101})
		s.reader.offline()
		w.fill("chain", 101, 300, 40)
		s.chain(s.writer, middle)
		equal(s.T, "block", m.get(250), content("chain", 250, 40))
		s.writer.offline()
		s.chain(middle, s.reader)
		r.reach(state{length: 101, synced: 1})
		s.chain(s.writer, s.reader)
		r.reach(state{length: 300})
		equal(s.T, "block", r.get(250), content("chain", 250, 40))
	})
}

func TestReaderClears(t *testing.T) {
	play(t, setups(), func(s *scene) {
		w := s.writer.open(opening{})
		w.fill("clear", 0, 100, 40)
		r := s.reader.open(keyed(w.key()))
		s.join()
		r.download(0, 100)
		r.clear(10, 70)
		equal(s.T, "a cleared block stored", r.has(40, 41), false)
		equal(s.T, "contiguous", r.info().ContiguousLength, 10)
		equal(s.T, "block again", r.get(40), content("clear", 40, 40))
		r.download(0, 100)
		r.check("clear", 0, 100, 40)
	})
}

// The writer deletes blocks and gets them back from its reader.
func TestWriterClears(t *testing.T) {
	play(t, setups(), func(s *scene) {
		w := s.writer.open(opening{})
		w.fill("clear", 0, 100, 40)
		r := s.reader.open(keyed(w.key()))
		s.join()
		r.download(0, 100)
		w.reach(state{remoteContiguous: 100, fork: anyFork})
		w.clear(20, 90)
		equal(s.T, "a cleared block stored", w.has(50, 51), false)
		equal(s.T, "block again", w.get(50), content("clear", 50, 40))
		w.download(0, 100)
		w.check("clear", 0, 100, 40)
	})
}

// Somebody has cleared what a third one wants, who gets the rest there and that elsewhere.
func TestFetchFromWhoHasCleared(t *testing.T) {
	play(t, across(), func(s *scene) {
		third := s.party(s.setup.writer)
		w := s.writer.open(opening{})
		w.fill("clear", 0, 64, 40)
		r, o := s.reader.open(keyed(w.key())), third.open(keyed(w.key()))
		s.join()
		r.download(0, 64)
		r.clear(10, 50)
		s.writer.offline()
		s.chain(s.reader, third)
		o.download(0, 10)
		o.download(50, 64)
		block := meanwhile(s.T, func() string { return o.get(30) })
		s.chain(s.writer, third)
		equal(s.T, "block", block(), content("clear", 30, 40))
	})
}
