package dht

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/p2pcore/p2pcore/internal/lifecycle"
)

// Membership is one interest in one topic, from Join to Leave. It is safe for concurrent use.
type Membership struct {
	// set in Join
	d     *Discovery
	topic Topic
	mode  Mode
	found func(context.Context, peer.AddrInfo)
	group *lifecycle.Group
	// Each has capacity 1, is never closed, and wakes one loop.
	announceNow chan struct{}
	lookupSoon  chan struct{}
	lookupNow   chan struct{}

	mu        sync.Mutex
	waiters   []chan error // under mu; each has capacity 1 and gets one result
	announced bool         // under mu; the announcer took the topic
	err       error        // under mu; the state that Err returns
	left      bool         // under mu; no waiter is taken any more
}

func newMembership(d *Discovery, t Topic, m Mode, found func(context.Context, peer.AddrInfo)) *Membership {
	return &Membership{
		d: d, topic: t, mode: m, found: found,
		group:       d.group.Child(),
		announceNow: make(chan struct{}, 1),
		lookupSoon:  make(chan struct{}, 1),
		lookupNow:   make(chan struct{}, 1),
	}
}

func (m *Membership) start() bool {
	if m.mode&Announce != 0 && !m.group.Go(m.announceLoop) {
		return false
	}
	return m.mode&Lookup == 0 || m.group.Go(m.lookupLoop)
}

// Topic returns what was joined.
func (m *Membership) Topic() Topic { return m.topic }

// Announced tells whether the announcer has taken the topic.
func (m *Membership) Announced() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.announced
}

// Err returns the state of the membership: nil, ErrNoNetwork while the routing table is empty, or what the
// announcer last said.
func (m *Membership) Err() error {
	if err := m.d.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err
}

// Refresh performs one complete look-up that begins after the call, and returns when it has ended and
// every peer that it found has been handed to the found function.
//
// The error is ErrNoNetwork if the routing table was empty, ErrClosed after Leave, or wraps ctx's. Without
// the Lookup mode it returns Err.
func (m *Membership) Refresh(ctx context.Context) error {
	if m.mode&Lookup == 0 {
		return m.Err()
	}
	done := make(chan error, 1)
	m.mu.Lock()
	if m.left {
		m.mu.Unlock()
		return ErrClosed
	}
	m.waiters = append(m.waiters, done)
	m.mu.Unlock()
	signal(m.lookupNow)
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-m.group.Context().Done():
		return ErrClosed
	}
}

// Leave stops announcing and looking up, and waits until found is no longer called. The last
// membership that announces a topic withdraws it from the announcer. Leave may be called twice; it must
// not be called from found.
func (m *Membership) Leave() {
	m.mu.Lock()
	m.left = true
	m.mu.Unlock()
	m.group.Close()
	if m.d.forget(m) {
		if err := m.d.announcer.StopProviding(m.topic.Multihash()); err != nil {
			m.d.log.Debug("stop announcing", "topic", m.topic, "err", err)
		}
	}
}

// poke wakes both loops: the network changed.
func (m *Membership) poke() {
	signal(m.announceNow)
	signal(m.lookupSoon)
}

// announceLoop hands the topic to the announcer until it is taken, and again when the network changed.
func (m *Membership) announceLoop(ctx context.Context) {
	key := m.topic.Multihash()
	wait, again := m.d.opts.MinWait, false
	for {
		err := m.d.Err()
		if err == nil {
			err = m.d.announcer.StartProviding(again, key)
		}
		m.mu.Lock()
		m.announced, m.err = err == nil, err
		m.mu.Unlock()

		if err == nil {
			again, wait = true, m.d.opts.MinWait
			select {
			case <-ctx.Done():
				return
			case <-m.announceNow:
			}
			continue
		}
		m.d.log.Debug("announce", "topic", m.topic, "err", err)
		m.d.watch()
		if m.pause(ctx, jitter(wait), m.announceNow, nil) == ended {
			return
		}
		wait = min(2*wait, m.d.opts.Interval)
	}
}

// lookupLoop looks the topic up, soon again after an empty answer or a change of the network, at leisure after
// a full one, and at once when a Refresh asks for it.
func (m *Membership) lookupLoop(ctx context.Context) {
	defer m.answer(ErrClosed)
	wait := m.d.opts.MinWait
	for {
		drain(m.lookupNow)
		drain(m.lookupSoon)
		waiters := m.takeWaiters()
		n, err := m.lookup(ctx)
		reply(waiters, err)
		switch {
		case err != nil:
			m.d.watch()
		case n > 0:
			wait = max(wait, m.d.opts.Interval/8)
		}
		pause := jitter(wait)
		wait = min(2*wait, m.d.opts.Interval)

		switch m.pause(ctx, pause, m.lookupSoon, m.lookupNow) {
		case ended:
			return
		case changed:
			wait = m.d.opts.MinWait
		case due:
		}
	}
}

// lookup performs one complete look-up and returns how many peers other than us it found.
func (m *Membership) lookup(ctx context.Context) (n int, err error) {
	if err := m.d.Err(); err != nil {
		return 0, err
	}
	// The channel is read to its end, which comes when ctx ends, so that the finder's goroutine never hangs.
	for p := range m.d.finder.FindProvidersAsync(ctx, m.topic.CID(), 0) {
		if p.ID == m.d.opts.Self || ctx.Err() != nil {
			continue
		}
		n++
		m.found(ctx, p)
	}
	m.d.log.Debug("looked up", "topic", m.topic, "found", n)
	return n, ctx.Err()
}

type wake int

const (
	due wake = iota
	changed
	ended
)

// pause waits for d, for soon (the network changed) or for now (a Refresh).
func (m *Membership) pause(ctx context.Context, d time.Duration, soon, now <-chan struct{}) wake {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ended
	case <-timer.C:
		return due
	case <-now:
		return due
	case <-soon:
		return changed
	}
}

func (m *Membership) takeWaiters() []chan error {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := m.waiters
	m.waiters = nil
	return w
}

func (m *Membership) answer(err error) { reply(m.takeWaiters(), err) }

func reply(waiters []chan error, err error) {
	for _, w := range waiters {
		w <- err
	}
}

// jitter spreads d over [3d/4, 5d/4), so that nodes that started together do not ask together.
func jitter(d time.Duration) time.Duration {
	return d*3/4 + rand.N(d/2+1)
}

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func drain(c <-chan struct{}) {
	select {
	case <-c:
	default:
	}
}
