package node

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	kaddht "github.com/libp2p/go-libp2p-kad-dht"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/p2pcore/p2pcore/corestore"
	"github.com/p2pcore/p2pcore/dht"
	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/internal/lifecycle"
	hyper "github.com/p2pcore/p2pcore/protocol"
)

// The libp2p stream protocols that carry replication.
const (
	// ProtocolPlain is spoken between nodes of this program: libp2p's own encryption is the only one.
	ProtocolPlain protocol.ID = "/hypercore/plain/1.0.0"
	// ProtocolNoise is for JavaScript peers: the stream holds the bytes of corestore.replicate, their Noise
	// handshake included, whose initiator is the opener of the stream.
	ProtocolNoise protocol.ID = "/hypercore/noise/1.0.0"
)

var streamProtocols = []protocol.ID{ProtocolPlain, ProtocolNoise}

var (
	// ErrClosed is returned by what is called after Close.
	ErrClosed = errors.New("node: closed")
	// ErrNoDHT says that the node has no DHT (NetworkNone), so nothing can be looked up.
	ErrNoDHT = errors.New("node: no DHT is configured")
	// ErrNotJoined says that a feed is not being looked up.
	ErrNotJoined = errors.New("node: the feed is not joined for look-up")
	// ErrServed says that the application's host already serves one of our stream protocols.
	ErrServed = errors.New("node: the host already serves " + string(ProtocolPlain) + " or " + string(ProtocolNoise))
)

// bootKey is where the store remembers when the node last started.
const bootKey = "node/boot"

// Node owns a host, or shares the application's, and replicates a store's feeds over it. It is safe for
// concurrent use.
type Node struct {
	// set in New
	cfg        config
	host       host.Host
	log        *slog.Logger
	group      *lifecycle.Group
	links      *links
	connector  *connector
	replicator *Replicator
	entrance   *entrance
	raw        *raw
	kad        *kaddht.IpfsDHT // nil without a DHT, as are the next two
	announcer  *announcer
	discovery  *dht.Discovery
	mdns       io.Closer // nil if it does not run
	closeOnce  func() error

	reachability atomic.Int32 // network.Reachability

	mu      sync.Mutex
	members map[feed.DiscoveryKey]*membership // under mu

	protect sync.Mutex // a turn: held while the connection manager is told of a peer
}

// membership is what discovery does for one feed. The replicator's listen functions, which come one at a time
// for each feed, are its only writer.
type membership struct {
	announce, lookup *dht.Membership // nil or joined
	since            time.Time       // when announce was joined
}

// New makes a node for store and starts it: it listens, serves what the store holds to peers that know the
// key, and enters its network. New does not wait for the outside; NetworkErr tells the state.
//
// The store stays the caller's and must be closed after the node. The error is ErrServed, names an
// option, or is libp2p's, such as that of an address in use.
func New(store *corestore.Store, opts ...Option) (*Node, error) {
	c, err := resolve(opts)
	if err != nil {
		return nil, err
	}
	n := &Node{
		cfg: c, log: c.log, host: c.host,
		group:   lifecycle.NewGroup(),
		members: make(map[feed.DiscoveryKey]*membership),
	}
	n.closeOnce = sync.OnceValue(n.close)
	n.entrance = newEntrance(&n.cfg)
	if err := n.start(store); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

func (n *Node) start(store *corestore.Store) error {
	boot, err := nextBoot(n.group.Context(), store)
	if err != nil {
		return err
	}
	if n.host == nil {
		if n.host, err = newHost(&n.cfg, n.entrance.relays); err != nil {
			return fmt.Errorf("node: start host: %w", err)
		}
	} else if slices.ContainsFunc(n.host.Mux().Protocols(), func(id protocol.ID) bool { return slices.Contains(streamProtocols, id) }) {
		n.host = nil // not ours to touch
		return ErrServed
	}

	if n.cfg.handshakeDefault {
		key := store.DefaultKey()
		n.cfg.handshakeKey = &key
	}
	n.links = newLinks(n.host, n.group, boot, n.log)
	n.links.serve = n.serve
	n.links.changed = n.linkChanged
	n.connector = newConnector(n.host, n.links, n.group, n.log)
	n.links.judge = n.connector.judge
	n.connector.near = func(p peer.ID) bool {
		if n.host.Network().Connectedness(p) != network.Connected {
			return false
		}
		spoken, err := n.host.Peerstore().SupportsProtocols(p, streamProtocols...)
		return err == nil && len(spoken) > 0
	}
	n.replicator = NewReplicator(store, ReplicatorOptions{
		OnListen:     n.listen,
		OnUnlisten:   func(dk feed.DiscoveryKey) { n.listen(dk, 0) },
		Name:         n.host.ID().String(),
		HandshakeKey: n.cfg.handshakeKey,
		Discreet:     n.cfg.discreet,
		Announce:     n.cfg.announce,
		later:        true,
		quiet:        true,
		Logger:       n.log,
	})
	n.links.refused = func() { n.replicator.decided.refused.Add(1) }
	if n.cfg.network != NetworkNone {
		if err := n.startDHT(); err != nil {
			return err
		}
	}
	if err := n.startEvents(); err != nil {
		return err
	}
	for _, id := range streamProtocols {
		n.host.SetStreamHandler(id, n.links.inbound)
	}
	if n.cfg.mdns {
		n.startMDNS()
	}
	n.group.Go(n.replicator.announceGroup)
	return n.startTCP()
}

// startDHT joins the network's DHT.
func (n *Node) startDHT() (err error) {
	if n.kad, err = newDHT(&n.cfg, n.host, n.entrance.list); err != nil {
		return fmt.Errorf("node: start DHT: %w", err)
	}
	n.entrance.host, n.entrance.dht = n.host, n.kad
	n.connector.find = n.kad.FindPeer
	n.announcer = newAnnouncer(n.kad, n.log)
	n.discovery = dht.New(n.announcer, n.kad, dht.Options{
		Self:      n.host.ID(),
		TableSize: n.kad.RoutingTable().Size,
		Logger:    n.log,
	})
	n.group.Go(func(ctx context.Context) { n.entrance.run(ctx, n.group) })
	return nil
}

// nextBoot returns the boot half of this start's stamps: the time in milliseconds, and more than at the last
// start that the store remembers, also when the clock was set back. A store that cannot be written, as on a full disk, is
// served all the same, and remembers nothing.
func nextBoot(ctx context.Context, store *corestore.Store) (uint64, error) {
	boot := uint64(time.Now().UnixMilli())
	last, err := store.Value(ctx, bootKey)
	if err != nil {
		return 0, fmt.Errorf("node: read start time: %w", err)
	}
	if len(last) == 8 {
		boot = max(boot, binary.BigEndian.Uint64(last)+1)
	}
	err = store.SetValue(ctx, bootKey, binary.BigEndian.AppendUint64(nil, boot))
	if err != nil && !errors.Is(err, corestore.ErrReadOnly) && !errors.Is(err, feed.ErrNoSpace) {
		return 0, fmt.Errorf("node: remember start time: %w", err)
	}
	return boot, nil
}

// serve replicates over a stream that the one-stream rule decided for.
func (n *Node) serve(ctx context.Context, l *link, s network.Stream, t talk) error {
	return n.replicator.HandleConnection(ctx, s, Conversation{
		Peer:         l.peer.String(),
		Initiator:    l.outbound,
		Binding:      t.binding,
		Flags:        t.flags,
		Noise:        t.noise,
		DiscoveryKey: n.purpose(l),
		Known:        n.connector.named(l.peer),
		OnStart: func(c *hyper.Conn) {
			n.links.attached(l, c)
			if n.cfg.discreet {
				for _, dk := range n.connector.foundFor(l.peer) {
					n.replicator.found(l.peer.String(), dk)
				}
			}
		},
	})
}

// purpose returns the discovery key for which l was opened, or nil. Whom the operator has named is dialled for the
// group's door, if it has one.
func (n *Node) purpose(l *link) *feed.DiscoveryKey {
	if !l.outbound {
		return nil
	}
	return n.connector.purpose(l.peer, n.doorKey())
}

// doorKey returns the discovery key of the group's door, or nil.
func (n *Node) doorKey() *feed.DiscoveryKey {
	if n.cfg.handshakeKey == nil {
		return nil
	}
	dk := n.cfg.handshakeKey.DiscoveryKey()
	return &dk
}

// linkChanged is told that a stream with p is up or has ended.
func (n *Node) linkChanged(p peer.ID) {
	n.protect.Lock()
	conns := n.host.ConnManager()
	if n.links.live(p) {
		conns.Protect(p, serviceName)
		conns.TagPeer(p, serviceName, peerTag)
	} else {
		conns.Unprotect(p, serviceName)
		conns.UntagPeer(p, serviceName)
	}
	n.protect.Unlock()
	n.connector.poke(p)
}

// Join announces the feed of key, looks for peers that have it, or both, until leave is called, which may be done
// twice. Peers that are found are dialled. Joining starts nothing on the feed itself: open it for
// that. Without a DHT Join succeeds and finds nobody; with peers of the local network and those of Connect all
// feeds are shared that both sides have, joined or not.
//
// The error is ErrClosed, or says that the mode is none.
func (n *Node) Join(key feed.Key, m dht.Mode) (leave func(), err error) {
	if m&(dht.Announce|dht.Lookup) == 0 || m&^(dht.Announce|dht.Lookup) != 0 {
		return nil, fmt.Errorf("node: join: mode %d is neither Announce nor Lookup", m)
	}
	_, done, ok := n.group.Enter()
	if !ok {
		return nil, ErrClosed
	}
	defer done()
	dk := key.DiscoveryKey()
	leave = n.replicator.Listen(dk, m)
	n.replicator.settle(dk)
	return leave, nil
}

// listen is the only driver of dht: it brings the memberships of dk to mode m.
func (n *Node) listen(dk feed.DiscoveryKey, m dht.Mode) {
	if n.discovery == nil {
		return
	}
	topic := dht.Topic(dk)
	n.mu.Lock()
	old := n.members[dk]
	if old == nil {
		old = new(membership)
	}
	n.mu.Unlock()
	now := *old
	adjust := func(member **dht.Membership, bit dht.Mode, found func(context.Context, peer.AddrInfo)) {
		switch {
		case m&bit != 0 && *member == nil:
			joined, err := n.discovery.Join(topic, bit, found)
			if err != nil {
				n.log.Debug("topic not joined", "topic", topic, "err", err)
				return
			}
			*member = joined
			if bit == dht.Announce {
				now.since = time.Now()
			}
		case m&bit == 0 && *member != nil:
			(*member).Leave()
			*member = nil
		}
	}
	why := reason{kind: byTopic, topic: topic}
	adjust(&now.announce, dht.Announce, nil)
	adjust(&now.lookup, dht.Lookup, func(_ context.Context, p peer.AddrInfo) {
		n.connector.want(p, why)
		if n.cfg.discreet {
			n.replicator.found(p.ID.String(), dk)
		}
	})

	n.mu.Lock()
	if m == 0 {
		delete(n.members, dk)
	} else {
		n.members[dk] = &now
	}
	n.mu.Unlock()
	switch {
	case now.lookup == nil && old.lookup != nil:
		n.connector.unwantAll(why)
		n.replicator.setFinding(dk, false)
	case now.lookup != nil && old.lookup == nil:
		n.replicator.setFinding(dk, true)
		n.group.Go(func(ctx context.Context) { n.firstLook(ctx, dk, now.lookup) })
	}
}

// firstLook tells the feed's exchange that peers are still being looked for, until the first look-up is through and
// those it found have been dialled: till then, that nobody has the feed is not known.
func (n *Node) firstLook(ctx context.Context, dk feed.DiscoveryKey, m *dht.Membership) {
	for {
		err := m.Refresh(ctx)
		if err == nil {
			err = n.connector.settle(ctx, reason{kind: byTopic, topic: m.Topic()})
		}
		if !errors.Is(err, dht.ErrNoNetwork) {
			break
		}
		pause(ctx, redialMin, nil)
	}
	n.mu.Lock()
	current := n.members[dk]
	n.mu.Unlock()
	if current != nil && current.lookup == m {
		n.replicator.setFinding(dk, false)
	}
}

// Announced tells whether key's announcement has been handed to a DHT that has peers.
func (n *Node) Announced(key feed.Key) bool {
	n.mu.Lock()
	m := n.members[key.DiscoveryKey()]
	n.mu.Unlock()
	return m != nil && m.announce != nil && m.announce.Announced()
}

// Refresh performs one complete look-up of key now, and returns when all peers that it found are connected or have
// been tried once.
//
// The error is ErrNoDHT, ErrNotJoined, dht.ErrNoNetwork, ErrClosed, or wraps ctx's.
func (n *Node) Refresh(ctx context.Context, key feed.Key) error {
	if n.discovery == nil {
		return ErrNoDHT
	}
	m := n.lookedUp(key)
	if m == nil {
		return ErrNotJoined
	}
	if err := m.Refresh(ctx); err != nil {
		return err
	}
	return n.connector.settle(ctx, reason{kind: byTopic, topic: m.Topic()})
}

// lookedUp returns the membership that looks key up, or nil.
func (n *Node) lookedUp(key feed.Key) *dht.Membership {
	n.mu.Lock()
	defer n.mu.Unlock()
	if m := n.members[key.DiscoveryKey()]; m != nil {
		return m.lookup
	}
	return nil
}

// Connect dials p and waits until a replication stream with it is up; one that is up already will do. From then on
// the node comes back to p when the stream is lost, until several attempts in a row have failed.
//
// The error is that of one attempt: ErrNotSpoken, ErrLimited, ErrClosed, libp2p's, or it wraps ctx's.
func (n *Node) Connect(ctx context.Context, p peer.AddrInfo) error {
	_, done, ok := n.group.Enter()
	if !ok {
		return ErrClosed
	}
	defer done()
	return n.connector.connect(ctx, p)
}

// AddPeer keeps a replication stream with p, however often it fails, until remove is called; what is connected then
// stays so. A peer that was added several times has to be removed as often. It does not block.
//
// The pause after a failed attempt doubles from a quarter of a second to a minute; to four seconds if the peer was there in the
// last ten minutes. It begins anew when a stream has been up, when the peer connects to us, and when our addresses change.
func (n *Node) AddPeer(p peer.AddrInfo) (remove func()) {
	why := reason{kind: byConfig}
	if !n.connector.want(p, why) {
		return func() {}
	}
	return sync.OnceFunc(func() { n.connector.unwant(p.ID, why) })
}

// AddBootstrap adds peers by which the node enters its network. It does not block.
func (n *Node) AddBootstrap(peers ...peer.AddrInfo) { n.entrance.add(peers) }

// Host returns the node's libp2p host.
func (n *Node) Host() host.Host { return n.host }

// Replicator returns what replicates the store's feeds, for streams that are not libp2p's.
func (n *Node) Replicator() *Replicator { return n.replicator }

// Network returns the name of the network that the node is part of.
func (n *Node) Network() string { return n.cfg.network }

// NetworkErr returns nil, dht.ErrNoNetwork while the routing table is empty, or ErrNoDHT.
func (n *Node) NetworkErr() error {
	if n.discovery == nil {
		return ErrNoDHT
	}
	return n.discovery.Err()
}

// Close ends all streams and loops, and the host if it is the node's own. Peers cannot hold it up. It may be
// called twice.
func (n *Node) Close() error { return n.closeOnce() }

func (n *Node) close() error {
	own := n.cfg.host == nil
	if n.host != nil && n.links != nil {
		for _, id := range streamProtocols {
			n.host.RemoveStreamHandler(id)
		}
	}
	if n.links != nil {
		n.links.refuse()
	}
	var errs []error
	if n.mdns != nil {
		errs = append(errs, n.mdns.Close())
	}
	if n.discovery != nil {
		errs = append(errs, n.discovery.Close())
	}
	if n.announcer != nil {
		errs = append(errs, n.announcer.Close())
	}
	if n.replicator != nil {
		errs = append(errs, n.replicator.Close())
	}
	if n.links != nil {
		n.links.close()
	}
	n.group.Close()
	if n.kad != nil {
		mode := n.kad.Mode()
		errs = append(errs, n.kad.Close())
		if mode != kaddht.ModeClient {
			n.host.RemoveStreamHandler(n.cfg.kadProtocol()) // kad-dht leaves it
		}
	}
	if own && n.host != nil {
		errs = append(errs, n.host.Close())
	}
	return errors.Join(errs...)
}
