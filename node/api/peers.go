package api

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/node"
	"github.com/p2pcore/p2pcore/protocol"
)

const (
	sampleInterval = 2 * time.Second
	// maxPeerCores bounds the shared feeds that are listed of one peer; the sums count all.
	maxPeerCores = 1000
)

// PeerEntry is one connected peer, as p2pcore peers prints it.
type PeerEntry struct {
	PeerID        string     `json:"peerID"` // of raw TCP, which proves no name: tcp:HOST:PORT
	Addr          string     `json:"addr"`
	Transport     string     `json:"transport"` // "quic-v1", "tcp", "relay", "raw-tcp", …
	Direction     string     `json:"direction"` // "in": the peer dialled; "out"
	Agent         string     `json:"agent"`
	RTT           float64    `json:"rttMs"` // 0: unknown
	Limited       bool       `json:"limited"`
	Replicating   bool       `json:"replicating"`
	Protocol      string     `json:"protocol"`
	Since         *time.Time `json:"since,omitempty"` // of the replication stream
	BytesReceived uint64     `json:"bytesReceived"`
	BytesSent     uint64     `json:"bytesSent"`
	RateIn        float64    `json:"rateIn"` // bytes per second
	RateOut       float64    `json:"rateOut"`
	Shared        int        `json:"shared"` // feeds
	WeNeed        uint64     `json:"weNeed"` // blocks that it has and we lack, of what both share
	TheyNeed      uint64     `json:"theyNeed"`
	Cores         []PeerCore `json:"cores"`
}

// PeerCore is a feed that a peer shares with us. What one needs of the other is counted in blocks, as far as the other
// has told of them without a gap.
type PeerCore struct {
	ID             string `json:"id"`
	Synced         bool   `json:"synced"` // it has told its head
	Fork           uint64 `json:"fork"`
	Length         uint64 `json:"length"`
	Contiguous     uint64 `json:"contiguous"`
	WeNeed         uint64 `json:"weNeed"`
	TheyNeed       uint64 `json:"theyNeed"`
	BlocksReceived uint64 `json:"blocksReceived"`
	BlocksSent     uint64 `json:"blocksSent"`
}

// getPeers lists the connected peers, or with core those that share that feed.
func (s *Server) getPeers(w http.ResponseWriter, r *http.Request) error {
	var only *feed.Key
	if text := r.URL.Query().Get("core"); text != "" {
		key, err := s.known(r.Context(), text)
		if err != nil {
			return err
		}
		only = &key
	}
	peers := []PeerEntry{}
	if n := s.running(); n != nil {
		peers = s.peerEntries(n, only)
	}
	return writeJSON(w, http.StatusOK, peers)
}

// peerEntries describes the peers of n, those of one feed alone unless it is nil.
func (s *Server) peerEntries(n *node.Node, only *feed.Key) []PeerEntry {
	known := make(map[string]*PeerEntry)
	for _, p := range n.Peers() {
		known[p.ID.String()] = describePeer(p, &s.rates)
	}
	for _, f := range n.Feeds() {
		if only != nil && f.Info.Key != *only {
			continue
		}
		for _, p := range f.Peers {
			e := known[p.Name]
			if e == nil && strings.HasPrefix(p.Name, "tcp:") {
				e = &PeerEntry{
					PeerID: p.Name, Addr: strings.TrimPrefix(p.Name, "tcp:"), Transport: "raw-tcp",
					Direction: direction(!p.Initiator), Replicating: true, Cores: []PeerCore{},
				}
				known[p.Name] = e
			}
			if e != nil {
				e.add(f, p)
			}
		}
	}
	peers := make([]PeerEntry, 0, len(known))
	for _, e := range known {
		if only == nil || e.Shared > 0 {
			slices.SortFunc(e.Cores, func(a, b PeerCore) int { return cmp.Compare(a.ID, b.ID) })
			peers = append(peers, *e)
		}
	}
	slices.SortFunc(peers, func(a, b PeerEntry) int { return cmp.Compare(a.PeerID, b.PeerID) })
	return peers
}

func describePeer(p node.PeerInfo, rates *rates) *PeerEntry {
	e := &PeerEntry{
		PeerID: p.ID.String(), Addr: p.Addr.String(), Transport: p.Transport, Direction: direction(p.Inbound), Agent: p.Agent,
		RTT: float64(p.RTT.Microseconds()) / 1000, Limited: p.Limited, Replicating: p.Replicating, Protocol: string(p.Protocol),
		BytesReceived: p.BytesReceived, BytesSent: p.BytesSent, Cores: []PeerCore{},
	}
	if p.Replicating {
		since := p.Since.UTC().Truncate(time.Second)
		e.Since = &since
		e.RateIn, e.RateOut = rates.peer(p)
	}
	return e
}

func direction(inbound bool) string {
	if inbound {
		return "in"
	}
	return "out"
}

// add counts a feed that the peer shares.
func (e *PeerEntry) add(f node.FeedState, p protocol.PeerInfo) {
	c := PeerCore{
		ID: f.Info.Key.String(), Synced: p.Synced, Fork: p.RemoteFork, Length: p.RemoteLength, Contiguous: p.RemoteContiguous,
		BlocksReceived: p.BlocksReceived, BlocksSent: p.BlocksSent,
	}
	if p.Synced && p.RemoteFork == f.Info.Fork {
		// What we hold past our contiguous part may lie anywhere; it counts as the first of what the peer has.
		if have := min(f.Info.LocalBlocks, p.RemoteContiguous); f.Active && p.RemoteContiguous > f.Info.ContiguousLength {
			c.WeNeed = p.RemoteContiguous - have
		}
		ours := f.Info.ContiguousLength
		if f.Info.LocalBlocks == f.Info.Length {
			ours = f.Info.Length
		}
		if p.Downloading && ours > p.RemoteContiguous {
			c.TheyNeed = ours - p.RemoteContiguous
		}
	}
	e.Shared++
	e.WeNeed += c.WeNeed
	e.TheyNeed += c.TheyNeed
	if len(e.Cores) < maxPeerCores {
		e.Cores = append(e.Cores, c)
	}
}

// rates knows what had gone over a node's streams a moment ago.
type rates struct {
	mu       sync.Mutex
	old, new traffic // under mu
}

// traffic is the bytes of blocks, and of streams, at one moment.
type traffic struct {
	at      time.Time
	in, out uint64
	peers   map[peer.ID][2]uint64
}

// sample looks at n again and again until ctx ends.
func (r *rates) sample(ctx context.Context, n *node.Node) {
	for {
		f := n.Figures().Replication
		t := traffic{at: time.Now(), in: f.BytesReceived, out: f.BytesSent, peers: make(map[peer.ID][2]uint64)}
		for _, p := range n.Peers() {
			if p.Replicating {
				t.peers[p.ID] = [2]uint64{p.BytesReceived, p.BytesSent}
			}
		}
		r.mu.Lock()
		r.old, r.new = r.new, t
		r.mu.Unlock()
		if !sleep(ctx, sampleInterval) {
			return
		}
	}
}

// base returns the older sample, and how many seconds ago it was; 0 if there is none.
func (r *rates) base() (traffic, float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.old
	if t.at.IsZero() {
		t = r.new
	}
	if t.at.IsZero() {
		return t, 0
	}
	return t, time.Since(t.at).Seconds()
}

// peer returns the bytes per second over p's stream.
func (r *rates) peer(p node.PeerInfo) (in, out float64) {
	t, seconds := r.base()
	was := t.peers[p.ID]
	return rate(p.BytesReceived, was[0], seconds), rate(p.BytesSent, was[1], seconds)
}

// node returns the bytes of blocks per second that all feeds exchange.
func (r *rates) node(f node.Figures) (in, out float64) {
	t, seconds := r.base()
	return rate(f.Replication.BytesReceived, t.in, seconds), rate(f.Replication.BytesSent, t.out, seconds)
}

// rate is 0 where a new stream has begun to count at zero.
func rate(now, was uint64, seconds float64) float64 {
	if now < was || seconds <= 0 {
		return 0
	}
	return float64(int64(float64(now-was) / seconds))
}
