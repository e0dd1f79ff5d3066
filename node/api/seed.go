package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/p2pcore/p2pcore/dht"
	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/internal/lifecycle"
	"github.com/p2pcore/p2pcore/node"
)

const (
	// seedsKey is where the store remembers what it seeds: a list of seedRecord in JSON.
	seedsKey = "api/seeds"
	// maxSeeds bounds the list, which is rewritten with every change. 100,000 take 7 MB.
	maxSeeds = 100_000
	// refetchMin and refetchMax bound the pause after a seeded feed could not be fetched (the disk is full, the feed is
	// frozen); it doubles.
	refetchMin = 100 * time.Millisecond
	refetchMax = 15 * time.Second
)

// seedRecord is one feed that the store is told to seed.
type seedRecord struct {
	Key   feed.Key `json:"key"`
	Peers []string `json:"peers,omitempty"` // to dial as well
}

// seeder mirrors the feeds that the store is told to seed. The list is in the store; what is on it is seeded while
// the server serves it, which a daemon's does.
type seeder struct {
	s    *Server
	turn chan struct{} // holds a token while nobody changes the list

	mu      sync.Mutex
	loaded  bool                  // under mu, as the rest
	list    []seedRecord          // in the order they came
	serving *node.Node            // nil: the list is only kept
	running map[feed.Key]*seeding // of those on the list
}

func newSeeder(s *Server) *seeder {
	d := &seeder{s: s, turn: make(chan struct{}, 1), running: make(map[feed.Key]*seeding)}
	d.turn <- struct{}{}
	return d
}

// load reads the list from the store, once.
func (d *seeder) load(ctx context.Context) error {
	d.mu.Lock()
	loaded := d.loaded
	d.mu.Unlock()
	if loaded {
		return nil
	}
	b, err := d.s.cfg.Store.Value(ctx, seedsKey)
	if err != nil {
		return fmt.Errorf("read what is seeded: %w", err)
	}
	var list []seedRecord
	if len(b) > 0 {
		if err := json.Unmarshal(b, &list); err != nil {
			return fmt.Errorf("read what is seeded: %w: %w", feed.ErrCorrupt, err)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.loaded {
		d.list, d.loaded = list, true
	}
	return nil
}

// has tells whether key is to be seeded.
func (d *seeder) has(ctx context.Context, key feed.Key) (bool, error) {
	if err := d.load(ctx); err != nil {
		return false, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.find(key) >= 0, nil
}

// keys are the feeds to seed.
func (d *seeder) keys() []feed.Key {
	d.mu.Lock()
	defer d.mu.Unlock()
	keys := make([]feed.Key, len(d.list))
	for i, r := range d.list {
		keys[i] = r.Key
	}
	return keys
}

// behind counts the blocks of the feeds being seeded that peers have told of and that are not stored.
func (d *seeder) behind() uint64 {
	d.mu.Lock()
	running := slices.Collect(maps.Values(d.running))
	d.mu.Unlock()
	var n uint64
	for _, g := range running {
		info := g.session.Info()
		length := info.Length
		for _, p := range g.n.FeedPeers(info.Key) {
			if p.Synced && p.RemoteFork == info.Fork {
				length = max(length, p.RemoteLength)
			}
		}
		n += length - min(length, info.LocalBlocks)
	}
	return n
}

// find returns the place of key in the list, or -1. mu is held.
func (d *seeder) find(key feed.Key) int {
	return slices.IndexFunc(d.list, func(r seedRecord) bool { return r.Key == key })
}

// take returns a function that gives the turn back.
func (d *seeder) take(ctx context.Context) (func(), error) {
	select {
	case <-d.turn:
		return func() { d.turn <- struct{}{} }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// add puts key on the list, durably, and seeds it if the list is served. Peers are added to those of before.
func (d *seeder) add(ctx context.Context, key feed.Key, peers []string) error {
	if err := d.load(ctx); err != nil {
		return err
	}
	leave, err := d.take(ctx)
	if err != nil {
		return err
	}
	defer leave()
	d.mu.Lock()
	list := slices.Clone(d.list)
	i := d.find(key)
	d.mu.Unlock()
	if i < 0 {
		if len(list) >= maxSeeds {
			return Errorf(CodeError, "%d feeds are seeded already; p2pcore unseed takes some off the list", len(list))
		}
		i = len(list)
		list = append(list, seedRecord{Key: key})
	}
	merged := slices.Clone(list[i].Peers)
	for _, p := range peers {
		if !slices.Contains(merged, p) {
			merged = append(merged, p)
		}
	}
	// The newest addresses are the likeliest to be right.
	list[i].Peers = merged[max(0, len(merged)-maxPeerParams):]
	if err := d.store(ctx, list); err != nil {
		return err
	}
	d.s.events.publish(StoreEvent{Event: "seeding", Core: key.String(), On: flag(true)})
	d.mu.Lock()
	n := d.serving
	d.mu.Unlock()
	if n == nil {
		return nil
	}
	return d.begin(ctx, n, list[i])
}

// store makes list the list. The turn is held.
func (d *seeder) store(ctx context.Context, list []seedRecord) error {
	b, err := json.Marshal(list)
	if err != nil {
		return err
	}
	if err := d.s.cfg.Store.SetValue(ctx, seedsKey, b); err != nil {
		return fmt.Errorf("remember what is seeded: %w", err)
	}
	d.mu.Lock()
	d.list = list
	d.mu.Unlock()
	return nil
}

// remove takes key off the list, durably, and ends its seeding.
func (d *seeder) remove(ctx context.Context, key feed.Key) error {
	if err := d.load(ctx); err != nil {
		return err
	}
	leave, err := d.take(ctx)
	if err != nil {
		return err
	}
	defer leave()
	d.mu.Lock()
	i := d.find(key)
	list := slices.Clone(d.list)
	d.mu.Unlock()
	if i >= 0 {
		if err := d.store(ctx, slices.Delete(list, i, i+1)); err != nil {
			return err
		}
		d.s.events.publish(StoreEvent{Event: "seeding", Core: key.String(), On: flag(false)})
	}
	d.mu.Lock()
	running := d.running[key]
	delete(d.running, key)
	d.mu.Unlock()
	if running != nil {
		running.close()
	}
	return nil
}

// serve seeds what is on the list, from now on, with n. It returns when all have been begun or ctx ends.
func (d *seeder) serve(ctx context.Context, n *node.Node) error {
	if err := d.load(ctx); err != nil {
		return err
	}
	d.mu.Lock()
	d.serving = n
	list := slices.Clone(d.list)
	d.mu.Unlock()
	for _, r := range list {
		if err := d.resume(ctx, n, r); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			d.s.log.Error("feed is not seeded", "feed", r.Key.DiscoveryKey().Short(), "err", err)
		}
	}
	return nil
}

// resume begins to seed a feed that is on the list still, and stored.
func (d *seeder) resume(ctx context.Context, n *node.Node, r seedRecord) error {
	leave, err := d.take(ctx)
	if err != nil {
		return err
	}
	defer leave()
	d.mu.Lock()
	i := d.find(r.Key)
	d.mu.Unlock()
	if i < 0 {
		return nil // taken off meanwhile
	}
	stored, err := d.s.cfg.Store.Stored(ctx, r.Key)
	if err != nil {
		return err
	}
	if !stored { // deleted, and a crash kept it on the list
		d.mu.Lock()
		list := slices.Delete(slices.Clone(d.list), i, i+1)
		d.mu.Unlock()
		return d.store(ctx, list)
	}
	return d.begin(ctx, n, r)
}

// begin seeds a feed. The turn is held.
func (d *seeder) begin(ctx context.Context, n *node.Node, r seedRecord) error {
	d.mu.Lock()
	old := d.running[r.Key]
	d.mu.Unlock()
	peers, err := ParsePeers(r.Peers)
	if err != nil {
		d.s.log.Warn("addresses of a seeded feed are ignored", "feed", r.Key.DiscoveryKey().Short(), "err", err)
	}
	if old != nil {
		old.dial(peers)
		return nil
	}
	running, err := d.s.startSeeding(ctx, n, r.Key, peers)
	if err != nil {
		return err
	}
	d.mu.Lock()
	d.running[r.Key] = running
	d.mu.Unlock()
	return nil
}

// close ends all seeding; the list stays.
func (d *seeder) close() {
	d.mu.Lock()
	d.serving = nil
	running := d.running
	d.running = make(map[feed.Key]*seeding)
	d.mu.Unlock()
	for _, r := range running {
		r.close()
	}
}

// seeding is a feed that is mirrored: joined, and downloaded as it grows.
type seeding struct {
	s       *Server
	n       *node.Node
	session *feed.Session
	group   *lifecycle.Group
	leave   func()

	mu     sync.Mutex
	forget map[peer.ID]func() // under mu: for each peer that is kept in touch with
	closed bool               // under mu
}

// startSeeding opens the feed, announces it and looks for it, and downloads all of it from whoever has it.
func (s *Server) startSeeding(ctx context.Context, n *node.Node, key feed.Key, peers []peer.AddrInfo) (*seeding, error) {
	session, err := s.cfg.Store.Keyed(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", key, err)
	}
	leave, err := n.Join(key, dht.Announce|dht.Lookup)
	if err != nil {
		session.Close()
		return nil, fmt.Errorf("join %s: %w", key, err)
	}
	g := &seeding{s: s, n: n, session: session, group: s.group.Child(), leave: leave, forget: make(map[peer.ID]func())}
	g.dial(peers)
	if !session.Info().Writable {
		g.group.Go(func(ctx context.Context) { s.follow(ctx, session) })
	}
	return g, nil
}

// dial keeps in touch with peers.
func (g *seeding) dial(peers []peer.AddrInfo) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return
	}
	for _, p := range peers {
		if p.ID == g.n.Host().ID() {
			continue
		}
		old := g.forget[p.ID]
		g.forget[p.ID] = g.n.AddPeer(p) // may add addresses
		if old != nil {
			old()
		}
	}
}

// follow downloads a feed, and goes on with what is new, until ctx or the session ends.
func (s *Server) follow(ctx context.Context, session *feed.Session) {
	all := feed.Want{Range: feed.Range{End: endless}, Follow: true}
	for wait := refetchMin; ; wait = min(2*wait, refetchMax) {
		began := time.Now()
		err := feed.ErrNotAvailable
		if src := session.Feed().Source(); src != nil {
			err = src.Fetch(ctx, all)
		}
		if ctx.Err() != nil || session.Closed() {
			return
		}
		if !errors.Is(err, feed.ErrNotAvailable) && !errors.Is(err, feed.ErrClosed) {
			s.log.Warn("feed is not fetched", "feed", session.DiscoveryKey().Short(), "err", err)
		}
		if time.Since(began) > refetchMax {
			wait = refetchMin
		}
		if !sleep(ctx, wait) {
			return
		}
	}
}

func (g *seeding) close() {
	g.group.Close()
	g.mu.Lock()
	forget := g.forget
	g.forget, g.closed = nil, true
	g.mu.Unlock()
	for _, f := range forget {
		f()
	}
	g.leave()
	g.session.Close()
}

// Serve seeds what the store is told to seed, as long as the server lives, and makes GET /readyz succeed. It
// starts the node if it does not run. Feeds are opened in the background.
func (s *Server) Serve(ctx context.Context) error {
	n, err := s.online(ctx)
	if err != nil {
		return err
	}
	if err := s.seeds.load(ctx); err != nil {
		return err
	}
	s.group.Go(func(ctx context.Context) {
		if err := s.seeds.serve(ctx, n); err != nil && ctx.Err() == nil {
			s.log.Error("nothing is seeded", "err", err)
		}
	})
	s.ready.Store(true)
	return nil
}

// postSeed puts a feed on the list of what is seeded: a daemon begins at once, other processes remember it.
func (s *Server) postSeed(w http.ResponseWriter, r *http.Request) error {
	if _, err := peerParams(r); err != nil {
		return err
	}
	key, err := s.resolve(r.Context(), r.PathValue("core"))
	if err != nil {
		return err
	}
	session, err := s.cfg.Store.Keyed(r.Context(), key) // a key that is new is stored
	if err != nil {
		return fmt.Errorf("open %s: %w", key, err)
	}
	defer session.Close()
	if err := s.seeds.add(r.Context(), key, r.URL.Query()["peer"]); err != nil {
		return err
	}
	return s.writeCore(w, r, http.StatusOK, key)
}

// deleteSeed takes a feed off the list. What is stored of it stays.
func (s *Server) deleteSeed(w http.ResponseWriter, r *http.Request) error {
	key, err := s.known(r.Context(), r.PathValue("core"))
	if err != nil {
		return err
	}
	if err := s.seeds.remove(r.Context(), key); err != nil {
		return err
	}
	return s.writeCore(w, r, http.StatusOK, key)
}
