package protocol

import (
	"time"

	"github.com/p2pcore/p2pcore/internal/replica"
)

// Limits bounds what one connection may cost and what is asked over it. Zero fields take the
// defaults.
type Limits struct {
	// Window is the greatest number of requests in flight on one channel. The default is 4096 with
	// FlagLongQueue and else 512, which is what Hypercore promises to bear.
	Window int
	// Credit bounds the bytes that wait to be written on one channel while few are open; with many
	// it is less. One message more may wait. Default 1 MiB.
	Credit int
	// Inbox bounds the bytes that one peer may have unprocessed in one exchange, proofs being
	// verified included, before its reader waits. One message more may be there. Default 4 MiB.
	Inbox int
	// Resolves bounds the calls of OnOpen that run at once. Default 16.
	Resolves int
}

const (
	defaultWindow   = 512
	defaultCredit   = 1 << 20
	defaultInbox    = 4 << 20
	defaultResolves = 16

	// connCredit is shared by the channels of a connection, minCredit is the least share: enough for
	// the messages of an idle feed and a block of the usual size.
	connCredit = 8 << 20
	minCredit  = 64 << 10

	// maxFrame is the largest frame that the three bytes of length can announce.
	maxFrame = 1<<24 - 1

	// frameStep is how much is allocated for a frame before any of it has arrived, so that
	// announcing a large frame costs the remote the sending of it.
	frameStep = 1 << 20

	// shareFrame: a message may keep alive a frame up to this many times its size; for less of a
	// large frame it is copied out. Otherwise a small answer in a frame of junk costs 16 MiB.
	shareFrame = 8
	copyAbove  = 1 << 20

	// readBuffer is how much is read from the stream at once.
	readBuffer = 64 << 10

	// writeStep is how much is written between two looks at the clock.
	writeStep = 128 << 10

	// messageCost is counted for each unprocessed message on top of its bytes.
	messageCost = 256

	// maxViolations is how many faults on its channels end a connection. One may be an accident of
	// a damaged store on the other side; a handful is not.
	maxViolations = 8

	// maxNews is how many opens of one feed's channel by the remote may wait for the exchange, before the
	// reader does. An honest remote has one.
	maxNews = 16

	// maxApplyCount and maxApplyBytes bound the proofs that are handed to the feed at once.
	maxApplyCount = 512
	maxApplyBytes = 4 << 20

	// prehashBytes is the size of a block from which on the reader of the connection hashes it. The one who applies proofs
	// has as much to do with storing them, and each connection has a reader; smaller blocks cost little to hash.
	prehashBytes = 4 << 10

	// maxProveCount does the same for requests to answer.
	maxProveCount = 256

	// maxExtensionName bounds the name of an extension message that is sent; those in use are words. maxExtensionBytes
	// bounds the message: it is as much as may wait for one peer.
	maxExtensionName  = 128
	maxExtensionBytes = 1 << 20

	// maxLateMail bounds the extension messages in bytes that wait for a handler although their peer has gone, those
	// of others included: four times what one peer may have unprocessed.
	maxLateMail = 4 * defaultInbox

	// maxLateProofs bounds the proofs in bytes that wait for the store although the connection that they came on has
	// ended: four times what one peer may have unprocessed, so that the largest block survives a slow store. Those that
	// the store is busy with come on top, see maxApplyBytes.
	maxLateProofs = 4 * defaultInbox

	// maxSpare is the capacity up to which an emptied queue is kept for the next use.
	maxSpare = 4096

	// maxDeparted is how many peers an exchange remembers that have gone.
	maxDeparted = 64

	// keepAlive is the silence after which an empty frame is written, silence that after which the
	// stream is taken for dead, writeTimeout the time in which a writeStep has to be accepted. A
	// remote that is busy with its disk may not read for a while, so the last is the longest.
	keepAlive    = 5 * time.Second
	silence      = 15 * time.Second
	writeTimeout = 30 * time.Second

	// closeTimeout is how long a stream that was closed may take to let go of its reader and writer.
	closeTimeout = time.Second

	// openingTimeout is how long a channel that the remote has not answered counts as a peer that
	// may still help.
	openingTimeout = 5 * time.Second

	// A channel that the remote has closed although it seemed to be in use is opened again at once,
	// then after reopenDelay, doubling up to maxReopenDelay. A channel that lived for steadyAfter
	// starts afresh.
	reopenDelay    = time.Second
	maxReopenDelay = time.Minute
	steadyAfter    = 30 * time.Second

	// doorTimeout is how long the remote may take to pass a door. maxHeldOpens and maxHeldBytes bound its opens that
	// are held meanwhile, by number and by their bytes: JavaScript sends all its opens at once and never repeats one.
	doorTimeout  = 10 * time.Second
	maxHeldOpens = 256
	maxHeldBytes = 64 << 10

	// minBinding and maxBinding bound the binding: it is the key of a BLAKE2b hash.
	minBinding = 16
	maxBinding = 64

	// minOpening and maxOpening bound the body of an opening frame.
	minOpening = 33
	maxOpening = 1024
)

func (l Limits) withDefaults(flags uint64) Limits {
	if flags&FlagLongQueue != 0 {
		l.Window = orDefault(l.Window, replica.MaxWindow)
	}
	l.Window = orDefault(l.Window, defaultWindow)
	l.Credit = orDefault(l.Credit, defaultCredit)
	l.Inbox = orDefault(l.Inbox, defaultInbox)
	l.Resolves = orDefault(l.Resolves, defaultResolves)
	return l
}

func orDefault(v, def int) int {
	if v <= 0 {
		return def
	}
	return v
}

// Confirm looks this often, and believes what it has seen so many times in a row: eight seconds, as in
// JavaScript (replication.md 10.2).
const (
	confirmInterval = 250 * time.Millisecond
	confirmLooks    = 32
)
