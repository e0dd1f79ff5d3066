package node

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/p2pcore/p2pcore/internal/lifecycle"
)

// deafHost reaches nobody, and notes when it has tried. What else a host does, the tests need not.
type deafHost struct {
	host.Host
	mu    sync.Mutex
	tries []time.Time // under mu
}

func (h *deafHost) ID() peer.ID              { return "self" }
func (h *deafHost) Network() network.Network { return nil }

func (h *deafHost) Connect(context.Context, peer.AddrInfo) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tries = append(h.tries, time.Now())
	return errors.New("nobody is there")
}

// since are the tries since t, as times after it.
func (h *deafHost) since(t time.Time) []time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	var after []time.Duration
	for _, at := range h.tries {
		if !at.Before(t) {
			after = append(after, at.Sub(t))
		}
	}
	return after
}

// redialing calls test in fake time with a connector that has tried to reach the peer "far" for an hour in vain.
func redialing(t *testing.T, test func(h *deafHost, c *connector)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := new(deafHost)
		group := lifecycle.NewGroup()
		defer group.Close()
		ls := newLinks(h, group, 1, slog.New(slog.DiscardHandler))
		ls.changed = func(peer.ID) {}
		c := newConnector(h, ls, group, slog.New(slog.DiscardHandler))
		far := peer.AddrInfo{ID: "far", Addrs: []ma.Multiaddr{ma.StringCast("/ip4/192.0.2.1/tcp/1")}}
		if !c.want(far, reason{kind: byConfig}) {
			t.Fatal("the peer is not wanted")
		}
		time.Sleep(time.Hour)
		test(h, c)
	})
}

func TestPeerThatWasNeverThereIsTriedOnceAMinute(t *testing.T) {
	t.Parallel()
	redialing(t, func(h *deafHost, c *connector) {
		now := time.Now()
		time.Sleep(time.Hour)
		if n := len(h.since(now)); n < 40 || n > 120 {
			t.Errorf("%d attempts in an hour, want about 60", n)
		}
	})
}

// TestPeerThatWasThereIsTriedSoon is about a peer that is restarted, and one that stays away.
func TestPeerThatWasThereIsTriedSoon(t *testing.T) {
	t.Parallel()
	redialing(t, func(h *deafHost, c *connector) {
		gone := time.Now()
		c.mu.Lock()
		c.targets["far"].redial.ended(gone, time.Hour)
		c.mu.Unlock()
		c.poke("far")
		time.Sleep(returnTime)
		tries := h.since(gone)
		last := time.Duration(0)
		for _, at := range tries {
			// Whenever it is back, it is reached within this time.
			if at-last > returnMax*3/2 {
				t.Errorf("no attempt from %v to %v after it went", last, at)
			}
			last = at
		}
		if len(tries) < 3 || tries[2] > 2*time.Second {
			t.Errorf("the first attempts came after %v", tries[:min(3, len(tries))])
		}
		late := time.Now()
		time.Sleep(time.Hour)
		if n := len(h.since(late)); n > 150 {
			t.Errorf("%d attempts in an hour after it has stayed away, want about 60", n)
		}
	})
}

func TestFailuresCountNoMoreAfterNews(t *testing.T) {
	t.Parallel()
	for what, tell := range map[string]func(c *connector){
		"an incoming connection": func(c *connector) { c.called("far") },
		"another network":        func(c *connector) { c.news() },
	} {
		redialing(t, func(h *deafHost, c *connector) {
			now := time.Now()
			tell(c)
			time.Sleep(10 * time.Second)
			if tries := h.since(now); len(tries) < 4 || tries[0] != 0 {
				t.Errorf("attempts %v after %s, want one at once and more soon", tries, what)
			}
		})
	}
}

// TestShortStreamsPauseToo has a peer take each stream and end it.
func TestShortStreamsPauseToo(t *testing.T) {
	t.Parallel()
	var r redial
	now := time.Now()
	var got []time.Duration
	for range 7 {
		got = append(got, r.ended(now, time.Second))
	}
	want := []time.Duration{0, redialMin, 2 * redialMin, 4 * redialMin, 8 * redialMin, 16 * redialMin, returnMax}
	if !slices.Equal(got, want) {
		t.Errorf("pauses %v, want %v", got, want)
	}
	if d := r.failed(now); d != redialMin {
		t.Errorf("the first failed attempt after them has a pause of %v, want %v", d, redialMin)
	}
	if r.ended(now, settled); r.short != 0 {
		t.Errorf("%d short streams after one that was long", r.short)
	}
	if r.hopeless() {
		t.Error("a peer that was there is hopeless")
	}
}
