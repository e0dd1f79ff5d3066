package corestore_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"testing"

	"github.com/p2pcore/p2pcore/corestore"
	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/internal/vectors"
)

type storeVectors struct {
	PrimaryKey vectors.Hex
	Rows       []struct {
		NamespaceChain       []string    `json:"namespace_chain"`
		Namespace            vectors.Hex `json:"namespace"`
		Name                 string
		PublicKey, SecretKey vectors.Hex
		Key, DiscoveryKey    vectors.Hex // nil for the empty name, which is no name
		ID                   string
		Manifest             vectors.Hex
		SameKeyPair          *bool       `json:"same_key_pair"`
		KeyV0                vectors.Hex `json:"key_v0"`
		KeyV2                vectors.Hex `json:"key_v2"`
	}
	ManifestVersion2 struct {
		Name                     string
		Key, Manifest, PublicKey vectors.Hex
	} `json:"manifest_version_2"`
	BinaryName struct {
		Name, PublicKey vectors.Hex
	} `json:"binary_name"`
	ExplicitKeyPair struct {
		PublicKey, Key, Manifest vectors.Hex
		Seed                     vectors.Hex // in some sets
	} `json:"explicit_key_pair"`
}

func TestVectorsCorestore(t *testing.T) {
	var v struct{ Stores []storeVectors }
	vectors.Load(t, "corestore.json", &v)
	if len(v.Stores) == 0 {
		t.Fatal("no stores")
	}
	for i, sv := range v.Stores {
		t.Run(fmt.Sprint(i), func(t *testing.T) { testStoreVectors(t, sv) })
	}
}

func testStoreVectors(t *testing.T, sv storeVectors) {
	ctx := t.Context()
	primary := [32]byte(sv.PrimaryKey)
	root := open(t, newMemory(), corestore.Options{PrimaryKey: &primary})
	if len(sv.Rows) == 0 {
		t.Fatal("no rows")
	}
	for _, row := range sv.Rows {
		s := root
		var ns corestore.Namespace
		for _, name := range row.NamespaceChain {
			s = s.Namespace(name)
			ns = ns.Child(name)
		}
		at := fmt.Sprintf("%q in %q", row.Name, row.NamespaceChain)
		same(t, at+": namespace", ns[:], row.Namespace)
		pair := s.KeyPair(row.Name)
		public, seed := pair.Public(), pair.Seed()
		same(t, at+": public key", public[:], row.PublicKey)
		same(t, at+": secret key", append(seed[:], public[:]...), row.SecretKey)
		for version, want := range map[int]vectors.Hex{0: row.KeyV0, 2: row.KeyV2} {
			m := feed.DefaultManifest(public)
			m.Version = version
			key := m.Key()
			same(t, fmt.Sprintf("%s: key of version %d", at, version), key[:], want)
		}
		if row.Key == nil {
			if row.Name != "" {
				t.Errorf("%s: a row without key", at)
			}
			continue
		}
		session := must(t)(s.Named(ctx, row.Name))
		checkSession(t, at, session, row.Key, row.Manifest)
		dk := session.DiscoveryKey()
		same(t, at+": discovery key", dk[:], row.DiscoveryKey)
		if got := session.Key().String(); got != row.ID {
			t.Errorf("%s: id %s, want %s", at, got, row.ID)
		}
		if row.SameKeyPair != nil && (s.KeyPair(row.Name).Public() == public) != *row.SameKeyPair {
			t.Errorf("%s: same key pair is %v, want %v", at, !*row.SameKeyPair, *row.SameKeyPair)
		}
	}

	v2 := open(t, newMemory(), corestore.Options{PrimaryKey: &primary, ManifestVersion: 2})
	want := sv.ManifestVersion2
	public := v2.KeyPair(want.Name).Public()
	same(t, "version 2: public key", public[:], want.PublicKey)
	checkSession(t, "version 2", must(t)(v2.Named(ctx, want.Name)), want.Key, want.Manifest)

	public = root.KeyPair(string(sv.BinaryName.Name)).Public()
	same(t, "binary name: public key", public[:], sv.BinaryName.PublicKey)
	binary := must(t)(root.Named(ctx, string(sv.BinaryName.Name)))
	if signer := binary.Feed().Manifest().Signers[0].PublicKey; signer != public {
		t.Errorf("binary name: signer %x, want %x", signer, public)
	}

	testExplicitKeyPair(t, root, sv)
}

// The vectors give the public key of the explicit pair and not its seed: what a feed of a public key
// is called does not depend on the secret.
func testExplicitKeyPair(t *testing.T, s *corestore.Store, sv storeVectors) {
	ctx := t.Context()
	want := sv.ExplicitKeyPair
	m := feed.DefaultManifest([32]byte(want.PublicKey))
	key := m.Key()
	same(t, "explicit pair: key", key[:], want.Key)
	same(t, "explicit pair: manifest", m.Append(nil), want.Manifest)
	if got := must(t)(s.Keyed(ctx, key)).Key(); got != key {
		t.Errorf("explicit pair: opened %v, want %v", got, key)
	}
	pair := feed.NewKeyPair()
	if len(want.Seed) == 32 {
		pair = feed.KeyPairFromSeed([32]byte(want.Seed))
	}
	if got, derived := must(t)(s.Paired(ctx, pair)).Key(), feed.DefaultManifest(pair.Public()).Key(); got != derived {
		t.Errorf("Paired: key %v, want %v", got, derived)
	}
}

func checkSession(t *testing.T, at string, session *feed.Session, key, manifest []byte) {
	t.Helper()
	got := session.Key()
	same(t, at+": key", got[:], key)
	same(t, at+": manifest", session.Feed().ManifestBytes(), manifest)
	if !session.Info().Writable {
		t.Errorf("%s: not writable", at)
	}
}

func same(t *testing.T, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("%s: got %s, want %s", what, hex.EncodeToString(got), hex.EncodeToString(want))
	}
}
