package feed

import (
	"bytes"
	"errors"
	"testing"

	datastore "github.com/ipfs/go-datastore"
)

// A feed of the old kind has the public key for its key.
func TestCompatFeedIsWrittenAndRead(t *testing.T) {
	pair := KeyPairFromSeed([32]byte{5})
	key := Key(pair.Public())
	old := &Manifest{Version: 0, Quorum: 1, Signers: []Signer{{Namespace: [32]byte{9}, PublicKey: pair.Public()}}}
	pinned := DefaultManifest(pair.Public())
	pinned.AllowPatch, pinned.Prologue = true, &Prologue{Length: 2, Hash: Hash{1}}
	for name, opts := range map[string]Options{
		"key and key pair":        {Key: &key, KeyPair: &pair},
		"with a manifest":         {Key: &key, KeyPair: &pair, Manifest: DefaultManifest(pair.Public())},
		"with another version":    {Key: &key, KeyPair: &pair, Manifest: old},
		"with what does not hold": {Key: &key, KeyPair: &pair, Manifest: pinned},
	} {
		t.Run(name, func(t *testing.T) {
			onStores(t, func(t *testing.T, ds datastore.Batching) {
				w := create(t, ds, opts)
				info := w.Info()
				if w.Key() != key || !info.Compat || !info.Writable || !info.HasManifest || w.ManifestBytes() != nil {
					t.Fatalf("created as %+v, manifest bytes %x", info, w.ManifestBytes())
				}
				appendBlocks(t, session(t, w), testBlocks(0, 5)...)
				w = reopen(t, w, ds, Options{})
				appendBlocks(t, session(t, w), testBlocks(5, 9)...)
				h, signature := w.Info().Head, w.head.signature
				signable := appendHead(treeNamespace[:], h)
				if len(signable) != 80 || !bytes.Equal(signature, pair.Sign(signable)) {
					t.Errorf("signature %x is not the bare one", signature)
				}
				if !bytes.Equal(Signable(key, w.Manifest(), 0, h), signable) {
					t.Error("Signable is another than is signed")
				}
				if err := VerifyHead(key, w.Manifest(), h, nil, signature); err != nil {
					t.Error(err)
				}

				// A reader knows the key, and takes the first signature that fits for a proof of the rest.
				r := reader(t, memoryStore(), w)
				p := prove(t, w, upgradeRequest(w, r))
				if p.Manifest != nil {
					t.Errorf("the manifest %x travels", p.Manifest)
				}
				for bit := 0; bit < len(signature)*8; bit += 13 {
					p.Upgrade.Signature = bytes.Clone(signature)
					p.Upgrade.Signature[bit/8] ^= 1 << (bit % 8)
					if a := apply(t, r, p)[0]; !errors.Is(a.Err, ErrInvalidSignature) || r.Info().HasManifest {
						t.Fatalf("bit %d flipped: %+v", bit, a)
					}
				}
				upgrade(t, w, r)
				fetch(t, w, r, 8, 0)
				if got := r.Info(); !got.Compat || got.Head != h || r.ManifestBytes() != nil {
					t.Errorf("reader %+v", got)
				}
				if block, err := session(t, r).Get(t.Context(), 8); err != nil || !bytes.Equal(block, testBlock(8)) {
					t.Errorf("block 8: %x, %v", block, err)
				}

				// The writer shortens it.
				if _, err := session(t, w).Truncate(t.Context(), 4, TruncateOptions{}); err != nil {
					t.Fatal(err)
				}
				h = w.Info().Head
				if err := VerifyHead(key, w.Manifest(), h, nil, w.head.signature); err != nil || h.Fork != 1 || h.Length != 4 {
					t.Errorf("after the truncation: %+v, %v", h, err)
				}
			})
		})
	}
}

func TestCompatFeedOfAnotherKeyPair(t *testing.T) {
	t.Parallel()
	pair, other := KeyPairFromSeed([32]byte{5}), KeyPairFromSeed([32]byte{6})
	key := Key(pair.Public())
	for name, opts := range map[string]Options{
		"key pair":            {Key: &key, KeyPair: &other},
		"manifest":            {Key: &key, Manifest: DefaultManifest(other.Public())},
		"manifest of two":     {Key: &key, Manifest: &Manifest{Version: 1, Quorum: 1, Signers: []Signer{{PublicKey: key}, {PublicKey: other.Public()}}}},
		"pair beside the key": {Key: &key, KeyPair: &other, Manifest: DefaultManifest(pair.Public())},
	} {
		opts.Prefix = testPrefix
		if f, err := Create(t.Context(), memoryStore(), opts); !errors.Is(err, ErrKeyMismatch) {
			t.Errorf("%s: %v, %v, want ErrKeyMismatch", name, f, err)
		}
	}
}

// The key pair of an old feed that was stored by its key alone makes it writable.
func TestCompatFeedGetsItsKeyPairLater(t *testing.T) {
	t.Parallel()
	pair := KeyPairFromSeed([32]byte{5})
	key := Key(pair.Public())
	ds := memoryStore()
	f := create(t, ds, Options{Key: &key})
	if f.Info().HasManifest {
		t.Error("a manifest is known of the key alone")
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := Open(t.Context(), ds, Options{Prefix: testPrefix, KeyPair: &pair})
	if err != nil {
		t.Fatal(err)
	}
	checkAtEnd(t, f)
	appendBlocks(t, session(t, f), testBlocks(0, 3)...)
	if info := f.Info(); !info.Compat || info.Length != 3 {
		t.Errorf("opened as %+v", info)
	}
	upgrade(t, f, reader(t, memoryStore(), f))
}

// A feed of one signer whose key is the hash is none of the old ones, and its signature does not hold
// for one, nor the other way.
func TestCompatAndManifestFeedsDoNotMix(t *testing.T) {
	t.Parallel()
	pair := KeyPairFromSeed([32]byte{5})
	key := Key(pair.Public())
	for version := range 4 {
		m := DefaultManifest(pair.Public())
		m.Version = version
		h := Head{Length: 3, Hash: Hash{1}}
		fields := make([][]byte, 2)
		for i, k := range []Key{key, m.Key()} {
			who, err := newAuthority(k, m)
			if err != nil || who.compat != (i == 0) {
				t.Fatalf("version %d: %+v, %v", version, who, err)
			}
			if fields[i], err = who.sign(pair, h); err != nil {
				t.Fatal(err)
			}
		}
		for i, k := range []Key{key, m.Key()} {
			for j, field := range fields {
				if err := VerifyHead(k, m, h, nil, field); (err == nil) != (i == j) {
					t.Errorf("version %d: signature %d for key %d: %v", version, j, i, err)
				}
			}
		}
		p := Partial{Signature: [64]byte(fields[0]), Patch: 1, Nodes: []Node{{Index: 6, Hash: Hash{1}}}}
		allow := *m
		allow.AllowPatch = true
		if err := p.Verify(key, &allow, h, nil); !errors.Is(err, ErrInvalidSignature) {
			t.Errorf("version %d: a patch for an old feed: %v", version, err)
		}
	}
}
