package replica

import (
	"iter"
	"math/rand/v2"
	"time"

	"github.com/p2pcore/p2pcore/internal/merkle"
)

// Local answers from memory what the machine asks about the feed. It is called from Step only.
type Local interface {
	Info() Info
	// Ranges yields the maximal runs of stored blocks in r, in order.
	Ranges(r merkle.Range) iter.Seq[merkle.Range]
}

// Info is the part of a feed's state that replication decides by.
type Info struct {
	Fork        uint64
	Length      uint64 // in blocks
	ByteLength  uint64 // of all blocks below Length; used as an estimate of the size of a block
	HasManifest bool   // the manifest is known and may travel: false for compat feeds
	Frozen      bool   // conflicting heads were seen: nothing is asked or served
}

// Machine is the replication of one feed. It is not safe for concurrent use.
type Machine struct{}

// New returns a machine without peers. It draws from rng, which must not be used elsewhere.
func New(local Local, limits Limits, rng *rand.Rand) *Machine { return &Machine{} }

// Step takes one event at time now and returns what is to be done about it, in order. Time must
// not run backwards. The slice is valid until the next Step.
func (m *Machine) Step(now time.Time, ev Event) []Action { return nil }

// Deadline returns when Step wants to be called with Tick, if nothing else happens before. It may
// be early.
func (m *Machine) Deadline() (time.Time, bool) { return time.Time{}, false }

// Stats counts what has gone over all channels of the feed since New.
type Stats struct {
	Peers           int    // open channels
	Wants           int    // tickets not resolved
	Inflight        int    // requests sent and not answered, or being applied
	BlocksReceived  uint64 // verified and stored
	BytesReceived   uint64 // of these blocks
	BlocksSent      uint64
	BytesSent       uint64 // of these blocks
	Requests        uint64 // sent
	Cancels         uint64 // sent
	Refused         uint64 // noData received, and answers that did not fit their request
	Unsolicited     uint64 // answers that nobody waited for
	InvalidProofs   uint64 // answers that failed verification
	InvalidRequests uint64 // malformed requests received
	Stalls          uint64 // times that a silent peer's requests were taken back
	ExtensionsLost  uint64 // outgoing, for want of credit
}

// Stats returns the counters.
func (m *Machine) Stats() Stats { return Stats{} }

// PeerInfo is what the machine knows of one peer.
type PeerInfo struct {
	Peer                       PeerID
	Synced                     bool // its first sync has arrived; the fields below mean nothing before
	Fork, Length               uint64
	Contiguous                 uint64 // blocks it is known to hold without a gap from 0
	Uploading, Downloading     bool
	Inflight, Window           int // our requests
	Queued                     int // its requests that wait for an answer
	BlocksReceived, BlocksSent uint64
	BytesReceived, BytesSent   uint64
}

// Peers appends what is known of each peer to dst, in the order in which they were opened.
func (m *Machine) Peers(dst []PeerInfo) []PeerInfo { return dst }
