package node

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/p2pcore/p2pcore/feed"
)

// told says whether the only peer of a feed has told that it downloads.
func told(t *testing.T, r *Replicator, dk feed.DiscoveryKey) bool {
	t.Helper()
	synctest.Wait()
	x := r.Exchange(dk)
	if x == nil || len(x.Peers()) != 1 {
		t.Fatal("the feed has not one peer")
	}
	return x.Peers()[0].Downloading
}

// Lingering takes from 20 to 40 s, and any time in between: of ten thousand draws some come near to either end.
func TestLingeringTakesAnyTimeFrom20To40Seconds(t *testing.T) {
	shortest, longest := time.Hour, time.Duration(0)
	for range 10_000 {
		d := randomLinger()
		shortest, longest = min(shortest, d), max(longest, d)
	}
	if shortest < 20*time.Second || longest >= 40*time.Second {
		t.Errorf("from %v to %v, want 20 to 40 s", shortest, longest)
	}
	if shortest > 21*time.Second || longest < 39*time.Second {
		t.Errorf("from %v to %v only, of 20 to 40 s", shortest, longest)
	}
}

// A feed that has lost its last session goes on downloading for as long as it lingers, and then says that it does not. One that
// is opened meanwhile does not stop.
func TestAFeedLingersAfterItsLastSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sa, sb := newStore(t), newStore(t)
		a, b := newReplicator(t, sa), newReplicator(t, sb)
		linger := b.opts.Linger
		if linger < 20*time.Second || linger >= 40*time.Second {
			t.Fatalf("lingers for %v, want 20 to 40 s", linger)
		}
		defer pipe(t, a, b)()
		w := named(t, sa, "log")
		appendBlocks(t, w, "first")
		dk, key := w.DiscoveryKey(), w.Key()
		r := keyed(t, sb, key)
		wantBlocks(t, r, "first")
		expect := func(when string, want bool) {
			t.Helper()
			if got := told(t, a, dk); got != want {
				t.Errorf("%s: downloading is %v, want %v", when, got, want)
			}
		}

		r.Close()
		time.Sleep(linger - time.Second)
		expect("one second before the lingering ends", true)
		r = keyed(t, sb, key)
		time.Sleep(2 * linger)
		expect("opened again", true)
		r.Close()
		time.Sleep(linger - time.Nanosecond)
		expect("just before the end", true)
		time.Sleep(time.Nanosecond)
		expect("at the end", false)

		r = keyed(t, sb, key)
		expect("opened once more", true)
		r.Close()
		time.Sleep(linger / 2)
		keyed(t, sb, key).Close() // from now on it lingers anew
		time.Sleep(linger - time.Second)
		expect("one second before the end of the second lingering", true)
		time.Sleep(time.Second)
		expect("at its end", false)
	})
}

// Without lingering the last session ends the downloading at once.
func TestAFeedThatDoesNotLingerStopsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sa, sb := newStore(t), newStore(t)
		a, b := newReplicator(t, sa), NewReplicator(sb, ReplicatorOptions{Linger: -1})
		t.Cleanup(func() { b.Close() })
		defer pipe(t, a, b)()
		w := named(t, sa, "log")
		appendBlocks(t, w, "first")
		dk := w.DiscoveryKey()
		r := keyed(t, sb, w.Key())
		other := keyed(t, sb, w.Key())
		r.Close()
		if !told(t, a, dk) {
			t.Error("does not download although a session is left")
		}
		start := time.Now()
		other.Close()
		if told(t, a, dk) || time.Since(start) > 0 {
			t.Errorf("downloads on, %v after its last session", time.Since(start))
		}
	})
}

// An empty feed that was opened and closed again before there was any peer still gets its first head from one that comes while
// it lingers; later ones have to ask for it themselves.
func TestAnEmptyFeedThatLingersGetsAFirstHead(t *testing.T) {
	for name, late := range map[string]bool{"in time": false, "too late": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sa, sb := newStore(t), newStore(t)
				a, b := newReplicator(t, sa), newReplicator(t, sb)
				w := named(t, sa, "log")
				appendBlocks(t, w, "a", "b", "c")
				dk, key := w.DiscoveryKey(), w.Key()
				w.Close()
				time.Sleep(time.Minute) // the writer does not download, so it opens no channel
				keyed(t, sb, key).Close()
				wait := b.opts.Linger - time.Second
				if late {
					wait += 2 * time.Second
				}
				time.Sleep(wait)
				defer pipe(t, a, b)()
				synctest.Wait()
				f, release, err := sb.Resolve(t.Context(), dk)
				if err != nil {
					t.Fatal(err)
				}
				defer release()
				if got, want := f.Info().Length, map[bool]uint64{false: 3, true: 0}[late]; got != want {
					t.Errorf("length %d, want %d", got, want)
				}
			})
		})
	}
}
