package integration

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/p2pcore/p2pcore/corestore"
	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/integration/mesh"
	"github.com/p2pcore/p2pcore/node"
	"github.com/p2pcore/p2pcore/protocol"
)

// TestTwoStoresOfManyFeedsShareThemOverOneStreamWithLazilyOpenedChannels: two stores of 2,000 feeds, of which they share
// 200, with P2PCORE_LARGE=1 100,000 and 10,000. A channel is there for each feed that somebody uses and for no other, and
// what was used costs next to nothing when it has closed: feeds, exchanges and channels are not held by anything.
func TestTwoStoresOfManyFeedsShareThemOverOneStreamWithLazilyOpenedChannels(t *testing.T) {
	const (
		perShared = 1 << 10 // bytes of the heap, at most, that a feed leaves in both stores: room in maps, which do not shrink; an open one took 47,000
		noise     = 3 << 18 // bytes that do not grow with the number of feeds: buffers of the stream and the datastores
	)
	stored, shared := 2000, 200
	if os.Getenv("P2PCORE_LARGE") != "" {
		stored, shared = 100_000, 10_000
	}
	began := time.Now()
	lap := func(what string) {
		t.Logf("%s: %v", what, time.Since(began).Round(time.Millisecond))
		began = time.Now()
	}
	servedDir, readDir := t.TempDir(), t.TempDir()
	keys := makeShared(t, servedDir, readDir, stored, shared)
	lap("made")
	ctx, cancel := context.WithTimeout(t.Context(), 5*patience)
	defer cancel()
	served, endServed := openStore(t, servedDir, corestore.Options{})
	defer endServed()
	reading, endReading := openStore(t, readDir, corestore.Options{})
	defer endReading()
	closed := watchOpened(served, reading)
	var dks []feed.DiscoveryKey
	for _, key := range keys {
		dks = append(dks, key.DiscoveryKey())
	}
	ends, replicators, hangUp := converse(t, served, reading)
	defer hangUp()
	channels := func(want int) error {
		for i, c := range ends {
			if got := c.Stats().Channels; got != want {
				return fmt.Errorf("end %d has %d channels, want %d", i, got, want)
			}
		}
		return nil
	}
	before := heap()
	if err := channels(0); err != nil {
		t.Error(err)
	}

	sessions := make([]*feed.Session, shared)
	var wg sync.WaitGroup
	for i, key := range keys {
		var err error
		if sessions[i], err = reading.Keyed(ctx, key); err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			if b, err := sessions[i].Get(ctx, 0); err != nil || string(b) != "block" {
				t.Errorf("feed %d: %q, %v", i, b, err)
			}
		})
	}
	wg.Wait()
	lap("replicated")
	if err := mesh.Poll(ctx, func(context.Context) error { return channels(shared) }); err != nil {
		t.Error(err)
	}
	open := heap()
	for _, s := range sessions {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	sessions = nil
	if err := mesh.Poll(ctx, func(context.Context) error { return channels(0) }); err != nil {
		t.Fatal(err)
	}
	lap("channels closed")
	// The replicators let go of feeds a while later, and the stores close them then.
	err := mesh.Poll(ctx, func(context.Context) error {
		for i, r := range replicators {
			for _, dk := range dks {
				if r.Exchange(dk) != nil {
					return fmt.Errorf("end %d has a feed without a channel at hand", i)
				}
			}
		}
		return errors.Join(served.Suspend(ctx), reading.Suspend(ctx), closed())
	})
	if err != nil {
		t.Fatal(err)
	}
	lap("feeds closed")
	after := heap()
	t.Logf("of both stores: an open feed takes %d bytes; %d bytes are left when all have closed", (open-before)/int64(shared), after-before)
	if left := after - before; left > noise+int64(shared)*perShared {
		t.Errorf("%d feeds that have closed leave %d bytes, want at most %d and %d for each", shared, left, noise, perShared)
	}
}

// watchOpened notes which feeds the stores open from now on. Closed returns an error while one of them is open, and else
// forgets them.
func watchOpened(stores ...*corestore.Store) (closed func() error) {
	var mu sync.Mutex
	opened := make(map[*feed.Feed]struct{})
	for _, s := range stores {
		s.OnOpen(func(f *feed.Feed) {
			mu.Lock()
			defer mu.Unlock()
			opened[f] = struct{}{}
		})
	}
	return func() error {
		mu.Lock()
		defer mu.Unlock()
		for f := range opened {
			s, err := f.Session(feed.SessionOptions{ReadOnly: true})
			if err == nil {
				return errors.Join(errors.New("a feed is open"), s.Close())
			}
			if !errors.Is(err, feed.ErrClosed) {
				return err
			}
		}
		opened = make(map[*feed.Feed]struct{}) // a cleared one would keep its size
		return nil
	}
}

// makeShared makes two stores on disk of the same number of feeds. The second knows some of the first's by key, and has
// nothing of them.
func makeShared(t *testing.T, servedDir, readDir string, stored, shared int) (keys []feed.Key) {
	t.Helper()
	opts := corestore.Options{NoSync: true, IdleTimeout: time.Nanosecond}
	served, endServed := openStore(t, servedDir, opts)
	defer endServed()
	reading, endReading := openStore(t, readDir, opts)
	defer endReading()
	for i := range stored {
		f := numbered(t, served, i)
		if _, err := f.Append(t.Context(), []byte("block")); err != nil {
			t.Fatal(err)
		}
		if i >= shared {
			numbered(t, reading, i).Close()
		} else if r, err := reading.Keyed(t.Context(), f.Key()); err != nil {
			t.Fatal(err)
		} else {
			keys = append(keys, f.Key())
			r.Close()
		}
		f.Close()
	}
	return keys
}

// converse replicates two stores over one stream in memory.
func converse(t *testing.T, stores ...*corestore.Store) (ends []*protocol.Conn, replicators []*node.Replicator, hangUp func()) {
	t.Helper()
	here, there := net.Pipe()
	pipes := []net.Conn{here, there}
	var wg sync.WaitGroup
	started := make(chan *protocol.Conn, len(stores))
	for i, s := range stores {
		r := node.NewReplicator(s, node.ReplicatorOptions{Linger: -1})
		replicators = append(replicators, r)
		wg.Go(func() {
			err := r.HandleConnection(context.Background(), pipes[i], node.Conversation{
				Peer: "peer", Initiator: i == 0, Binding: make([]byte, 32), OnStart: func(c *protocol.Conn) { started <- c },
			})
			if err != nil {
				t.Log("the stream has ended: ", err)
			}
		})
		ends = append(ends, <-started)
	}
	return ends, replicators, func() {
		for _, r := range replicators {
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		}
		wg.Wait()
	}
}
