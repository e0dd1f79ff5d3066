package compact

import (
	"encoding/binary"
	"math"
)

// AppendUint appends v in the shortest form. It panics if v is above MaxInt:
// no other implementation could read it, so it must not leave ours. Callers
// bound what comes from outside before.
func AppendUint(b []byte, v uint64) []byte {
	switch {
	case v < tag16:
		return append(b, byte(v))
	case v <= math.MaxUint16:
		return binary.LittleEndian.AppendUint16(append(b, tag16), uint16(v))
	case v <= math.MaxUint32:
		return binary.LittleEndian.AppendUint32(append(b, tag32), uint32(v))
	default:
		return AppendUint64(append(b, tag64), v)
	}
}

// SizeUint returns the number of bytes that AppendUint appends: 1, 3, 5 or 9.
func SizeUint(v uint64) int {
	switch {
	case v < tag16:
		return 1
	case v <= math.MaxUint16:
		return 3
	case v <= math.MaxUint32:
		return 5
	default:
		return 9
	}
}

// AppendInt appends v, zig-zag encoded. It panics if v is below -2^52 or not
// below 2^52.
func AppendInt(b []byte, v int64) []byte {
	return AppendUint(b, uint64(v)<<1^uint64(v>>63))
}

// AppendUint16 appends two bytes, little endian.
func AppendUint16(b []byte, v uint16) []byte { return binary.LittleEndian.AppendUint16(b, v) }

// AppendUint24 appends the low three bytes of v, little endian. It panics if v
// does not fit in them.
func AppendUint24(b []byte, v uint32) []byte {
	if v >= 1<<24 {
		panic("compact: integer above 2^24-1")
	}
	return append(b, byte(v), byte(v>>8), byte(v>>16))
}

// AppendUint32 appends four bytes, little endian.
func AppendUint32(b []byte, v uint32) []byte { return binary.LittleEndian.AppendUint32(b, v) }

// AppendUint64 appends eight bytes, little endian. It panics if v is above
// MaxInt.
func AppendUint64(b []byte, v uint64) []byte {
	if v > MaxInt {
		panic("compact: integer above 2^53-1")
	}
	return binary.LittleEndian.AppendUint64(b, v)
}

// AppendBool appends 1 for true and 0 for false.
func AppendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

// AppendBytes appends the length of v and v itself. A nil v is written like an
// empty one.
func AppendBytes(b, v []byte) []byte {
	return append(AppendUint(b, uint64(len(v))), v...)
}

// SizeBytes returns the number of bytes that AppendBytes appends.
func SizeBytes(v []byte) int { return SizeUint(uint64(len(v))) + len(v) }

// AppendString appends the length of v in bytes and v itself.
func AppendString(b []byte, v string) []byte {
	return append(AppendUint(b, uint64(len(v))), v...)
}

// AppendWords appends the number of words and the words, little endian.
func AppendWords(b []byte, words []uint32) []byte {
	b = AppendUint(b, uint64(len(words)))
	for _, w := range words {
		b = binary.LittleEndian.AppendUint32(b, w)
	}
	return b
}
