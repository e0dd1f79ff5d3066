package feed

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/p2pcore/p2pcore/internal/compact"
	"github.com/p2pcore/p2pcore/internal/merkle"
)

// Partial is what one signer contributes to the signature of a feed of several signers: Assemble makes
// the signature of a quorum of them.
//
// If the manifest allows patches, the signer may have signed a longer feed than the head that all agree
// on (SignableLength). Patch says how many blocks longer, and Nodes lead there, in the order of an
// upgrade proof.
//
//	common length ──────────┤
//	signer 0      ──────────┤
//	signer 1      ──────────┼──────┤  Patch blocks
type Partial struct {
	Signer    int // index in Manifest.Signers
	Signature [64]byte
	Patch     uint64
	Nodes     []Node
}

// SignPartial signs h with the key pair, for the feed of key, whose manifest is m. Nothing is looked at
// but h: whoever signs must have made sure that this is the feed that it wants, and must not sign two
// heads of the same fork neither of which continues the other. Session.SignPartial is for signers that
// are ahead.
//
// The error is ErrKeyMismatch if m is not the manifest of key, ErrNotWritable if the pair is of no signer.
func SignPartial(pair KeyPair, key Key, m *Manifest, h Head) (Partial, error) {
	a, err := newAuthority(key, m)
	if err != nil {
		return Partial{}, err
	}
	for i := range m.Signers {
		if !pair.IsZero() && m.Signers[i].PublicKey == pair.Public() {
			return Partial{Signer: i, Signature: [64]byte(pair.Sign(a.signable(h, i)))}, nil
		}
	}
	return Partial{}, fmt.Errorf("%w: key pair is of no signer", ErrNotWritable)
}

// SignPartial signs, for the feed of key, all that this session has at this moment, as a contribution to
// the head at length: the nodes from there to the end come along. The session may be of the signer's own
// feed, or of a branch, that holds the same blocks as the other feed, stored in the same way; only
// what is stored is read. The signature is over the fork of the session.
//
// The error is ErrKeyMismatch if m is not the manifest of key; ErrNotWritable if the pair is of no signer,
// or m does not allow the patch; ErrOutOfRange if the session is shorter than length; ErrNotAvailable if
// a node of the patch is not stored; ErrClosed, the datastore's, or wraps ctx's.
func (s *Session) SignPartial(ctx context.Context, pair KeyPair, key Key, m *Manifest, length uint64) (Partial, error) {
	if s.Closed() {
		return Partial{}, ErrClosed
	}
	_, leave, ok := s.feed.ops.Enter()
	defer leave()
	if !ok {
		return Partial{}, ErrClosed
	}
	in := s.feed.read(s.line)
	defer in.leave()
	h := in.tree.Head()
	switch {
	case length > h.Length:
		return Partial{}, fmt.Errorf("%w: length %d of %d", ErrOutOfRange, length, h.Length)
	case length < h.Length && !m.AllowPatch:
		return Partial{}, fmt.Errorf("%w: the manifest allows no patch", ErrNotWritable)
	}
	p, err := SignPartial(pair, key, m, h)
	if err != nil || length == h.Length {
		return p, err
	}
	p.Patch = h.Length - length
	if p.Nodes, err = in.tree.Growth(ctx, in.view, length); err != nil {
		if errors.Is(err, merkle.ErrMissingNode) {
			err = fmt.Errorf("%w: %w", ErrNotAvailable, err)
		}
		return Partial{}, fmt.Errorf("sign partial: %w", err)
	}
	return p, nil
}

// UnwrapSignature returns the Ed25519 signature in the signature field of a feed of one signer: the field
// itself, or what it wraps (formats.md 4.5). The error wraps ErrInvalidSignature.
func UnwrapSignature(field []byte) (signature [64]byte, err error) {
	if len(field) == len(signature) {
		return [64]byte(field), nil
	}
	m, err := parseMulti(field)
	if err != nil {
		return signature, fmt.Errorf("%w: %w", ErrInvalidSignature, err)
	}
	if len(m.proofs) != 1 {
		return signature, fmt.Errorf("%w: %d signatures in place of one", ErrInvalidSignature, len(m.proofs))
	}
	return m.proofs[0].signature, nil
}

// Verify checks the contribution for itself: that it is of a signer of the feed of key, over h or, with
// its patch, over what continues h. The roots are those of h; without a patch they may be left out.
//
// The error is ErrKeyMismatch if m is not the manifest of key, or wraps ErrInvalidSignature.
func (p *Partial) Verify(key Key, m *Manifest, h Head, roots []Node) error {
	a, err := newAuthority(key, m)
	if err != nil {
		return err
	}
	err = p.check(m)
	if err == nil && a.compat && p.Patch > 0 {
		err = errNoPatch
	}
	if err == nil {
		err = a.verifyPart(h, roots, &multiSignature{nodes: p.Nodes}, p.proof())
	}
	if err != nil {
		return fmt.Errorf("%w: signer %d: %w", ErrInvalidSignature, p.Signer, err)
	}
	return nil
}

// check refuses what cannot be encoded, or would never count.
func (p *Partial) check(m *Manifest) error {
	switch {
	case p.Signer < 0 || p.Signer >= len(m.Signers):
		return errUnknownSigner
	case p.Patch > merkle.MaxLength:
		return fmt.Errorf("patch of %d blocks", p.Patch)
	case p.Patch > 0 && !m.AllowPatch:
		return errNoPatch
	case p.Patch > 0 && len(p.Nodes) == 0:
		return errors.New("patch without nodes")
	case p.Patch == 0 && len(p.Nodes) > 0:
		return errors.New("nodes without a patch")
	}
	for i := range p.Nodes {
		if n := &p.Nodes[i]; uint64(n.Index) >= 2*merkle.MaxLength || n.Size > merkle.MaxSize || n.Missing() {
			return fmt.Errorf("node %d", n.Index)
		}
	}
	return nil
}

var errNoPatch = errors.New("the manifest allows no patch")

func (p *Partial) proof() *signerProof {
	return &signerProof{signer: uint64(p.Signer), signature: p.Signature, patch: p.Patch}
}

// Append appends p as bytes for the other signers: a version 1 multi signature of one signer. It panics
// if Signer is negative, or a number is above 2^53-1.
func (p *Partial) Append(b []byte) []byte {
	m := multiSignature{proofs: []signerProof{*p.proof()}, nodes: p.Nodes}
	return m.appendMulti(b)
}

// ParsePartial reads what Append has written, and nothing else, in at most MaxPartialBytes. The error
// wraps ErrInvalidSignature. Whether p is of any use is for Verify to say.
func ParsePartial(b []byte) (Partial, error) {
	if len(b) > MaxPartialBytes {
		return Partial{}, fmt.Errorf("%w: contribution of %d bytes", ErrInvalidSignature, len(b))
	}
	d := compact.NewDecoder(b)
	m := decodeMulti(&d)
	switch err := d.Err(); {
	case err != nil:
		return Partial{}, fmt.Errorf("%w: %w", ErrInvalidSignature, err)
	case d.Remaining() > 0:
		return Partial{}, fmt.Errorf("%w: %d bytes behind the contribution", ErrInvalidSignature, d.Remaining())
	case len(m.proofs) != 1 || m.proofs[0].signer > math.MaxInt:
		return Partial{}, fmt.Errorf("%w: not the contribution of one signer", ErrInvalidSignature)
	}
	p := &m.proofs[0]
	return Partial{Signer: int(p.signer), Signature: p.signature, Patch: p.patch, Nodes: m.nodes}, nil
}
