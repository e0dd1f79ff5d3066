package interop

import "testing"

// The connection breaks again and again while a feed is downloaded; nothing is missing in the end.
func TestResume(t *testing.T) {
	const blocks, size = 3000, 500
	play(t, setups(), func(s *scene) {
		w := s.writer.open(opening{})
		w.fill("resume", 0, blocks, size)
		r := s.reader.open(keyed(w.key()))
		s.join()
		r.follow()
		for i := range 3 {
			r.download(i*700, i*700+10)
			s.writer.offline()
			s.join()
		}
		r.download(0, blocks)
		r.check("resume", 0, blocks, size)
		equal(s.T, "tree", r.treeHash(blocks), w.treeHash(blocks))
	})
}

// A block is asked for while nobody is connected, of a feed that the reader has heard of before.
func TestAskBeforeConnecting(t *testing.T) {
	play(t, across(), func(s *scene) {
		w := s.writer.open(opening{})
		w.fill("resume", 0, 10, 50)
		r := s.reader.open(keyed(w.key()))
		s.join()
		equal(s.T, "block", r.get(1), content("resume", 1, 50))
		s.writer.offline()
		block := meanwhile(s.T, func() string { return r.get(7) })
		s.join()
		equal(s.T, "block", block(), content("resume", 7, 50))
	})
}

// The Node process is killed in the middle of a download, and another one goes on from its directory.
func TestKilledProcess(t *testing.T) {
	const blocks, size = 3000, 500
	play(t, withJavaScript(), func(s *scene) {
		w := s.writer.open(opening{})
		w.fill("kill", 0, blocks, size)
		r := s.reader.open(keyed(w.key()))
		s.join()
		r.follow()
		r.download(1000, 1010)
		if s.setup.writer == js {
			s.writer.(*jsParty).restart()
			w = s.writer.open(opening{})
			equal(s.T, "length after it was killed", w.info().Length, blocks)
		} else {
			key := w.key()
			s.reader.(*jsParty).restart()
			r = s.reader.open(keyed(key))
			r.follow()
		}
		s.join()
		r.download(0, blocks)
		r.check("kill", 0, blocks, size)
	})
}
