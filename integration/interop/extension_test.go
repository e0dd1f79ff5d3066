package interop

import (
	"fmt"
	"strings"
	"testing"
)

// Messages of an application go both ways beside replication, in order; those that nobody has asked for get lost.
func TestExtensions(t *testing.T) {
	const messages = 20
	play(t, setups(), func(s *scene) {
		w := s.writer.open(opening{})
		w.append("a", "b")
		r := s.reader.open(keyed(w.key()))
		w.extension("here")
		w.extension("there")
		w.extension("unknown to the reader")
		r.extension("here")
		r.extension("there")
		s.join()
		w.reach(state{synced: 1, fork: anyFork})
		r.reach(state{synced: 1, fork: anyFork})
		large := strings.Repeat("large", 200_000)
		for i := range messages {
			w.extend("here", fmt.Sprint("to the reader ", i))
			w.extend("unknown to the reader", "lost")
			w.extend("unknown to the reader", "lost again")
			r.extend("here", fmt.Sprint("to the writer ", i))
			r.extend("here", "")
		}
		w.extend("there", large)
		r.extend("there", large)
		for i, message := range r.extended("here", messages) {
			equal(s.T, "message", message, fmt.Sprint("to the reader ", i))
		}
		for i, message := range w.extended("here", 2*messages) {
			if i%2 == 1 {
				equal(s.T, "message", message, "")
			} else {
				equal(s.T, "message", message, fmt.Sprint("to the writer ", i/2))
			}
		}
		equal(s.T, "large message", r.extended("there", 1)[0], large)
		equal(s.T, "large message", w.extended("there", 1)[0], large)
		equal(s.T, "block", r.get(1), "b")
	})
}
