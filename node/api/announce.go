package api

import (
	"fmt"
	"net/http"
	"time"

	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/p2pcore/p2pcore/dht"
	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/node"
)

// announceInterval is how often the peers of a shared feed are looked at, and progress is told.
const announceInterval = 200 * time.Millisecond

// unreachedAfter is how long the network may take to be reached before somebody who serves a feed is told.
const unreachedAfter = 5 * time.Second

// getAnnounce serves and announces a feed until the client goes away. The first event is ready, with the
// link; then progress, complete once for every peer that has all blocks, and waiting when the network is not reached:
// nobody finds the feed by its key alone then.
func (s *Server) getAnnounce(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	key, err := s.known(ctx, r.PathValue("core"))
	if err != nil {
		return err
	}
	peers, err := peerParams(r)
	if err != nil {
		return err
	}
	session, err := s.cfg.Store.Keyed(ctx, key)
	if err != nil {
		return fmt.Errorf("open %s: %w", key, err)
	}
	defer session.Close()
	reach, err := s.reach(ctx, session, dht.Announce, peers)
	if err != nil {
		return err
	}
	defer reach.close()
	out := newStream(w, r)
	_, encrypted, err := s.cfg.Store.EncryptionKey(ctx, key)
	if err != nil {
		return fmt.Errorf("open %s: %w", key, err)
	}
	shared := describeShared(reach.n, session.Info(), r.URL.Query().Get("name"), encrypted)
	if err := out.event(Event{Event: "ready", Shared: shared}); err != nil {
		return err
	}
	tick := time.NewTicker(announceInterval)
	defer tick.Stop()
	complete := make(map[string]bool)
	last, told := Event{Event: "progress"}, time.Now()
	reached, unreached := time.Now(), "" // when the network last was, and what was told of it since
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		if session.Closed() {
			return out.fail(r, feed.ErrClosed)
		}
		switch why := s.unreached(reach.n); {
		case why == "":
			reached, unreached = time.Now(), ""
		case why != unreached && time.Since(reached) >= unreachedAfter:
			unreached = why
			if err := out.event(Event{Event: "waiting", Reason: "no-network", Message: why}); err != nil {
				return err
			}
		}
		now := Event{Event: "progress", Total: shared.Length}
		peers := reach.n.FeedPeers(key)
		now.Peers = len(peers)
		// One that has got everything may be gone already.
		for _, p := range append(peers, reach.n.FeedDeparted(key)...) {
			now.Done = max(now.Done, min(p.RemoteContiguous, shared.Length))
			if p.Synced && p.RemoteContiguous >= shared.Length && !complete[p.Name] {
				complete[p.Name] = true
				if err := out.event(Event{Event: "complete", Peer: p.Name, Length: shared.Length}); err != nil {
					return err
				}
			}
		}
		now.Bytes = reach.n.FeedStats(key).BytesSent
		if now.Bytes > last.Bytes {
			now.Rate = float64(now.Bytes-last.Bytes) / time.Since(told).Seconds()
		}
		if now == last {
			continue
		}
		last, told = now, time.Now()
		if err := out.event(now); err != nil {
			return err
		}
	}
}

// describeShared makes the link of a feed that n serves.
func describeShared(n *node.Node, info feed.Info, name string, encrypted bool) *Shared {
	link := Link{Key: info.Key, Name: name, Encrypted: encrypted}
	if info.Writable { // else nobody here knows how long it is
		link.Length = &info.Length
	}
	for _, a := range linkAddrs(n.Addrs()) {
		link.Peers = append(link.Peers, a.String())
	}
	return &Shared{
		Link:         link.String(),
		Key:          info.Key.Hex(),
		ID:           info.Key.String(),
		DiscoveryKey: info.Key.DiscoveryKey().String(),
		Name:         name,
		Length:       info.Length,
		ByteLength:   info.ByteLength,
		Addrs:        addrStrings(n),
		PeerID:       n.Host().ID().String(),
	}
}

// maxLinkAddrs keeps a link short enough to be sent around.
const maxLinkAddrs = 8

// linkAddrs chooses the addresses that help somebody else: loopback only if there is nothing else, and none
// that is valid on one link only.
func linkAddrs(addrs []ma.Multiaddr) []ma.Multiaddr {
	var far, near []ma.Multiaddr
	for _, a := range addrs {
		ip, err := manet.ToIP(a)
		switch {
		case err == nil && ip.IsLoopback():
			near = append(near, a)
		case err == nil && ip.IsLinkLocalUnicast():
		default:
			far = append(far, a)
		}
	}
	if len(far) == 0 {
		far = near
	}
	return far[:min(len(far), maxLinkAddrs)]
}
