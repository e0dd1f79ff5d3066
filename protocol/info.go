package protocol

import (
	"slices"

	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/internal/replica"
)

// PeerInfo is what is known of one peer of a feed: one channel on one connection.
type PeerInfo struct {
	Name      string // Config.Peer of the connection
	Initiator bool   // this side opened the stream

	Synced           bool // the remote has told its head; the next fields mean nothing before
	RemoteFork       uint64
	RemoteLength     uint64 // in blocks
	RemoteContiguous uint64 // blocks it has told to hold without a gap from block 0, one by one or at once
	Uploading        bool   // it serves
	Downloading      bool   // it wants the feed
	AllowsPush       bool   // it may be sent blocks that it did not ask for

	Inflight, Window           int // our requests that wait for an answer, and how many may
	Queued                     int // its requests that wait for one
	BlocksReceived, BlocksSent uint64
	BytesReceived, BytesSent   uint64 // of these blocks
}

// Stats counts what has gone over all channels of an exchange since NewExchange.
type Stats struct {
	Peers           int    // open channels
	Wants           int    // calls of the feed that wait for something
	Inflight        int    // requests sent and not answered, or being applied
	InflightBytes   int    // of the blocks that they ask for, estimated from those that came before
	BlocksReceived  uint64 // verified and stored
	BytesReceived   uint64 // of these blocks
	BlocksSent      uint64
	BytesSent       uint64 // of these blocks
	BlocksPushed    uint64 // of those sent: unasked
	PushesStored    uint64 // of those received: unasked
	Requests        uint64 // sent
	Duplicates      uint64 // requests sent for blocks that another peer owed
	Cancels         uint64 // sent
	Refused         uint64 // requests that a peer did not answer with what was asked
	Unsolicited     uint64 // answers that nobody waited for, and pushes that are not allowed
	InvalidProofs   uint64 // answers that failed verification; nothing of them was stored
	InvalidRequests uint64 // malformed requests received
	Checks          uint64 // peers that had to prove their head, after an answer that contradicted ours
	Reorgs          uint64 // times that the feed was followed to a higher fork
	Stalls          uint64 // times that the requests of a silent peer were taken back
}

// Stats returns the counters.
func (x *Exchange) Stats() Stats {
	x.turn.Lock()
	defer x.turn.Unlock()
	s := x.machine.Stats()
	return Stats{
		Peers: s.Peers, Wants: s.Wants, Inflight: s.Inflight, InflightBytes: s.InflightBytes,
		BlocksReceived: s.BlocksReceived, BytesReceived: s.BytesReceived,
		BlocksSent: s.BlocksSent, BytesSent: s.BytesSent,
		BlocksPushed: s.BlocksPushed, PushesStored: s.PushesStored,
		Requests: s.Requests, Duplicates: s.Duplicates, Cancels: s.Cancels, Refused: s.Refused, Unsolicited: s.Unsolicited,
		InvalidProofs: s.InvalidProofs, InvalidRequests: s.InvalidRequests, Checks: s.Checks, Reorgs: s.Reorgs, Stalls: s.Stalls,
	}
}

// Add adds o to s, field by field.
func (s *Stats) Add(o Stats) {
	s.Peers += o.Peers
	s.Wants += o.Wants
	s.Inflight += o.Inflight
	s.InflightBytes += o.InflightBytes
	s.Retire(o)
}

// Retire adds the counters of o, of an exchange that is closed, to s; not what o tells of the moment.
func (s *Stats) Retire(o Stats) {
	s.BlocksReceived += o.BlocksReceived
	s.BytesReceived += o.BytesReceived
	s.BlocksSent += o.BlocksSent
	s.BytesSent += o.BytesSent
	s.BlocksPushed += o.BlocksPushed
	s.PushesStored += o.PushesStored
	s.Requests += o.Requests
	s.Duplicates += o.Duplicates
	s.Cancels += o.Cancels
	s.Refused += o.Refused
	s.Unsolicited += o.Unsolicited
	s.InvalidProofs += o.InvalidProofs
	s.InvalidRequests += o.InvalidRequests
	s.Checks += o.Checks
	s.Reorgs += o.Reorgs
	s.Stalls += o.Stalls
}

// Peers returns what is known of each peer, in the order in which they were connected.
func (x *Exchange) Peers() []PeerInfo {
	x.turn.Lock()
	defer x.turn.Unlock()
	known := x.machine.Peers(make([]replica.PeerInfo, 0, len(x.channels)))
	peers := make([]PeerInfo, 0, len(known))
	for _, p := range known {
		if ch := x.channels[p.Peer]; ch != nil {
			peers = append(peers, ch.info(p))
		}
	}
	return peers
}

// RemoteContiguous returns how many blocks from 0 on, without a gap, some peer has said to hold of the feed as it is: of its
// present fork, and no more than its length. It rises with what peers announce and falls with truncations alone, so it counts
// peers that have gone, or have cleared blocks since. Nobody has proved it, and it is not stored: an exchange begins with 0.
// What the feed itself has just done, a truncation too, comes a moment later. It is Hypercore's remoteContiguousLength, which is
// stored.
func (x *Exchange) RemoteContiguous() uint64 {
	x.turn.Lock()
	defer x.turn.Unlock()
	return x.machine.RemoteContiguous()
}

// Absent returns the first run of blocks in r that are not stored here and that no connected peer has said it holds; an
// empty range if there is none, or if there are too many runs to find out.
func (x *Exchange) Absent(r feed.Range) feed.Range {
	x.turn.Lock()
	defer x.turn.Unlock()
	return x.machine.Absent(r)
}

// Departed returns what was known of the peers whose channels have closed when they did, oldest first;
// no more than the last 64. A peer that was dropped, or whose channel was closed here as nobody needed it,
// is not among them.
func (x *Exchange) Departed() []PeerInfo {
	x.turn.Lock()
	defer x.turn.Unlock()
	return slices.Clone(x.departed)
}

// remember notes the last state of a channel that closes. turn is held.
func (x *Exchange) remember(ch *channel) {
	for _, p := range x.machine.Peers(nil) {
		if p.Peer != ch.peer {
			continue
		}
		if len(x.departed) == maxDeparted {
			x.departed = slices.Delete(x.departed, 0, 1)
		}
		x.departed = append(x.departed, ch.info(p))
	}
}

func (ch *channel) info(p replica.PeerInfo) PeerInfo {
	return PeerInfo{
		Name: ch.link.conn.cfg.Peer, Initiator: ch.link.conn.cfg.Initiator,
		Synced: p.Synced, RemoteFork: p.Fork, RemoteLength: p.Length, RemoteContiguous: p.Contiguous,
		Uploading: p.Uploading, Downloading: p.Downloading, AllowsPush: p.AllowsPush,
		Inflight: p.Inflight, Window: p.Window, Queued: p.Queued,
		BlocksReceived: p.BlocksReceived, BlocksSent: p.BlocksSent,
		BytesReceived: p.BytesReceived, BytesSent: p.BytesSent,
	}
}
