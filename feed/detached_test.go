package feed

import (
	"bytes"
	"errors"
	"reflect"
	"testing"
)

func TestDetachedProofStandsAlone(t *testing.T) {
	ctx := t.Context()
	f, s := writer(t, memoryStore(), 11)
	for i := range uint64(11) {
		proof, err := f.ProveDetached(ctx, &i)
		if err != nil {
			t.Fatal(err)
		}
		v, err := VerifyDetached(f.Key(), proof)
		if err != nil || v.Head != f.Info().Head || !v.HasBlock || v.Index != i || !bytes.Equal(v.Block, testBlock(int(i))) || v.Manifest.Key() != f.Key() {
			t.Fatalf("block %d: %+v, %v", i, v, err)
		}
	}
	proof, err := f.ProveDetached(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	v, newer, err := f.CheckDetached(proof)
	if err != nil || newer || v.HasBlock || v.Proven != v.Head {
		t.Errorf("of the head: %+v, newer %v, %v", v, newer, err)
	}
	r := reader(t, memoryStore(), f)
	if _, newer, err := r.CheckDetached(proof); !newer || err != nil {
		t.Errorf("for an empty reader: newer %v, %v", newer, err)
	}
	if _, err := s.Truncate(ctx, 5, TruncateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, newer, err := f.CheckDetached(proof); newer || err != nil {
		t.Errorf("of the fork before: newer %v, %v", newer, err)
	}
	past := uint64(5)
	if _, err := f.ProveDetached(ctx, &past); !errors.Is(err, ErrOutOfRange) {
		t.Errorf("past the end: %v", err)
	}
	empty, _ := writer(t, memoryStore(), 0)
	if _, err := empty.ProveDetached(ctx, nil); !errors.Is(err, ErrNotAvailable) {
		t.Errorf("of an empty feed: %v", err)
	}
	if _, err := VerifyDetached(Key{1}, proof); !errors.Is(err, ErrKeyMismatch) {
		t.Errorf("of another feed: %v", err)
	}
}

// Every bit of a detached proof counts, but for those that nothing reads: unknown flags, the patch of a
// signature whose manifest allows none (formats.md 4.5), and the manifest of an old feed. With these the same is
// proven.
func TestDetachedProofRefusesEveryFlippedBit(t *testing.T) {
	pinned, _ := prologueWriter(t, "a", "b")
	plain, _ := writer(t, memoryStore(), 7)
	for name, c := range map[string]struct {
		feed    *Feed
		index   uint64
		patches []int // where they are, before the manifest
	}{
		"one signer":   {plain, 3, []int{2}},
		"prologue":     {pinned, 4, []int{2}},
		"two of three": {signersWriter(t), 1, []int{2, 2 + 66}},
		"compat":       {compatWriter(t), 3, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			key, compat := c.feed.Key(), c.feed.Info().Compat
			proof, err := c.feed.ProveDetached(t.Context(), &c.index)
			if err != nil {
				t.Fatal(err)
			}
			want, err := VerifyDetached(key, proof)
			if err != nil {
				t.Fatal(err)
			}
			manifest := len(proof) - len(c.feed.Manifest().Append(nil))
			unread := make([]byte, len(proof))
			unread[len(key)], unread[manifest+1] = 0xe0, 0xf0
			for _, back := range c.patches {
				unread[manifest-back] = 0xff
			}
			if compat {
				unread[len(key)] |= 0x10
				copy(unread[manifest:], bytes.Repeat([]byte{0xff}, len(proof)))
			}
			for i := range proof {
				if v, err := VerifyDetached(key, proof[:i]); err == nil {
					t.Errorf("cut at byte %d: %+v", i, v)
				}
				for bit := range 8 {
					flipped := bytes.Clone(proof)
					flipped[i] ^= 1 << bit
					v, err := VerifyDetached(key, flipped)
					if err == nil && (unread[i]>>bit&1 == 0 || !reflect.DeepEqual(v, want)) {
						t.Errorf("bit %d of byte %d, manifest at %d: length %d", bit, i, manifest, v.Head.Length)
					}
				}
			}
		})
	}
}

// The same head in other words is not taken: a proof for who has nothing begins at nothing.
func TestDetachedProofBeginsAtLength0(t *testing.T) {
	f, _ := writer(t, memoryStore(), 7)
	proof, err := f.ProveDetached(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for start := range uint64(8) {
		p, err := parseDetached(f.dk, proof)
		if err != nil {
			t.Fatal(err)
		}
		p.Upgrade.Start, p.Upgrade.Length = start, 7-start
		if v, err := VerifyDetached(f.Key(), appendDetached(f.dk, p)); start > 0 && !errors.Is(err, ErrInvalidProof) || start == 0 && err != nil {
			t.Errorf("from length %d: %+v, %v", start, v, err)
		}
	}
}

// The package for JavaScript takes a block that hangs on nothing, if the head beside it is signed.
func TestDetachedProofRefusesALooseBlock(t *testing.T) {
	f, _ := writer(t, memoryStore(), 7)
	index := uint64(5)
	proof, err := f.ProveDetached(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := parseDetached(f.dk, proof)
	if err != nil {
		t.Fatal(err)
	}
	cut := prove(t, f, Request{Upgrade: &UpgradeRequest{Length: 4}})
	cut.Manifest = whole.Manifest
	for name, p := range map[string]*Proof{"beside the roots": whole, "in the additional nodes": cut} {
		for _, value := range [][]byte{[]byte("forged"), testBlock(int(index))} {
			q := *p
			q.Block = &BlockProof{Index: index, Value: value}
			if v, err := VerifyDetached(f.Key(), appendDetached(f.dk, &q)); !errors.Is(err, ErrInvalidProof) {
				t.Errorf("%s: %q: %+v, %v", name, value, v, err)
			}
		}
		q := *p
		q.Block, q.Upgrade = &BlockProof{Index: index, Value: testBlock(int(index))}, nil
		if v, err := VerifyDetached(f.Key(), appendDetached(f.dk, &q)); !errors.Is(err, ErrInvalidProof) {
			t.Errorf("%s: without an upgrade: %+v, %v", name, v, err)
		}
	}
}

func TestVerifyDetachedByAKnownManifest(t *testing.T) {
	f, _ := writer(t, memoryStore(), 5)
	proof, err := f.ProveDetached(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	bare := proof[:len(proof)-len(f.ManifestBytes())]
	bare[32] &^= 16
	if v, err := VerifyDetached(f.Key(), bare); !errors.Is(err, ErrInvalidSignature) {
		t.Errorf("by the key alone: %+v, %v", v, err)
	}
	v, err := VerifyDetachedBy(f.Key(), f.Manifest(), bare)
	if err != nil || v.Head != f.Info().Head || v.FromProof {
		t.Errorf("by the manifest: %+v, %v", v, err)
	}
	if v, newer, err := f.CheckDetached(bare); err != nil || newer || v.FromProof {
		t.Errorf("by a feed that has the manifest: %+v, %v, %v", v, newer, err)
	}
	other := DefaultManifest([32]byte{1})
	if _, err := VerifyDetachedBy(f.Key(), other, bare); !errors.Is(err, ErrKeyMismatch) {
		t.Errorf("by another manifest: %v", err)
	}
	p, err := parseDetached(f.dk, bare)
	if err != nil {
		t.Fatal(err)
	}
	p.Manifest = other.Append(nil)
	if _, err := VerifyDetached(f.Key(), appendDetached(f.dk, p)); !errors.Is(err, ErrKeyMismatch) {
		t.Errorf("with another manifest: %v", err)
	}
	p.Manifest = []byte{9}
	if _, err := VerifyDetached(f.Key(), appendDetached(f.dk, p)); !errors.Is(err, ErrInvalidManifest) {
		t.Errorf("with no manifest: %v", err)
	}
}

// compatWriter makes a feed whose key is the public key.
func compatWriter(t testing.TB) *Feed {
	t.Helper()
	pair := KeyPairFromSeed([32]byte{7})
	key := Key(pair.Public())
	f := create(t, memoryStore(), Options{Key: &key, KeyPair: &pair})
	appendBlocks(t, session(t, f), testBlocks(0, 7)...)
	return f
}

// signersWriter makes a feed of three blocks that two of three signers have signed.
func signersWriter(t testing.TB) *Feed {
	t.Helper()
	m, pairs := threeSigners(t, Manifest{Version: AutoVersion})
	f := create(t, memoryStore(), Options{Manifest: m})
	s := session(t, f)
	b := branch(t, s, "next")
	appendBlocks(t, b, testBlocks(0, 3)...)
	multi := multiSignature{}
	for i := range 2 {
		signable, err := b.SignableAt(t.Context(), i, 3, 0)
		if err != nil {
			t.Fatal(err)
		}
		multi.proofs = append(multi.proofs, signerProof{signer: uint64(i), signature: [64]byte(pairs[i].Sign(signable))})
	}
	if _, err := s.AppendWith(t.Context(), testBlocks(0, 3), AppendOptions{Signature: multi.appendMulti(nil)}); err != nil {
		t.Fatal(err)
	}
	return f
}

// prologueWriter makes a feed whose first three blocks are given by its manifest.
func prologueWriter(t testing.TB, blocks ...string) (*Feed, *Session) {
	t.Helper()
	tree, _ := testTree(t, 0, testBlocks(0, 3))
	pair := KeyPairFromSeed([32]byte{9})
	m := &Manifest{Version: 1, Quorum: 1, Signers: []Signer{{Namespace: DefaultNamespace(), PublicKey: pair.Public()}},
		Prologue: &Prologue{Hash: tree.Head().Hash, Length: 3}}
	f := create(t, memoryStore(), Options{Manifest: m, KeyPair: &pair})
	s := session(t, f)
	appendBlocks(t, s, testBlocks(0, 3)...)
	for _, b := range blocks {
		appendBlocks(t, s, []byte(b))
	}
	return f, s
}

func FuzzVerifyDetached(f *testing.F) {
	pair := KeyPairFromSeed([32]byte{7})
	w, err := Create(f.Context(), memoryStore(), Options{Prefix: testPrefix, KeyPair: &pair})
	if err != nil {
		f.Fatal(err)
	}
	defer w.Close()
	s, err := w.Session(SessionOptions{})
	if err != nil {
		f.Fatal(err)
	}
	if _, err := s.Append(f.Context(), testBlocks(0, 9)...); err != nil {
		f.Fatal(err)
	}
	index := uint64(4)
	for _, i := range []*uint64{nil, &index} {
		proof, err := w.ProveDetached(f.Context(), i)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(proof)
	}
	head, key := w.Info().Head, w.Key()
	f.Fuzz(func(t *testing.T, b []byte) {
		if v, err := VerifyDetached(key, b); err == nil && v.Head != head {
			t.Errorf("a forged head %+v", v.Head)
		}
	})
}

func TestTreeHashAtAnyLength(t *testing.T) {
	ctx := t.Context()
	w, ws := writer(t, memoryStore(), 0)
	var hashes []Hash
	for i := range 30 {
		hashes = append(hashes, w.Info().Hash)
		appendBlocks(t, ws, testBlock(i))
	}
	hashes = append(hashes, w.Info().Hash)
	sparse := reader(t, memoryStore(), w)
	upgrade(t, w, sparse)
	if _, err := session(t, sparse).TreeHash(ctx, 13); !errors.Is(err, ErrNotAvailable) {
		t.Errorf("with nodes missing: %v", err)
	}
	empty := reader(t, memoryStore(), w)
	for _, f := range []*Feed{sparse, empty} {
		f.SetSource(&pipe{from: w, to: f})
	}
	for _, s := range []*Session{ws, session(t, sparse), session(t, empty)} {
		for n, want := range hashes {
			if got, err := s.TreeHash(ctx, uint64(n)); got != want || err != nil {
				t.Errorf("length %d: %x, %v; want %x", n, got, err, want)
			}
		}
	}
	if _, err := ws.TreeHash(ctx, 31); !errors.Is(err, ErrOutOfRange) {
		t.Errorf("past the end: %v", err)
	}
	for _, length := range []uint64{1 << 48, 1<<64 - 1} {
		if _, err := ws.TreeHash(ctx, length); !errors.Is(err, ErrOutOfRange) {
			t.Errorf("length %d: %v", length, err)
		}
	}
}

// What is signed elsewhere is what the feed would sign itself.
func TestSignableAt(t *testing.T) {
	ctx := t.Context()
	pair := KeyPairFromSeed([32]byte{7})
	w, s := writer(t, memoryStore(), 6)
	for _, f := range []*Feed{w, compatWriter(t)} {
		length := f.Info().Length
		signable, err := session(t, f).SignableAt(ctx, 0, length, 0)
		if err != nil || !bytes.Contains(f.head.signature, pair.Sign(signable)) {
			t.Errorf("compat %v: %x, %v", f.Info().Compat, signable, err)
		}
	}
	signable, err := s.SignableAt(ctx, 0, 2, 1)
	if err != nil {
		t.Fatal(err)
	}
	cut, cs := writer(t, memoryStore(), 6)
	if _, err := cs.Truncate(ctx, 2, TruncateOptions{}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(cut.head.signature, pair.Sign(signable)) {
		t.Error("a truncation is signed otherwise")
	}
	for _, signer := range []int{-1, 1} {
		if _, err := s.SignableAt(ctx, signer, 2, 0); !errors.Is(err, ErrOutOfRange) {
			t.Errorf("signer %d: %v", signer, err)
		}
	}
	if _, err := session(t, reader(t, memoryStore(), w)).SignableAt(ctx, 0, 0, 0); !errors.Is(err, ErrNotAvailable) {
		t.Errorf("without the manifest: %v", err)
	}
}

// A mirror that has dropped nodes tells the truth about whom it can bring up to date.
func TestCanUpgradeIsTrue(t *testing.T) {
	ctx := t.Context()
	const length = 200
	w, _ := writer(t, memoryStore(), length)
	r := reader(t, memoryStore(), w)
	upgrade(t, w, r)
	for i := range uint64(length) {
		fetch(t, w, r, i)
	}
	if _, err := session(t, r).Clear(ctx, Range{Start: 0, End: 150}); err != nil {
		t.Fatal(err)
	}
	yes, no := 0, 0
	for n := uint64(1); n < length; n++ {
		can, err := r.CanUpgrade(ctx, n)
		if err != nil {
			t.Fatal(err)
		}
		proved, err := r.Prove(ctx, []Request{{Upgrade: &UpgradeRequest{Start: n, Length: length - n}}})
		if err != nil {
			t.Fatal(err)
		}
		if got := proved[0].Err == nil; got && !can || can && !got {
			t.Errorf("length %d: said %v, and %v", n, can, proved[0].Err)
		}
		if can {
			yes++
		} else {
			no++
		}
	}
	if yes < 60 || no < 60 {
		t.Errorf("%d lengths can be upgraded, %d cannot", yes, no)
	}
}

func TestDetachedProofNamesItsFeed(t *testing.T) {
	t.Parallel()
	pinned, _ := prologueWriter(t, "a", "b")
	for name, f := range map[string]*Feed{"prologue": pinned, "two of three": signersWriter(t), "compat": compatWriter(t)} {
		proof, err := f.ProveDetached(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if key, err := DetachedKey(proof); key != f.Key() || err != nil {
			t.Errorf("%s: the key is %v, %v; want %v", name, key, err, f.Key())
		}
		proof[0] ^= 1
		if key, err := DetachedKey(proof); !errors.Is(err, ErrKeyMismatch) {
			t.Errorf("%s, of another discovery key: %v, %v", name, key, err)
		}
		for n := range len(proof) {
			if _, err := DetachedKey(proof[:n]); err == nil {
				t.Errorf("%s: %d of %d bytes name a key", name, n, len(proof))
			}
		}
	}
}
