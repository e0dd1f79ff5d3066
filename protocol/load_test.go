package protocol

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/internal/compact"
	"github.com/p2pcore/p2pcore/internal/wire"
)

// stuck returns an exchange that has a handler for the extension x. It waits until release is closed.
func stuck(t testing.TB, f *feed.Feed) (x *Exchange, release chan struct{}) {
	t.Helper()
	x, release = exchange(t, f, false), make(chan struct{})
	if _, err := x.OnExtension("x", func(ctx context.Context, _ Peer, _ []byte) {
		select {
		case <-release:
		case <-ctx.Done():
		}
	}); err != nil {
		t.Fatal(err)
	}
	return x, release
}

// mailed is how many bytes of messages wait for handlers.
func (x *Exchange) mailed() (n int) {
	x.mail.mu.Lock()
	defer x.mail.mu.Unlock()
	for _, l := range x.mail.queue {
		n += cap(l.message)
	}
	return n
}

// TestAChannelThatIsOpenedAgainIsNoFreshInbox sends as much as an inbox takes on one channel after the other.
func TestAChannelThatIsOpenedAgainIsNoFreshInbox(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const rounds, each = 20, 3
		w := writer(t, 1, numbered(4, 10)...)
		x, release := stuck(t, w)
		_, r, _ := victim(t, Config{}, x)
		r.collect(wire.TypeExtension)
		var sent atomic.Int64
		go func() {
			for range rounds {
				if r.open(1, w.DiscoveryKey(), Capability(w.Key(), testBinding, true)) != nil {
					return
				}
				for range each {
					if r.send(1, &wire.Extension{Name: "x", Message: make([]byte, 1<<20)}) != nil {
						return
					}
					sent.Add(1)
				}
				if r.frame([]byte{0, 3, 1}) != nil {
					return
				}
			}
		}()
		synctest.Wait()
		if n := x.mailed(); n > defaultInbox+2<<20 {
			t.Errorf("%d bytes wait for a handler, of a peer that may have %d", n, defaultInbox)
		}
		close(release)
		synctest.Wait()
		if n := sent.Load(); n != rounds*each {
			t.Errorf("%d of %d messages were taken when the handler came back", n, rounds*each)
		}
	})
}

// TestASmallMessageInAFrameOfJunkCountsAsTheFrame: the message is a part of the frame and keeps all of it.
func TestASmallMessageInAFrameOfJunkCountsAsTheFrame(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const frames, size = 100, 1<<20 - 200
		w := writer(t, 1, numbered(4, 10)...)
		x, release := stuck(t, w)
		c, r, _ := victim(t, Config{}, x)
		var sent atomic.Int64
		go func() {
			if r.open(1, w.DiscoveryKey(), Capability(w.Key(), testBinding, true)) != nil {
				return
			}
			for range frames {
				small := (&wire.Extension{Name: "x", Message: []byte{1}}).Append([]byte{byte(wire.TypeExtension)})
				b := compact.AppendBytes([]byte{0, 0, 1}, small)
				b = compact.AppendBytes(b, append([]byte{77}, make([]byte, size)...)) // of a type that nobody knows
				if r.frame(b) != nil {
					return
				}
				sent.Add(1)
			}
		}()
		synctest.Wait()
		if n := sent.Load() * size; n > defaultInbox+2<<20 {
			t.Errorf("%d bytes were taken in", n)
		}
		close(release)
		synctest.Wait()
		if n := sent.Load(); n != frames {
			t.Errorf("%d of %d frames were taken when the handler came back", n, frames)
		}
		if n := c.links[w.DiscoveryKey()].inbox.queued.Load(); n != 0 {
			t.Errorf("%d bytes count as unprocessed in the end", n)
		}
	})
}

// TestWhatGoneConnectionsHaveSentIsBounded has a remote connect again and again while a handler waits.
func TestWhatGoneConnectionsHaveSentIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := writer(t, 1, numbered(4, 10)...)
		x, release := stuck(t, w)
		for range 12 {
			c, r, _ := victim(t, Config{}, x)
			go func() {
				_ = r.open(1, w.DiscoveryKey(), Capability(w.Key(), testBinding, true))
				for range 3 {
					_ = r.send(1, &wire.Extension{Name: "x", Message: make([]byte, 1<<20)})
				}
			}()
			synctest.Wait()
			c.Close()
		}
		if n := x.mailed(); n > maxLateMail+2<<20 {
			t.Errorf("%d bytes wait for a handler, of peers that have all gone", n)
		}
		close(release)
		synctest.Wait()
		if n := x.mailed(); n != 0 || x.mail.bytes != 0 {
			t.Errorf("%d bytes wait in the end, and %d are counted", n, x.mail.bytes)
		}
	})
}
