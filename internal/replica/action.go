package replica

import (
	"github.com/p2pcore/p2pcore/internal/merkle"
	"github.com/p2pcore/p2pcore/internal/wire"
)

// Action is what is to be done; one of the types below, by value.
type Action interface{ action() }

type (
	// Send writes a message to the peer. It has taken Message.Size() bytes of the peer's credit,
	// which Room gives back.
	Send struct {
		Peer    PeerID
		Message wire.Message
	}

	// Plan asks for the number of tree levels that each block lacks (formats: the nodes number).
	Plan struct {
		Token  Token
		Blocks []uint64
	}

	// CanUpgrade asks whether all roots of the tree of Length blocks are stored, so that a proof
	// from there to our head can be built.
	CanUpgrade struct {
		Token  Token
		Peer   PeerID // for logs
		Length uint64
	}

	// Prove asks for an answer to a remote request. The request's fork is the feed's at this
	// moment.
	Prove struct {
		Token   Token
		Peer    PeerID // for logs
		Request merkle.Request
	}

	// Apply asks to verify and store a remote answer.
	Apply struct {
		Token Token
		Peer  PeerID // for logs
		Proof *merkle.Proof
	}

	// StartReorg asks to verify the head of a higher fork, and to begin the search for the last block
	// that it has in common with ours.
	StartReorg struct {
		Token Token
		Peer  PeerID // for logs
		Proof *merkle.Proof
	}

	// StepReorg asks to go on with a search, by an answer to what it wanted.
	StepReorg struct {
		Token  Token
		Peer   PeerID // for logs
		Search Search
		Proof  *merkle.Proof
	}

	// ApplyReorg asks to make the fork of a search the feed's own. Early gives up the blocks which a
	// search that has not ended might still have found in common.
	ApplyReorg struct {
		Token  Token
		Search Search
		Early  bool
	}

	// Examine asks to hold the head that a peer has proven from length 0 against ours, and to freeze
	// the feed if both are signed and contradict each other.
	Examine struct {
		Token Token
		Peer  PeerID // for logs
		Proof *merkle.Proof
	}

	// Resolve ends a ticket. Grown is set for a WantUpgrade after which the head has moved. Err is
	// nil, ErrFrozen, or the machine's failure that ended it.
	Resolve struct {
		Ticket Ticket
		Grown  bool
		Err    error
	}

	// CloseChannel closes the channel, without blame: both sides are idle or, with Reopen, a fresh
	// channel is wanted (after the driver's back-off).
	CloseChannel struct {
		Peer   PeerID
		Reopen bool
	}

	// Drop closes the channel because the remote broke the protocol. Reason is a constant text, Err
	// the cause if there is one. The peer may be closed already: its last proof was checked after
	// it left.
	Drop struct {
		Peer   PeerID
		Reason string
		Err    error
	}

	// Deliver is an extension message from the remote, with its name.
	Deliver struct {
		Peer    PeerID
		Name    string
		Message []byte
	}
)

func (Send) action()         {}
func (Plan) action()         {}
func (CanUpgrade) action()   {}
func (Prove) action()        {}
func (Apply) action()        {}
func (StartReorg) action()   {}
func (StepReorg) action()    {}
func (ApplyReorg) action()   {}
func (Examine) action()      {}
func (Resolve) action()      {}
func (CloseChannel) action() {}
func (Drop) action()         {}
func (Deliver) action()      {}
