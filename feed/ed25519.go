package feed

import (
	"crypto/ed25519"
	"crypto/subtle"

	"filippo.io/edwards25519"
)

// verifyEd25519 accepts exactly what libsodium's crypto_sign_verify_detached accepts: as
// crypto/ed25519, but neither a public key that is small order or not canonically encoded, nor an R
// of small order. Two implementations that disagree about one signature split the network.
func verifyEd25519(public [32]byte, message, signature []byte) bool {
	if len(signature) != ed25519.SignatureSize || !strictPoint(public[:]) || smallOrder(signature[:32]) {
		return false
	}
	return ed25519.Verify(public[:], message, signature)
}

// strictPoint reports whether b is the canonical encoding of a point that is not of small order.
func strictPoint(b []byte) bool {
	p, err := new(edwards25519.Point).SetBytes(b)
	if err != nil || subtle.ConstantTimeCompare(p.Bytes(), b) != 1 {
		return false
	}
	return new(edwards25519.Point).MultByCofactor(p).Equal(edwards25519.NewIdentityPoint()) != 1
}

// smallOrder reports whether b decodes to a point whose order divides the cofactor. What does not
// decode is left to the verification proper, which compares R as bytes.
func smallOrder(b []byte) bool {
	p, err := new(edwards25519.Point).SetBytes(b)
	return err == nil && new(edwards25519.Point).MultByCofactor(p).Equal(edwards25519.NewIdentityPoint()) == 1
}
