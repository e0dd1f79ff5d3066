package feed

import (
	"encoding/base32"
	"encoding/hex"
	"fmt"
	"strings"

	"golang.org/x/crypto/blake2b"
)

// Key names a feed and proves what it contains: it is the hash of the feed's manifest, or, for
// feeds of old writers, the public key itself. Who has the key may read the feed.
type Key [32]byte

// DiscoveryKey is derived from a Key. It names the feed to others without giving the right to read.
type DiscoveryKey [32]byte

// z32 is z-base-32: base 32 with an alphabet for people, 5 bits per character, no padding.
// https://philzimmermann.com/docs/human-oriented-base-32-encoding.txt
var z32 = base32.NewEncoding("ybndrfg8ejkmcpqxot1uwisza345h769").WithPadding(base32.NoPadding)

const z32KeyLen, hexKeyLen = 52, 64

// linkScheme is cut off a key, with everything from the next slash on.
const linkScheme = "pear://"

// ParseKey reads a key: 52 characters of z-base-32 (lower case), 64 of hexadecimal (either case),
// or a link pear://KEY/…. The error is ErrMalformedKey.
//
// The four spare bits of the last z-base-32 character are not checked, as in JavaScript: compare
// keys, not strings.
func ParseKey(s string) (Key, error) {
	text := s
	if rest, ok := strings.CutPrefix(s, linkScheme); ok {
		text, _, _ = strings.Cut(rest, "/")
	}
	var k Key
	switch len(text) {
	case z32KeyLen:
		// Without this, the decoder would skip line breaks.
		if strings.ContainsAny(text, "\r\n") {
			return Key{}, malformedKey(s)
		}
		if n, err := z32.Decode(k[:], []byte(text)); err != nil || n != len(k) {
			return Key{}, malformedKey(s)
		}
	case hexKeyLen:
		if _, err := hex.Decode(k[:], []byte(text)); err != nil {
			return Key{}, malformedKey(s)
		}
	default:
		return Key{}, malformedKey(s)
	}
	return k, nil
}

// malformedKey shows at most as much of the text as a key has.
func malformedKey(s string) error {
	if len(s) > 80 {
		s = s[:80] + "…"
	}
	return fmt.Errorf("%w: %q", ErrMalformedKey, s)
}

// String returns the key in z-base-32, 52 characters.
func (k Key) String() string { return z32.EncodeToString(k[:]) }

// Hex returns the key in hexadecimal, 64 characters.
func (k Key) Hex() string { return hex.EncodeToString(k[:]) }

// MarshalText is String.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText is ParseKey.
func (k *Key) UnmarshalText(text []byte) error {
	parsed, err := ParseKey(string(text))
	if err == nil {
		*k = parsed
	}
	return err
}

// discoveryName is hashed with the key as BLAKE2b key (formats.md 3).
const discoveryName = "hypercore"

// DiscoveryKey returns the name under which the feed is looked for.
func (k Key) DiscoveryKey() DiscoveryKey {
	h, err := blake2b.New256(k[:])
	if err != nil {
		panic(err) // only for keys longer than 64 bytes
	}
	h.Write([]byte(discoveryName))
	var dk DiscoveryKey
	h.Sum(dk[:0])
	return dk
}

// String returns the discovery key in hexadecimal, 64 characters.
func (dk DiscoveryKey) String() string { return hex.EncodeToString(dk[:]) }

// Short returns the first 8 hexadecimal characters, for logs.
func (dk DiscoveryKey) Short() string { return hex.EncodeToString(dk[:4]) }
