package feed

import (
	"context"

	"github.com/p2pcore/p2pcore/internal/merkle"
)

// Values shared with the other rooms of the house; their definitions are in internal/merkle.
type (
	Hash           = merkle.Hash
	Node           = merkle.Node
	Head           = merkle.Head
	Range          = merkle.Range
	Request        = merkle.Request
	BlockRequest   = merkle.BlockRequest
	HashRequest    = merkle.HashRequest
	SeekRequest    = merkle.SeekRequest
	UpgradeRequest = merkle.UpgradeRequest
	Proof          = merkle.Proof
	BlockProof     = merkle.BlockProof
	HashProof      = merkle.HashProof
	SeekProof      = merkle.SeekProof
	UpgradeProof   = merkle.UpgradeProof
)

// Info is the state of a feed at one moment.
type Info struct {
	Key  Key
	Head // of length 0 before the first upgrade or append; then nothing is signed

	ContiguousLength uint64 // blocks stored without a gap from block 0
	LocalBlocks      uint64 // blocks stored in all
	SignedLength     uint64 // of a session: how many of its blocks are the feed's own, which are signed
	Padding          uint64 // of a session: bytes by which its encryption makes each block longer
	Writable         bool   // this feed, or session, has a key pair that alone may sign
	HasManifest      bool   // the manifest is known; it may travel unless Compat
	Compat           bool   // the key is the public key itself; the manifest never travels
	Frozen           bool   // conflicting heads were seen; nothing is taken any more
	Recovering       bool   // opened from a backup: appends wait for peers to confirm the length
}

// Applied is the outcome of one proof of Feed.Apply.
type Applied struct {
	// Err is nil or wraps ErrInvalidProof, ErrInvalidChecksum, ErrInvalidSignature (the sender's
	// fault), ErrStaleFork or ErrStale (nobody's: ask again).
	Err    error
	Stored bool // the proof's block was not stored before and is now
	Grown  bool // the proof moved the head
}

// Proved is the outcome of one request of Feed.Prove: a proof, or the reason why there is none.
// Err wraps ErrNotAvailable (block or node not stored), ErrStaleFork, ErrInvalidRequest, ErrDeferred, or
// ErrCorrupt (the block was stored and is gone).
type Proved struct {
	Proof *Proof
	Err   error
}

// Change says what has happened to a feed since the last Change taken from a Subscription.
// Changes that nobody has taken merge.
type Change struct {
	Head      Head    // the newest head
	Forked    bool    // the feed was rewritten: the fork has changed
	Ancestors uint64  // if Forked: how many blocks of before are still there; the least, of several rewritings
	Added     []Range // blocks that are stored now and were not; sorted, at most MaxChangeRanges (then widened to cover gaps)
	Dropped   []Range // blocks that were stored and are not any more
	Manifest  bool    // the manifest became known
	Frozen    bool    // the feed froze
}

// Source brings what is missing. There is at most one per feed. All methods block until done or
// ctx ends, and are safe for concurrent use.
type Source interface {
	// Fetch returns when all wanted blocks are stored and verified.
	Fetch(ctx context.Context, w Want) error
	// Seek brings the nodes that the next local search for the byte offset needs, of each block's bytes
	// the first padding not counted; it may have to be called several times.
	Seek(ctx context.Context, byteOffset, padding uint64) error
	// Upgrade asks whether somebody has a longer head. It returns true once the feed has grown, and
	// false as soon as no known peer can make it grow.
	Upgrade(ctx context.Context) (grown bool, err error)
}

// Confirmer is a Source that knows whether anybody has a longer feed than this one.
type Confirmer interface {
	// Confirm returns when at least peers peers have said for some time that they have nothing that is
	// not here, and nobody has said otherwise.
	Confirm(ctx context.Context, peers int) error
}

// Want names blocks to fetch: Range, or Blocks if not nil.
type Want struct {
	Range    Range    // End may lie past the current length: Fetch then waits for growth
	Blocks   []uint64 // in order of need
	Linear   bool     // fetch in order; else in any order that suits
	Priority int      // higher first; above 0 somebody waits for it, and peers are told so
	Follow   bool     // no end: also whatever the feed grows by, until ctx ends
	Force    bool     // ask for it although the Source is told to ask for nothing; at most 256 blocks in a Range
}
