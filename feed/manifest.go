package feed

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"golang.org/x/crypto/blake2b"

	"github.com/p2pcore/p2pcore/internal/compact"
)

// AutoVersion lets Normalize choose the version of a manifest: 2 if it needs what came with
// version 2, else 1.
const AutoVersion = -1

// maxManifestVersion is the highest version that JavaScript's newest release decodes.
const maxManifestVersion = 3

// Namespaces that separate the uses of a signature or hash (formats.md 3): BLAKE2b-256 over the
// BLAKE2b-256 of "hypercore" and one byte, the number of the use.
var (
	treeNamespace     = namespace("hypercore", 0)
	manifestNamespace = namespace("hypercore", 3)
	defaultNamespace  = namespace("hypercore", 4)
)

func namespace(name string, i byte) [32]byte {
	h := blake2b.Sum256([]byte(name))
	return blake2b.Sum256(append(h[:], i))
}

// DefaultNamespace is the namespace of signers that were given none.
func DefaultNamespace() [32]byte { return defaultNamespace }

// Signer is one of those who may sign for a feed, with Ed25519.
type Signer struct {
	Namespace [32]byte // zero counts as DefaultNamespace in Normalize
	PublicKey [32]byte
}

// Prologue fixes the first Length blocks of a feed by their tree hash; they need no signature.
type Prologue struct {
	Hash   Hash
	Length uint64
}

// Manifest says who may sign for a feed. Its hash is the feed's Key, so it never changes. Versions
// 0 to 3 are read; 3 is laid out as 2.
type Manifest struct {
	Version    int
	AllowPatch bool      // signers may have signed a longer feed than the others, see formats.md 4.4
	Quorum     int       // signatures needed; 0 counts as more than half in Normalize
	Signers    []Signer  // those whose signatures count
	Prologue   *Prologue // nil: none
	Linked     []Key     // feeds that belong to this one; version 2 and up
	UserData   []byte    // nil: none; version 2 and up
}

// DefaultManifest returns the manifest of a feed that one key pair writes: version 1, quorum 1.
func DefaultManifest(public [32]byte) *Manifest {
	return &Manifest{Version: 1, Quorum: 1, Signers: []Signer{{Namespace: defaultNamespace, PublicKey: public}}}
}

// Normalize returns a copy of m, which somebody filled in by hand, with defaults for what is left
// out. The error wraps ErrInvalidManifest and names the field. A manifest from a peer is only parsed.
func (m Manifest) Normalize() (*Manifest, error) {
	if len(m.Linked) == 0 {
		m.Linked = nil
	}
	if m.Version == AutoVersion {
		m.Version = 1
		if m.Linked != nil || m.UserData != nil {
			m.Version = 2
		}
	}
	signers := make([]Signer, len(m.Signers))
	for i, s := range m.Signers {
		if s.PublicKey == ([32]byte{}) {
			return nil, fmt.Errorf("%w: signer %d has no public key", ErrInvalidManifest, i)
		}
		if s.Namespace == ([32]byte{}) {
			s.Namespace = defaultNamespace
		}
		signers[i] = s
	}
	m.Signers = signers
	if m.Quorum == 0 && len(signers) > 0 {
		m.Quorum = len(signers)/2 + 1
	}
	switch {
	case m.Version < 0 || m.Version > maxManifestVersion:
		return nil, fmt.Errorf("%w: version %d", ErrInvalidManifest, m.Version)
	case m.Quorum < 0:
		return nil, fmt.Errorf("%w: quorum %d", ErrInvalidManifest, m.Quorum)
	case m.Quorum > len(signers):
		return nil, fmt.Errorf("%w: quorum %d of %d signers", ErrInvalidManifest, m.Quorum, len(signers))
	case m.Prologue != nil && m.Prologue.Length > compact.MaxInt:
		return nil, fmt.Errorf("%w: prologue of %d blocks", ErrInvalidManifest, m.Prologue.Length)
	case m.Version < 2 && m.Linked != nil:
		return nil, fmt.Errorf("%w: linked needs version 2", ErrInvalidManifest)
	case m.Version < 2 && m.UserData != nil:
		return nil, fmt.Errorf("%w: user data needs version 2", ErrInvalidManifest)
	}
	return &m, nil
}

// Flags of versions 1 and up.
const (
	flagAllowPatch = 1 << iota
	flagPrologue
	flagLinked
	flagUserData
)

// Types of version 0.
const (
	manifestStatic = iota
	manifestOneSigner
	manifestManySigners
)

const signerBytes = 1 + 32 + 32

// Append appends the encoding of m to b (formats.md 4.1).
func (m *Manifest) Append(b []byte) []byte {
	if m.Version == 0 {
		return m.appendV0(b)
	}
	flags := uint64(0)
	if m.AllowPatch {
		flags |= flagAllowPatch
	}
	if m.Prologue != nil {
		flags |= flagPrologue
	}
	if m.Linked != nil {
		flags |= flagLinked
	}
	if m.UserData != nil {
		flags |= flagUserData
	}
	b = compact.AppendUint(b, uint64(m.Version))
	b = compact.AppendUint(b, flags)
	b = append(b, 0) // BLAKE2b
	b = compact.AppendUint(b, uint64(m.Quorum))
	b = m.appendSigners(b)
	if p := m.Prologue; p != nil {
		b = append(b, p.Hash[:]...)
		b = compact.AppendUint(b, p.Length)
	}
	if m.Linked != nil {
		b = compact.AppendUint(b, uint64(len(m.Linked)))
		for _, k := range m.Linked {
			b = append(b, k[:]...)
		}
	}
	if m.UserData != nil {
		b = compact.AppendBytes(b, m.UserData)
	}
	return b
}

// appendV0 drops what version 0 cannot say: the prologue's length, and a prologue beside signers.
func (m *Manifest) appendV0(b []byte) []byte {
	b = append(b, 0, 0) // version, BLAKE2b
	switch {
	case m.Prologue != nil && len(m.Signers) == 0:
		b = append(b, manifestStatic)
		return append(b, m.Prologue.Hash[:]...)
	case m.Quorum == 1 && len(m.Signers) == 1 && !m.AllowPatch:
		b = append(b, manifestOneSigner)
		return appendSigner(b, &m.Signers[0])
	}
	b = append(b, manifestManySigners)
	flags := uint64(0)
	if m.AllowPatch {
		flags = flagAllowPatch
	}
	b = compact.AppendUint(b, flags)
	b = compact.AppendUint(b, uint64(m.Quorum))
	return m.appendSigners(b)
}

func (m *Manifest) appendSigners(b []byte) []byte {
	b = compact.AppendUint(b, uint64(len(m.Signers)))
	for i := range m.Signers {
		b = appendSigner(b, &m.Signers[i])
	}
	return b
}

func appendSigner(b []byte, s *Signer) []byte {
	b = append(b, 0) // Ed25519
	b = append(b, s.Namespace[:]...)
	return append(b, s.PublicKey[:]...)
}

var errUnknownKind = errors.New("unknown kind")

// ParseManifest reads an encoded manifest; bytes after its last field are ignored. The error wraps
// ErrInvalidManifest. That the manifest belongs to a feed is for the caller to check, with Key.
func ParseManifest(b []byte) (*Manifest, error) {
	if len(b) > MaxManifestBytes {
		return nil, fmt.Errorf("%w: %d bytes", ErrInvalidManifest, len(b))
	}
	d := compact.NewDecoder(b)
	m, err := decodeManifest(&d)
	if err == nil {
		err = d.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidManifest, err)
	}
	return m, nil
}

func decodeManifest(d *compact.Decoder) (*Manifest, error) {
	m := &Manifest{}
	version := d.Uint()
	if version > maxManifestVersion {
		return nil, fmt.Errorf("version %d: %w", version, errUnknownKind)
	}
	m.Version = int(version)
	if version == 0 {
		return m, m.decodeV0(d)
	}
	flags := d.Uint()
	if err := decodeHashType(d); err != nil {
		return nil, err
	}
	m.AllowPatch = flags&flagAllowPatch != 0
	if err := m.decodeSigners(d); err != nil {
		return nil, err
	}
	if flags&flagPrologue != 0 {
		m.Prologue = &Prologue{Hash: d.Fixed32(), Length: d.Uint()}
	}
	if flags&flagLinked != 0 {
		m.Linked = make([]Key, d.Count(len(Key{})))
		for i := range m.Linked {
			m.Linked[i] = d.Fixed32()
		}
	}
	if flags&flagUserData != 0 {
		m.UserData = append([]byte{}, d.Bytes(MaxManifestBytes)...)
	}
	return m, nil
}

func (m *Manifest) decodeV0(d *compact.Decoder) error {
	if err := decodeHashType(d); err != nil {
		return err
	}
	switch kind := d.Uint(); kind {
	case manifestStatic:
		m.Prologue = &Prologue{Hash: d.Fixed32()}
		return nil
	case manifestOneSigner:
		m.Quorum = 1
		m.Signers = make([]Signer, 1)
		return decodeSigner(d, &m.Signers[0])
	case manifestManySigners:
		m.AllowPatch = d.Uint()&flagAllowPatch != 0
		return m.decodeSigners(d)
	default:
		return fmt.Errorf("type %d: %w", kind, errUnknownKind)
	}
}

// decodeSigners reads quorum and signers. The quorum may be larger than the number of signers: such
// a manifest is valid, and nothing ever verifies by it.
func (m *Manifest) decodeSigners(d *compact.Decoder) error {
	quorum := d.Uint()
	if quorum > math.MaxInt {
		return fmt.Errorf("quorum %d: %w", quorum, compact.ErrRange)
	}
	m.Quorum = int(quorum)
	m.Signers = make([]Signer, d.Count(signerBytes))
	for i := range m.Signers {
		if err := decodeSigner(d, &m.Signers[i]); err != nil {
			return err
		}
	}
	return nil
}

func decodeSigner(d *compact.Decoder, s *Signer) error {
	if kind := d.Uint(); kind != 0 {
		return fmt.Errorf("signature %d: %w", kind, errUnknownKind)
	}
	s.Namespace, s.PublicKey = d.Fixed32(), d.Fixed32()
	return nil
}

func decodeHashType(d *compact.Decoder) error {
	if kind := d.Uint(); kind != 0 {
		return fmt.Errorf("hash %d: %w", kind, errUnknownKind)
	}
	return nil
}

// Key returns the key of the feed that m describes: the hash of its encoding (formats.md 4.2).
func (m *Manifest) Key() Key {
	b := make([]byte, 0, 256)
	b = append(b, manifestNamespace[:]...)
	return blake2b.Sum256(m.Append(b))
}

// compat reports whether a feed with this key and manifest is of the old kind, whose key is the
// public key of its only signer. The version does not matter.
func (m *Manifest) compat(k Key) bool {
	return len(m.Signers) == 1 && Key(m.Signers[0].PublicKey) == k
}

// bare reports whether the signature field holds a bare Ed25519 signature even if the key is not the
// public key. The quorum does not matter.
func (m *Manifest) bare() bool { return m.Version == 0 && !m.AllowPatch && len(m.Signers) == 1 }

// signedBy reports whether the public key is that of a signer.
func (m *Manifest) signedBy(public [32]byte) bool {
	return slices.ContainsFunc(m.Signers, func(s Signer) bool { return s.PublicKey == public })
}

// belongs reports whether k is the key of m.
func (m *Manifest) belongs(k Key) bool { return m.compat(k) || m.Key() == k }
