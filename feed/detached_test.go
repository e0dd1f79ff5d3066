package feed

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"testing"
	"testing/synctest"

	datastore "github.com/ipfs/go-datastore"
)

// twoWriters returns two feeds of one key pair whose blocks differ from the given one on.
func twoWriters(t *testing.T, same, length int) (a, b *Feed) {
	t.Helper()
	a, as := writer(t, memoryStore(), length)
	b, bs := writer(t, atomicStore{memoryStore()}, same)
	for i := same; i < length; i++ {
		appendBlocks(t, bs, []byte("another"))
	}
	_ = as
	return a, b
}

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

// Every bit of a detached proof counts. Only bytes that are not read may change: there are none but the
// request id, the sizes below a known hash, and the patch of a single signature.
func TestDetachedProofRefusesEveryFlippedBit(t *testing.T) {
	f, _ := writer(t, memoryStore(), 7)
	index := uint64(3)
	proof, err := f.ProveDetached(t.Context(), &index)
	if err != nil {
		t.Fatal(err)
	}
	want, err := VerifyDetached(f.Key(), proof)
	if err != nil {
		t.Fatal(err)
	}
	for i := range proof {
		for bit := range 8 {
			flipped := bytes.Clone(proof)
			flipped[i] ^= 1 << bit
			v, err := VerifyDetached(f.Key(), flipped)
			if err != nil {
				continue
			}
			if v.Head != want.Head || v.Index != want.Index || !bytes.Equal(v.Block, want.Block) || v.HasBlock != want.HasBlock && i != 32 {
				t.Errorf("bit %d of byte %d: %+v", bit, i, v)
			}
		}
	}
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
		f.Add((&ConflictError{OurProof: proof, TheirProof: proof}).Append(nil))
	}
	head, key := w.Info().Head, w.Key()
	f.Fuzz(func(t *testing.T, b []byte) {
		if v, err := VerifyDetached(key, b); err == nil && v.Head != head {
			t.Errorf("a forged head %+v", v.Head)
		}
		if c, err := ParseConflict(key, b); err == nil {
			t.Errorf("forged evidence %+v", c)
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
}

func TestExamineFindsTwoSignedHeads(t *testing.T) {
	ctx := t.Context()
	a, b := twoWriters(t, 4, 9)
	for n := uint64(1); n <= 9; n++ {
		req := Request{Upgrade: &UpgradeRequest{Length: n}}
		c, err := a.Examine(ctx, prove(t, b, req))
		if err != nil || (c != nil) != (n > 4) {
			t.Fatalf("length %d: %v, %v", n, c, err)
		}
		if c == nil {
			continue
		}
		if err := VerifyConflict(a.Key(), c); err != nil || !errors.Is(c, ErrFrozen) || c.Ours.Length != n || c.Ours.Hash == c.Theirs.Hash {
			t.Errorf("length %d: %+v, %v", n, c, err)
		}
		again, err := ParseConflict(a.Key(), c.Append(nil))
		if err != nil || again.Ours != c.Ours || again.Theirs != c.Theirs {
			t.Errorf("length %d: parsed as %+v, %v", n, again, err)
		}
		if err := VerifyConflict(a.Key(), &ConflictError{OurProof: c.OurProof, TheirProof: c.OurProof}); !errors.Is(err, ErrInvalidProof) {
			t.Errorf("twice the same head: %v", err)
		}
	}
	// A reader of one of them finds it as well, and a stranger's head is none.
	r := reader(t, memoryStore(), a)
	upgrade(t, a, r)
	if c, err := r.Examine(ctx, prove(t, b, Request{Upgrade: &UpgradeRequest{Length: 9}})); c == nil || err != nil {
		t.Errorf("a sparse reader: %v, %v", c, err)
	}
	p := prove(t, b, Request{Upgrade: &UpgradeRequest{Length: 9}})
	p.Upgrade.Signature = bytes.Clone(p.Upgrade.Signature)
	p.Upgrade.Signature[5] ^= 1
	if c, err := a.Examine(ctx, p); c != nil || !errors.Is(err, ErrInvalidSignature) {
		t.Errorf("an unsigned head: %v, %v", c, err)
	}
	if c, err := a.Examine(ctx, prove(t, b, Request{Upgrade: &UpgradeRequest{Start: 1, Length: 3}})); c != nil || !errors.Is(err, ErrInvalidProof) {
		t.Errorf("not from the beginning: %v, %v", c, err)
	}
}

func TestFreezeSurvivesReopening(t *testing.T) {
	onStores(t, func(t *testing.T, ds datastore.Batching) {
		ctx := t.Context()
		f, s := writer(t, ds, 9)
		_, b := twoWriters(t, 4, 9)
		c, err := f.Examine(ctx, prove(t, b, Request{Upgrade: &UpgradeRequest{Length: 7}}))
		if err != nil || c == nil {
			t.Fatal(err)
		}
		bad := *c
		bad.TheirProof = bad.OurProof
		if err := f.Freeze(ctx, &bad); err == nil || f.Info().Frozen {
			t.Error("frozen without evidence")
		}
		sub := f.Subscribe()
		if err := f.Freeze(ctx, c); err != nil {
			t.Fatal(err)
		}
		if told, ok := sub.Take(); !ok || !told.Frozen {
			t.Errorf("told: %+v", told)
		}
		for range 2 {
			var conflict *ConflictError
			if _, err := s.Append(ctx, []byte("x")); !errors.Is(err, ErrFrozen) || !errors.As(err, &conflict) {
				t.Errorf("append: %v", err)
			}
			if _, err := s.Truncate(ctx, 1, TruncateOptions{}); !errors.Is(err, ErrFrozen) {
				t.Errorf("truncate: %v", err)
			}
			if _, err := f.Apply(ctx, []*Proof{prove(t, b, Request{Upgrade: &UpgradeRequest{Length: 9}})}); !errors.Is(err, ErrFrozen) {
				t.Errorf("apply: %v", err)
			}
			if got := f.Conflict(); got == nil || got.Theirs != c.Theirs || VerifyConflict(f.Key(), got) != nil {
				t.Errorf("evidence: %+v", got)
			}
			if got, err := s.Get(ctx, 3); err != nil || !bytes.Equal(got, testBlock(3)) {
				t.Errorf("what is stored: %q, %v", got, err)
			}
			f = reopen(t, f, ds, Options{})
			s = session(t, f)
		}
		if err := f.Thaw(ctx); err != nil {
			t.Fatal(err)
		}
		appendBlocks(t, s, []byte("x"))
		f = reopen(t, f, ds, Options{})
		if f.Conflict() != nil || f.Info().Frozen {
			t.Error("frozen again after reopening")
		}
	})
}

func TestFreezeEndsWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		a, b := twoWriters(t, 4, 9)
		r := reader(t, memoryStore(), a)
		upgrade(t, a, r)
		r.SetSource(&deaf{})
		s := session(t, r)
		done := make(chan error, 1)
		go func() {
			_, err := s.Get(ctx, 3)
			done <- err
		}()
		synctest.Wait()
		c, err := r.Examine(ctx, prove(t, b, Request{Upgrade: &UpgradeRequest{Length: 9}}))
		if err != nil || c == nil {
			t.Fatal(c, err)
		}
		if err := r.Freeze(ctx, c); err != nil {
			t.Fatal(err)
		}
		var conflict *ConflictError
		if err := <-done; !errors.As(err, &conflict) || conflict.Theirs != c.Theirs {
			t.Errorf("the call that waited: %v", err)
		}
		if _, err := s.Get(ctx, 5); !errors.Is(err, ErrFrozen) {
			t.Errorf("a call after it: %v", err)
		}
	})
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

// TestDetachedProofsAreThoseOfJavaScript holds proofs that the package hypercore has made against ours, byte
// for byte: so it verifies ours, and we verify its.
func TestDetachedProofsAreThoseOfJavaScript(t *testing.T) {
	text, err := os.ReadFile("testdata/detached.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Key    string
		Blocks []string
		Proofs []struct {
			Length uint64
			Index  *uint64
			Proof  string
		}
	}
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	f, s := writer(t, memoryStore(), 0)
	if f.Key().Hex() != file.Key || len(file.Proofs) == 0 {
		t.Fatalf("key %s, want %s; %d proofs", f.Key().Hex(), file.Key, len(file.Proofs))
	}
	for _, c := range file.Proofs {
		for n := f.Info().Length; n < c.Length; n++ {
			appendBlocks(t, s, []byte(file.Blocks[n]))
		}
		theirs, err := hex.DecodeString(c.Proof)
		if err != nil {
			t.Fatal(err)
		}
		v, err := VerifyDetached(f.Key(), theirs)
		if err != nil || v.Head != f.Info().Head {
			t.Errorf("length %d: %+v, %v", c.Length, v, err)
			continue
		}
		if c.Index != nil && (v.Index != *c.Index || string(v.Block) != file.Blocks[*c.Index]) {
			t.Errorf("length %d: block %d is %q", c.Length, v.Index, v.Block)
		}
		ours, err := f.ProveDetached(t.Context(), c.Index)
		if err != nil || !bytes.Equal(ours, theirs) {
			t.Errorf("length %d: ours is %x, %v; theirs %x", c.Length, ours, err, theirs)
		}
	}
}

func ExampleVerifyDetached() {
	ctx := context.Background()
	pair := NewKeyPair()
	f, err := Create(ctx, memoryStore(), Options{Prefix: "/00000001", KeyPair: &pair})
	if err != nil {
		panic(err)
	}
	defer f.Close()
	s, err := f.Session(SessionOptions{})
	if err != nil {
		panic(err)
	}
	if _, err := s.Append(ctx, []byte("one"), []byte("two")); err != nil {
		panic(err)
	}
	index := uint64(1)
	proof, err := f.ProveDetached(ctx, &index)
	if err != nil {
		panic(err)
	}

	// Elsewhere, with nothing but the key:
	v, err := VerifyDetached(f.Key(), proof)
	if err != nil {
		panic(err)
	}
	fmt.Printf("block %d of %d is %q\n", v.Index, v.Head.Length, v.Block)
	// Output: block 1 of 2 is "two"
}
