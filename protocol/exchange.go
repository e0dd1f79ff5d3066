package protocol

import (
	"context"
	"iter"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/internal/lifecycle"
	"github.com/p2pcore/p2pcore/internal/replica"
)

// Core is the part of a feed that replication uses; *feed.Feed is one.
//
// The methods up to Conflict answer from memory. The others may block on the feed's storage; workers
// call them, and whoever waits in Seek.
type Core interface {
	Key() feed.Key
	DiscoveryKey() feed.DiscoveryKey
	SetSource(feed.Source)
	DropSource(feed.Source)
	SubscribeFunc(wake func()) *feed.Subscription

	Info() feed.Info
	Ranges(r feed.Range) iter.Seq[feed.Range]
	Conflict() *feed.ConflictError

	Plan(ctx context.Context, blocks []uint64) (nodes []uint64, err error)
	CanUpgrade(ctx context.Context, length uint64) (bool, error)
	Locate(ctx context.Context, byteOffset, padding uint64) (feed.Place, error)
	Prove(ctx context.Context, reqs []feed.Request) ([]feed.Proved, error)
	Apply(ctx context.Context, ps []*feed.Proof) ([]feed.Applied, error)
	Reorg(ctx context.Context, p *feed.Proof) (*feed.Reorg, error)
	Examine(ctx context.Context, p *feed.Proof) (*feed.ConflictError, error)
	Freeze(ctx context.Context, c *feed.ConflictError) error
}

var _ Core = (*feed.Feed)(nil)

// ExchangeOptions are the options of NewExchange. The zero value is a feed that is served and not
// downloaded.
type ExchangeOptions struct {
	// Downloading says from the start that somebody wants the feed; see SetDownloading.
	Downloading bool
	// RefuseForks stays on the feed's fork, although a peer proves a higher one: what is stored is not given
	// up for what the writer puts in its place. A feed that is still empty then gets nothing from a writer
	// that has ever truncated.
	RefuseForks bool
	// AllowPush lets peers send blocks that were not asked for, and tells them so while the feed is downloading. They are
	// verified and stored, wanted or not. See SetAllowPush.
	AllowPush bool
	// PushOnly asks nothing of peers but what a session with Force gets, and the manifest of an empty feed: the feed is
	// what is pushed to it. See SetPushOnly.
	PushOnly bool
	// LazyUpgrade asks for a longer head only while somebody waits for one; see SetLazyUpgrade.
	LazyUpgrade bool
	// OnIdle is called when the last open channel has closed. It runs on the exchange's own
	// goroutine: it must not block, nor close the exchange or a connection.
	OnIdle func()
	// OnPeer is called, under the same rules, when the number of open channels has changed.
	OnPeer func(peers int)
	// OnRemoteContiguous is called, under the same rules, when RemoteContiguous has risen, with what it is now.
	OnRemoteContiguous func(length uint64)
	// Logger is silent if nil.
	Logger *slog.Logger
}

// Exchange replicates one feed over any number of connections. It is the feed's Source from
// NewExchange until Close. All methods are safe for concurrent use. No goroutine runs while there is
// nothing to do.
type Exchange struct {
	// Set in NewExchange.
	core  Core
	key   feed.Key
	dk    feed.DiscoveryKey
	opts  ExchangeOptions
	log   *slog.Logger
	group lifecycle.Group // loop, workers, alarms
	calls lifecycle.Group // of handlers, with group's context: they use no feed
	sub   *feed.Subscription

	closing chan struct{} // closed when Close begins
	peers   atomic.Uint64 // last PeerID given out
	tickets atomic.Uint64 // last Ticket given out

	// Under mu, which is taken after the mu of a Conn and held for a moment only.
	mu      sync.Mutex
	inbox   []item
	spare   []item // memory for the next inbox
	running bool   // the loop is, or will be
	changed bool   // the feed has a Change that was not taken
	closed  bool
	links   map[*link]struct{}
	waiting map[replica.Ticket]chan<- replica.Resolve // capacity 1 each

	// Under turn, which the loop holds while it works off its inbox; never across I/O.
	turn        sync.Mutex
	machine     *replica.Machine
	channels    map[replica.PeerID]*channel // open on both sides
	opening     map[*channel]func() bool    // opened here a moment ago; stops the timer of openingOver
	finding     bool
	downloading bool
	allowPush   bool
	pushOnly    bool
	frozen      bool // the feed was when its last change was taken
	outbox      []outgoing
	alarmAt     time.Time // when the alarm that is set goes off; zero if none is
	unalarm     func() bool
	idle        bool   // the last channel has closed since the last look
	moved       bool   // the number of channels has changed since the last look
	remote      uint64 // RemoteContiguous at the last look
	barriers    []chan struct{}
	departed    []PeerInfo // at most maxDeparted, oldest first

	work workers
	mail mail
}

// NewExchange returns an exchange for a feed and makes it the feed's Source.
func NewExchange(core Core, opts ExchangeOptions) *Exchange {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	x := &Exchange{
		core: core, key: core.Key(), dk: core.DiscoveryKey(), opts: opts,
		closing:  make(chan struct{}),
		links:    make(map[*link]struct{}),
		waiting:  make(map[replica.Ticket]chan<- replica.Resolve),
		channels: make(map[replica.PeerID]*channel),
		opening:  make(map[*channel]func() bool),
	}
	x.log = opts.Logger.With("feed", shortKey(x.dk))
	x.work.x = x
	rng := rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	x.machine = replica.New(local{core}, replica.Limits{}, rng)
	if opts.RefuseForks {
		x.machine.RefuseForks()
	}
	x.frozen = core.Info().Frozen
	x.sub = core.SubscribeFunc(x.feedChanged)
	core.SetSource(x)
	if opts.AllowPush {
		x.SetAllowPush(true)
	}
	if opts.LazyUpgrade {
		x.SetLazyUpgrade(true)
	}
	if opts.PushOnly {
		x.SetPushOnly(true)
	}
	if opts.Downloading {
		x.SetDownloading(true)
	}
	return x
}

// local shows a Core to the machine.
type local struct{ core Core }

func (l local) Info() replica.Info {
	i := l.core.Info()
	return replica.Info{
		Fork: i.Fork, Length: i.Length, ByteLength: i.ByteLength,
		HasManifest: i.HasManifest && !i.Compat, Frozen: i.Frozen,
	}
}

func (l local) Ranges(r feed.Range) iter.Seq[feed.Range] { return l.core.Ranges(r) }

// Core returns the feed that NewExchange was given.
func (x *Exchange) Core() Core { return x.core }

// SetDownloading says whether somebody wants this feed to be complete and current. While it is set,
// peers are told so and channels that have closed are opened again.
func (x *Exchange) SetDownloading(on bool) { x.push(item{kind: setDownloading, on: on}) }

// SetFinding says whether somebody is looking for peers of this feed. While it is set, Upgrade
// waits for them instead of giving up when no peer is known.
func (x *Exchange) SetFinding(on bool) { x.push(item{kind: setFinding, on: on}) }

// SetLazyUpgrade says whether the feed stays as long as it is until somebody here waits for more: in Upgrade, in Seek past
// the known end, or in Fetch of blocks past the length, with Follow of all that comes. A higher fork is looked at, and
// becomes ours in an Upgrade only. Off, which is the start, whatever a peer has is asked for. It is Hypercore's option
// eagerUpgrade, turned round.
func (x *Exchange) SetLazyUpgrade(on bool) { x.push(item{kind: setLazy, on: on}) }

// Close detaches the exchange from all connections, ends all calls that wait with ErrClosed, and
// waits until nothing uses the feed any more, and for handlers that run. The feed stays open. Close must not be
// called from OnIdle, OnPeer, OnOpen or a handler.
func (x *Exchange) Close() error {
	x.Cut()
	x.calls.Close()
	return nil
}

// Cut is Close, but does not wait for the handlers of OnExtension and OnPeers, so that they may call it. The context of
// one that runs has ended when Cut returns, and no other is called any more; Close waits for it.
func (x *Exchange) Cut() {
	x.mu.Lock()
	first := !x.closed
	x.closed = true
	var links []*link
	for l := range x.links {
		links = append(links, l)
	}
	x.mu.Unlock()
	if first {
		x.core.DropSource(x) // before calls end with ErrClosed: whoever sees that can see why
		close(x.closing)
		x.sub.Close()
	}
	for _, l := range links {
		l.conn.Detach(x)
	}
	x.group.Close()
}

// addLink remembers that the exchange is attached to a connection.
func (x *Exchange) addLink(l *link) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed {
		return false
	}
	x.links[l] = struct{}{}
	return true
}

func (x *Exchange) removeLink(l *link) {
	l.ended.Store(true)
	x.mu.Lock()
	delete(x.links, l)
	x.mu.Unlock()
	x.push(item{kind: linkEnded, link: l})
}

// feedChanged notes that the subscription has something; the feed calls it.
func (x *Exchange) feedChanged() {
	x.mu.Lock()
	x.changed = true
	x.startLocked()
	x.mu.Unlock()
}

// push hands items to the loop and returns false if it takes none any more.
func (x *Exchange) push(items ...item) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed {
		return false
	}
	x.inbox = append(x.inbox, items...)
	x.startLocked()
	return true
}

// startLocked starts the loop unless it runs. mu is held.
func (x *Exchange) startLocked() {
	if !x.running && !x.closed && x.group.Go(x.loop) {
		x.running = true
	}
}
