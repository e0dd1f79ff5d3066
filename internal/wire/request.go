package wire

import (
	"github.com/p2pcore/p2pcore/internal/compact"
	"github.com/p2pcore/p2pcore/internal/flattree"
	"github.com/p2pcore/p2pcore/internal/merkle"
)

// Flags of the parts of a request and of a data message.
const (
	flagBlock    = 1
	flagHash     = 2
	flagSeek     = 4
	flagUpgrade  = 8
	flagManifest = 16
	flagPriority = 32
)

// Request asks for parts of a proof. ID 0 is reserved for the conflict probe.
//
//	uint flags, uint id, uint fork, then as flagged, in this order
//	1 block: uint index, uint nodes      2 hash: uint tree index, uint nodes
//	4 seek: uint bytes, uint padding     8 upgrade: uint start, uint length
//	16 manifest: nothing                 32 priority: uint
type Request struct {
	ID       uint64
	Priority uint64 // 0 for downloads, 1 for what somebody waits for
	merkle.Request
}

// requestParts lets a parsed request with all its parts be one allocation.
type requestParts struct {
	Request
	block   merkle.BlockRequest
	hash    merkle.HashRequest
	seek    merkle.SeekRequest
	upgrade merkle.UpgradeRequest
}

func parseRequest(d *decoder) *Request {
	flags := d.Uint()
	m := &requestParts{}
	m.ID, m.Fork = d.Uint(), d.Uint()
	if flags&flagBlock != 0 {
		m.block = merkle.BlockRequest{Index: d.Uint(), Nodes: d.Uint()}
		m.Block = &m.block
	}
	if flags&flagHash != 0 {
		m.hash = merkle.HashRequest{Index: flattree.Index(d.Uint()), Nodes: d.Uint()}
		m.Hash = &m.hash
	}
	if flags&flagSeek != 0 {
		m.seek = merkle.SeekRequest{Bytes: d.Uint(), Padding: d.Uint()}
		m.Seek = &m.seek
	}
	if flags&flagUpgrade != 0 {
		m.upgrade = merkle.UpgradeRequest{Start: d.Uint(), Length: d.Uint()}
		m.Upgrade = &m.upgrade
	}
	m.Manifest = flags&flagManifest != 0
	if flags&flagPriority != 0 {
		m.Priority = d.Uint()
	}
	return &m.Request
}

func (m *Request) Type() uint64 { return TypeRequest }
func (m *Request) Size() int    { return 1 + 11*maxUint }

func (m *Request) Append(b []byte) []byte {
	b = compact.AppendUint(b, bit(m.Block != nil, flagBlock)|bit(m.Hash != nil, flagHash)|
		bit(m.Seek != nil, flagSeek)|bit(m.Upgrade != nil, flagUpgrade)|
		bit(m.Manifest, flagManifest)|bit(m.Priority != 0, flagPriority))
	b = compact.AppendUint(b, m.ID)
	b = compact.AppendUint(b, m.Fork)
	if p := m.Block; p != nil {
		b = appendPair(b, p.Index, p.Nodes)
	}
	if p := m.Hash; p != nil {
		b = appendPair(b, uint64(p.Index), p.Nodes)
	}
	if p := m.Seek; p != nil {
		b = appendPair(b, p.Bytes, p.Padding)
	}
	if p := m.Upgrade; p != nil {
		b = appendPair(b, p.Start, p.Length)
	}
	if m.Priority != 0 {
		b = compact.AppendUint(b, m.Priority)
	}
	return b
}

func appendPair(b []byte, x, y uint64) []byte {
	return compact.AppendUint(compact.AppendUint(b, x), y)
}

// Cancel takes a request back. Its answer may be on the way already.
//
//	uint request id
type Cancel struct{ ID uint64 }

func (m *Cancel) Type() uint64           { return TypeCancel }
func (m *Cancel) Size() int              { return maxUint }
func (m *Cancel) Append(b []byte) []byte { return compact.AppendUint(b, m.ID) }

// Reasons of a NoData. Other values are carried as they are.
const (
	ReasonNone           uint64 = 0
	ReasonNotAvailable   uint64 = 1
	ReasonInvalidRequest uint64 = 2
)

// NoData refuses a request.
//
//	uint request id, optional uint flags (1 reason follows), uint reason
type NoData struct {
	ID     uint64
	Reason uint64
}

func parseNoData(d *decoder) *NoData {
	m := &NoData{ID: d.Uint()}
	if d.Err() != nil || d.Remaining() == 0 {
		return m
	}
	if d.Uint()&1 != 0 {
		m.Reason = d.Uint()
	}
	return m
}

func (m *NoData) Type() uint64 { return TypeNoData }
func (m *NoData) Size() int    { return 1 + 2*maxUint }

func (m *NoData) Append(b []byte) []byte {
	b = compact.AppendUint(b, m.ID)
	b = compact.AppendUint(b, bit(m.Reason != 0, 1))
	if m.Reason != 0 {
		b = compact.AppendUint(b, m.Reason)
	}
	return b
}
