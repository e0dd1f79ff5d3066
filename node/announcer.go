package node

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ipfs/go-cid"
	kaddht "github.com/libp2p/go-libp2p-kad-dht"
	"github.com/libp2p/go-libp2p-kad-dht/provider"
	mh "github.com/multiformats/go-multihash"

	"github.com/p2pcore/p2pcore/dht"
	"github.com/p2pcore/p2pcore/internal/lifecycle"
)

// announcer announces a key twice: at once, by a look-up and messages of its own, and through kad-dht's
// SweepingProvider, which repeats it for ever at a cost that hardly grows with the number of keys.
//
// The sweep alone is not enough: it is asynchronous and tells of no key when it is announced, and a
// network that was away is probed again after up to a minute. The direct announcement alone costs a
// whole look-up per key and time; it is left out while too many are under way, and then the sweep is
// what announces.
type announcer struct {
	// set in newAnnouncer
	dht   *kaddht.IpfsDHT
	log   *slog.Logger
	group *lifecycle.Group
	slots chan struct{} // capacity maxProvides: a token per direct announcement under way

	made, failed atomic.Uint64 // direct announcements

	mu     sync.Mutex // also a turn: held while the sweep is made, which does no I/O
	sweep  *provider.SweepingProvider
	closed bool
}

var _ dht.Announcer = (*announcer)(nil)

func newAnnouncer(d *kaddht.IpfsDHT, log *slog.Logger) *announcer {
	return &announcer{
		dht: d, log: log,
		group: lifecycle.NewGroup(),
		slots: make(chan struct{}, maxProvides),
	}
}

// StartProviding announces keys and waits for the direct announcement, where there is one.
func (a *announcer) StartProviding(force bool, keys ...mh.Multihash) error {
	ctx, leave, ok := a.group.Enter()
	if !ok {
		return ErrClosed
	}
	defer leave()
	direct := true
	for _, key := range keys {
		select {
		case a.slots <- struct{}{}:
		default:
			direct = false
			continue
		}
		err := a.provide(ctx, key)
		<-a.slots
		if err != nil {
			return err
		}
	}
	s, err := a.sweeper()
	if err != nil {
		return err
	}
	// The sweep keeps the keys even when it reports that it is offline, but cannot promise them then.
	if err := s.StartProviding(force && !direct, keys...); err != nil && !direct {
		return err
	}
	return nil
}

func (a *announcer) provide(ctx context.Context, key mh.Multihash) error {
	ctx, cancel := context.WithTimeout(ctx, provideTimeout)
	defer cancel()
	began := time.Now()
	err := a.dht.Provide(ctx, cid.NewCidV1(cid.Raw, key), true)
	if err == nil {
		a.made.Add(1)
	} else {
		a.failed.Add(1)
	}
	a.log.Debug("announced", "took", time.Since(began), "err", err)
	return err
}

// sweeper returns the sweep, made at the first announcement: the caller has seen a peer in the routing table,
// so its first probe of the network, which decides whether the next comes after 0.1 s or a minute,
// succeeds.
func (a *announcer) sweeper() (*provider.SweepingProvider, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil, ErrClosed
	}
	if a.sweep != nil {
		return a.sweep, nil
	}
	s, err := provider.New(
		provider.WithHost(a.dht.Host()),
		provider.WithRouter(a.dht),
		provider.WithMessageSender(a.dht.MessageSender()),
		provider.WithSelfAddrs(a.dht.FilteredAddrs),
		provider.WithReplicationFactor(a.dht.BucketSize()),
		provider.WithResumeCycle(false),
		provider.WithConnectivityCheckOnlineInterval(connectivityCheck),
	)
	if err != nil {
		return nil, err
	}
	a.sweep = s
	return s, nil
}

// StopProviding ends the repetition; records that are out expire by themselves.
func (a *announcer) StopProviding(keys ...mh.Multihash) error {
	a.mu.Lock()
	s := a.sweep
	a.mu.Unlock()
	if s == nil {
		return nil
	}
	return s.StopProviding(keys...)
}

// Close ends what is under way.
func (a *announcer) Close() error {
	a.mu.Lock()
	a.closed = true
	s := a.sweep
	a.mu.Unlock()
	var err error
	if s != nil {
		err = s.Close()
	}
	a.group.Close()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
