package feed

import (
	"fmt"
	"slices"
)

// Assemble makes the signature field of a feed of several signers, for AppendOptions.Signature and the
// like. All parts are for the same head, in the order in which they are to stand in the signature: readers
// look at the first m.Quorum. A part that does not verify makes the whole worthless, and is not noticed
// here: look at each with Partial.Verify.
//
// The result of a version 0 manifest with one signer and no patches is the bare signature. A compat feed,
// which m does not show, takes the Partial's Signature itself.
//
// The error is ErrNoQuorum if the parts are too few (or the manifest never has enough), or wraps
// ErrInvalidSignature: a signer twice or unknown, a patch that m does not allow or that lacks nodes, parts
// that are ahead with different blocks, or more than MaxSignatureBytes.
func Assemble(m *Manifest, parts []Partial) ([]byte, error) {
	quorum := m.Quorum
	if m.bare() {
		quorum = 1
	}
	if len(parts) < quorum || quorum == 0 {
		return nil, fmt.Errorf("%w: %d of %d", ErrNoQuorum, len(parts), quorum)
	}
	var out multiSignature
	patches := make([][]int, len(parts))
	seen := make(map[int]bool, len(parts))
	for i := range parts {
		p := &parts[i]
		if err := p.check(m); err != nil {
			return nil, fmt.Errorf("%w: part %d: %w", ErrInvalidSignature, i, err)
		}
		if seen[p.Signer] {
			return nil, fmt.Errorf("%w: part %d: %w", ErrInvalidSignature, i, errSignerTwice)
		}
		seen[p.Signer] = true
		for _, n := range p.Nodes {
			at, ok := out.pool(n)
			if !ok {
				return nil, fmt.Errorf("%w: part %d: another node %d than a part before", ErrInvalidSignature, i, n.Index)
			}
			patches[i] = append(patches[i], at)
		}
		out.proofs = append(out.proofs, *p.proof())
	}
	var b []byte
	switch {
	case m.bare():
		b = slices.Clone(parts[0].Signature[:])
	case m.Version == 0:
		b = out.appendMultiV0(nil, patches...)
	default:
		b = out.appendMulti(nil)
	}
	if len(b) > MaxSignatureBytes {
		return nil, fmt.Errorf("%w: %d bytes", ErrInvalidSignature, len(b))
	}
	return b, nil
}
