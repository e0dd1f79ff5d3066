package feed

import (
	"context"
	"errors"
	"fmt"

	"github.com/p2pcore/p2pcore/internal/merkle"
)

// Errors to test for with errors.Is.
var (
	// ErrNotFound: nothing is stored under the prefix (Open).
	ErrNotFound = errors.New("feed: not found")
	// ErrExists: a feed is stored under the prefix already (Create).
	ErrExists = errors.New("feed: exists already")
	// ErrNotAvailable: the block is not stored, and nobody was asked for it.
	ErrNotAvailable = errors.New("feed: block not available")
	// ErrNotWritable: the session has no key pair that may sign for the feed.
	ErrNotWritable = errors.New("feed: not writable")
	// ErrOutOfRange: the position is past the end of the feed.
	ErrOutOfRange = errors.New("feed: out of range")
	// ErrClosed: the feed or the session is closed.
	ErrClosed = errors.New("feed: closed")
	// ErrCorrupt: what is stored contradicts itself. *CheckError and damaged records wrap it.
	ErrCorrupt = errors.New("feed: storage is corrupt")
	// ErrNoSpace: storing would eat into the reserve of the disk; nothing was stored.
	ErrNoSpace = errors.New("feed: no space left")
	// ErrBlockTooLarge: a block is larger than MaxBlockBytes.
	ErrBlockTooLarge = errors.New("feed: block too large")
	// ErrKeyMismatch: the manifest or key pair does not belong to the key.
	ErrKeyMismatch = errors.New("feed: key mismatch")
	// ErrMalformedKey: the text is no key.
	ErrMalformedKey = errors.New("feed: malformed key")
	// ErrDecrypt: the stored block has not the form that the session's Encryption reads, or its key is
	// not to be had.
	ErrDecrypt = errors.New("feed: cannot decrypt")
	// ErrInvalidManifest: the bytes or fields are no manifest.
	ErrInvalidManifest = errors.New("feed: invalid manifest")
	// ErrStale: the proof is not wrong, but the feed has changed since it was asked for, or the node
	// that it hangs on is not stored. Ask again; nobody is to blame.
	ErrStale = errors.New("feed: proof is stale")
	// ErrDeferred: the request was not looked at, because others of the same call have filled the
	// answer. Ask again.
	ErrDeferred = errors.New("feed: request deferred")
	// ErrFrozen: two contradicting heads were signed, the feed takes nothing more.
	ErrFrozen = errors.New("feed: frozen by conflicting heads")

	// ErrSnapshotNotAvailable: a snapshot does not have the block, or the feed was truncated below a block
	// while a call waited for it, so that it cannot come any more.
	ErrSnapshotNotAvailable = errors.New("feed: block not available any more")
	// ErrNoQuorum: there are fewer signatures than the manifest asks for.
	ErrNoQuorum = errors.New("feed: no quorum of signatures")
	// ErrDiverged: the feed is not what the change was made for; nothing has changed.
	ErrDiverged = errors.New("feed: diverged")
	// ErrNotAtomic: the datastore cannot store changes of several feeds at once.
	ErrNotAtomic = errors.New("feed: datastore has no atomic batches for all of these feeds")
	// errReadOnly: the feed was opened to be read.
	errReadOnly = fmt.Errorf("%w: opened to be read only", ErrNotWritable)
	// ErrRecovering: the feed was opened from a backup, and nobody has confirmed yet that it is not older
	// than what its readers have.
	ErrRecovering = errors.New("feed: recovering")
	// ErrTimeout: the session's Timeout has passed. It wraps context.DeadlineExceeded.
	ErrTimeout = fmt.Errorf("feed: timeout: %w", context.DeadlineExceeded)
	// ErrName: the name of a branch, or key of user data, is empty or too long; or there are too many.
	ErrName = errors.New("feed: invalid name")

	// ErrNotMarking: marking was not begun, or a crash has lost the marks; nothing was cleared.
	ErrNotMarking = errors.New("feed: not marking")

	// ErrDecode: the codec of a Typed cannot read the block.
	ErrDecode = errors.New("feed: cannot decode")

	// ErrInvalidProof: the proof has the wrong shape.
	ErrInvalidProof = merkle.ErrInvalidProof
	// ErrInvalidChecksum: the proof leads to another hash than the stored one.
	ErrInvalidChecksum = merkle.ErrInvalidChecksum
	// ErrInvalidSignature: the head of the proof is not signed as the manifest demands.
	ErrInvalidSignature = merkle.ErrInvalidSignature
	// ErrStaleFork: the proof or request is for another fork.
	ErrStaleFork = merkle.ErrStaleFork
	// ErrInvalidRequest: no proof can be made for such a request by anybody.
	ErrInvalidRequest = merkle.ErrInvalidRequest
	// ErrMissingNode: a tree node that the proof needs is not stored.
	ErrMissingNode = merkle.ErrMissingNode
)

// ConflictError says that two different heads of the same fork and length are both signed, or lie on the way
// to what is: then they have fork and length alone. It carries both, each with a detached proof (see VerifyDetached), so that it can be shown to others, who verify it
// with VerifyConflict. It wraps ErrFrozen.
type ConflictError struct {
	Ours, Theirs         Head
	OurProof, TheirProof []byte
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("feed: two conflicting signatures exist for length %d of fork %d", e.Theirs.Length, e.Theirs.Fork)
}

func (e *ConflictError) Unwrap() error { return ErrFrozen }
