package feed

import (
	"bytes"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	datastore "github.com/ipfs/go-datastore"

	"github.com/p2pcore/p2pcore/internal/vectors"
)

// jsonManifest is a manifest as the vectors spell it.
type jsonManifest struct {
	Version    int
	Hash       string
	AllowPatch bool
	Quorum     int
	Signers    []struct {
		Signature            string
		Namespace, PublicKey vectors.Hex
	}
	Prologue *struct {
		Hash   vectors.Hex
		Length uint64
	}
	Linked   []vectors.Hex
	UserData vectors.Hex
}

func (j *jsonManifest) manifest(t testing.TB) *Manifest {
	t.Helper()
	if j.Hash != "blake2b" {
		t.Errorf("hash %q", j.Hash) // nothing that Manifest could say
	}
	m := &Manifest{Version: j.Version, AllowPatch: j.AllowPatch, Quorum: j.Quorum, UserData: j.UserData}
	for _, s := range j.Signers {
		if s.Signature != "ed25519" {
			t.Errorf("signature %q", s.Signature)
		}
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
		m := c.Manifest.manifest(t)
		// What JavaScript has made of its input stays as it is; a quorum of 0 is another default here.
		if n, err := m.Normalize(); err != nil || !sameManifest(n, m) && (m.Quorum > 0 || len(m.Signers) == 0) {
			t.Errorf("%s: normalized to %+v, %v", c.Name, n, err)
		}
		if auto := *m; strings.HasPrefix(c.Name, "no version given") {
			auto.Version, auto.Quorum = AutoVersion, 0
			for i := range auto.Signers {
				auto.Signers = slices.Clone(auto.Signers)
				if auto.Signers[i].Namespace == DefaultNamespace() {
					auto.Signers[i].Namespace = [32]byte{}
				}
			}
			if n, err := auto.Normalize(); err != nil || !sameManifest(n, m) {
				t.Errorf("%s: normalized to %+v, %v", c.Name, n, err)
			}
		}
		if got := m.Append(nil); !bytes.Equal(got, c.Encoded) {
			t.Errorf("%s: encoded %x, want %v", c.Name, got, c.Encoded)
		}
		if key := m.Key(); !bytes.Equal(key[:], c.Key) || key.String() != c.Z32 {
			t.Errorf("%s: key %x, want %v", c.Name, key, c.Key)
		}
		if key, err := KeyOf(c.Encoded, KeyOptions{}); err != nil || !bytes.Equal(key[:], c.Key) {
			t.Errorf("%s: key of the bytes %x, %v, want %v", c.Name, key, err, c.Key)
		}
		key := Key(c.Key)
		if got, err := ParseManifestFor(&key, c.Encoded); err != nil || !sameManifest(got, c.DecodesTo.manifest(t)) {
			t.Errorf("%s: parsed for its key: %+v, %v", c.Name, got, err)
		}
		key[0] ^= 1
		if got, err := ParseManifestFor(&key, c.Encoded); !errors.Is(err, ErrKeyMismatch) {
			t.Errorf("%s: parsed for another key: %+v, %v", c.Name, got, err)
		}
		if dk := m.Key().DiscoveryKey(); !bytes.Equal(dk[:], c.DiscoveryKey) {
			t.Errorf("%s: discovery key %x, want %v", c.Name, dk, c.DiscoveryKey)
		}
		got, err := ParseManifest(c.Encoded)
		if err != nil || !sameManifest(got, c.DecodesTo.manifest(t)) {
			t.Errorf("%s: parsed %+v, %v", c.Name, got, err)
		} else if !bytes.Equal(got.Append(nil), c.Encoded) {
			t.Errorf("%s: encoded again %x, want %v", c.Name, got.Append(nil), c.Encoded)
		}
	}
	for _, c := range v.Decode {
		m, err := ParseManifest(c.Hex)
		switch {
		case !c.OK:
			if !errors.Is(err, ErrInvalidManifest) {
				t.Errorf("%s: got %v, want ErrInvalidManifest", c.Name, err)
			}
		case err != nil || !sameManifest(m, c.Manifest.manifest(t)):
			t.Errorf("%s: parsed %+v, %v", c.Name, m, err)
		}
		// What is used has to have a quorum that there can be.
		_, err = ParseManifestFor(nil, c.Hex)
		if ok := c.OK && m.Quorum <= len(m.Signers); (err == nil) != ok || err != nil && !errors.Is(err, ErrInvalidManifest) {
			t.Errorf("%s: parsed to be used: %v, want valid = %v", c.Name, err, ok)
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
	for _, c := range []struct {
		o    KeyOptions
		want vectors.Hex
	}{
		{KeyOptions{}, v.Compat.KeyV1},
		{KeyOptions{Version: new(0)}, v.Compat.KeyV0},
		{KeyOptions{Version: new(1)}, v.Compat.KeyV1Explicit},
		{KeyOptions{Version: new(2)}, v.Compat.KeyV2},
		{KeyOptions{Namespace: [32]byte(v.Compat.Namespace)}, v.Compat.KeyV1Namespace},
		{KeyOptions{Compat: true}, v.Compat.KeyWhenCompat},
		{KeyOptions{Compat: true, Version: new(2), Namespace: [32]byte(v.Compat.Namespace)}, v.Compat.KeyWhenCompat},
	} {
		if got, err := KeyOf(public[:], c.o); err != nil || !bytes.Equal(got[:], c.want) {
			t.Errorf("KeyOf(%+v) = %x, %v, want %v", c.o, got, err, c.want)
		}
	}
	if got, err := KeyOf(DefaultManifest(public).Append(nil), KeyOptions{Compat: true}); err != nil || !bytes.Equal(got[:], v.Compat.KeyWhenCompat) {
		t.Errorf("compat key of the manifest: %x, %v", got, err)
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

func TestKeyOfRefuses(t *testing.T) {
	static := StaticManifest(Head{Length: 3, Hash: Hash{1}}).Append(nil)
	for name, c := range map[string]struct {
		b []byte
		o KeyOptions
	}{
		"nothing":                 {nil, KeyOptions{}},
		"no manifest":             {make([]byte, 31), KeyOptions{}},
		"version 4":               {make([]byte, 32), KeyOptions{Version: new(4)}},
		"compat without a signer": {static, KeyOptions{Compat: true}},
		"no quorum":               {(&Manifest{Version: 1, Quorum: 1}).Append(nil), KeyOptions{}},
	} {
		if k, err := KeyOf(c.b, c.o); !errors.Is(err, ErrInvalidManifest) {
			t.Errorf("%s: %v, %v, want ErrInvalidManifest", name, k, err)
		}
	}
}

// A static feed is filled from any other with the same blocks, and takes nothing else.
func TestStaticFeed(t *testing.T) {
	onStores(t, func(t *testing.T, ds datastore.Batching) {
		other, _ := writer(t, memoryStore(), 5)
		m := StaticManifest(other.Info().Head)
		f := create(t, ds, Options{Manifest: m})
		if _, err := session(t, f).Append(t.Context(), testBlocks(0, 4)...); !errors.Is(err, ErrNotWritable) {
			t.Errorf("a part of the blocks: %v", err)
		}
		wrong := testBlocks(1, 6)
		if _, err := session(t, f).Append(t.Context(), wrong...); !errors.Is(err, ErrNotWritable) {
			t.Errorf("other blocks: %v", err)
		}
		appendBlocks(t, session(t, f), testBlocks(0, 5)...)
		if h := f.Info().Head; h != other.Info().Head {
			t.Errorf("head %+v, want %+v", h, other.Info().Head)
		}
		if _, err := session(t, f).Append(t.Context(), testBlock(5)); !errors.Is(err, ErrNotWritable) {
			t.Errorf("one block more: %v", err)
		}
		if err := VerifyHead(f.Key(), m, f.Info().Head, nil, nil); err != nil {
			t.Error(err)
		}
		f = reopen(t, f, ds, Options{})
		r := reader(t, memoryStore(), f)
		upgrade(t, f, r)
		fetch(t, f, r, 4, 0, 2)
		if got := r.Info(); got.Writable || got.Head != f.Info().Head {
			t.Errorf("reader %+v", got)
		}
	})
}

func FuzzParseManifest(f *testing.F) {
	f.Add(DefaultManifest([32]byte{1}).Append(nil))
	f.Add((&Manifest{Version: 2, Prologue: &Prologue{Length: 3}, Linked: []Key{{1}}, UserData: []byte("x")}).Append(nil))
	f.Add([]byte{0, 0, 2, 1, 1, 0})
	f.Add(StaticManifest(Head{Length: 3, Hash: Hash{1}}).Append(nil))
	f.Add((&Manifest{Prologue: &Prologue{Hash: Hash{1}}}).Append(nil))
	f.Add((&Manifest{Version: 3, AllowPatch: true, Quorum: 300, Signers: make([]Signer, 2), UserData: []byte{}}).Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseManifest(b)
		if err != nil {
			if !errors.Is(err, ErrInvalidManifest) {
				t.Fatal(err)
			}
			return
		}
		if len(b) != len(Key{}) && m.Quorum <= len(m.Signers) {
			if k, err := KeyOf(b, KeyOptions{}); err != nil || k != m.Key() {
				t.Fatalf("KeyOf(%x) = %v, %v, want %v", b, k, err, m.Key())
			}
		}
		again, err := ParseManifest(m.Append(nil))
		if err != nil || !sameManifest(m, again) {
			t.Fatalf("%+v became %+v, %v", m, again, err)
		}
	})
}
