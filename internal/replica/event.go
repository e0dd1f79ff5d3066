package replica

import (
	"github.com/p2pcore/p2pcore/internal/merkle"
	"github.com/p2pcore/p2pcore/internal/wire"
)

// PeerID numbers one open channel. The driver chooses it and never uses a number twice.
type PeerID uint64

// Token connects an ask with its answer. It is unique for the life of a Machine and never 0.
type Token uint64

// Ticket names a wish of the local user. The driver chooses it; it is not 0.
type Ticket uint64

// Search is a search for the last block that two forks have in common. It is the driver's own: it
// comes with Reorged and goes back, unchanged, with StepReorg and ApplyReorg.
type Search any

// Event is what has happened; one of the types below, by value.
type Event interface{ event() }

type (
	// Opened says that both sides have opened the channel and the remote's capability is right.
	// Room is the first credit in bytes. Window is the greatest number of requests that may be in
	// flight to this peer; 0 means Limits.Window. Queue is how many of its requests may wait; 0 means
	// Limits.QueuedRequests.
	Opened struct {
		Peer   PeerID
		Seeks  bool // the remote understands seeks
		Room   int
		Window int
		Queue  int
	}

	// Closed says that the channel or its connection has ended. What was asked of the peer goes
	// back to the queue.
	Closed struct{ Peer PeerID }

	// Received is a message from the remote.
	Received struct {
		Peer    PeerID
		Message wire.Message
	}

	// Room gives back credit: so many bytes of earlier Sends have been written.
	Room struct {
		Peer  PeerID
		Bytes int
	}

	// Want asks for blocks: those in Range, or in Blocks if that is not nil. It is resolved when
	// all are stored. Blocks past the length of the feed are waited for. With Follow the range has
	// no end and the ticket stays until Forget. Linear fetches in order of index (a list in its
	// own order always, but for what a peer tells later, a little at a time, or too often); otherwise
	// the order is any that suits. Higher Priority goes first; above
	// 0 somebody waits.
	Want struct {
		Ticket   Ticket
		Range    merkle.Range
		Blocks   []uint64
		Linear   bool
		Priority int
		Follow   bool
		Force    bool // somebody waits, and it is asked for although SetPush says Only; at most 256 blocks in a range
	}

	// WantUpgrade is resolved with Grown once the head has moved, and without as soon as no known
	// peer can move it.
	WantUpgrade struct{ Ticket Ticket }

	// WantSeek asks for the tree nodes that the local search for a byte offset lacks. Span is the
	// block range below the tree node at which the search got stuck (a power of two, aligned), or
	// empty if the offset lies past the known byte length. It is resolved after one answer was
	// stored or the head has grown; then the local search goes on.
	WantSeek struct {
		Ticket  Ticket
		Bytes   uint64
		Padding uint64
		Span    merkle.Range
	}

	// Forget takes a wish back. Requests that nobody else waits for are cancelled.
	Forget struct{ Ticket Ticket }

	// Changed says that the feed has changed. The head is read from Local; Added and Dropped cover
	// the blocks whose presence changed, and may cover others. Forked says that the feed was rewritten
	// and has another fork, Ancestors how many blocks of before are still its own.
	Changed struct {
		Added, Dropped []merkle.Range
		Forked         bool
		Ancestors      uint64
	}

	// Planned answers Plan. Nodes has one entry for each block asked, or Err says why not (a
	// failure of the machine).
	Planned struct {
		Token Token
		Nodes []uint64
		Err   error
	}

	// Verdict answers CanUpgrade.
	Verdict struct {
		Token Token
		OK    bool
	}

	// Proved answers Prove, with a proof or a fault.
	Proved struct {
		Token Token
		Proof *merkle.Proof
		Fault Fault
	}

	// Applied answers Apply. With FaultNone the proof was verified: Stored says that its block is
	// now stored and was not, Grown that the head has moved.
	Applied struct {
		Token  Token
		Fault  Fault
		Err    error // with a fault: the cause
		Stored bool
		Grown  bool
	}

	// Reorged answers StartReorg, StepReorg and ApplyReorg. After the first two, with FaultNone, it has
	// the search, the Length of the new fork's verified head and, unless the search has ended, the
	// next step: a hash request for a leaf in Want.Range with Want.Nodes.
	Reorged struct {
		Token  Token
		Search Search
		Length uint64
		Want   merkle.Want
		More   bool
		Fault  Fault
		Err    error // with a fault: the cause
	}

	// Examined answers Examine. With FaultNone the peer's head was verified: Conflict says that it
	// contradicts ours, and the feed is frozen.
	Examined struct {
		Token    Token
		Conflict bool
		Fault    Fault
		Err      error // with a fault: the cause
	}

	// Tick says that the time of Deadline has come. Every Step looks at the clock; Tick does
	// nothing else.
	Tick struct{}

	// SetDownloading says whether somebody wants this feed to be complete and current. It starts
	// as false.
	SetDownloading struct{ On bool }

	// SetPush says how blocks come here. With Allow peers may send what they were not asked for, and are
	// told so while the feed is downloading; what they send is verified and stored, wanted or not. With Only
	// nothing is asked of anybody, but for a Want with Force and the manifest of an empty feed. Both start as false.
	SetPush struct{ Allow, Only bool }

	// SetLazy says when a longer head is asked for: with On only while somebody waits for one, by a WantUpgrade, a WantSeek
	// past the known byte length, or a Want of blocks past the length that a peer has; and a higher fork, once it is verified and
	// searched, waits for a WantUpgrade. It starts as false: whatever a peer has is asked for.
	SetLazy struct{ On bool }

	// Push sends stored blocks to Peer, or to all peers if it is 0, unasked: to those that allow it and are not
	// known to hold them, at this moment. What is past the length is left out.
	Push struct {
		Peer  PeerID
		Range merkle.Range
	}

	// Prospects tells of peers that may still appear: channels being opened, and whether somebody
	// is looking for peers. It lets WantUpgrade wait.
	Prospects struct {
		Opening int
		Finding bool
	}

	// Extend sends an extension message. One that finds Limits.Extensions waiting for credit is
	// lost and counted.
	Extend struct {
		Peer    PeerID
		Name    string
		Message []byte
	}
)

// Fault says who is to blame for an ask that failed.
type Fault uint8

const (
	FaultNone         Fault = iota
	FaultStale              // nobody: the head or fork moved meanwhile, ask again
	FaultNotAvailable       // Prove: a block or tree node is not stored
	FaultInvalid            // Prove: the request contradicts itself. Else: the proof is malformed
	FaultFailed             // our own machine: storage error, disk full
	FaultContradicts        // the proof has the right form and another hash or signature than ours
)

func (Opened) event()         {}
func (Closed) event()         {}
func (Received) event()       {}
func (Room) event()           {}
func (Want) event()           {}
func (WantUpgrade) event()    {}
func (WantSeek) event()       {}
func (Forget) event()         {}
func (Changed) event()        {}
func (Planned) event()        {}
func (Verdict) event()        {}
func (Proved) event()         {}
func (Applied) event()        {}
func (Reorged) event()        {}
func (Examined) event()       {}
func (Tick) event()           {}
func (SetDownloading) event() {}
func (SetPush) event()        {}
func (SetLazy) event()        {}
func (Push) event()           {}
func (Prospects) event()      {}
func (Extend) event()         {}
