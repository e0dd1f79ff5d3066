package interop

import (
	"context"
	"testing"
)

// atDoor runs a scenario on both networks, with a group of ours whose door is a feed of one of the sides.
func atDoor(t *testing.T, scenario func(t *testing.T, n network, js *jsParty, ours *goParty)) {
	t.Parallel()
	for _, n := range []network{tcp, libp2p} {
		t.Run(string(n), func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			js, ours := newJS(t, ctx), newGo(t, ctx)
			scenario(t, n, js, ours)
			js.stop()
			ours.stop()
		})
	}
}

// TestHandshakeKeyOfAJavaScriptDialler: JavaScript sends all its opens at once and never repeats one that was rejected, so
// those before the door's are held; and it passes too if it opens the door only when it is connected.
func TestHandshakeKeyOfAJavaScriptDialler(t *testing.T) {
	for name, early := range map[string]bool{"door opened last": true, "door opened while connected": false} {
		t.Run(name, func(t *testing.T) {
			atDoor(t, func(t *testing.T, n network, js *jsParty, ours *goParty) {
				door := ours.open(opening{name: "door"}).key()
				ours.door = &door
				w := ours.open(opening{name: "log"})
				w.append("behind the door")
				r, theirs := js.open(keyed(w.key())), js.open(opening{name: "theirs"})
				theirs.append("of JavaScript")
				if early {
					js.open(keyed(door))
				}
				js.dial(n, ours.listen(n))
				if !early {
					js.open(keyed(door))
				}
				equal(t, "block behind the door", r.get(0), "behind the door")
				equal(t, "block of who passed", ours.open(keyed(theirs.key())).get(0), "of JavaScript")
			})
		})
	}
}

// TestHandshakeKeyOfAJavaScriptAcceptor: the door's feed is stored there and closed, and opened as we ask for it.
func TestHandshakeKeyOfAJavaScriptAcceptor(t *testing.T) {
	atDoor(t, func(t *testing.T, n network, js *jsParty, ours *goParty) {
		stored := js.open(opening{name: "door"})
		door := stored.key()
		stored.close()
		ours.door = &door
		w := js.open(opening{name: "log"})
		w.append("of JavaScript")
		mine := ours.open(opening{name: "mine"})
		mine.append("behind the door")
		ours.dial(n, js.listen(n))
		equal(t, "block of who passed", ours.open(keyed(w.key())).get(0), "of JavaScript")
		equal(t, "block behind the door", js.open(keyed(mine.key())).get(0), "behind the door")
	})
}
