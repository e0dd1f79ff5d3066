package feed

import (
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
)

// KeyPair signs heads. The zero value holds no key. It has no String: it is a secret.
type KeyPair struct {
	secret ed25519.PrivateKey // seed and public key; nil in the zero value
}

// NewKeyPair returns a random key pair.
func NewKeyPair() KeyPair {
	var seed [32]byte
	_, _ = rand.Read(seed[:]) // never fails
	return KeyPairFromSeed(seed)
}

// KeyPairFromSeed returns the Ed25519 key pair of the seed (RFC 8032).
func KeyPairFromSeed(seed [32]byte) KeyPair {
	return KeyPair{secret: ed25519.NewKeyFromSeed(seed[:])}
}

// IsZero reports whether k holds no key.
func (k KeyPair) IsZero() bool { return k.secret == nil }

// Public returns the public key; zero if k holds none.
func (k KeyPair) Public() (public [32]byte) {
	if k.secret != nil {
		copy(public[:], k.secret[32:])
	}
	return public
}

// Seed returns the secret itself, for storing it. Keep it out of logs.
func (k KeyPair) Seed() (seed [32]byte) {
	copy(seed[:], k.secret)
	return seed
}

// Sign returns the Ed25519 signature of message. It panics if k holds no key.
func (k KeyPair) Sign(message []byte) []byte {
	return ed25519.Sign(k.secret, message)
}

// Format keeps the secret out of every verb of fmt.
func (k KeyPair) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, "feed.KeyPair{…}") }

// LogValue keeps the secret out of logs.
func (k KeyPair) LogValue() slog.Value { return slog.StringValue("feed.KeyPair{…}") }
