package protocol

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
)

// noted collects what handlers are told.
type noted struct {
	mu    sync.Mutex
	lines []string
}

func (n *noted) add(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lines = append(n.lines, fmt.Sprintf(format, args...))
}

func (n *noted) take() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	lines := n.lines
	n.lines = nil
	return lines
}

func (n *noted) handler(name string) ExtensionHandler {
	return func(_ context.Context, from Peer, message []byte) {
		n.add("%s from %s: %s", name, from.Name(), message)
	}
}

func TestExtensionsReachTheirHandlersInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := writer(t, 1, numbered(3, 10)...)
		run := newRunner(t)
		a, b := exchange(t, w, true), exchange(t, reader(t, w), true)
		var got noted
		stop, err := b.OnExtension("chat", got.handler("chat"))
		if err != nil {
			t.Fatal(err)
		}
		run.connect([]*Exchange{a}, []*Exchange{b})
		synctest.Wait()
		peers := a.Open()
		if len(peers) != 1 || peers[0].Name() != "responder" || !peers[0].Initiator() {
			t.Fatalf("peers %+v", peers)
		}
		send := func(name, message string) {
			t.Helper()
			if err := peers[0].Extend(name, []byte(message)); err != nil {
				t.Fatal(err)
			}
		}
		send("chat", "one")
		send("unknown", "lost")
		send("chat", "two")
		synctest.Wait()
		// Added while connected; and the other way.
		if _, err := b.OnExtension("late", got.handler("late")); err != nil {
			t.Fatal(err)
		}
		send("late", "three")
		send("chat", "")
		synctest.Wait()
		want := []string{"chat from initiator: one", "chat from initiator: two", "late from initiator: three", "chat from initiator: "}
		if lines := got.take(); !slices.Equal(lines, want) {
			t.Errorf("told %q, want %q", lines, want)
		}
		if _, err := a.OnExtension("chat", got.handler("back")); err != nil {
			t.Fatal(err)
		}
		if err := b.Broadcast("chat", []byte("four")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if lines := got.take(); !slices.Equal(lines, []string{"back from responder: four"}) {
			t.Errorf("told %q", lines)
		}

		if _, err := b.OnExtension("chat", got.handler("again")); !errors.Is(err, ErrExtensionTaken) {
			t.Errorf("a second handler: %v, want ErrExtensionTaken", err)
		}
		stop()
		stop()
		send("chat", "five")
		synctest.Wait()
		if lines := got.take(); len(lines) > 0 {
			t.Errorf("told %q after stop", lines)
		}
	})
}

func TestExtensionsOfWrongSizeAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := writer(t, 1)
		run := newRunner(t)
		a, b := exchange(t, w, true), exchange(t, reader(t, w), true)
		_, c := run.connect([]*Exchange{a}, []*Exchange{b})
		synctest.Wait()
		p := a.Open()[0]
		for _, err := range []error{
			p.Extend("", nil),
			p.Extend(string(make([]byte, maxExtensionName+1)), nil),
			p.Extend("x", make([]byte, maxExtensionBytes+1)),
		} {
			if !errors.Is(err, ErrExtensionSize) {
				t.Errorf("got %v, want ErrExtensionSize", err)
			}
		}
		c.Close()
		synctest.Wait()
		if err := p.Extend("x", nil); !errors.Is(err, ErrClosed) {
			t.Errorf("after the channel has closed: %v, want ErrClosed", err)
		}
	})
}

// TestHandlerThatWaitsHoldsItsPeerUp floods a handler that does not return: what is kept is bounded, the rest of the
// exchange goes on, and nothing is lost when it does return.
func TestHandlerThatWaitsHoldsItsPeerUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := writer(t, 1, numbered(3, 10)...)
		rd := reader(t, w)
		run := newRunner(t)
		a, b := exchange(t, w, true), exchange(t, rd, true)
		release := make(chan struct{})
		handled := 0
		if _, err := b.OnExtension("flood", func(ctx context.Context, _ Peer, _ []byte) {
			select {
			case <-release:
			case <-ctx.Done():
			}
			handled++
		}); err != nil {
			t.Fatal(err)
		}
		run.connect([]*Exchange{a}, []*Exchange{b})
		synctest.Wait()
		p, sent, lost := a.Open()[0], 0, false
		message := make([]byte, 64<<10)
		for range 400 { // 25 MiB
			err := p.Extend("flood", message)
			synctest.Wait()
			if errors.Is(err, ErrExtensionLost) {
				lost = true
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			sent++
		}
		if !lost {
			t.Fatal("nothing held the sender up")
		}
		b.mail.mu.Lock()
		kept := 0
		for _, l := range b.mail.queue {
			kept += len(l.message)
		}
		b.mail.mu.Unlock()
		if kept > defaultInbox+2*len(message) {
			t.Errorf("%d bytes are kept, want at most %d", kept, defaultInbox)
		}
		close(release)
		synctest.Wait()
		if handled != sent {
			t.Errorf("%d messages were handled, want %d", handled, sent)
		}
	})
}

func TestOnPeersTellsOnceForEachChannel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := writer(t, 1, numbered(3, 10)...)
		run := newRunner(t)
		a := exchange(t, w, true)
		var got noted
		watch := func() func() {
			return a.OnPeers(
				func(_ context.Context, p Peer) { got.add("add %s", p.Name()) },
				func(_ context.Context, p Peer) { got.add("remove %s", p.Name()) },
			)
		}
		stop := watch()
		c, _ := run.connect([]*Exchange{a}, []*Exchange{exchange(t, reader(t, w), true)})
		synctest.Wait()
		stop()
		again := watch() // is told of who is there
		synctest.Wait()
		c.Close()
		synctest.Wait()
		again()
		if want := []string{"add responder", "add responder", "remove responder"}; !slices.Equal(got.take(), want) {
			t.Errorf("want %q", want)
		}
	})
}

// TestChannelsThatComeAndGoAreNotHoarded blocks the handler while a remote opens and closes for ever.
func TestChannelsThatComeAndGoAreNotHoarded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := writer(t, 1, numbered(3, 10)...)
		run := newRunner(t)
		a := exchange(t, w, true)
		release, calls := make(chan struct{}), 0
		a.OnPeers(func(ctx context.Context, _ Peer) {
			calls++
			select {
			case <-release:
			case <-ctx.Done():
			}
		}, func(context.Context, Peer) { calls++ })
		for range 50 {
			c, d := run.connect([]*Exchange{a}, []*Exchange{exchange(t, reader(t, w), true)})
			synctest.Wait()
			c.Close()
			d.Close()
			synctest.Wait()
		}
		a.mail.mu.Lock()
		n := len(a.mail.queue)
		a.mail.mu.Unlock()
		if n > 1 {
			t.Errorf("%d things wait to be told, want the end of the first channel alone", n)
		}
		close(release)
		synctest.Wait()
		if calls != 2 {
			t.Errorf("%d calls, want 2", calls)
		}
	})
}
