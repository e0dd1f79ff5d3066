package compact

import (
	"encoding/binary"
	"errors"
	"unicode/utf8"
)

// Errors of a [Decoder]. The first one sticks.
var (
	// ErrShort means that the value does not end within the input.
	ErrShort = errors.New("compact: input too short")
	// ErrTooLong means that a length or a count is above the caller's limit.
	ErrTooLong = errors.New("compact: value too long")
	// ErrRange means an integer above MaxInt.
	ErrRange = errors.New("compact: integer above 2^53-1")
)

// A Decoder reads values from a byte slice, which is one whole message and
// bounds every read. The first error sticks: from then on all reads return
// zero values, so that a caller checks [Decoder.Err] once, at the end. Bytes
// left over are no error. A Decoder is not safe for concurrent use.
type Decoder struct {
	buf []byte
	off int
	err error
}

// NewDecoder returns a decoder of b, which must not change while results of
// Bytes, OptionalBytes and Rest are in use.
func NewDecoder(b []byte) Decoder { return Decoder{buf: b} }

// Err returns the first error, or nil: ErrShort, ErrTooLong or ErrRange.
func (d *Decoder) Err() error { return d.err }

// Offset returns the number of bytes read so far.
func (d *Decoder) Offset() int { return d.off }

// Remaining returns the number of bytes not read yet; 0 after an error.
func (d *Decoder) Remaining() int {
	if d.err != nil {
		return 0
	}
	return len(d.buf) - d.off
}

// Uint reads a variable-length integer, at most MaxInt. Forms longer than
// needed are accepted.
func (d *Decoder) Uint() uint64 {
	switch first := d.Uint8(); first {
	case tag16:
		return uint64(d.Uint16())
	case tag32:
		return uint64(d.Uint32())
	case tag64:
		return d.Uint64()
	default:
		return uint64(first)
	}
}

// Int reads a zig-zag encoded signed integer.
func (d *Decoder) Int() int64 {
	v := d.Uint()
	return int64(v>>1) ^ -int64(v&1)
}

// Uint8 reads one byte.
func (d *Decoder) Uint8() uint8 {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

// Uint16 reads two bytes, little endian.
func (d *Decoder) Uint16() uint16 {
	if b := d.take(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

// Uint24 reads three bytes, little endian.
func (d *Decoder) Uint24() uint32 {
	if b := d.take(3); b != nil {
		return uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16
	}
	return 0
}

// Uint32 reads four bytes, little endian.
func (d *Decoder) Uint32() uint32 {
	if b := d.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

// Uint64 reads eight bytes, little endian. A value above MaxInt is ErrRange.
func (d *Decoder) Uint64() uint64 {
	b := d.take(8)
	if b == nil {
		return 0
	}
	v := binary.LittleEndian.Uint64(b)
	if v > MaxInt {
		d.fail(ErrRange)
		return 0
	}
	return v
}

// Bool reads one byte; only 1 is true.
func (d *Decoder) Bool() bool { return d.Uint8() == 1 }

// Fixed32 reads 32 bytes.
func (d *Decoder) Fixed32() (v [32]byte) {
	copy(v[:], d.take(len(v)))
	return v
}

// Fixed64 reads 64 bytes.
func (d *Decoder) Fixed64() (v [64]byte) {
	copy(v[:], d.take(len(v)))
	return v
}

// Bytes reads a length and that many bytes, at most limit. The result aliases
// the input and cannot grow into it. It is nil only after an error.
func (d *Decoder) Bytes(limit int) []byte {
	n := d.Uint()
	if d.err != nil {
		return nil
	}
	if n > uint64(max(limit, 0)) {
		d.fail(ErrTooLong)
		return nil
	}
	return d.take(int(n))
}

// OptionalBytes is Bytes, with an empty value as nil.
func (d *Decoder) OptionalBytes(limit int) []byte {
	if b := d.Bytes(limit); len(b) > 0 {
		return b
	}
	return nil
}

// String reads a length and that many bytes of UTF-8, at most limit. What is
// not UTF-8 comes out as U+FFFD.
func (d *Decoder) String(limit int) string {
	b := d.Bytes(limit)
	if utf8.Valid(b) {
		return string(b)
	}
	return decodeUTF8(b)
}

// Count reads the number of elements of an array, of which each takes at least
// elemSize bytes. A count above MaxCount is ErrTooLong, one that cannot fit in
// what is left is ErrShort: so the result bounds an allocation by the input.
func (d *Decoder) Count(elemSize int) int {
	n := d.Uint()
	switch {
	case d.err != nil:
		return 0
	case n > MaxCount:
		d.fail(ErrTooLong)
		return 0
	case n*uint64(max(elemSize, 0)) > uint64(d.Remaining()):
		d.fail(ErrShort)
		return 0
	}
	return int(n)
}

// Words reads a count, at most limit, and that many 32 bit words, little
// endian. The result is new; it is nil only after an error.
func (d *Decoder) Words(limit int) []uint32 {
	n := d.Uint()
	switch {
	case d.err != nil:
		return nil
	case n > uint64(max(limit, 0)):
		d.fail(ErrTooLong)
		return nil
	case n > uint64(d.Remaining())/4:
		d.fail(ErrShort)
		return nil
	}
	b := d.take(int(n) * 4)
	words := make([]uint32, n)
	for i := range words {
		words[i] = binary.LittleEndian.Uint32(b[i*4:])
	}
	return words
}

// Rest returns all bytes not read yet and reads them. It aliases the input and
// never fails.
func (d *Decoder) Rest() []byte { return d.take(d.Remaining()) }

// take reads n bytes; nil after an error, never nil otherwise.
func (d *Decoder) take(n int) []byte {
	if d.err != nil {
		return nil
	}
	if n > len(d.buf)-d.off {
		d.err = ErrShort
		return nil
	}
	if d.buf == nil {
		return []byte{}
	}
	b := d.buf[d.off : d.off+n : d.off+n]
	d.off += n
	return b
}

func (d *Decoder) fail(err error) {
	if d.err == nil {
		d.err = err
	}
}
