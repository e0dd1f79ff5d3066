package wire

import (
	"errors"
	"fmt"

	"github.com/p2pcore/p2pcore/internal/compact"
)

// Message types, the second field of a frame on an open channel.
const (
	TypeSync uint64 = iota
	TypeRequest
	TypeCancel
	TypeData
	TypeNoData
	TypeWant
	TypeUnwant
	TypeBitfield
	TypeRange
	TypeExtension
)

// ErrUnknownType is returned by Parse for a type that this protocol does not have. A receiver
// ignores such a message.
var ErrUnknownType = errors.New("wire: unknown message type")

// ErrMalformed is wrapped by every other error of Parse and ParseHandshake: the bytes are not a
// message of that type.
var ErrMalformed = errors.New("wire: malformed message")

// Message is one of *Sync, *Request, *Cancel, *Data, *NoData, *Want, *Unwant, *Bitfield, *Range
// and *Extension.
type Message interface {
	// Type is the message's number on the channel, 0 to 9.
	Type() uint64
	// Append appends the message's payload, without the type, to b.
	Append(b []byte) []byte
	// Size is an upper bound of the number of bytes that Append appends, cheap to ask for.
	Size() int
}

// Parse reads the payload of a message of the given type. The result aliases b.
//
// The error is ErrUnknownType, or wraps ErrMalformed.
func Parse(typ uint64, b []byte) (Message, error) {
	d := decoder{Decoder: compact.NewDecoder(b)}
	m := parse(typ, &d)
	if m == nil {
		return nil, ErrUnknownType
	}
	if err := d.failure(); err != nil {
		return nil, fmt.Errorf("%w: type %d at byte %d: %w", ErrMalformed, typ, d.Offset(), err)
	}
	return m, nil
}

func parse(typ uint64, d *decoder) Message {
	switch typ {
	case TypeSync:
		return parseSync(d)
	case TypeRequest:
		return parseRequest(d)
	case TypeCancel:
		return &Cancel{ID: d.Uint()}
	case TypeData:
		return parseData(d)
	case TypeNoData:
		return parseNoData(d)
	case TypeWant:
		return (*Want)(parseWant(d))
	case TypeUnwant:
		return (*Unwant)(parseWant(d))
	case TypeBitfield:
		return &Bitfield{Start: d.Uint(), Words: d.Words(compact.MaxCount)}
	case TypeRange:
		return parseRange(d)
	case TypeExtension:
		return &Extension{Name: d.String(maxExtensionName), Message: d.Rest()}
	}
	return nil
}

// maxUint is the longest form of a variable-length integer, in bytes.
const maxUint = 9

// decoder adds to the byte encoding the errors that only a message knows.
type decoder struct {
	compact.Decoder
	refused error
}

func (d *decoder) failure() error {
	if err := d.Err(); err != nil {
		return err
	}
	return d.refused
}

func (d *decoder) refuse(err error) {
	if d.refused == nil {
		d.refused = err
	}
}
