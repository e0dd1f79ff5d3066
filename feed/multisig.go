package feed

import (
	"slices"

	"github.com/p2pcore/p2pcore/internal/compact"
	"github.com/p2pcore/p2pcore/internal/flattree"
)

// signerProof is one signature of a multi signature. Patch is how many blocks beyond the common
// length its signer has signed.
type signerProof struct {
	signer    uint64
	signature [64]byte
	patch     uint64
}

// multiSignature is the content of the signature field of every manifest but the oldest kinds
// (formats.md 4.4): signatures, and the nodes that lead from the common length to those that were
// signed.
type multiSignature struct {
	proofs []signerProof
	nodes  []Node

	at map[flattree.Index]int // where in nodes the last one of an index is; nil: not made yet
}

// Least bytes of the elements of a multi signature.
const (
	signerProofBytes = 1 + 64 + 1
	nodeBytes        = 1 + 1 + 32
)

// wrappedBytes is the size of the version 1 form of one signature without a patch.
const wrappedBytes = 1 + signerProofBytes + 1

// appendMulti appends the version 1 form of m.
func (m *multiSignature) appendMulti(b []byte) []byte {
	b = compact.AppendUint(b, uint64(len(m.proofs)))
	for i := range m.proofs {
		p := &m.proofs[i]
		b = compact.AppendUint(b, p.signer)
		b = append(b, p.signature[:]...)
		b = compact.AppendUint(b, p.patch)
	}
	return m.appendNodes(b)
}

// appendMultiV0 appends the form of version 0 manifests. It says of each patch where it starts and
// which nodes are its own: patches[i] lists those of proof i, if it has a patch, as positions in m.nodes.
func (m *multiSignature) appendMultiV0(b []byte, patches ...[]int) []byte {
	b = compact.AppendUint(b, uint64(len(m.proofs)))
	for i := range m.proofs {
		p := &m.proofs[i]
		if p.patch == 0 {
			b = append(b, 0)
		} else {
			b = append(b, 1)
		}
		b = compact.AppendUint(b, p.signer)
		b = append(b, p.signature[:]...)
		if p.patch == 0 {
			continue
		}
		own := patches[i]
		_, last := m.nodes[own[len(own)-1]].Index.Span()
		b = compact.AppendUint(b, uint64(last)/2+1) // JavaScript calls it start; nobody reads it
		b = compact.AppendUint(b, p.patch)
		b = compact.AppendUint(b, uint64(len(own)))
		for _, at := range own {
			b = compact.AppendUint(b, uint64(at))
		}
	}
	return m.appendNodes(b)
}

func (m *multiSignature) appendNodes(b []byte) []byte {
	b = compact.AppendUint(b, uint64(len(m.nodes)))
	for i := range m.nodes {
		n := &m.nodes[i]
		b = compact.AppendUint(b, uint64(n.Index))
		b = compact.AppendUint(b, n.Size)
		b = append(b, n.Hash[:]...)
	}
	return b
}

// parseMulti reads the version 1 form; bytes after it are ignored.
func parseMulti(b []byte) (*multiSignature, error) {
	d := compact.NewDecoder(b)
	m := decodeMulti(&d)
	return m, d.Err()
}

func decodeMulti(d *compact.Decoder) *multiSignature {
	m := &multiSignature{proofs: make([]signerProof, d.Count(signerProofBytes))}
	for i := range m.proofs {
		m.proofs[i] = signerProof{signer: d.Uint(), signature: d.Fixed64(), patch: d.Uint()}
	}
	m.decodeNodes(d)
	return m
}

// parseMultiV0 reads the form of version 0 manifests. Of a patch only the length matters.
func parseMultiV0(b []byte) (*multiSignature, error) {
	d := compact.NewDecoder(b)
	m := &multiSignature{proofs: make([]signerProof, d.Count(signerProofBytes))}
	for i := range m.proofs {
		patched := d.Uint()&1 != 0
		m.proofs[i] = signerProof{signer: d.Uint(), signature: d.Fixed64()}
		if !patched {
			continue
		}
		d.Uint() // start
		m.proofs[i].patch = d.Uint()
		for range d.Count(1) {
			d.Uint()
		}
	}
	m.decodeNodes(&d)
	return m, d.Err()
}

func (m *multiSignature) decodeNodes(d *compact.Decoder) {
	m.nodes = make([]Node, d.Count(nodeBytes))
	for i := range m.nodes {
		m.nodes[i] = Node{Index: flattree.Index(d.Uint()), Size: d.Uint(), Hash: d.Fixed32()}
	}
}

// node returns the node with the index. Of several it is the last, as in JavaScript.
func (m *multiSignature) node(at flattree.Index) (Node, bool) {
	if m.at == nil {
		m.at = make(map[flattree.Index]int, len(m.nodes))
		for i := range m.nodes {
			m.at[m.nodes[i].Index] = i
		}
	}
	i, ok := m.at[at]
	if !ok {
		return Node{}, false
	}
	return m.nodes[i], true
}

// pool returns the position of the node in m.nodes, where it is added if it is not there. It is false if
// another node with its index is.
func (m *multiSignature) pool(n Node) (position int, ok bool) {
	if m.at == nil {
		m.at = make(map[flattree.Index]int)
	}
	i, known := m.at[n.Index]
	if !known {
		i = len(m.nodes)
		m.at[n.Index] = i
		m.nodes = append(m.nodes, n)
	}
	return i, m.nodes[i] == n
}

// SignableLength returns the length that a quorum of signers has signed, of what each has signed.
func SignableLength(lengths []uint64, quorum int) uint64 {
	quorum = max(quorum, 1)
	if quorum > len(lengths) {
		return 0
	}
	sorted := slices.Sorted(slices.Values(lengths))
	return sorted[len(sorted)-quorum]
}
