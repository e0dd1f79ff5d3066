package replica

import (
	"time"

	"github.com/p2pcore/p2pcore/internal/wire"
)

// Limits bounds what one peer may cost and what we ask of it. Zero fields take the defaults.
type Limits struct {
	// Window is the greatest number of requests in flight to a peer of unknown kind. 48 is what
	// Hypercore keeps on streams without a measured round-trip time.
	Window int
	// InflightBytes bounds the bytes of blocks in flight from one peer, estimated from what it has
	// sent. The window is smaller where less keeps the peer busy. 4 MiB keeps a 150 Mbit/s link with
	// 100 ms round-trip time full.
	InflightBytes int
	// TotalInflightBytes is shared by the peers, so that many of them do not have many times that
	// much in memory at once.
	TotalInflightBytes int
	// QueuedRequests is the greatest number of remote requests of a peer of unknown kind that wait for
	// an answer. One more is a violation. Hypercore asks at most 512 at once, half of the default.
	QueuedRequests int
	// Proving bounds the proofs being built, over all peers, so that the workers' queue is short
	// and the round between the peers stays fair.
	Proving int
	// Extensions bounds the outgoing extension messages of one peer that wait for credit.
	Extensions int
}

const (
	defaultWindow             = 48
	defaultInflightBytes      = 4 << 20
	defaultTotalInflightBytes = 64 << 20
	defaultQueuedRequests     = 1024
	defaultProving            = 256
	defaultExtensions         = 64

	// MaxWindow is the greatest window towards any peer: InflightBytes in blocks of 1 KiB. Hypercore
	// promises to bear 512, our own kind MaxQueue.
	MaxWindow = 4096

	// MaxQueue is how many requests of a peer of our own kind may wait, each of which costs some 250
	// bytes: its window, and something for the requests that are outside of it.
	MaxQueue = MaxWindow + 1024
)

func (l Limits) withDefaults() Limits {
	l.Window = orDefault(l.Window, defaultWindow)
	l.InflightBytes = orDefault(l.InflightBytes, defaultInflightBytes)
	l.TotalInflightBytes = orDefault(l.TotalInflightBytes, defaultTotalInflightBytes)
	l.QueuedRequests = orDefault(l.QueuedRequests, defaultQueuedRequests)
	l.Proving = orDefault(l.Proving, defaultProving)
	l.Extensions = orDefault(l.Extensions, defaultExtensions)
	return l
}

func orDefault(v, def int) int {
	if v <= 0 {
		return def
	}
	return v
}

const (
	// StallTimeout is how long a peer with requests in flight may send no answer at all before
	// they are cancelled and asked of others. The wire has no timeout of its own.
	StallTimeout = 30 * time.Second

	// hoardTimeout is how long one block may be asked of a peer, however busily it answers others,
	// before it counts as silent, if another peer could bring the block. A full window of 4 MiB takes
	// that long at 70 kB/s.
	hoardTimeout = 2 * StallTimeout

	// An upgrade is asked of another peer, if there is one that has it, when the answer of this one is late, but
	// within these bounds: only one is in flight per feed, so a silent peer would hold up all.
	minUpgradeTimeout = 500 * time.Millisecond
	maxUpgradeTimeout = 5 * time.Second

	// maxDisorder is how many requests may fail because they leaned on an earlier answer of the same
	// peer, before no more of them lean. A peer that answers in order never reaches it, unless blocks
	// are cancelled under way.
	maxDisorder = 16

	// maxNowhere is how many answers may end at a node that is not stored although the request was planned
	// to end at one that is. They are not proved wrong, and asking again must not go on for ever.
	maxNowhere = 64

	// startWindow is the window in bytes before anything was measured, and minRequests and minWindow are the
	// smallest windows: minRequests, or fewer if those are more than startWindow, but minWindow always. A
	// block has up to 15 MiB, and two of them keep a peer busy.
	startWindow = 128 << 10
	minRequests = 48
	minWindow   = 2

	// queueTime is how long answers may queue beyond one round trip: it bridges the hiccups of a busy
	// machine, and lets a near peer work in batches.
	queueTime = 20 * time.Millisecond

	// The speed of a peer is taken from so many of its last answers, and half of them are enough to begin with. The
	// first of them after a rest comes after the way there and back, which is taken to be at most maxWay.
	fewAnswers = 32
	maxWay     = 100 * time.Millisecond

	// longestWay is how long a way there and back is believed to be. Answers that take longer have met a queue: the
	// first window is one of that length in front of a peer with 2 Mbit/s.
	longestWay = 500 * time.Millisecond

	// bestAge is how long it is believed that an answer can be as fast as the fastest was. Finding out anew
	// costs about a round trip.
	bestAge = 10 * time.Second

	// maxRivals is of how many peers one block is asked at once; one above 1 happens at the end of a download.
	maxRivals = 3

	// minSwapWindow is how many blocks that others owe a peer is always asked for, however small its window,
	// if it is that large; otherwise half of the window.
	minSwapWindow = 16

	// lateTime is how long an answer may be late beyond what a peer uses to need, and maxTries how often
	// that is doubled for a block that was asked for again and again.
	lateTime = 100 * time.Millisecond
	maxTries = 3

	// maxSwaps is how often a block is asked of one more because that one is faster, and not because the others
	// are late.
	maxSwaps = 6

	// swapInterval, for each peer, is how long a peer is not looked at again for blocks that others owe, which means
	// to look at all requests.
	swapInterval = 2 * time.Millisecond

	// sparePatience is how long a peer that has everything is not asked for what readers hold while none of them
	// sends anything.
	sparePatience = 250 * time.Millisecond

	// rareShare: of the blocks that no reader holds, this part of what would be each one's share is asked for at
	// once. With more of them at once more are sent twice, with fewer a far writer is not busy.
	rareShare = 4

	// The blocks that no reader holds are counted this often, and less often the more it costs: by the pages of
	// bits, of each reader.
	countInterval = 5 * time.Millisecond
	countCost     = 20 * time.Microsecond

	// unknownDelay is how long the first answer of a peer is expected to take.
	unknownDelay = 250 * time.Millisecond

	// pickChunk is how many blocks a peer takes before the next one has its turn, so that a short
	// range is spread over the peers while neighbours, which share proof nodes, stay together.
	pickChunk = 16

	// maxNoData is how many refusals on one channel end it: the peer does not give what it announces.
	maxNoData = 24

	// maxTurnedDown is how many refusals we may have sent on a channel and still ask for something on it. At
	// 32 Hypercore pauses us, and a request to a peer that has paused us can end its process.
	maxTurnedDown = 24

	// maxRefusals is how often one block is asked of a peer that refuses it but announces it
	// again.
	maxRefusals = 2

	// maxCandidates is how many forks past ours are asked about at once. A search costs a few hundred
	// bytes for each level of the tree; and only one of them has begun, unless a still higher fork is
	// proven meanwhile.
	maxCandidates = 4

	// forkStallTimeout is how long a request for a higher fork may be unanswered while another peer could
	// be asked.
	forkStallTimeout = 5 * time.Second

	// maxSacrifice is how many blocks that may belong to a new fork too are given up and fetched again,
	// when nobody has helped to find out for StallTimeout. More of them, and nobody who has them, and the
	// feed stays on the old fork: it may be the only one to have them.
	maxSacrifice = 256

	// maxChecks is how many conflict checks a peer may need on a channel before it is dropped for its
	// invalid proofs. Each costs it a proof of its head, and a damaged block is asked of it once.
	maxChecks = 3

	// maxHeadProofs is how many proofs of its head that nobody asked for are verified on a channel. One is
	// due when the peer's feed freezes.
	maxHeadProofs = 4

	// maxUnsolicited is how many answers nobody asked for a channel may bring. Some are normal:
	// they cross our cancels.
	maxUnsolicited = 64

	// pushPatience is how long it is believed that what was pushed to a peer has made it longer, although it does not say
	// so. If it has not, what is pushed then starts where it is.
	pushPatience = 10 * time.Second

	// maxTaking is how many pushes of one peer may wait to be verified; more are passed over. It is what fits the inbox
	// of a connection, 4 MiB, if each counts as 256 bytes at least, so flow control comes first.
	maxTaking = 16 << 10

	// maxBadPushes is how many malformed pushes end a channel. Hypercore bears any number of them.
	maxBadPushes = 64

	// maxRebased is how many upgrades on a channel may come to nothing because they start at another length than was
	// asked for, before the peer is not asked again until it has news. An honest one does so once, and once more
	// for each push that did not fit.
	maxRebased = 16

	// maxInvalidRequests is how many malformed requests end a channel, as in Hypercore.
	maxInvalidRequests = 64

	// maxCancelled is how many cancelled ids may wait for the remote to pass the cancel. A peer
	// that answers nothing while we go on cancelling gets a fresh channel.
	maxCancelled = 1024

	// wantPage is the size in blocks of the pages that we want: its bitfield has 512 bytes.
	wantPage = 4096

	// maxWantPages is how many pages a peer accepts at once before it takes us to want everything.
	maxWantPages = 512

	// maxSeekPages is how many pages are wanted for a seek; one answer among them is enough.
	maxSeekPages = 8

	// maxKnownBytes bounds what we remember of one peer's blocks past its contiguous part. The
	// pages that we can want take at most half of it; what is forgotten can be wanted again.
	maxKnownBytes = 4 << 20

	// maxAbsentSteps is how many runs of blocks are looked at to find one that nobody has. Each looks at every peer
	// while the machine stands still.
	maxAbsentSteps = 4096

	// maxBitfieldWords is the longest bitfield that is taken, in words: 2 Mi blocks.
	maxBitfieldWords = 65536

	// maxGivenUpBytes bounds what we remember of the pages that were wanted, answered and given up,
	// a bit each.
	maxGivenUpBytes = 64 << 10

	// maxServedWant is the longest want in blocks that is answered; longer ones are ignored, but for those of any one
	// block, whose answer is short.
	maxServedWant = 2 << 20

	// minServedWant is the shortest want that is remembered as a page.
	minServedWant = 32

	// maxServedPages and maxServedSizes are how many wants, and of how many sizes, are remembered
	// for a remote before it is taken to want everything.
	maxServedPages = 512
	maxServedSizes = 4

	// maxServedMemory is how many answers to wants are remembered, those taken back included.
	maxServedMemory = 2 * maxServedPages

	// maxServedAny is how many wants of any one block are remembered for a remote before it is taken to want everything,
	// as in Hypercore. Each is compared with every announcement.
	maxServedAny = 16

	// maxServedAnyMemory is how many answers to such wants are remembered, those taken back included.
	maxServedAnyMemory = 2 * maxServedAny

	// maxOddWants is how many wants that are not remembered may wait for credit.
	maxOddWants = 16

	// maxPendingRanges is how many announcements may wait for credit. Beyond it they are replaced
	// by the state itself: the contiguous part and the pages that the remote wants.
	maxPendingRanges = 64

	// cheapBitfield is the span in blocks that is re-announced unasked after a drop; 4 KiB.
	cheapBitfield = 32768

	// announceTail is how many of the last blocks are announced to everybody.
	announceTail = 256

	// maxWantsPerRound is how many wishes are looked at when a peer's window is filled.
	maxWantsPerRound = 64

	// maxAgain is how many parts of the feed that were searched for a wish may have to be searched again; more of them
	// become one.
	maxAgain = 16

	// maxOutOfOrder is how many blocks of a list are searched by index, and not in the order of the list, when a peer
	// tells that it holds them. It is less than what is in flight to one peer on a link with some delay.
	maxOutOfOrder = 64

	// maxListRestarts is how often, for one peer, a list is searched from its beginning in its own order because
	// more of it may have come. A step of that takes some 20 ns, so for a list of 100,000 blocks these cost 0.1 s;
	// what is told later is searched by index, which costs as much as there is to be found.
	maxListRestarts = 64

	// maxUrgentRange is the longest range that is treated as single gets.
	maxUrgentRange = 256

	// updatePeers is how many peers a WantUpgrade consults.
	updatePeers = 3

	// maxExtensionBytes bounds the bytes of the extension messages of one peer that wait for
	// credit.
	maxExtensionBytes = 1 << 20

	// maxVerdicts is how many verdicts on one peer may be asked for and not given. A peer that tells
	// another length with every message would queue them without end.
	maxVerdicts = 4

	// maxHeldBytes bounds the answers of one peer that are kept while it has no credit, but for the last
	// one. Room for them is kept by the usual size of a block, and a peer may ask for the unusual ones:
	// those are read again when it has taken what it was sent.
	maxHeldBytes = 1 << 20

	// maxAnswerBytes bounds an answer: with what is around it, it has to fit into a frame.
	maxAnswerBytes = wire.MaxMessage - 128
)

// invalidDelay is how long the refusal of the n-th malformed request is held back.
func invalidDelay(n int) time.Duration {
	switch {
	case n < 2:
		return 200 * time.Millisecond
	case n < 5:
		return 500 * time.Millisecond
	case n < 40:
		return time.Second
	}
	return 5 * time.Second
}
