package secretstream

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha512"
	"crypto/subtle"
	"errors"
	"io"

	"filippo.io/edwards25519"
	"github.com/flynn/noise"
)

var errPoint = errors.New("public key is not in the group")

// edwards is the Noise function Ed25519: Diffie-Hellman in the group of Ed25519 keys. A private key is a
// seed of 32 bytes. It implements noise.DHFunc.
type edwards struct{}

func (edwards) DHLen() int     { return ed25519.PublicKeySize }
func (edwards) DHName() string { return "Ed25519" }

// GenerateKeypair reads a seed from random.
func (edwards) GenerateKeypair(random io.Reader) (noise.DHKey, error) {
	if random == nil {
		random = rand.Reader
	}
	var seed [ed25519.SeedSize]byte
	if _, err := io.ReadFull(random, seed[:]); err != nil {
		return noise.DHKey{}, err
	}
	return keyPair(seed), nil
}

func keyPair(seed [ed25519.SeedSize]byte) noise.DHKey {
	public := ed25519.NewKeyFromSeed(seed[:])[ed25519.SeedSize:]
	return noise.DHKey{Private: seed[:], Public: public}
}

// DH multiplies the point public by the scalar of seed, as signing uses it. The error says that
// public is not the canonical encoding of a point in the subgroup of prime order.
func (edwards) DH(seed, public []byte) ([]byte, error) {
	p, err := groupPoint(public)
	if err != nil {
		return nil, err
	}
	h := sha512.Sum512(seed)
	scalar, err := new(edwards25519.Scalar).SetBytesWithClamping(h[:32])
	if err != nil {
		return nil, err
	}
	return p.ScalarMult(scalar, p).Bytes(), nil
}

// groupPoint decodes a point other than identity of the subgroup of prime order l. Of small order, or with a
// part of small order, it would tell bits of our scalar, or make a result that does not depend on it.
func groupPoint(b []byte) (*edwards25519.Point, error) {
	p, err := new(edwards25519.Point).SetBytes(b)
	if err != nil {
		return nil, errPoint
	}
	identity := edwards25519.NewIdentityPoint()
	switch {
	case subtle.ConstantTimeCompare(p.Bytes(), b) != 1: // not canonical
		return nil, errPoint
	case new(edwards25519.Point).MultByCofactor(p).Equal(identity) == 1:
		return nil, errPoint
	}
	// Scalars are numbers below l, so l·p is (l-1)·p + p.
	zero := edwards25519.NewScalar()
	minusOne := new(edwards25519.Scalar).Subtract(zero, one())
	q := new(edwards25519.Point).VarTimeDoubleScalarBaseMult(minusOne, p, zero)
	if q.Add(q, p).Equal(identity) != 1 {
		return nil, errPoint
	}
	return p, nil
}

func one() *edwards25519.Scalar {
	var b [32]byte
	b[0] = 1
	s, err := new(edwards25519.Scalar).SetCanonicalBytes(b[:])
	if err != nil {
		panic(err) // 1 is below l
	}
	return s
}
