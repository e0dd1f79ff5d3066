package feed

import (
	"bytes"
	"errors"
	"reflect"
	"testing"

	"github.com/p2pcore/p2pcore/internal/vectors"
)

// jsonManifest is a manifest as the vectors spell it.
type jsonManifest struct {
	Version    int
	AllowPatch bool
	Quorum     int
	Signers    []struct{ Namespace, PublicKey vectors.Hex }
	Prologue   *struct {
		Hash   vectors.Hex
		Length uint64
	}
	Linked   []vectors.Hex
	UserData vectors.Hex
}

func (j *jsonManifest) manifest() *Manifest {
	m := &Manifest{Version: j.Version, AllowPatch: j.AllowPatch, Quorum: j.Quorum, UserData: j.UserData}
	for _, s := range j.Signers {
		m.Signers = append(m.Signers, Signer{[32]byte(s.Namespace), [32]byte(s.PublicKey)})
	}
	if j.Prologue != nil {
		m.Prologue = &Prologue{Hash(j.Prologue.Hash), j.Prologue.Length}
	}
	for _, k := range j.Linked {
		m.Linked = append(m.Linked, Key(k))
	}
	return m
}

// sameManifest compares two manifests; no signers and an empty list of them are the same.
func sameManifest(a, b *Manifest) bool {
	x, y := *a, *b
	if len(x.Signers) == 0 && len(y.Signers) == 0 {
		x.Signers, y.Signers = nil, nil
	}
	return reflect.DeepEqual(x, y)
}

func TestVectorsManifests(t *testing.T) {
	var v struct {
		Valid []struct {
			Name         string
			Manifest     jsonManifest
			Encoded      vectors.Hex
			DecodesTo    jsonManifest `json:"decodes_to"`
			Key          vectors.Hex
			DiscoveryKey vectors.Hex
			Z32          string
		}
		InvalidInputs []struct{ Name string } `json:"invalid_inputs"`
		Decode        []struct {
			Name     string
			Hex      vectors.Hex
			OK       bool
			Manifest *jsonManifest
		}
		Compat struct {
			PublicKey           vectors.Hex
			KeyWhenCompat       vectors.Hex `json:"key_when_compat"`
			KeyV0               vectors.Hex `json:"key_v0"`
			KeyV1               vectors.Hex `json:"key_v1"`
			KeyV1Explicit       vectors.Hex `json:"key_v1_explicit"`
			KeyV2               vectors.Hex `json:"key_v2"`
			KeyV1Namespace      vectors.Hex `json:"key_v1_custom_namespace"`
			Namespace           vectors.Hex
			IsCompat            bool `json:"is_compat"`
			IsCompatManifestKey bool `json:"is_compat_with_manifest_key"`
		}
		DefaultQuorum []struct {
			Signers int
			Quorum  int `json:"default_quorum"`
		} `json:"default_quorum"`
	}
	vectors.Load(t, "manifests.json", &v)
	for _, c := range v.Valid {
		m := c.Manifest.manifest()
		if got := m.Append(nil); !bytes.Equal(got, c.Encoded) {
			t.Errorf("%s: encoded %x, want %v", c.Name, got, c.Encoded)
		}
		if key := m.Key(); !bytes.Equal(key[:], c.Key) || key.String() != c.Z32 {
			t.Errorf("%s: key %x, want %v", c.Name, key, c.Key)
		}
		if dk := m.Key().DiscoveryKey(); !bytes.Equal(dk[:], c.DiscoveryKey) {
			t.Errorf("%s: discovery key %x, want %v", c.Name, dk, c.DiscoveryKey)
		}
		got, err := ParseManifest(c.Encoded)
		if err != nil || !sameManifest(got, c.DecodesTo.manifest()) {
			t.Errorf("%s: parsed %+v, %v", c.Name, got, err)
		}
	}
	for _, c := range v.Decode {
		m, err := ParseManifest(c.Hex)
		switch {
		case !c.OK:
			if !errors.Is(err, ErrInvalidManifest) {
				t.Errorf("%s: got %v, want ErrInvalidManifest", c.Name, err)
			}
		case err != nil || !sameManifest(m, c.Manifest.manifest()):
			t.Errorf("%s: parsed %+v, %v", c.Name, m, err)
		}
	}
	for _, c := range v.InvalidInputs {
		m, ok := invalidManifests[c.Name]
		if !ok {
			t.Errorf("no input for %q", c.Name)
		}
		if m == nil { // the types leave no way to say it
			continue
		}
		if got, err := m.Normalize(); !errors.Is(err, ErrInvalidManifest) {
			t.Errorf("%s: got %+v, %v, want ErrInvalidManifest", c.Name, got, err)
		}
	}
	for _, c := range v.DefaultQuorum {
		m := Manifest{Version: 1, Signers: make([]Signer, c.Signers)}
		for i := range m.Signers {
			m.Signers[i].PublicKey[0] = byte(i + 1)
		}
		if got, err := m.Normalize(); err != nil || got.Quorum != c.Quorum {
			t.Errorf("%d signers: %+v, %v, want quorum %d", c.Signers, got, err, c.Quorum)
		}
	}
	public := [32]byte(v.Compat.PublicKey)
	for version, want := range []vectors.Hex{v.Compat.KeyV0, v.Compat.KeyV1, v.Compat.KeyV2} {
		m := DefaultManifest(public)
		m.Version = version
		if got := m.Key(); !bytes.Equal(got[:], want) {
			t.Errorf("version %d: key %x, want %v", version, got, want)
		}
	}
	m := DefaultManifest(public)
	if got := m.Key(); !bytes.Equal(got[:], v.Compat.KeyV1Explicit) {
		t.Errorf("version 1 said in words: key %x, want %v", got, v.Compat.KeyV1Explicit)
	}
	if got := m.compat(Key(v.Compat.KeyWhenCompat)); got != v.Compat.IsCompat {
		t.Errorf("compat = %v for the public key", got)
	}
	if got := m.compat(m.Key()); got != v.Compat.IsCompatManifestKey {
		t.Errorf("compat = %v for the manifest's key", got)
	}
	m.Signers[0].Namespace = [32]byte(v.Compat.Namespace)
	if got := m.Key(); !bytes.Equal(got[:], v.Compat.KeyV1Namespace) {
		t.Errorf("custom namespace: key %x, want %v", got, v.Compat.KeyV1Namespace)
	}
}

// invalidManifests are the inputs that the vectors name; nil where Go's types refuse them already.
var invalidManifests = map[string]*Manifest{
	"quorum above signer count": {Version: 1, Quorum: 2, Signers: []Signer{{PublicKey: [32]byte{1}}}},
	"negative quorum":           {Version: 1, Quorum: -1, Signers: []Signer{{PublicKey: [32]byte{1}}}},
	"userData in v1":            {Version: 1, UserData: []byte("x"), Signers: []Signer{{PublicKey: [32]byte{1}}}},
	"linked in v1":              {Version: 1, Linked: []Key{{1}}, Signers: []Signer{{PublicKey: [32]byte{1}}}},
	"short prologue hash":       nil,
	"negative prologue length":  {Version: 1, Prologue: &Prologue{Length: 1<<64 - 1}},
	"other hash name":           nil,
	"other signature name":      nil,
	"signer without key":        {Version: 1, Signers: []Signer{{}}},
}

func TestNormalizeFillsIn(t *testing.T) {
	m, err := Manifest{Version: AutoVersion, UserData: []byte{}, Signers: []Signer{{PublicKey: [32]byte{1}}}}.Normalize()
	if err != nil || m.Version != 2 || m.Quorum != 1 || m.Signers[0].Namespace != DefaultNamespace() {
		t.Errorf("with user data: %+v, %v", m, err)
	}
	m, err = Manifest{Version: AutoVersion, Linked: []Key{}}.Normalize()
	if err != nil || m.Version != 1 || m.Linked != nil {
		t.Errorf("with an empty list of linked feeds: %+v, %v", m, err)
	}
}

func FuzzParseManifest(f *testing.F) {
	f.Add(DefaultManifest([32]byte{1}).Append(nil))
	f.Add((&Manifest{Version: 2, Prologue: &Prologue{Length: 3}, Linked: []Key{{1}}, UserData: []byte("x")}).Append(nil))
	f.Add([]byte{0, 0, 2, 1, 1, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseManifest(b)
		if err != nil {
			return
		}
		again, err := ParseManifest(m.Append(nil))
		if err != nil || !sameManifest(m, again) {
			t.Fatalf("%+v became %+v, %v", m, again, err)
		}
	})
}
