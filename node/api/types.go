package api

import "github.com/p2pcore/p2pcore/feed"

// CoreInfo describes one feed of the store, as ls, info and create print it.
type CoreInfo struct {
	Key              string `json:"key"` // hexadecimal
	ID               string `json:"id"`  // z-base-32
	DiscoveryKey     string `json:"discoveryKey"`
	Name             string `json:"name"`
	Namespace        string `json:"namespace"`
	Default          bool   `json:"default"`
	Length           uint64 `json:"length"`     // blocks
	ByteLength       uint64 `json:"byteLength"` // bytes of all of them, stored here or not
	Fork             uint64 `json:"fork"`
	ContiguousLength uint64 `json:"contiguousLength"` // blocks stored here without a gap from the first
	LocalBlocks      uint64 `json:"localBlocks"`      // blocks stored here
	RemoteLength     uint64 `json:"remoteLength"`     // the longest that a connected peer tells of, or ours
	Writable         bool   `json:"writable"`
	Encrypted        bool   `json:"encrypted"`
	Announced        bool   `json:"announced"`            // in the DHT, now
	Seeding          bool   `json:"seeding"`              // the store is told to seed it: a daemon does
	Peers            int    `json:"peers"`                // that share this feed with us now
	DiskBytes        uint64 `json:"diskBytes"`            // taken in the store
	Announcing       string `json:"announcing,omitempty"` // which feeds the node that runs announces: chosen, default or all
	Removed          bool   `json:"removed,omitempty"`    // it has left the group; what uses it brings it back
	NoNetwork        string `json:"noNetwork,omitempty"`  // why the DHT of the node that runs is not reached
}

// NewCore is the body of POST /v1/cores: all fields empty for a new feed with a fresh key pair; Name for a new
// feed of that name; Key for somebody's feed, that is fetched when asked for. A new feed is encrypted if Encrypt is
// set, with EncryptionKey or else the key that belongs to the feed in this store.
type NewCore struct {
	Name          string `json:"name,omitempty"`
	Key           string `json:"key,omitempty"`
	Encrypt       bool   `json:"encrypt,omitempty"`
	EncryptionKey string `json:"encryptionKey,omitempty"`
}

// Appended is the answer to an append.
type Appended struct {
	Key        string `json:"key"`
	Start      uint64 `json:"start"` // index of the first block that was appended
	Length     uint64 `json:"length"`
	ByteLength uint64 `json:"byteLength"`
}

// Status is the state of the process that holds the store.
type Status struct {
	Version string    `json:"version"`
	PID     int       `json:"pid"`
	Store   string    `json:"store"`
	Command string    `json:"command"` // what the process was started for
	Shape   NodeShape `json:"node"`
	Ready   bool      `json:"ready"`   // a daemon or a bootstrap node serves
	Uptime  int64     `json:"uptime"`  // in seconds
	Seeding int       `json:"seeding"` // feeds on the list

	Used uint64 `json:"usedBytes"` // that the store takes
	Free uint64 `json:"freeBytes"` // that it may take before the reserve

	Online       bool     `json:"online"` // the node runs; without it the rest is empty
	PeerID       string   `json:"peerID,omitempty"`
	Addrs        []string `json:"addrs,omitempty"`
	Reachability string   `json:"reachability,omitempty"` // from the outside: unknown, public, private
	NoNetwork    string   `json:"noNetwork,omitempty"`    // why the DHT is not reached
	Peers        int      `json:"peers"`                  // connected
	Streams      int      `json:"streams"`                // over which feeds are replicated
	Open         int      `json:"open"`                   // feeds that take part in replication now
	Announced    int      `json:"announced"`              // feeds
	Unannounced  int      `json:"unannounced"`            // feeds that are to be and are not yet
	Behind       uint64   `json:"behind"`                 // blocks of seeded feeds that peers have and we lack

	BlocksReceived uint64  `json:"blocksReceived"`
	BlocksSent     uint64  `json:"blocksSent"`
	BytesReceived  uint64  `json:"bytesReceived"`
	BytesSent      uint64  `json:"bytesSent"`
	RateIn         float64 `json:"rateIn"` // bytes of blocks per second
	RateOut        float64 `json:"rateOut"`
}

// NodeShape is the settings of a node that belong to the process, not to a request.
type NodeShape struct {
	Network   string   `json:"network"`
	Bootstrap []string `json:"bootstrap"`
	Listen    []string `json:"listen"`
	MDNS      bool     `json:"mdns"`
	Relay     bool     `json:"relay"`
}

// Identity is the name of a node to its peers.
type Identity struct {
	PeerID string   `json:"peerID"`
	Addrs  []string `json:"addrs"` // where it listens now; empty while no node runs
}

// Event is one line of a stream.
//
//	progress  Done, Total, Bytes, Peers, Rate
//	head      Length, ByteLength, Exact: the length that is being fetched
//	waiting   Reason, Message: nothing comes, and why; Early when that is no news yet, a moment after the last block
//	ready     Shared: the feed is served and announced
//	complete  Peer has all blocks
//	done      Length, ByteLength, Fetched, Local: all is here
//	synced    Core, Length, ByteLength, Done, Fetched: both sides of a connection have the same of a feed, or all that is
//	          known of a feed that is seeded is here
//	failed    Core, Problem: one of several feeds cannot be had
//	start     Start, Fork: the index of the first block that follows
//	forked    Fork, Length: the feed was rewritten; the blocks from Length on are new ones, and come again
//	end       the stream is complete
//	error     Problem: the stream ends without having reached its aim
type Event struct {
	Event      string   `json:"event"`
	Done       uint64   `json:"done"`
	Total      uint64   `json:"total"`
	Bytes      uint64   `json:"bytes"`
	Peers      int      `json:"peers"`
	Rate       float64  `json:"rate"` // bytes per second
	Length     uint64   `json:"length,omitempty"`
	ByteLength uint64   `json:"byteLength,omitempty"`
	Start      uint64   `json:"start,omitempty"`
	Fork       uint64   `json:"fork,omitempty"`
	Exact      bool     `json:"exact,omitempty"` // the caller gave the length
	Fetched    uint64   `json:"fetched,omitempty"`
	Local      uint64   `json:"local,omitempty"`
	Reason     string   `json:"reason,omitempty"`
	Message    string   `json:"message,omitempty"`
	Early      bool     `json:"early,omitempty"`
	Peer       string   `json:"peer,omitempty"`
	Core       string   `json:"core,omitempty"`
	Shared     *Shared  `json:"shared,omitempty"`
	Problem    *Problem `json:"problem,omitempty"`
}

// Shared is a feed that others can fetch now.
type Shared struct {
	Link         string   `json:"link"`
	Key          string   `json:"key"`
	ID           string   `json:"id"`
	DiscoveryKey string   `json:"discoveryKey"`
	Name         string   `json:"name"`
	Length       uint64   `json:"length"`
	ByteLength   uint64   `json:"byteLength"`
	Addrs        []string `json:"addrs"`
	PeerID       string   `json:"peerID"`
}

// Audit is the outcome of the audit of one feed.
type Audit struct {
	Key         string    `json:"key"`
	ID          string    `json:"id"`
	Name        string    `json:"name"`
	Length      uint64    `json:"length"`
	LocalBlocks uint64    `json:"localBlocks"`
	OK          bool      `json:"ok"`             // after the repair, if there was one
	Damage      []string  `json:"damage"`         // one line each
	More        int       `json:"more,omitempty"` // damages beyond those listed
	Repaired    *Repaired `json:"repaired,omitempty"`
}

// Repaired is what was dropped of a damaged feed. It counts as missing now, and is fetched again.
type Repaired struct {
	Blocks uint64 `json:"blocks"`
	Nodes  uint64 `json:"nodes"` // of the tree
}

// spans is a copy of which blocks are stored.
type spans []feed.Range

// within returns how many of the blocks lie in r.
func (s spans) within(r feed.Range) uint64 {
	var n uint64
	for _, span := range s {
		start, end := max(span.Start, r.Start), min(span.End, r.End)
		if start < end {
			n += end - start
		}
	}
	return n
}
