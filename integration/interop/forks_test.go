package interop

import (
	"testing"

	"github.com/p2pcore/p2pcore/feed"
)

// rewritten waits until r has followed w, fetches all, and looks at what was kept of the old blocks and what came for the
// others.
func rewritten(s *scene, r log, w log, kept int) {
	s.Helper()
	i := w.info()
	equal(s.T, "fork", r.reach(state{fork: i.Fork, length: i.Length}).Fork, i.Fork)
	r.download(0, i.Length)
	r.check("old", 0, kept, 40)
	r.check("new", kept, i.Length, 40)
	equal(s.T, "tree", r.treeHash(i.Length), w.treeHash(i.Length))
	equal(s.T, "bytes", r.info().ByteLength, i.ByteLength)
}

func TestTruncateOnline(t *testing.T) {
	play(t, setups(), func(s *scene) {
		w := s.writer.open(opening{})
		w.fill("old", 0, 40, 40)
		r := s.reader.open(keyed(w.key()))
		s.join()
		r.download(0, 40)
		w.truncate(25)
		w.fill("new", 25, 33, 40)
		rewritten(s, r, w, 25)
		// Shorter than before, and then longer.
		w.truncate(3)
		w.fill("new", 3, 70, 40)
		rewritten(s, r, w, 3)
		equal(s.T, "fork", r.info().Fork, 2)
	})
}

// How much the reader has told to hold is remembered when it has gone, and falls with a truncation alone.
func TestRemoteContiguousLength(t *testing.T) {
	play(t, setups(), func(s *scene) {
		w := s.writer.open(opening{})
		w.fill("old", 0, 40, 40)
		r := s.reader.open(keyed(w.key()))
		expect := func(when string, want int) {
			s.T.Helper()
			equal(s.T, when, w.info().RemoteContiguousLength, want)
		}
		expect("at first", 0)
		s.join()
		r.download(0, 40)
		w.reach(state{remoteContiguous: 40, fork: 0})
		expect("after the download", 40)
		s.reader.offline()
		expect("when the reader has gone", 40)
		w.truncate(25)
		if l, ok := w.(*goLog); ok { // its exchange hears of it a moment later
			l.until(func() bool { return l.info().RemoteContiguousLength < 40 })
		}
		expect("after a truncation", 25)
		w.fill("new", 25, 33, 40)
		expect("when it has grown again", 25)
		s.join()
		r.reach(state{length: 33, fork: 1})
		r.download(0, 33)
		w.reach(state{remoteContiguous: 33, fork: 1})
		expect("after the second download", 33)
	})
}

// What is cut off goes from the reader, although nothing comes in its place.
func TestTruncateWithoutAppend(t *testing.T) {
	play(t, across(), func(s *scene) {
		w := s.writer.open(opening{})
		w.fill("old", 0, 40, 40)
		r := s.reader.open(keyed(w.key()))
		s.join()
		r.download(0, 40)
		w.truncate(10)
		equal(s.T, "length", r.reach(state{fork: 1}).Length, 10)
		rewritten(s, r, w, 10)
	})
}

// A feed that is cut to nothing tells of it with its next block.
func TestTruncateToNothing(t *testing.T) {
	play(t, across(), func(s *scene) {
		w := s.writer.open(opening{})
		w.fill("old", 0, 9, 40)
		r := s.reader.open(keyed(w.key()))
		s.join()
		r.download(0, 9)
		w.truncate(0)
		w.fill("new", 0, 5, 40)
		rewritten(s, r, w, 0)
	})
}

func TestTruncateOffline(t *testing.T) {
	play(t, setups(), func(s *scene) {
		w := s.writer.open(opening{})
		w.fill("old", 0, 300, 40)
		r := s.reader.open(keyed(w.key()))
		s.join()
		r.download(0, 300)
		s.writer.offline()
		s.reader.offline()
		w.truncate(200)
		w.truncate(123)
		w.fill("new", 123, 260, 40)
		s.join()
		rewritten(s, r, w, 123)
		equal(s.T, "fork", r.info().Fork, 2)
	})
}

// A reader that holds little of the feed cannot tell exactly where the writer has rewritten it.
func TestReorgOfSparseReader(t *testing.T) {
	play(t, setups(), func(s *scene) {
		w := s.writer.open(opening{})
		w.fill("old", 0, 300, 40)
		r := s.reader.open(keyed(w.key()))
		s.join()
		for _, i := range []int{0, 17, 101, 299} {
			equal(s.T, "block", r.get(i), content("old", i, 40))
		}
		s.reader.offline()
		s.writer.offline()
		w.truncate(150)
		w.fill("new", 150, 280, 40)
		s.join()
		i := r.reach(state{fork: 1, length: 280})
		equal(s.T, "length", i.Length, 280)
		equal(s.T, "block", r.get(17), content("old", 17, 40))
		equal(s.T, "block", r.get(279), content("new", 279, 40))
		rewritten(s, r, w, 150)
	})
}

// A reader that is offline twice over is brought to the newest fork by another reader; the writer has gone.
func TestForkFromAnotherReader(t *testing.T) {
	play(t, across(), func(s *scene) {
		other := s.relay()
		w := s.writer.open(opening{})
		w.fill("old", 0, 50, 40)
		r, o := s.reader.open(keyed(w.key())), other.open(keyed(w.key()))
		s.chain(s.writer, s.reader)
		r.download(0, 50)
		s.reader.offline()
		w.truncate(30)
		w.fill("new", 30, 60, 40)
		s.chain(s.writer, other)
		rewritten(s, o, w, 30)
		s.writer.offline()
		s.chain(other, s.reader)
		rewritten(s, r, w, 30)
	})
}

// A reader of a feed that was rewritten before has the newest fork at once.
func TestFirstHeadOfHighFork(t *testing.T) {
	play(t, across(), func(s *scene) {
		w := s.writer.open(opening{})
		for range 3 {
			w.fill("new", w.info().Length, 20, 40)
			w.truncate(w.info().Length - 7)
		}
		w.fill("new", w.info().Length, 20, 40)
		r := s.reader.open(keyed(w.key()))
		s.join()
		rewritten(s, r, w, 0)
	})
}

// Two machines write with one key. Whoever hears of both does not go on with either, and nor does the one it heard last.
func TestConflict(t *testing.T) {
	play(t, setups(), func(s *scene) {
		pair := feed.KeyPairFromSeed([32]byte{1})
		w := s.writer.open(opening{pair: &pair})
		w.append("a", "b")
		r := s.reader.open(keyed(w.key()))
		s.join()
		r.download(0, 2)
		s.reader.offline()
		s.writer.stop()

		s.writer = s.party(s.setup.writer)
		twin := s.writer.open(opening{pair: &pair})
		equal(s.T, "key", twin.key(), w.key())
		twin.append("a", "x", "y")
		s.reader.expect("INVALID_SIGNATURE", "invalid:")
		s.join()
		r.conflict()
		twin.conflict()
	})
}
