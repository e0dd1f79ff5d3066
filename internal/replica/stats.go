package replica

// Stats counts what has gone over all channels of the feed since New.
type Stats struct {
	Peers           int    // open channels
	Wants           int    // tickets not resolved
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
	Refused         uint64 // noData received, and answers that did not fit their request
	Unsolicited     uint64 // answers that nobody waited for, and pushes that are not allowed
	InvalidProofs   uint64 // answers that failed verification
	InvalidRequests uint64 // malformed requests received
	Checks          uint64 // conflict checks begun
	Reorgs          uint64 // forks followed
	Stalls          uint64 // times that a silent peer's requests were taken back
	ExtensionsLost  uint64 // outgoing, for want of credit
}

// Stats returns the counters.
func (m *Machine) Stats() Stats {
	s := m.stats
	s.Peers, s.Wants, s.Inflight, s.InflightBytes = len(m.order), len(m.tickets), m.inflight, m.inflightBytes
	return s
}

// PeerInfo is what the machine knows of one peer.
type PeerInfo struct {
	Peer                       PeerID
	Synced                     bool // its first sync has arrived; the next five fields mean nothing before
	Fork, Length               uint64
	Uploading, Downloading     bool
	AllowsPush                 bool
	Contiguous                 uint64 // blocks it is known to hold without a gap from 0
	Inflight, Window           int    // our requests
	Queued                     int    // its requests that wait for an answer
	Held                       int    // bytes of the answers that wait for credit
	BlocksReceived, BlocksSent uint64
	BytesReceived, BytesSent   uint64
}

// Peers appends what is known of each peer to dst, in the order in which they were opened.
func (m *Machine) Peers(dst []PeerInfo) []PeerInfo {
	for _, p := range m.order {
		dst = append(dst, PeerInfo{
			Peer: p.id, Synced: p.synced, Fork: p.fork, Length: p.length, Contiguous: p.known.end(0),
			Uploading: p.uploading, Downloading: p.downloading, AllowsPush: p.allowsPush,
			Inflight: p.inflight, Window: m.window(p), Queued: len(p.served), Held: p.heldBytes,
			BlocksReceived: p.blocksReceived, BytesReceived: p.bytesReceived,
			BlocksSent: p.blocksSent, BytesSent: p.bytesSent,
		})
	}
	return dst
}
