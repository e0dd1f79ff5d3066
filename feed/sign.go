package feed

import (
	"errors"
	"fmt"
	"slices"

	"github.com/p2pcore/p2pcore/internal/merkle"
)

// authority knows who may sign for a feed and how. It is immutable.
type authority struct {
	key      Key
	manifest *Manifest
	compat   bool
}

var _ merkle.SigVerifier = (*authority)(nil)

// newAuthority fails with ErrKeyMismatch if m is not the manifest of key.
func newAuthority(key Key, m *Manifest) (*authority, error) {
	a := &authority{key: key, manifest: m, compat: m.compat(key)}
	if !a.compat && m.Key() != key {
		return nil, fmt.Errorf("%w: manifest hashes to another key", ErrKeyMismatch)
	}
	return a, nil
}

// assumedAuthority is what a reader believes that knows the key only: an old feed, whose key is the
// public key (formats.md 4.2). The signature shows whether that is so.
func assumedAuthority(key Key) *authority {
	return &authority{key: key, manifest: DefaultManifest(key), compat: true}
}

// bare reports whether the signature field holds a bare Ed25519 signature.
func (a *authority) bare() bool { return a.compat || a.manifest.bare() }

// prologue returns what pins the beginning of the feed, or nil.
func (a *authority) prologue() *merkle.Prologue {
	if p := a.manifest.Prologue; p != nil && a.manifest.Version > 0 && !a.compat {
		return &merkle.Prologue{Length: p.Length, Hash: p.Hash}
	}
	return nil
}

// soleSigner reports whether the key pair with this public key alone may sign for the feed. There may be
// several such.
func (a *authority) soleSigner(public [32]byte) bool {
	m := a.manifest
	if a.bare() {
		return m.Signers[0].PublicKey == public
	}
	seats := 0
	for i := range m.Signers {
		if m.Signers[i].PublicKey == public {
			seats++
		}
	}
	return m.Quorum > 0 && seats >= m.Quorum
}

// sign returns the signature field for h by the key pair alone. The error is ErrNotWritable if that is not
// enough.
func (a *authority) sign(pair KeyPair, h Head) ([]byte, error) {
	public := pair.Public()
	if pair.IsZero() || !a.soleSigner(public) {
		return nil, ErrNotWritable
	}
	if a.bare() {
		return pair.Sign(a.signable(h, 0)), nil
	}
	var m multiSignature
	for i := 0; len(m.proofs) < a.manifest.Quorum; i++ {
		if a.manifest.Signers[i].PublicKey == public {
			signature := pair.Sign(a.signable(h, i))
			m.proofs = append(m.proofs, signerProof{signer: uint64(i), signature: [64]byte(signature)})
		}
	}
	if a.manifest.Version == 0 {
		return m.appendMultiV0(nil), nil
	}
	return m.appendMulti(make([]byte, 0, wrappedBytes)), nil
}

// VerifyHead checks the signature field of a feed over h (formats.md 4.5), without the feed: m is the
// manifest of key, signature is what a proof carries or Assemble returns. The roots are those of h; they
// may be left out if m does not allow patches. What the prologue pins needs no signature.
//
// It accepts what JavaScript accepts. A feed does not take a head of which all signers have signed a longer
// one only: its sizes are nobody's word, and the next upgrade would show it.
//
// The error is ErrKeyMismatch if m is not the manifest of key, ErrInvalidProof if the roots are not those
// of h, or wraps ErrInvalidSignature and says what does not hold.
func VerifyHead(key Key, m *Manifest, h Head, roots []Node, signature []byte) error {
	a, err := newAuthority(key, m)
	if err != nil {
		return err
	}
	if len(roots) > 0 {
		if _, err := treeOf(h, roots); err != nil {
			return err
		}
	}
	if err := a.VerifyHead(h, roots, signature); err != nil {
		return fmt.Errorf("%w: length %d: %w", ErrInvalidSignature, h.Length, err)
	}
	return nil
}

// VerifyLegacyHead checks a signature of the oldest writers, of compat feeds only (LegacySignable).
// Replication does not take them. The error wraps ErrInvalidSignature.
func VerifyLegacyHead(key Key, h Head, signature []byte) error {
	if !verifyEd25519(key, LegacySignable(h), signature) {
		return fmt.Errorf("%w: length %d: %w", ErrInvalidSignature, h.Length, errSignature)
	}
	return nil
}

// checkSignature is VerifyHead with the bounds of what can be stored. The error wraps ErrInvalidSignature.
func (a *authority) checkSignature(h Head, roots []Node, signature []byte) error {
	if err := (bounded{a}).VerifyHead(h, roots, signature); err != nil {
		return fmt.Errorf("%w: length %d: %w", ErrInvalidSignature, h.Length, err)
	}
	return nil
}

// VerifyHead checks the signature field over h, the head of the tree with roots, as formats.md 4.5
// says. The error says what does not hold.
//
// What the prologue pins needs no signature. The prologue says nothing of the fork: who does not know it
// already asks forkBound.
func (a *authority) VerifyHead(h Head, roots []Node, signature []byte) error {
	if p := a.prologue(); p != nil && h.Length <= p.Length {
		if h.Length == p.Length && h.Hash == p.Hash {
			return nil
		}
		return errPrologue
	}
	return a.verifySigned(h, roots, signature)
}

// forkBound judges heads of which the fork has to be proven as well: those of another fork than the feed's,
// or of a feed that is not known. Where only the prologue vouches for a head, anybody could put any fork
// on it; so past fork 0, with which a feed begins, it must be signed like any other.
type forkBound struct{ bounded }

func (b forkBound) VerifyHead(h Head, roots []Node, signature []byte) error {
	if err := b.bounded.VerifyHead(h, roots, signature); err != nil {
		return err
	}
	if p := b.prologue(); p != nil && h.Length <= p.Length && h.Fork > 0 {
		return b.verifySigned(h, roots, signature)
	}
	return nil
}

// verifySigned is VerifyHead for heads that must be signed.
func (a *authority) verifySigned(h Head, roots []Node, signature []byte) error {
	m := a.manifest
	if a.bare() {
		return a.verifyOne(h, 0, signature)
	}
	if len(signature) == 0 || m.Quorum == 0 {
		return ErrNoQuorum
	}
	parse := parseMulti
	if m.Version == 0 {
		parse = parseMultiV0
	}
	multi, err := parse(signature)
	if err != nil {
		return err
	}
	if len(multi.proofs) < m.Quorum {
		return ErrNoQuorum
	}
	counted := make(map[uint64]bool)
	for i := range multi.proofs[:m.Quorum] {
		p := &multi.proofs[i]
		if counted[p.signer] {
			return errSignerTwice
		}
		counted[p.signer] = true
		if err := a.verifyPart(h, roots, multi, p); err != nil {
			return err
		}
	}
	return nil
}

// someSigned reports whether one of the signers has signed h itself, of a signature that VerifyHead has
// accepted. Where all have signed a longer feed, nobody vouches for the sizes of the roots of h: a parent
// commits to the sum of its children's, so anybody could move bytes from the last root to the patch and have
// another head with the signatures of this one. The length that a quorum can sign (SignableLength) is always one that a
// signer has signed.
func (a *authority) someSigned(h Head, signature []byte) bool {
	m := a.manifest
	if p := a.prologue(); !m.AllowPatch || a.bare() || p != nil && h.Length <= p.Length {
		return true
	}
	parse := parseMulti
	if m.Version == 0 {
		parse = parseMultiV0
	}
	multi, err := parse(signature)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(multi.proofs[:min(len(multi.proofs), m.Quorum)], func(p signerProof) bool { return p.patch == 0 })
}

// verifyPart checks one signature of a multi signature, whose signer may have signed more than h.
func (a *authority) verifyPart(h Head, roots []Node, multi *multiSignature, p *signerProof) error {
	if p.signer >= uint64(len(a.manifest.Signers)) {
		return errUnknownSigner
	}
	if p.patch > 0 && a.manifest.AllowPatch {
		var err error
		if h, err = multi.extend(h, roots, p.patch); err != nil {
			return err
		}
	}
	return a.verifyOne(h, int(p.signer), p.signature[:])
}

// extend returns the head that the tree with roots has after patch more blocks, of the nodes of m. What
// is missing in a patch is the signature's fault: the error is none of merkle's.
func (m *multiSignature) extend(h Head, roots []Node, patch uint64) (Head, error) {
	tree, err := treeOf(h, roots)
	if err == nil {
		tree, err = tree.Extend(patch, m.node)
	}
	if err != nil {
		return Head{}, fmt.Errorf("patch of %d blocks: %s", patch, err.Error())
	}
	return tree.Head(), nil
}

// treeOf returns the tree of h. Of other roots, the nodes of a patch could make a head that has been
// signed, whatever h is.
func treeOf(h Head, roots []Node) (*merkle.Tree, error) {
	tree, err := merkle.NewTree(h.Fork, roots)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidProof, err)
	}
	if at := tree.Head(); at.Length != h.Length || at.Hash != h.Hash {
		return nil, fmt.Errorf("%w: roots of length %d, which are not those of the head of length %d", ErrInvalidProof, at.Length, h.Length)
	}
	return tree, nil
}

func (a *authority) verifyOne(h Head, signer int, signature []byte) error {
	if !verifyEd25519(a.manifest.Signers[signer].PublicKey, a.signable(h, signer), signature) {
		return errSignature
	}
	return nil
}

var (
	errSignature     = errors.New("signature does not fit")
	errPrologue      = errors.New("differs from the prologue")
	errSignerTwice   = errors.New("signer counted twice")
	errUnknownSigner = errors.New("unknown signer")
	errNobodysLength = errors.New("nobody has signed this length itself, only longer ones")
)
