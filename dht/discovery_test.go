package dht

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	mh "github.com/multiformats/go-multihash"
)

// fakeNetwork is an Announcer and a Finder whose answers a test sets, with the times of all calls.
type fakeNetwork struct {
	mu        sync.Mutex
	start     time.Time
	table     int
	providers []peer.ID
	refusal   error // of StartProviding
	slow      time.Duration
	announces []time.Duration
	forced    int
	withdrawn int
	lookups   []time.Duration
}

func newFakeNetwork() *fakeNetwork { return &fakeNetwork{start: time.Now(), table: 1} }

func (f *fakeNetwork) StartProviding(force bool, keys ...mh.Multihash) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.announces = append(f.announces, time.Since(f.start))
	if force {
		f.forced++
	}
	return f.refusal
}

func (f *fakeNetwork) StopProviding(keys ...mh.Multihash) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.withdrawn++
	return nil
}

func (f *fakeNetwork) FindProvidersAsync(ctx context.Context, _ cid.Cid, count int) <-chan peer.AddrInfo {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lookups = append(f.lookups, time.Since(f.start))
	found, slow := slices.Clone(f.providers), f.slow
	out := make(chan peer.AddrInfo)
	go func() {
		defer close(out)
		select {
		case <-time.After(slow):
		case <-ctx.Done():
			return
		}
		for _, p := range found {
			select {
			case out <- peer.AddrInfo{ID: p}:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

func (f *fakeNetwork) set(change func(*fakeNetwork)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

func (f *fakeNetwork) tableSize() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.table
}

func (f *fakeNetwork) counts() (announces, lookups int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.announces), len(f.lookups)
}

// run calls fn in a bubble with a Discovery over a fake network.
func run(t *testing.T, fn func(t *testing.T, f *fakeNetwork, d *Discovery)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := newFakeNetwork()
		d := New(f, f, Options{Self: "self", TableSize: f.tableSize})
		defer d.Close()
		fn(t, f, d)
	})
}

func join(t *testing.T, d *Discovery, m Mode, found func(context.Context, peer.AddrInfo)) *Membership {
	t.Helper()
	mem, err := d.Join(Topic{1}, m, found)
	if err != nil {
		t.Fatal(err)
	}
	return mem
}

func ignore(context.Context, peer.AddrInfo) {}

func TestLookUpHandsOverPeersOtherThanUs(t *testing.T) {
	run(t, func(t *testing.T, f *fakeNetwork, d *Discovery) {
		f.providers = []peer.ID{"a", "self", "b"}
		var got []peer.ID
		m := join(t, d, Lookup, func(_ context.Context, p peer.AddrInfo) { got = append(got, p.ID) })
		synctest.Wait()
		m.Leave()
		if want := []peer.ID{"a", "b"}; !slices.Equal(got, want) {
			t.Errorf("found %v, want %v", got, want)
		}
		if a, _ := f.counts(); a != 0 {
			t.Errorf("%d announcements by a membership that only looks up", a)
		}
	})
}

func TestEmptyAnswerIsSoonAskedAgainAndEverLess(t *testing.T) {
	run(t, func(t *testing.T, f *fakeNetwork, d *Discovery) {
		m := join(t, d, Lookup, ignore)
		time.Sleep(time.Hour)
		synctest.Wait()
		m.Leave()
		if f.lookups[0] != 0 {
			t.Errorf("the first look-up came after %v", f.lookups[0])
		}
		wait := DefaultMinWait
		for i := 1; i < len(f.lookups); i++ {
			pause := f.lookups[i] - f.lookups[i-1]
			if pause < wait*3/4 || pause > wait*5/4 {
				t.Fatalf("pause %d is %v, want %v within a quarter", i, pause, wait)
			}
			wait = min(2*wait, DefaultInterval)
		}
		if n := len(f.lookups); n < 15 {
			t.Errorf("%d look-ups in an hour, want more", n)
		}
	})
}

func TestFullAnswerIsAskedAgainAtLeisure(t *testing.T) {
	run(t, func(t *testing.T, f *fakeNetwork, d *Discovery) {
		f.providers = []peer.ID{"a"}
		m := join(t, d, Lookup, ignore)
		time.Sleep(DefaultInterval / 16)
		synctest.Wait()
		if _, n := f.counts(); n != 1 {
			t.Errorf("%d look-ups soon after one that found somebody, want 1", n)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if _, n := f.counts(); n < 10 {
			t.Errorf("%d look-ups in an hour, want at least 10", n)
		}
		m.Leave()
	})
}

func TestPokeRepeatsBothAtOnce(t *testing.T) {
	run(t, func(t *testing.T, f *fakeNetwork, d *Discovery) {
		f.providers = []peer.ID{"a"}
		m := join(t, d, Lookup|Announce, ignore)
		synctest.Wait()
		d.Poke()
		synctest.Wait()
		if a, l := f.counts(); a != 2 || l != 2 {
			t.Errorf("%d announcements and %d look-ups after a poke, want 2 and 2", a, l)
		}
		if f.forced != 1 {
			t.Errorf("%d announcements were forced, want the second", f.forced)
		}
		m.Leave()
	})
}

func TestEmptyRoutingTable(t *testing.T) {
	run(t, func(t *testing.T, f *fakeNetwork, d *Discovery) {
		f.table = 0
		m := join(t, d, Lookup|Announce, ignore)
		time.Sleep(time.Hour)
		synctest.Wait()
		if a, l := f.counts(); a != 0 || l != 0 {
			t.Errorf("%d announcements and %d look-ups with an empty routing table", a, l)
		}
		if err := m.Err(); !errors.Is(err, ErrNoNetwork) {
			t.Errorf("state %v, want ErrNoNetwork", err)
		}
		if m.Announced() {
			t.Error("announced to nobody")
		}
		if err := m.Refresh(t.Context()); !errors.Is(err, ErrNoNetwork) {
			t.Errorf("refresh: %v, want ErrNoNetwork", err)
		}
		f.set(func(f *fakeNetwork) { f.table = 1 })
		time.Sleep(2 * tablePoll)
		synctest.Wait()
		if a, l := f.counts(); a != 1 || l != 1 {
			t.Errorf("%d announcements and %d look-ups once there is a peer, want 1 and 1", a, l)
		}
		if err := m.Err(); err != nil || !m.Announced() {
			t.Errorf("state %v, announced %v once there is a peer", err, m.Announced())
		}
		m.Leave()
	})
}

func TestRefusedAnnouncementIsRepeated(t *testing.T) {
	run(t, func(t *testing.T, f *fakeNetwork, d *Discovery) {
		refusal := errors.New("offline")
		f.refusal = refusal
		m := join(t, d, Announce, nil)
		time.Sleep(10 * DefaultMinWait)
		synctest.Wait()
		if a, _ := f.counts(); a < 3 {
			t.Errorf("%d attempts, want at least 3", a)
		}
		if err := m.Err(); !errors.Is(err, refusal) {
			t.Errorf("state %v, want the announcer's error", err)
		}
		if err := m.Refresh(t.Context()); !errors.Is(err, refusal) {
			t.Errorf("refresh without look-up: %v, want the state", err)
		}
		f.set(func(f *fakeNetwork) { f.refusal = nil })
		time.Sleep(time.Minute)
		synctest.Wait()
		before, _ := f.counts()
		time.Sleep(time.Hour)
		synctest.Wait()
		if after, _ := f.counts(); after != before || !m.Announced() {
			t.Errorf("%d further attempts after success, announced %v", after-before, m.Announced())
		}
		m.Leave()
	})
}

func TestRefreshWaitsForALookUpOfItsOwn(t *testing.T) {
	run(t, func(t *testing.T, f *fakeNetwork, d *Discovery) {
		f.slow = time.Second
		m := join(t, d, Lookup, ignore)
		time.Sleep(f.slow / 2)
		synctest.Wait()
		var handed []peer.ID
		m2, err := d.Join(Topic{2}, Lookup, func(_ context.Context, p peer.AddrInfo) {
			time.Sleep(time.Second) // the look-up waits for a slow receiver
			handed = append(handed, p.ID)
		})
		if err != nil {
			t.Fatal(err)
		}
		// The look-up under way began before the peer announced itself.
		f.set(func(f *fakeNetwork) { f.providers = []peer.ID{"a"} })
		_, before := f.counts()
		if err := m.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, after := f.counts(); after == before {
			t.Error("refresh was content with a look-up that had begun before")
		}
		if err := m2.Refresh(t.Context()); err != nil || len(handed) == 0 {
			t.Errorf("refresh: %v, and %d peers handed over, want at least 1", err, len(handed))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := m.Refresh(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("refresh with a short context: %v, want its error", err)
		}
		m.Leave()
		m2.Leave()
	})
}

func TestLeaveWaitsAndWithdraws(t *testing.T) {
	run(t, func(t *testing.T, f *fakeNetwork, d *Discovery) {
		f.providers = []peer.ID{"a"}
		inside := false
		one := join(t, d, Lookup|Announce, func(ctx context.Context, _ peer.AddrInfo) {
			inside = true
			<-ctx.Done()
			time.Sleep(time.Second)
			inside = false
		})
		two := join(t, d, Announce, nil)
		synctest.Wait()
		if !inside {
			t.Fatal("the peer was not handed over")
		}
		refreshed := make(chan error, 1)
		go func() { refreshed <- one.Refresh(context.Background()) }()
		synctest.Wait()
		one.Leave()
		if inside {
			t.Error("left while the found function runs")
		}
		if err := <-refreshed; !errors.Is(err, ErrClosed) {
			t.Errorf("refresh across a leave: %v, want ErrClosed", err)
		}
		if f.withdrawn != 0 {
			t.Error("withdrawn although another membership announces the topic")
		}
		two.Leave()
		two.Leave()
		if f.withdrawn != 1 {
			t.Errorf("withdrawn %d times, want once", f.withdrawn)
		}
		if err := one.Refresh(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("refresh after leaving: %v, want ErrClosed", err)
		}
	})
}

func TestCloseEndsMembershipsAndKeepsAnnouncements(t *testing.T) {
	run(t, func(t *testing.T, f *fakeNetwork, d *Discovery) {
		m := join(t, d, Lookup|Announce, ignore)
		synctest.Wait()
		d.Close()
		if _, err := d.Join(Topic{1}, Lookup, ignore); !errors.Is(err, ErrClosed) {
			t.Errorf("join after close: %v, want ErrClosed", err)
		}
		if err := m.Refresh(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("refresh after close: %v, want ErrClosed", err)
		}
		m.Leave()
		d.Poke()
		if f.withdrawn != 0 {
			t.Error("an announcement was withdrawn because the node ends")
		}
	})
}

func TestJoinRefusesNonsense(t *testing.T) {
	run(t, func(t *testing.T, _ *fakeNetwork, d *Discovery) {
		for _, m := range []Mode{0, 4, Announce | 8} {
			if _, err := d.Join(Topic{}, m, ignore); err == nil {
				t.Errorf("mode %d: no error", m)
			}
		}
		if _, err := d.Join(Topic{}, Lookup, nil); err == nil {
			t.Error("a look-up without a found function: no error")
		}
	})
}
