package node

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/p2pcore/p2pcore/dht"
	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/internal/lifecycle"
)

// reason says why a peer is wanted: the zero topic with a kind, or a topic that the peer was found under.
type reason struct {
	kind  reasonKind
	topic dht.Topic
}

type reasonKind int

const (
	byTopic  reasonKind = iota // a look-up named it
	byLAN                      // it is in the local network
	byHand                     // Connect named it
	byConfig                   // AddPeer named it: it is never forgotten
)

// target is a peer that we want a stream with.
type target struct {
	id peer.ID

	// under connector.mu
	addrs   []ma.Multiaddr
	reasons map[reason]struct{}
	added   int // calls of AddPeer that count; the reason byConfig stands for all of them
	redial  redial
	tried   bool         // an attempt has come to an end
	stands  standing     // what the attempts and the conversations so far have told
	waiters []chan error // each has capacity 1 and gets the result of the next attempt
	wake    chan struct{}
}

// connector keeps a stream with every wanted peer: one goroutine per peer dials, opens, and begins again when the
// stream ends. Attempts of different peers share maxDials slots; those of one peer are never
// parallel. It is safe for concurrent use.
type connector struct {
	// set in newConnector
	host  host.Host
	links *links
	find  func(ctx context.Context, p peer.ID) (peer.AddrInfo, error) // addresses of a peer; nil without a DHT
	near  func(p peer.ID) bool                                        // p is connected and speaks our protocols; nil: nobody is
	log   *slog.Logger
	group *lifecycle.Group
	slots chan struct{} // capacity maxDials: a token per dial under way

	mu      sync.Mutex
	targets map[peer.ID]*target // under mu
	turned  chan struct{}       // under mu: closed and renewed when an attempt ends or a target goes
}

func newConnector(h host.Host, ls *links, group *lifecycle.Group, log *slog.Logger) *connector {
	return &connector{
		host: h, links: ls, group: group, log: log,
		slots:   make(chan struct{}, maxDials),
		targets: make(map[peer.ID]*target),
		turned:  make(chan struct{}),
	}
}

// purpose returns the discovery key that p was found under, or nil. It is door, if that is not nil, for those who were
// found under it or were named by hand.
func (c *connector) purpose(p peer.ID, door *feed.DiscoveryKey) *feed.DiscoveryKey {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.targets[p]
	if t == nil {
		return nil
	}
	var found *feed.DiscoveryKey
	for why := range t.reasons {
		switch {
		case why.kind == byTopic && (door == nil || feed.DiscoveryKey(why.topic) != *door):
			dk := feed.DiscoveryKey(why.topic)
			found = &dk
		case why.kind != byLAN && door != nil:
			return door
		}
	}
	return found
}

// named tells whether p was named by hand or in the configuration.
func (c *connector) named(p peer.ID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.targets[p]
	if t == nil {
		return false
	}
	_, byHand := t.reasons[reason{kind: byHand}]
	_, byConfig := t.reasons[reason{kind: byConfig}]
	return byHand || byConfig
}

// foundFor returns the discovery keys that p was found under.
func (c *connector) foundFor(p peer.ID) (keys []feed.DiscoveryKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t := c.targets[p]; t != nil {
		for why := range t.reasons {
			if why.kind == byTopic {
				keys = append(keys, feed.DiscoveryKey(why.topic))
			}
		}
	}
	return keys
}

// want adds a reason to be in touch with p, and addresses to try. It does not block. False means that the
// peer was not taken: it is us, or too many are wanted already.
func (c *connector) want(p peer.AddrInfo, why reason) bool {
	t := c.add(p, why, nil)
	if t == nil {
		return false
	}
	signal(t.wake)
	return true
}

// add books p, and starts its goroutine if it is new.
func (c *connector) add(p peer.AddrInfo, why reason, waiter chan error) *target {
	if p.ID == c.host.ID() || p.ID == "" {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.targets[p.ID]
	if t == nil {
		if why.kind != byConfig && (len(c.targets) >= maxWanted || c.crowded(why)) {
			return nil
		}
		t = &target{id: p.ID, reasons: make(map[reason]struct{}), wake: make(chan struct{}, 1)}
		// The goroutine's first look at the target waits for mu.
		if !c.group.Go(func(ctx context.Context) { c.keep(ctx, t) }) {
			return nil
		}
		c.targets[p.ID] = t
	}
	t.reasons[why] = struct{}{}
	if why.kind == byConfig {
		t.added++
	}
	for _, a := range p.Addrs {
		if len(t.addrs) < maxAddrs && !slices.ContainsFunc(t.addrs, a.Equal) {
			t.addrs = append(t.addrs, a)
		}
	}
	if waiter != nil {
		t.waiters = append(t.waiters, waiter)
		t.redial.anew()
	}
	return t
}

// crowded tells whether why's topic has named its share of peers. mu is held.
func (c *connector) crowded(why reason) bool {
	if why.kind != byTopic {
		return false
	}
	n := 0
	for _, t := range c.targets {
		if _, ok := t.reasons[why]; ok {
			n++
		}
	}
	return n >= maxWantedPerTopic
}

// unwant takes a reason away from one peer. What is connected stays so.
func (c *connector) unwant(p peer.ID, why reason) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.targets[p]
	if t == nil {
		return
	}
	if why.kind == byConfig {
		if t.added--; t.added > 0 {
			return
		}
	}
	c.strike(t, why)
}

// unwantAll takes a reason away from all peers.
func (c *connector) unwantAll(why reason) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.targets {
		c.strike(t, why)
	}
}

// strike removes a reason of t. mu is held.
func (c *connector) strike(t *target, why reason) {
	delete(t.reasons, why)
	if len(t.reasons) == 0 {
		signal(t.wake) // its goroutine forgets it
	}
}

// connect wants p and waits for the result of the first attempt that ends from now on, or for the stream that is
// up already.
func (c *connector) connect(ctx context.Context, p peer.AddrInfo) error {
	waiter := make(chan error, 1)
	t := c.add(p, reason{kind: byHand}, waiter)
	if t == nil {
		return errors.New("node: too many peers are wanted, or the peer is this node")
	}
	signal(t.wake)
	var err error
	select {
	case err = <-waiter:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err != nil {
		c.unwant(p.ID, reason{kind: byHand})
	}
	return err
}

// settle waits until every peer wanted for why has a stream or has failed once.
func (c *connector) settle(ctx context.Context, why reason) error {
	for {
		c.mu.Lock()
		turned, busy := c.turned, false
		for _, t := range c.targets {
			if _, ok := t.reasons[why]; ok && !t.tried {
				busy = true
			}
		}
		c.mu.Unlock()
		if !busy {
			return nil
		}
		select {
		case <-turned:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-c.group.Context().Done():
			return ErrClosed
		}
	}
}

// news makes the pauses of all peers short again and ends them: the network is another one.
func (c *connector) news() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.targets {
		t.redial.anew()
		signal(t.wake)
	}
}

// called is poke for a peer that has connected to us, so that failures to reach it count no more.
func (c *connector) called(p peer.ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t := c.targets[p]; t != nil {
		t.redial.anew()
		signal(t.wake)
	}
}

// poke wakes p's goroutine: a connection or a stream with it came or went.
func (c *connector) poke(p peer.ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t := c.targets[p]; t != nil {
		signal(t.wake)
	}
}

// keep is the goroutine of t.
func (c *connector) keep(ctx context.Context, t *target) {
	defer c.answer(t, ErrClosed)
	for ctx.Err() == nil && c.wanted(t) {
		if !c.links.live(t.id) {
			if err := c.attempt(ctx, t); err != nil {
				c.mu.Lock()
				wait := t.redial.failed(time.Now())
				c.mu.Unlock()
				c.log.Debug("peer not reached", "peer", t.id, "err", err)
				switch {
				case ctx.Err() != nil || errors.Is(err, errSupplanted):
				case remoteEnd(err):
					c.judge(t.id, refused)
				default:
					c.judge(t.id, unreached)
				}
				c.answer(t, err)
				c.pause(ctx, t, wait)
				continue
			}
		}
		began := time.Now()
		if !c.watch(ctx, t) {
			continue
		}
		c.mu.Lock()
		wait := t.redial.ended(time.Now(), time.Since(began))
		c.mu.Unlock()
		// A reset may mean that another stream takes this one's place: let it come first.
		pause(ctx, resetMin+rand.N(resetMax-resetMin), nil)
		c.pause(ctx, t, wait)
	}
}

// pause waits for half of d to one and a half, or until there is a reason to look at t at once: many who lose the same peer
// must not all come back at once. It does not wait if d is 0.
func (c *connector) pause(ctx context.Context, t *target, d time.Duration) {
	if d == 0 {
		return
	}
	wasNear := c.isNear(t.id)
	for end := time.Now().Add(d/2 + rand.N(d)); ctx.Err() == nil; {
		left := time.Until(end)
		if left <= 0 {
			return
		}
		pause(ctx, left, t.wake)
		near := c.isNear(t.id)
		if near && !wasNear || c.stirred(t) {
			return
		}
		wasNear = near
	}
}

// isNear tells whether p is connected and is known to speak our protocols.
func (c *connector) isNear(p peer.ID) bool { return c.near != nil && c.near(p) }

// stirred tells whether t's pause has lost its reason: somebody waits for an attempt, t has called, the network is another
// one, t is wanted no more, or a stream is on the way. That t's goroutine was woken is not enough: the end of the attempt
// that has just failed wakes it too.
func (c *connector) stirred(t *target) bool {
	if c.links.holds(t.id) {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(t.reasons) == 0 || len(t.waiters) > 0 || t.redial.fails+t.redial.short == 0
}

// watch waits until the stream with t has ended. False means that t is wanted no more, or c is closing.
func (c *connector) watch(ctx context.Context, t *target) bool {
	for c.links.holds(t.id) {
		c.mu.Lock()
		wanted := len(t.reasons) > 0
		c.mu.Unlock()
		if !wanted || ctx.Err() != nil {
			return false
		}
		c.answer(t, nil)
		pause(ctx, redialMax, t.wake)
	}
	return true
}

// wanted tells whether t is to be kept, and takes it out of the books if not.
func (c *connector) wanted(t *target) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, forever := t.reasons[reason{kind: byConfig}]
	if len(t.reasons) > 0 && (forever || !t.redial.hopeless()) {
		return true
	}
	delete(c.targets, t.id)
	c.turn()
	return false
}

// attempt connects to t and waits until a stream with it is up.
func (c *connector) attempt(ctx context.Context, t *target) error {
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if err := c.dial(ctx, t); err != nil {
		return err
	}
	return c.links.bring(ctx, t.id)
}

// dial connects to t, unless it is connected.
func (c *connector) dial(ctx context.Context, t *target) error {
	c.mu.Lock()
	ai := peer.AddrInfo{ID: t.id, Addrs: slices.Clone(t.addrs)}
	c.mu.Unlock()
	if len(ai.Addrs) == 0 && len(c.host.Peerstore().Addrs(t.id)) == 0 && c.find != nil {
		found, err := c.find(ctx, t.id)
		if err != nil {
			return err
		}
		ai.Addrs = found.Addrs
	}
	clearBackoff(c.host, t.id)
	return c.host.Connect(ctx, ai)
}

// clearBackoff makes the host try p again at once: how often a peer is tried is decided here, and the host's own
// pauses after failures, which begin at 5 s, come on top otherwise.
func clearBackoff(h host.Host, p peer.ID) {
	if s, ok := h.Network().(*swarm.Swarm); ok {
		s.Backoff().Clear(p)
	}
}

// answer tells all who wait for t how an attempt ended.
func (c *connector) answer(t *target, err error) {
	c.mu.Lock()
	waiters := t.waiters
	t.waiters = nil
	if !t.tried {
		t.tried = true
		c.turn()
	}
	c.mu.Unlock()
	for _, w := range waiters {
		w <- err
	}
}

// turn wakes those in settle. mu is held.
func (c *connector) turn() {
	close(c.turned)
	c.turned = make(chan struct{})
}

// pause waits for d or for wake.
func pause(ctx context.Context, d time.Duration, wake <-chan struct{}) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-wake:
	}
}

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
