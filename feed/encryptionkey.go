package feed

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"golang.org/x/crypto/blake2b"
)

// EncryptionKey is a secret with which blocks are encrypted: either one that is shared by many feeds,
// from which each derives its own (NewBlockEncryption), or a block key, that of one feed
// (NewBlockKeyEncryption). It has no String: Text returns it in words.
type EncryptionKey [32]byte

// NewEncryptionKey returns a random key.
func NewEncryptionKey() (k EncryptionKey) {
	_, _ = rand.Read(k[:]) // never fails
	return k
}

// ParseEncryptionKey reads a key: 52 characters of z-base-32 (lower case) or 64 of hexadecimal (either
// case), and nothing around them. The error wraps ErrMalformedKey and does not show the text.
//
// As in ParseKey, the four spare bits of the last z-base-32 character are not checked.
func ParseEncryptionKey(text string) (EncryptionKey, error) {
	// A link is as long as a key, if what follows its key is.
	if !strings.HasPrefix(text, linkScheme) {
		if k, err := ParseKey(text); err == nil {
			return EncryptionKey(k), nil
		}
	}
	return EncryptionKey{}, fmt.Errorf("%w: an encryption key, %d bytes of text", ErrMalformedKey, len(text))
}

// Text returns the secret itself in z-base-32, 52 characters, for storing it. Keep it out of logs.
func (k EncryptionKey) Text() string { return Key(k).String() }

// Format keeps the secret out of every verb of fmt.
func (k EncryptionKey) Format(s fmt.State, _ rune) {
	_, _ = io.WriteString(s, "feed.EncryptionKey{…}")
}

// LogValue keeps the secret out of logs.
func (k EncryptionKey) LogValue() slog.Value { return slog.StringValue("feed.EncryptionKey{…}") }

// MarshalText fails, so that no encoder writes the secret because it stands in a struct.
func (k EncryptionKey) MarshalText() ([]byte, error) {
	return nil, errors.New("feed: an encryption key is a secret, Text writes it")
}

// encryptionNamespace separates block keys from other hashes (formats.md 3).
var encryptionNamespace = namespace("hypercore", 5)

// DeriveBlockKey returns the key that blocks of the feed called core are encrypted with, given the key
// k that it may share with other feeds: BLAKE2b-256 over a namespace, core and k. compat says that core
// is a public key and not the hash of a manifest (Info.Compat); then it is BLAKE2b-256 over k, keyed
// with core. Who is given the result reads this feed and no other. See formats.md 7.
func DeriveBlockKey(core Key, compat bool, k EncryptionKey) EncryptionKey {
	if !compat {
		var b [3 * 32]byte
		copy(b[:], encryptionNamespace[:])
		copy(b[32:], core[:])
		copy(b[64:], k[:])
		return blake2b.Sum256(b[:])
	}
	h, err := blake2b.New256(core[:])
	if err != nil {
		panic(err) // only for keys longer than 64 bytes
	}
	h.Write(k[:])
	return EncryptionKey(h.Sum(nil))
}
