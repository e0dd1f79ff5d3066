package feed

import (
	"bytes"
	"errors"
	"testing"
	"testing/synctest"

	datastore "github.com/ipfs/go-datastore"
)

// twoWriters returns two feeds of one key pair whose blocks differ from the given one on.
func twoWriters(t testing.TB, same, length int) (a, b *Feed) {
	t.Helper()
	a, _ = writer(t, memoryStore(), length)
	b, bs := writer(t, atomicStore{memoryStore()}, same)
	for i := same; i < length; i++ {
		appendBlocks(t, bs, []byte("another"))
	}
	return a, b
}

func TestExamineFindsTwoSignedHeads(t *testing.T) {
	ctx := t.Context()
	a, b := twoWriters(t, 4, 9)
	for n := uint64(1); n <= 9; n++ {
		req := Request{Upgrade: &UpgradeRequest{Length: n}}
		c, err := a.Examine(ctx, prove(t, b, req))
		if err != nil || c == nil {
			t.Fatalf("length %d: %v, %v", n, c, err)
		}
		differ := n
		if n <= 4 { // the same there, but what is signed leads further
			differ = 9
		}
		if err := VerifyConflict(a.Key(), c); err != nil || !errors.Is(c, ErrFrozen) || c.Ours.Length != differ || (differ == 9) != (c.Ours.Hash != c.Theirs.Hash) {
			t.Errorf("length %d: %+v, %v", n, c, err)
		}
		again, err := ParseConflict(a.Key(), c.Append(nil))
		if err != nil || again.Ours != c.Ours || again.Theirs != c.Theirs {
			t.Errorf("length %d: parsed as %+v, %v", n, again, err)
		}
		if err := VerifyConflict(a.Key(), &ConflictError{OurProof: c.OurProof, TheirProof: c.OurProof}); !errors.Is(err, ErrInvalidProof) {
			t.Errorf("twice the same head: %v", err)
		}
		claimed := *c
		claimed.Ours.Hash[0] ^= 1
		if err := VerifyConflict(a.Key(), &claimed); !errors.Is(err, ErrInvalidProof) {
			t.Errorf("evidence of other heads: %v", err)
		}
		if c, err := a.Examine(ctx, prove(t, a, req)); c != nil || err != nil {
			t.Errorf("length %d: its own head: %v, %v", n, c, err)
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

// At the length of a prologue all heads are the same. What lies past it counts, in either form of a proof.
func TestExamineLooksPastAPrologue(t *testing.T) {
	ctx := t.Context()
	a, _ := prologueWriter(t, "a", "b", "c")
	b, _ := prologueWriter(t, "a", "x", "y")
	shorter, _ := prologueWriter(t, "a", "x")
	for n := uint64(3); n <= 6; n++ {
		for _, whole := range []bool{false, true} {
			for _, peer := range []*Feed{a, b, shorter} {
				if n > peer.Info().Length {
					continue
				}
				p := prove(t, peer, Request{Upgrade: &UpgradeRequest{Length: n}})
				if whole {
					in := peer.read(nil)
					var err error
					if p, err = proveAlone(ctx, in.tree, in.view, Request{Upgrade: &UpgradeRequest{Length: n}}); err != nil {
						t.Fatal(err)
					}
					in.leave()
					p.Upgrade.Signature = peer.head.signature
				}
				c, err := a.Examine(ctx, p)
				if err != nil || (c != nil) != (peer != a) {
					t.Fatalf("length %d, whole %v: %v, %v", n, whole, c, err)
				}
				if c == nil {
					continue
				}
				if err := VerifyConflict(a.Key(), c); err != nil || c.Ours.Length != c.Theirs.Length || c.Ours.Length <= 4 {
					t.Errorf("length %d, whole %v: %+v, %v", n, whole, c, err)
				}
			}
		}
	}
}

// Heads of two forks do not contradict each other: a writer may truncate.
func TestNoConflictBetweenForks(t *testing.T) {
	ctx := t.Context()
	a, _ := writer(t, memoryStore(), 9)
	b, bs := writer(t, memoryStore(), 9)
	if _, err := bs.Truncate(ctx, 4, TruncateOptions{}); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		appendBlocks(t, bs, []byte("another"))
	}
	if a.Info().Length != b.Info().Length {
		t.Fatal("the lengths differ")
	}
	ours, err := a.ProveDetached(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := b.ProveDetached(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := verifyEvidence(a.Key(), ours, theirs); !errors.Is(err, ErrInvalidProof) {
		t.Errorf("evidence of a truncation: %+v, %v", c, err)
	}
	p := prove(t, b, Request{Fork: 1, Upgrade: &UpgradeRequest{Length: 9}})
	if c, err := a.Examine(ctx, p); c != nil || !errors.Is(err, ErrStaleFork) {
		t.Errorf("examined: %v, %v", c, err)
	}
}

func FuzzParseConflict(f *testing.F) {
	ctx := f.Context()
	a, b := twoWriters(f, 2, 5)
	proved, err := b.Prove(ctx, []Request{{Upgrade: &UpgradeRequest{Length: 4}}})
	if err != nil || proved[0].Err != nil {
		f.Fatal(err, proved)
	}
	c, err := a.Examine(ctx, proved[0].Proof)
	if err != nil || c == nil {
		f.Fatal(c, err)
	}
	evidence, key := c.Append(nil), a.Key()
	f.Add(evidence)
	f.Add(evidence[:len(evidence)-1])
	f.Add((&ConflictError{OurProof: c.OurProof, TheirProof: c.OurProof}).Append(nil))
	f.Add((&ConflictError{OurProof: c.TheirProof, TheirProof: c.OurProof}).Append(nil))
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := ParseConflict(key, text)
		if err != nil {
			return
		}
		for _, h := range []Head{got.Ours, got.Theirs} {
			if h != c.Ours && h != c.Theirs && h != a.Info().Head && h != b.Info().Head {
				t.Errorf("a forged head %+v", h)
			}
		}
		again, err := ParseConflict(key, got.Append(nil))
		if err != nil || VerifyConflict(key, got) != nil || again.Ours != got.Ours || again.Theirs != got.Theirs {
			t.Errorf("%+v is parsed again as %+v, %v", got, again, err)
		}
	})
}
