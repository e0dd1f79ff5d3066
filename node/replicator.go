package node

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/p2pcore/p2pcore/corestore"
	"github.com/p2pcore/p2pcore/dht"
	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/internal/lifecycle"
	"github.com/p2pcore/p2pcore/internal/shrink"
	hyper "github.com/p2pcore/p2pcore/protocol"
)

// ReplicatorOptions are the settings of a Replicator.
type ReplicatorOptions struct {
	// OnListen is called when a discovery key should be announced, looked up, or both, from now on, and again
	// when the mode changes. OnUnlisten is called when neither is wanted any more. Calls for one key come one
	// at a time and in order, and changes that cancel each other while a call runs are left out. Either may be nil.
	// They may call anything of the store and of the Replicator but Close, which waits for them.
	OnListen   func(dk feed.DiscoveryKey, m dht.Mode)
	OnUnlisten func(dk feed.DiscoveryKey)
	// Linger is how long a feed that lost its last session goes on downloading on the wire, so that
	// one that is used again soon costs no new channels. 0 means a random time of 20 to 40 s, as
	// JavaScript's packages have it; less than 0 means none.
	Linger time.Duration
	// Name is what remotes call us, where the names of peers are not only ours: both ends of two streams that cross
	// need it to decide alike which one stays, see HandleConnection. With libp2p it is the peer ID.
	Name string
	// Discreet keeps the feeds that are in use from peers who may not know them: on a new connection only those are offered
	// that the peer was found for, until it has opened one of our feeds with its key, and then all. Whatever a peer asks for
	// by itself is answered as ever. Without it a connection begins with the discovery keys of all feeds in use,
	// as JavaScript's does.
	Discreet bool
	// HandshakeKey is the group's door, if not nil: the feed whose key every peer has to know before anything else is
	// said, see hyper.Door. It is opened with the first connection, and kept so.
	HandshakeKey *feed.Key
	// Announce is which feeds of the group are listened for beside those that Listen is called for. The listen functions
	// may be called for them before NewReplicator returns.
	Announce AnnouncePolicy
	later    bool // startAnnouncing is called when the listen functions can be
	quiet    bool // the listen functions call neither the store nor us, so that whoever causes a change may wait for them
	// Logger receives what happens; nil means silence.
	Logger *slog.Logger
}

// Replicator replicates all feeds of a store over any number of streams. Every feed with a session
// has a channel on every stream; a feed that is only stored gets one when the remote asks for it and knows
// its key, and is closed again when nobody asks any more. It is safe for concurrent use and
// needs no libp2p host.
type Replicator struct {
	// set in NewReplicator
	store *corestore.Store
	opts  ReplicatorOptions
	log   *slog.Logger
	group *lifecycle.Group
	stop  func()

	decided decisions

	doorTurn sync.Mutex    // a turn: held while the door's feed is opened
	door     *feed.Session // under doorTurn: nil until the first connection

	faceTurn   sync.Mutex    // a turn: held while the default feed is opened
	face       *feed.Session // under faceTurn: nil until it has to carry something
	memberTurn sync.Mutex    // a turn: held while the store is told of a peer that comes or goes

	mu         sync.Mutex
	conns      map[*hyper.Conn]*talking         // under mu
	peers      map[string]*acquaintance         // under mu: those with a stream, or with one under way
	connecting int                              // under mu: connect functions that run
	hooks      map[feed.DiscoveryKey][]*hook    // under mu: slices are not changed
	entries    map[feed.DiscoveryKey]*entry     // under mu
	listens    map[feed.DiscoveryKey]*listening // under mu
	finding    map[feed.DiscoveryKey]struct{}   // under mu: peers of the feed are being looked for
	pushes     map[feed.DiscoveryKey]PushMode   // under mu: those that are not the zero mode
	lazy       map[feed.DiscoveryKey]struct{}   // under mu: of SetLazyUpgrade
	announced  map[feed.DiscoveryKey]struct{}   // under mu: by AnnounceAll, each counted in its listening
	members    map[memberKey]*member            // under mu: the peers of the group; changed with memberTurn
	leaving    map[*entry]struct{}              // under mu: out of entries, and not in retired yet
	gone, left int                              // under mu: taken out of entries, and of leaving, for shrink.Delete
	retired    hyper.Stats                      // under mu: the sum of all entries that were dropped
	last       []func(ctx context.Context)      // under mu: what Close calls in the end
	closed     bool                             // under mu
	ended      bool                             // under mu: last was called
}

// entry is one feed that takes part: it has a session, or had one shortly before, or a remote asked for it.
type entry struct {
	// set when made
	dk   feed.DiscoveryKey
	f    *feed.Feed
	x    *hyper.Exchange
	face bool // it is the default feed's

	// under Replicator.mu
	active  bool        // the feed has a session
	push    PushMode    // as the exchange was told
	added   int         // times that it was added and not removed
	linger  func() bool // stops the timer that ends the downloading; nil if none runs
	release func()      // gives our reference to the feed back; nil while we hold none
	touched time.Time   // when the exchange was last handed to a connection
	reaping bool        // a timer will look whether the entry is still used
}

// wanted tells whether somebody here wants the feed. Replicator.mu is held.
func (e *entry) wanted() bool { return e.active || e.added > 0 }

// NewReplicator returns a Replicator for the feeds of store. Close it before the store.
func NewReplicator(store *corestore.Store, opts ReplicatorOptions) *Replicator {
	if opts.Linger == 0 {
		opts.Linger = randomLinger()
	}
	log := opts.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	r := &Replicator{
		store: store, opts: opts, log: log,
		group:     lifecycle.NewGroup(),
		conns:     make(map[*hyper.Conn]*talking),
		peers:     make(map[string]*acquaintance),
		hooks:     make(map[feed.DiscoveryKey][]*hook),
		entries:   make(map[feed.DiscoveryKey]*entry),
		listens:   make(map[feed.DiscoveryKey]*listening),
		finding:   make(map[feed.DiscoveryKey]struct{}),
		pushes:    make(map[feed.DiscoveryKey]PushMode),
		lazy:      make(map[feed.DiscoveryKey]struct{}),
		members:   make(map[memberKey]*member),
		announced: make(map[feed.DiscoveryKey]struct{}),
		leaving:   make(map[*entry]struct{}),
	}
	stopActive, stopRemove, stopDeclare := store.OnActive(r.onActive), store.OnRemove(r.onRemove), store.OnDeclare(r.onDeclare)
	r.stop = func() {
		stopActive()
		stopRemove()
		stopDeclare()
	}
	for f := range store.Active() {
		r.onActive(f, true)
	}
	if !opts.later {
		r.group.Go(r.announceGroup)
	}
	return r
}

// minLinger and maxLinger bound how long a feed lingers by default, as in JavaScript: long enough that who opens a feed again
// soon needs no new channel, and apart enough that nodes which lose interest together do not all say so at one moment.
const (
	minLinger = 20 * time.Second
	maxLinger = 40 * time.Second
)

// randomLinger draws a time from minLinger up to maxLinger, that not included.
func randomLinger() time.Duration { return minLinger + rand.N(maxLinger-minLinger) }

func (r *Replicator) attach(c *hyper.Conn, e *entry) {
	err := c.Attach(e.x)
	if err != nil && !errors.Is(err, hyper.ErrAttached) && !errors.Is(err, hyper.ErrClosed) {
		r.log.Warn("feed not put on a stream", "feed", e.dk.Short(), "err", err)
	}
}

// onActive follows the store: f has its first session, or has lost the last one. The store calls it in
// order, and nothing here waits: a session must not be handed out before its feed has a Source.
func (r *Replicator) onActive(f *feed.Feed, active bool) {
	dk := f.DiscoveryKey()
	r.mu.Lock()
	e := r.entries[dk]
	var old *entry
	if e != nil && e.f != f {
		if e.added > 0 {
			r.mu.Unlock()
			r.log.Warn("a feed of the store does not take part: another of its key was added", "feed", dk.Short())
			return
		}
		old, e = e, nil // the store closed that one and opened the feed again
		r.leaving[old] = struct{}{}
	}
	if e == nil {
		if !active {
			r.mu.Unlock()
			return
		}
		e = r.add(f)
	}
	e.active = active
	r.tellPush(e)
	if e.linger != nil {
		e.linger()
		e.linger = nil
	}
	if !e.wanted() && r.opts.Linger > 0 {
		e.linger = lifecycle.AfterFunc(r.group, r.opts.Linger, func() { r.quieten(e) })
	}
	r.mu.Unlock()

	if old != nil {
		r.drop(old)
	}
	switch {
	case active:
		e.x.SetDownloading(true)
		r.group.Go(func(ctx context.Context) {
			r.activate(ctx, e)
			r.back(e)
			if r.opts.Announce == AnnounceAll {
				r.announceFeed(ctx, e.f.Key())
			}
		})
	case r.opts.Linger < 0:
		r.quieten(e) // unless it was added
	}
}

// add makes the entry of f. mu is held.
func (r *Replicator) add(f *feed.Feed) *entry {
	e := &entry{dk: f.DiscoveryKey(), f: f}
	e.x = hyper.NewExchange(f, hyper.ExchangeOptions{
		OnIdle: func() { r.reapLater(e) },
		Logger: r.log,
	})
	if _, ok := r.finding[e.dk]; ok {
		e.x.SetFinding(true)
	}
	if _, ok := r.lazy[e.dk]; ok {
		e.x.SetLazyUpgrade(true)
	}
	r.watchFace(e)
	r.entries[e.dk] = e
	r.tellPush(e)
	return e
}

// activate keeps e's feed open and puts it on all streams.
func (r *Replicator) activate(ctx context.Context, e *entry) {
	f, release, err := r.store.Resolve(ctx, e.dk)
	if err != nil || f != e.f {
		if err == nil {
			release() // the feed was closed and opened again meanwhile; its callback follows
		}
		return
	}
	r.mu.Lock()
	if r.entries[e.dk] != e || e.release != nil {
		defer release()
	} else {
		e.release = release
	}
	var conns []*hyper.Conn
	if r.entries[e.dk] == e {
		conns = r.connsFor(e.dk)
	}
	r.mu.Unlock()
	for _, c := range conns {
		r.attach(c, e)
	}
}

// quieten ends the downloading of a feed that has no session. Its channels close when the remote does not
// download either.
func (r *Replicator) quieten(e *entry) {
	r.mu.Lock()
	if e.wanted() {
		r.mu.Unlock()
		return
	}
	e.linger = nil
	r.mu.Unlock()
	e.x.SetDownloading(false)
	r.mu.Lock()
	again := e.wanted()
	r.mu.Unlock()
	if again { // a session came between the look and the call
		e.x.SetDownloading(true)
	}
	r.reapLater(e)
}

// onOpen finds the exchange for a feed that a remote opened a channel for; nil if it is not stored.
func (r *Replicator) onOpen(ctx context.Context, dk feed.DiscoveryKey) (*hyper.Exchange, error) {
	if x := r.addedExchange(dk); x != nil {
		return x, nil
	}
	f, release, err := r.store.Resolve(ctx, dk)
	if errors.Is(err, corestore.ErrUnknownFeed) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	e := r.entries[dk]
	var old *entry
	if e != nil && e.f != f {
		old, e = e, nil
		r.leaving[old] = struct{}{}
	}
	if e == nil {
		e = r.add(f)
	}
	e.touched = time.Now()
	if e.release == nil {
		e.release, release = release, nil
	}
	r.mu.Unlock()
	if release != nil {
		release()
	}
	if old != nil {
		r.drop(old)
	}
	// The remote may fail to prove that it knows the key, and then there is never a channel to close.
	r.reapLater(e)
	return e.x, nil
}

// addedExchange returns the exchange of a feed that AddCore has added, or nil.
func (r *Replicator) addedExchange(dk feed.DiscoveryKey) *hyper.Exchange {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.entries[dk]; e != nil && e.added > 0 {
		return e.x
	}
	return nil
}

// reapLater looks, a while from now, whether anybody still uses e. It does not block.
func (r *Replicator) reapLater(e *entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.reaping || r.entries[e.dk] != e {
		return
	}
	e.reaping = true
	lifecycle.AfterFunc(r.group, reapAfter, func() { r.reap(e) })
}

// reap lets go of e's feed if it has no session and no channel.
func (r *Replicator) reap(e *entry) {
	used := len(e.x.Peers()) > 0 // OnIdle comes again when the last of them leaves
	r.mu.Lock()
	e.reaping = false
	if used || e.wanted() || e.linger != nil || r.entries[e.dk] != e {
		r.mu.Unlock()
		return
	}
	if time.Since(e.touched) < reapAfter {
		r.mu.Unlock()
		r.reapLater(e)
		return
	}
	shrink.Delete(&r.entries, e.dk, &r.gone)
	r.leaving[e] = struct{}{}
	r.mu.Unlock()
	r.drop(e)
}

// drop closes an entry that is in the books no more. It waits for nothing that calls the application.
func (r *Replicator) drop(e *entry) {
	e.x.Cut()
	if e.face {
		r.faceCut(e)
	} else {
		r.afterwards(func(context.Context) { e.x.Close() }) // its handlers are the application's, and may wait for us
	}
	stats := e.x.Stats()
	r.mu.Lock()
	shrink.Delete(&r.leaving, e, &r.left)
	r.retired.Retire(stats)
	release := e.release
	e.release = nil
	r.mu.Unlock()
	if release != nil {
		release()
	}
}

// Exchange returns the exchange of a feed that takes part in replication now, or nil.
func (r *Replicator) Exchange(dk feed.DiscoveryKey) *hyper.Exchange {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.entries[dk]; e != nil {
		return e.x
	}
	return nil
}

// setFinding says whether peers of dk are being looked for, so that nobody is told yet that there are none.
func (r *Replicator) setFinding(dk feed.DiscoveryKey, on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if on {
		r.finding[dk] = struct{}{}
	} else {
		delete(r.finding, dk)
	}
	if e := r.entries[dk]; e != nil {
		e.x.SetFinding(on)
	}
}

// Close ends all conversations in order, so that peers learn what has arrived here, and waits for their Run; a
// peer that does not end its side is given up after a second. It may be called twice.
func (r *Replicator) Close() error {
	r.stop()
	r.mu.Lock()
	r.closed = true
	conns := slices.Collect(maps.Keys(r.conns))
	r.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), finishTimeout)
	defer cancel()
	finishing := lifecycle.NewGroup()
	for _, c := range conns {
		finishing.Go(func(context.Context) { c.Finish(ctx) }) // which ends with ctx, not with the group
	}
	finishing.Close()
	if x := r.Exchange(r.store.DefaultKey().DiscoveryKey()); x != nil {
		x.Close() // what its handlers wait for ends with it, and streams wait for the handlers
	}
	r.group.Close()
	r.mu.Lock()
	entries := r.entries
	r.entries = make(map[feed.DiscoveryKey]*entry)
	for _, e := range entries {
		r.leaving[e] = struct{}{}
	}
	r.mu.Unlock()
	for _, e := range entries {
		r.drop(e)
	}
	r.tellLast()
	r.doorTurn.Lock()
	defer r.doorTurn.Unlock()
	r.faceTurn.Lock()
	defer r.faceTurn.Unlock()
	var errs []error
	for _, s := range []*feed.Session{r.door, r.face} {
		if s != nil {
			errs = append(errs, s.Close())
		}
	}
	return errors.Join(errs...)
}
