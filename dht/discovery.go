package dht

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	mh "github.com/multiformats/go-multihash"

	"github.com/p2pcore/p2pcore/internal/lifecycle"
)

var (
	// ErrNoNetwork says that the routing table is empty: nobody can be asked or told. It is a state, not
	// a result; announcing and looking up go on by themselves once there is a peer.
	ErrNoNetwork = errors.New("dht: no network: the routing table is empty")
	// ErrClosed is returned by what is called after Close or Leave.
	ErrClosed = errors.New("dht: closed")
)

// Mode says what a membership does for its topic. The values are bits and combine.
type Mode uint8

const (
	// Announce tells the network that we have the topic.
	Announce Mode = 1 << iota
	// Lookup asks the network who has the topic.
	Lookup
)

// Announcer tells the network what we have, for ever and on a schedule of its own.
//
// StartProviding announces keys and goes on doing so; without force a key that is announced already
// costs nothing. An error means that nobody could be told yet; Discovery tries again.
// kad-dht's provider.SweepingProvider is an Announcer.
type Announcer interface {
	StartProviding(force bool, keys ...mh.Multihash) error
	StopProviding(keys ...mh.Multihash) error
}

// Finder asks the network who has a key. The channel is closed when the look-up has ended or ctx has.
// A count of 0 asks for everybody. kad-dht's IpfsDHT is a Finder.
type Finder interface {
	FindProvidersAsync(ctx context.Context, key cid.Cid, count int) <-chan peer.AddrInfo
}

// Options are the settings of a Discovery.
type Options struct {
	// Self is our own peer ID, which is never handed to a found function.
	Self peer.ID
	// TableSize returns the number of peers in the routing table. Nil means that it is never empty.
	TableSize func() int
	// MinWait is the pause after a look-up that found nobody, and after an announcement that failed; it
	// doubles with every further one. 0 means DefaultMinWait.
	MinWait time.Duration
	// Interval is the longest pause between two look-ups. 0 means DefaultInterval.
	Interval time.Duration
	// Logger receives what happens; nil means silence.
	Logger *slog.Logger
}

const (
	// DefaultMinWait is short because a look-up that crosses the announcement of its topic finds nothing
	// and the next one does.
	DefaultMinWait = 500 * time.Millisecond
	// DefaultInterval bounds how late a peer is found that announced itself after we looked. A look-up
	// of an absent key costs about 30 messages.
	DefaultInterval = 5 * time.Minute
	// tablePoll is how often an empty routing table is looked at. Reading its size costs a lock.
	tablePoll = 50 * time.Millisecond
)

// Discovery keeps the memberships of one network. It is safe for concurrent use.
type Discovery struct {
	announcer Announcer
	finder    Finder
	opts      Options
	log       *slog.Logger
	group     *lifecycle.Group

	mu       sync.Mutex
	members  map[*Membership]struct{} // under mu
	announce map[Topic]int            // under mu; memberships that announce a topic
	watching bool                     // under mu; a goroutine waits for the first peer of the table
	closed   bool                     // under mu
}

// New returns a Discovery over a and f. It starts nothing before the first Join.
func New(a Announcer, f Finder, opts Options) *Discovery {
	if opts.MinWait <= 0 {
		opts.MinWait = DefaultMinWait
	}
	if opts.Interval <= 0 {
		opts.Interval = DefaultInterval
	}
	opts.Interval = max(opts.Interval, opts.MinWait)
	log := opts.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Discovery{
		announcer: a,
		finder:    f,
		opts:      opts,
		log:       log,
		group:     lifecycle.NewGroup(),
		members:   make(map[*Membership]struct{}),
		announce:  make(map[Topic]int),
	}
}

// Join begins to announce t, to look it up, or both, and returns at once.
//
// found is called with every peer that a look-up brings, ourselves excepted, from one goroutine of the
// membership. It may block: the look-up waits for it, and that is its back-pressure. It must
// return when its ctx ends. The same peer comes again with every look-up. found may be nil
// when m lacks Lookup.
//
// The error is ErrClosed, or says that m or found is unusable.
func (d *Discovery) Join(t Topic, m Mode, found func(ctx context.Context, p peer.AddrInfo)) (*Membership, error) {
	if m&(Announce|Lookup) == 0 || m&^(Announce|Lookup) != 0 {
		return nil, fmt.Errorf("dht: join: mode %d is neither Announce nor Lookup", m)
	}
	if m&Lookup != 0 && found == nil {
		return nil, errors.New("dht: join: a look-up needs a found function")
	}
	mem := newMembership(d, t, m, found)
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil, ErrClosed
	}
	d.members[mem] = struct{}{}
	if m&Announce != 0 {
		d.announce[t]++
	}
	d.mu.Unlock()
	if !mem.start() {
		d.forget(mem)
		return nil, ErrClosed
	}
	d.watch()
	return mem, nil
}

// Poke tells that the network changed: our addresses are others, or peers came. Announcements are
// made anew and look-ups that found nobody are repeated soon. It does not block.
func (d *Discovery) Poke() {
	d.mu.Lock()
	members := make([]*Membership, 0, len(d.members))
	for m := range d.members {
		members = append(members, m)
	}
	d.mu.Unlock()
	for _, m := range members {
		m.poke()
	}
}

// Err returns ErrNoNetwork while the routing table is empty, else nil.
func (d *Discovery) Err() error {
	if d.opts.TableSize != nil && d.opts.TableSize() == 0 {
		return ErrNoNetwork
	}
	return nil
}

// Close ends all memberships and waits for them. Announcements are not withdrawn from the Announcer,
// which is the caller's to close. Close may be called twice.
func (d *Discovery) Close() error {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	d.group.Close()
	return nil
}

// watch starts, where the routing table is empty, the one goroutine that pokes all memberships when the
// first peer is in it: kad-dht admits a peer some time after the connection, and tells nobody.
func (d *Discovery) watch() {
	if d.Err() == nil {
		return
	}
	d.mu.Lock()
	begin := !d.watching && !d.closed
	if begin {
		d.watching = true
	}
	d.mu.Unlock()
	if !begin {
		return
	}
	ok := d.group.Go(func(ctx context.Context) {
		tick := time.NewTicker(tablePoll)
		defer tick.Stop()
		for d.Err() != nil {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
		d.mu.Lock()
		d.watching = false
		d.mu.Unlock()
		d.Poke()
	})
	if !ok {
		d.mu.Lock()
		d.watching = false
		d.mu.Unlock()
	}
}

// forget takes m out of the books and tells whether its topic is announced by nobody any more.
func (d *Discovery) forget(m *Membership) (last bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.members[m]; !ok {
		return false
	}
	delete(d.members, m)
	if m.mode&Announce == 0 {
		return false
	}
	d.announce[m.topic]--
	if d.announce[m.topic] > 0 {
		return false
	}
	delete(d.announce, m.topic)
	return !d.closed
}
