package wire

import "github.com/p2pcore/p2pcore/internal/compact"

// Sync tells the head and the wishes of its sender.
//
//	uint flags (1 CanUpgrade, 2 Uploading, 4 Downloading, 8 HasManifest, 16 AllowPush)
//	uint fork, uint length, uint remote length
type Sync struct {
	Fork   uint64
	Length uint64 // in blocks
	// RemoteLength is the receiver's length as the sender last saw it, 0 when their forks differ.
	RemoteLength uint64
	// CanUpgrade says that the sender can prove an upgrade from RemoteLength to Length.
	CanUpgrade  bool
	Uploading   bool
	Downloading bool
	HasManifest bool
	AllowPush   bool
}

func parseSync(d *decoder) *Sync {
	flags := d.Uint()
	return &Sync{
		Fork: d.Uint(), Length: d.Uint(), RemoteLength: d.Uint(),
		CanUpgrade: flags&1 != 0, Uploading: flags&2 != 0, Downloading: flags&4 != 0,
		HasManifest: flags&8 != 0, AllowPush: flags&16 != 0,
	}
}

func (m *Sync) Type() uint64 { return TypeSync }
func (m *Sync) Size() int    { return 1 + 3*maxUint }

func (m *Sync) Append(b []byte) []byte {
	flags := bit(m.CanUpgrade, 1) | bit(m.Uploading, 2) | bit(m.Downloading, 4) |
		bit(m.HasManifest, 8) | bit(m.AllowPush, 16)
	b = compact.AppendUint(b, flags)
	b = compact.AppendUint(b, m.Fork)
	b = compact.AppendUint(b, m.Length)
	return compact.AppendUint(b, m.RemoteLength)
}

// Want asks to be told, now and from now on, which blocks of [Start, Start+Length) the receiver
// has. With Any one block of them is enough.
//
//	uint start, uint length, optional uint flags (1 Any)
type Want struct {
	Start, Length uint64
	Any           bool
}

// Unwant takes a Want back. Its layout is the same.
type Unwant Want

func parseWant(d *decoder) *Want {
	m := &Want{Start: d.Uint(), Length: d.Uint()}
	if d.Err() == nil && d.Remaining() > 0 {
		m.Any = d.Uint()&1 != 0
	}
	return m
}

func (m *Want) Type() uint64 { return TypeWant }
func (m *Want) Size() int    { return 2*maxUint + 1 }

func (m *Want) Append(b []byte) []byte {
	b = compact.AppendUint(b, m.Start)
	b = compact.AppendUint(b, m.Length)
	if m.Any {
		b = append(b, 1)
	}
	return b
}

func (m *Unwant) Type() uint64           { return TypeUnwant }
func (m *Unwant) Size() int              { return (*Want)(m).Size() }
func (m *Unwant) Append(b []byte) []byte { return (*Want)(m).Append(b) }

// Bitfield overwrites what the receiver knows of the blocks from Start on: block Start+k is bit
// k mod 32, least significant first, of Words[k/32].
//
//	uint start, uint number of words, the words little endian
type Bitfield struct {
	Start uint64 // a multiple of 32 when it is honest; Parse does not check that
	Words []uint32
}

func (m *Bitfield) Type() uint64 { return TypeBitfield }
func (m *Bitfield) Size() int    { return 2*maxUint + 4*len(m.Words) }

func (m *Bitfield) Append(b []byte) []byte {
	b = compact.AppendUint(b, m.Start)
	b = compact.AppendUint(b, uint64(len(m.Words)))
	for _, w := range m.Words {
		b = compact.AppendUint32(b, w)
	}
	return b
}

// Range says that the sender has the blocks [Start, Start+Length) or, with Drop, no longer has
// them.
//
//	uint flags (1 Drop, 2 length is one), uint start, uint length unless flag 2
type Range struct {
	Drop          bool
	Start, Length uint64
}

func parseRange(d *decoder) *Range {
	flags := d.Uint()
	m := &Range{Drop: flags&1 != 0, Start: d.Uint(), Length: 1}
	if flags&2 == 0 {
		m.Length = d.Uint()
	}
	return m
}

func (m *Range) Type() uint64 { return TypeRange }
func (m *Range) Size() int    { return 1 + 2*maxUint }

func (m *Range) Append(b []byte) []byte {
	b = compact.AppendUint(b, bit(m.Drop, 1)|bit(m.Length == 1, 2))
	b = compact.AppendUint(b, m.Start)
	if m.Length != 1 {
		b = compact.AppendUint(b, m.Length)
	}
	return b
}

// Extension carries an application's message. An empty name repeats the name last sent on this
// channel in this direction.
//
//	string name, the message to the end
type Extension struct {
	Name    string // at most 1024 bytes
	Message []byte
}

func (m *Extension) Type() uint64 { return TypeExtension }
func (m *Extension) Size() int    { return maxUint + len(m.Name) + len(m.Message) }

func (m *Extension) Append(b []byte) []byte {
	return append(compact.AppendString(b, m.Name), m.Message...)
}

func bit(on bool, v uint64) uint64 {
	if on {
		return v
	}
	return 0
}
