// Package compact reads and writes the byte encoding of Hypercore, known as
// compact-encoding: integers of variable or fixed width, bytes and strings
// with their length, and raw fields.
//
//	uint   0..0xfc            1 byte
//	       ..0xffff           fd, 2 bytes
//	       ..0xffffffff       fe, 4 bytes
//	       ..2^53-1           ff, 8 bytes
//	int    zig-zag, then uint
//	bool   1 byte
//	bytes  uint length, bytes          (string: the same, UTF-8)
//	array  uint count, elements        (words: uint count, 4 bytes each)
//
// Multi-byte integers are little endian. The bytes do not describe themselves:
// the reader knows what comes next.
package compact

// MaxInt is the largest integer that may be written or read: 2^53-1, the
// largest one that JavaScript represents exactly.
const MaxInt = 1<<53 - 1

// MaxCount is the largest number of elements of an array.
const MaxCount = 0x100000

// First bytes of the longer forms of a uint.
const (
	tag16 = 0xfd
	tag32 = 0xfe
	tag64 = 0xff
)
