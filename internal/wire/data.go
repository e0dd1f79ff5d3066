package wire

import (
	"errors"

	"github.com/p2pcore/p2pcore/internal/compact"
	"github.com/p2pcore/p2pcore/internal/flattree"
	"github.com/p2pcore/p2pcore/internal/merkle"
)

// Data answers a request with a proof. ID 0 is a push or the answer to a conflict probe.
//
//	uint flags (as in a request), uint request id, uint fork, then as flagged
//	1 block: uint index, buffer value, nodes     2 hash: uint tree index, nodes
//	4 seek: uint bytes, nodes
//	8 upgrade: uint start, uint length, nodes, additional nodes, buffer signature (empty = none)
//	16 manifest: to the end
//	nodes = uint count, then per node: uint tree index, uint size, 32 bytes hash
type Data struct {
	ID    uint64
	Proof merkle.Proof
}

// dataParts lets a parsed answer with a block, the common one, be one allocation beside its nodes.
type dataParts struct {
	Data
	block merkle.BlockProof
}

func parseData(d *decoder) *Data {
	flags := d.Uint()
	m := &dataParts{}
	m.ID, m.Proof.Fork = d.Uint(), d.Uint()
	if flags&flagBlock != 0 {
		m.block = merkle.BlockProof{Index: d.Uint(), Value: d.Bytes(MaxMessage), Nodes: parseNodes(d)}
		m.Proof.Block = &m.block
	}
	if flags&flagHash != 0 {
		m.Proof.Hash = &merkle.HashProof{Index: flattree.Index(d.Uint()), Nodes: parseNodes(d)}
	}
	if flags&flagSeek != 0 {
		m.Proof.Seek = &merkle.SeekProof{Bytes: d.Uint(), Nodes: parseNodes(d)}
	}
	if flags&flagUpgrade != 0 {
		m.Proof.Upgrade = &merkle.UpgradeProof{
			Start: d.Uint(), Length: d.Uint(),
			Nodes: parseNodes(d), Additional: parseNodes(d),
			Signature: d.OptionalBytes(maxSignature),
		}
	}
	if flags&flagManifest != 0 {
		m.Proof.Manifest = d.Rest()
		if len(m.Proof.Manifest) == 0 {
			d.refuse(errEmptyManifest)
		}
	}
	return &m.Data
}

var (
	errEmptyManifest = errors.New("empty manifest")
	errManyNodes     = errors.New("too many nodes")
)

func parseNodes(d *decoder) []merkle.Node {
	const minNode = 1 + 1 + 32
	n := d.Count(minNode)
	if n > maxNodes {
		d.refuse(errManyNodes)
	}
	if n == 0 || d.failure() != nil {
		return nil
	}
	nodes := make([]merkle.Node, n)
	for i := range nodes {
		nodes[i] = merkle.Node{Index: flattree.Index(d.Uint()), Size: d.Uint(), Hash: d.Fixed32()}
	}
	return nodes
}

func (m *Data) Type() uint64 { return TypeData }

// Size is an upper bound of what Append appends, at most some hundred bytes above it.
func (m *Data) Size() int {
	p := &m.Proof
	n := 1 + 2*maxUint + len(p.Manifest)
	if p.Block != nil {
		n += 2*maxUint + len(p.Block.Value) + sizeNodes(p.Block.Nodes)
	}
	if p.Hash != nil {
		n += maxUint + sizeNodes(p.Hash.Nodes)
	}
	if p.Seek != nil {
		n += maxUint + sizeNodes(p.Seek.Nodes)
	}
	if u := p.Upgrade; u != nil {
		n += 3*maxUint + sizeNodes(u.Nodes) + sizeNodes(u.Additional) + len(u.Signature)
	}
	return n
}

func sizeNodes(nodes []merkle.Node) int { return maxUint + len(nodes)*(2*maxUint+32) }

func (m *Data) Append(b []byte) []byte {
	p := &m.Proof
	b = compact.AppendUint(b, bit(p.Block != nil, flagBlock)|bit(p.Hash != nil, flagHash)|
		bit(p.Seek != nil, flagSeek)|bit(p.Upgrade != nil, flagUpgrade)|
		bit(p.Manifest != nil, flagManifest))
	b = appendPair(b, m.ID, p.Fork)
	if p.Block != nil {
		b = compact.AppendUint(b, p.Block.Index)
		b = compact.AppendBytes(b, p.Block.Value)
		b = appendNodes(b, p.Block.Nodes)
	}
	if p.Hash != nil {
		b = compact.AppendUint(b, uint64(p.Hash.Index))
		b = appendNodes(b, p.Hash.Nodes)
	}
	if p.Seek != nil {
		b = compact.AppendUint(b, p.Seek.Bytes)
		b = appendNodes(b, p.Seek.Nodes)
	}
	if u := p.Upgrade; u != nil {
		b = appendPair(b, u.Start, u.Length)
		b = appendNodes(b, u.Nodes)
		b = appendNodes(b, u.Additional)
		b = compact.AppendBytes(b, u.Signature)
	}
	return append(b, p.Manifest...)
}

func appendNodes(b []byte, nodes []merkle.Node) []byte {
	b = compact.AppendUint(b, uint64(len(nodes)))
	for i := range nodes {
		n := &nodes[i]
		b = appendPair(b, uint64(n.Index), n.Size)
		b = append(b, n.Hash[:]...)
	}
	return b
}
