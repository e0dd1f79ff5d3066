package feed

import "fmt"

// KeyOptions of KeyOf. Version and Namespace are for public keys only.
type KeyOptions struct {
	Compat    bool     // the key of an old feed: the public key itself
	Version   *int     // of the manifest; nil: 1
	Namespace [32]byte // zero: DefaultNamespace
}

// KeyOf returns the key of the feed that b describes: the 32 bytes of a public key stand for the feed
// that this key alone writes, anything else is an encoded manifest. JavaScript's Hypercore.key is the
// same. The error wraps ErrInvalidManifest.
func KeyOf(b []byte, o KeyOptions) (Key, error) {
	m, err := describe(b, o)
	switch {
	case err != nil:
		return Key{}, err
	case !o.Compat:
		return m.Key(), nil
	case len(m.Signers) == 0:
		return Key{}, fmt.Errorf("%w: a compat feed has a signer", ErrInvalidManifest)
	}
	return m.Signers[0].PublicKey, nil
}

func describe(b []byte, o KeyOptions) (*Manifest, error) {
	if len(b) != len(Key{}) {
		return ParseManifestFor(nil, b)
	}
	m := Manifest{Version: AutoVersion, Signers: []Signer{{o.Namespace, [32]byte(b)}}}
	if o.Version != nil {
		m.Version = *o.Version
	}
	return m.Normalize()
}

// ParseManifestFor is ParseManifest for a manifest that is going to be used: the error is also
// ErrInvalidManifest if there are fewer signers than the quorum, and ErrKeyMismatch if key is not nil
// and not the hash of the manifest. Compat feeds have no manifest to be hashed. JavaScript's
// Hypercore.parseManifest is the same.
func ParseManifestFor(key *Key, b []byte) (*Manifest, error) {
	m, err := ParseManifest(b)
	switch {
	case err != nil:
		return nil, err
	case m.Quorum > len(m.Signers):
		return nil, fmt.Errorf("%w: quorum %d of %d signers", ErrInvalidManifest, m.Quorum, len(m.Signers))
	case key != nil && m.Key() != *key:
		return nil, fmt.Errorf("%w: manifest hashes to another key", ErrKeyMismatch)
	}
	return m, nil
}

// StaticManifest returns the manifest of a feed that has the blocks of h and never any other: nobody
// signs for it. Fork and byte length of h do not matter.
func StaticManifest(h Head) *Manifest {
	return &Manifest{Version: 1, Prologue: &Prologue{Hash: h.Hash, Length: h.Length}}
}
