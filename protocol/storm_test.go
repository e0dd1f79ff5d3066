package protocol

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/internal/wire"
)

// A remote may open and close a channel as often as it likes: what that leaves behind here, timers and
// decisions that are due, must not grow with it.
func TestAStormOfChannelsLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	for _, downloading := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := writer(t, 1, numbered(3, 10)...)
			x := exchange(t, w, downloading)
			c, r, _ := victim(t, Config{}, x)
			go func() {
				for {
					if _, err := ReadFrame(r.stream, maxFrame); err != nil {
						return
					}
				}
			}()
			for i := range 300 {
				_ = r.open(1, w.DiscoveryKey(), Capability(w.Key(), testBinding, true))
				_ = r.send(1, &wire.Sync{Uploading: true, Downloading: true})
				_ = r.frame([]byte{0, 3, 1})
				if i%10 == 0 {
					synctest.Wait()
				}
			}
			synctest.Wait()
			if n := x.group.Alarms(); n > 4 {
				t.Errorf("downloading %v: %d timers are set", downloading, n)
			}
			if n := len(x.opening); n > 1 {
				t.Errorf("downloading %v: %d channels are being opened", downloading, n)
			}
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// Opens that the remote withdraws before they are decided are forgotten at once.
func TestWithdrawnOpensAreForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		slow := func(context.Context, feed.DiscoveryKey) (*Exchange, error) {
			<-ctx.Done()
			return nil, nil
		}
		c, r, _ := victim(t, Config{OnOpen: slow, Limits: Limits{Resolves: 1}})
		go func() {
			for {
				if _, err := ReadFrame(r.stream, maxFrame); err != nil {
					return
				}
			}
		}()
		for i := range 5000 {
			_ = r.open(1, feed.DiscoveryKey{byte(i), byte(i >> 8)}, [32]byte{})
			_ = r.frame([]byte{0, 3, 1})
		}
		synctest.Wait()
		c.mu.Lock()
		n := len(c.undecided)
		c.mu.Unlock()
		if n > 1 {
			t.Errorf("%d opens are kept that the remote has withdrawn", n)
		}
		cancel()
	})
}

// Whoever knows only the discovery key of a stored feed cannot find out that it is stored, however often
// it asks.
func TestProbingForAFeedShowsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, stranger := writer(t, 1), writer(t, 2)
		x := exchange(t, w, false)
		probe := func(f *feed.Feed) string {
			_, r, done := victim(t, Config{OnOpen: func(_ context.Context, dk feed.DiscoveryKey) (*Exchange, error) {
				if dk == w.DiscoveryKey() {
					return x, nil
				}
				return nil, nil
			}})
			var seen []record
			for i := range 20 * maxViolations {
				b := wire.Handshake{Seeks: true, Capability: [32]byte{byte(i)}}
				if r.open(1, f.DiscoveryKey(), b.Capability) != nil {
					break
				}
				seen = append(seen, r.read()...)
			}
			synctest.Wait()
			select {
			case err := <-done:
				return fmt.Sprint(seen, err)
			default:
				return fmt.Sprint(seen)
			}
		}
		if known, unknown := probe(w), probe(stranger); known != unknown {
			t.Errorf("a known feed answers\n%s\nan unknown one\n%s", known, unknown)
		}
	})
}

// An exchange that is busy does not collect the opens and closes of a remote without end.
func TestAStormOfChannelsWaitsForABusyExchange(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := writer(t, 1)
		gate := make(chan struct{})
		x := NewExchange(w, ExchangeOptions{OnPeer: func(int) { <-gate }})
		t.Cleanup(func() { _ = x.Close() })
		_, r, _ := victim(t, Config{}, x)
		go func() {
			for range 2000 {
				if r.open(1, w.DiscoveryKey(), Capability(w.Key(), testBinding, true)) != nil ||
					r.frame([]byte{0, 3, 1}) != nil {
					return
				}
			}
		}()
		r.collect(0)
		synctest.Wait()
		x.mu.Lock()
		n := len(x.inbox)
		x.mu.Unlock()
		if n == 0 || n > 100*maxNews {
			t.Errorf("%d items wait for the exchange", n)
		}
		close(gate)
		synctest.Wait()
		x.mu.Lock()
		n = len(x.inbox)
		x.mu.Unlock()
		if n != 0 || len(x.Peers()) != 0 {
			t.Errorf("%d items and %d peers are left", n, len(x.Peers()))
		}
	})
}
