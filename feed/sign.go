package feed

import (
	"encoding/binary"
	"errors"
	"fmt"

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
func (a *authority) bare() bool {
	m := a.manifest
	return a.compat || m.Version == 0 && !m.AllowPatch && len(m.Signers) == 1
}

// signable returns the bytes that signer i signs for h (formats.md 4.3).
func (a *authority) signable(h Head, i int) []byte {
	b := make([]byte, 0, 112)
	b = append(b, treeNamespace[:]...)
	switch {
	case a.compat:
	case a.manifest.Version == 0:
		b = append(b, a.manifest.Signers[i].Namespace[:]...)
	default:
		b = append(b, a.key[:]...)
	}
	return appendHead(b, h)
}

func appendHead(b []byte, h Head) []byte {
	b = append(b, h.Hash[:]...)
	b = binary.LittleEndian.AppendUint64(b, h.Length)
	return binary.LittleEndian.AppendUint64(b, h.Fork)
}

// prologue returns what pins the beginning of the feed, or nil.
func (a *authority) prologue() *merkle.Prologue {
	if p := a.manifest.Prologue; p != nil && a.manifest.Version > 0 && !a.bare() {
		return &merkle.Prologue{Length: p.Length, Hash: p.Hash}
	}
	return nil
}

// soleSigner reports whether the key pair with this public key alone may sign for the feed.
func (a *authority) soleSigner(public [32]byte) bool {
	m := a.manifest
	return len(m.Signers) == 1 && m.Signers[0].PublicKey == public && (a.bare() || m.Quorum == 1)
}

// sign returns the signature field for h by the sole signer.
func (a *authority) sign(pair KeyPair, h Head) []byte {
	signature := pair.Sign(a.signable(h, 0))
	if a.bare() {
		return signature
	}
	m := multiSignature{proofs: []signerProof{{signature: [64]byte(signature)}}}
	if a.manifest.Version == 0 {
		return m.appendMultiV0(nil, [][]uint64{nil})
	}
	return m.appendMulti(make([]byte, 0, 68))
}

// VerifyHead checks the signature field over h, the head of the tree with roots, as formats.md 4.5
// says. The error says what does not hold.
func (a *authority) VerifyHead(h Head, roots []Node, signature []byte) error {
	m := a.manifest
	if a.bare() {
		return a.verifyOne(h, 0, signature)
	}
	if p := m.Prologue; m.Version > 0 && p != nil && h.Length <= p.Length {
		if h.Length == p.Length && h.Hash == p.Hash {
			return nil
		}
		return errPrologue
	}
	if len(signature) == 0 || m.Quorum == 0 {
		return errNoQuorum
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
		return errNoQuorum
	}
	counted := make(map[uint64]bool)
	for i := range multi.proofs[:m.Quorum] {
		p := &multi.proofs[i]
		signed := h
		if p.patch > 0 && m.AllowPatch {
			if signed, err = multi.extend(h, roots, p.patch); err != nil {
				return err
			}
		}
		if p.signer >= uint64(len(m.Signers)) {
			return errUnknownSigner
		}
		if counted[p.signer] {
			return errSignerTwice
		}
		counted[p.signer] = true
		if err := a.verifyOne(signed, int(p.signer), p.signature[:]); err != nil {
			return err
		}
	}
	return nil
}

// extend returns the head that the tree with roots has after patch more blocks, of the nodes of m.
func (m *multiSignature) extend(h Head, roots []Node, patch uint64) (Head, error) {
	tree, err := merkle.NewTree(h.Fork, roots)
	if err != nil {
		return Head{}, err
	}
	if tree, err = tree.Extend(patch, m.node); err != nil {
		return Head{}, err
	}
	return tree.Head(), nil
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
	errNoQuorum      = errors.New("no quorum")
	errSignerTwice   = errors.New("signer counted twice")
	errUnknownSigner = errors.New("unknown signer")
)
