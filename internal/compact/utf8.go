package compact

import (
	"strings"
	"unicode/utf8"
)

// decodeUTF8 converts b to a valid string. Each maximal part of a sequence that
// cannot be completed becomes one U+FFFD, as the Unicode standard recommends
// (section 3.9, U+FFFD substitution of maximal subparts) and the Encoding
// standard of the web requires. Go's own conversions differ: they replace each
// byte, or each run.
func decodeUTF8(b []byte) string {
	var s strings.Builder
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n == 1 {
			n = maximalSubpart(b)
		}
		s.WriteRune(r)
		b = b[n:]
	}
	return s.String()
}

// maximalSubpart returns the length of the longest prefix of b that starts a
// sequence of UTF-8, or 1. b does not start with a whole sequence.
func maximalSubpart(b []byte) int {
	need := 0
	low, high := byte(0x80), byte(0xbf) // bounds of the next byte
	switch first := b[0]; {
	case first >= 0xc2 && first <= 0xdf:
		need = 1
	case first >= 0xe0 && first <= 0xef:
		need = 2
		switch first {
		case 0xe0: // shorter forms exist
			low = 0xa0
		case 0xed: // surrogates
			high = 0x9f
		}
	case first >= 0xf0 && first <= 0xf4:
		need = 3
		switch first {
		case 0xf0: // shorter forms exist
			low = 0x90
		case 0xf4: // past U+10FFFF
			high = 0x8f
		}
	}
	n := 1
	for n <= need && n < len(b) && low <= b[n] && b[n] <= high {
		low, high = 0x80, 0xbf
		n++
	}
	return n
}
