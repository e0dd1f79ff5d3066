package merkle

import (
	"errors"
	"fmt"
)

// Faults of a proof. They are the peer's, except ErrMissingNode, ErrStale and ErrStaleFork, which
// an honest peer can cause too.
var (
	// ErrInvalidProof is the general case of ErrInvalidOperation and ErrPrologue.
	ErrInvalidProof = errors.New("merkle: invalid proof")
	// ErrInvalidOperation: the proof's nodes are not those that its parts call for, or a number in it
	// is out of bounds. It is an ErrInvalidProof.
	ErrInvalidOperation = fmt.Errorf("%w: unexpected nodes", ErrInvalidProof)
	// ErrPrologue: the upgrade contradicts the prologue. It is an ErrInvalidProof.
	ErrPrologue = fmt.Errorf("%w: prologue not satisfied", ErrInvalidProof)
	// ErrInvalidChecksum: the proof leads to another hash than the stored one.
	ErrInvalidChecksum = errors.New("merkle: invalid checksum")
	// ErrInvalidSignature: the proof leads to a head that its signature does not cover.
	ErrInvalidSignature = errors.New("merkle: invalid signature")
	// ErrStaleFork: the proof is of another fork. Nothing was looked at.
	ErrStaleFork = errors.New("merkle: other fork")
	// ErrStale goes with ErrInvalidOperation when the upgrade starts at another length than the
	// tree has, so that it may have been right when it was asked for.
	ErrStale = errors.New("merkle: upgrade of another length")
	// ErrMissingNode: a node is not stored. A prover cannot serve the request; a verifier has
	// nothing to compare the proof with.
	ErrMissingNode = errors.New("merkle: node not stored")
)

// Faults of the caller, which may pass on those of a peer.
var (
	// ErrInvalidRequest: no proof can answer the request, whatever is stored.
	ErrInvalidRequest = errors.New("merkle: invalid request")
	// ErrInvalidRoots: the nodes are not the roots of a tree.
	ErrInvalidRoots = errors.New("merkle: invalid roots")
	// ErrTooLarge: the tree would exceed MaxLength or MaxSize.
	ErrTooLarge = errors.New("merkle: tree too large")
)
