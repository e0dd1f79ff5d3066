package feed

import (
	"errors"
	"testing"
)

// shifted proves the head of w by way of length n, with size bytes moved between the last root of length n and the
// first additional node. The hashes of what is signed do not change. It takes no secret.
func shifted(t *testing.T, w *Feed, n uint64, size uint64) *Proof {
	t.Helper()
	p := prove(t, w, Request{Upgrade: &UpgradeRequest{Length: n}, Manifest: true})
	p.Upgrade.Nodes[len(p.Upgrade.Nodes)-1].Size += size
	p.Upgrade.Additional[0].Size -= size
	return p
}

func sized(n int) (blocks [][]byte) {
	for i := range n {
		blocks = append(blocks, append(make([]byte, 20), byte(i)))
	}
	return blocks
}

func TestStrangerCannotForgeAConflict(t *testing.T) {
	ctx := t.Context()
	for _, c := range []struct{ n, length int }{{1, 2}, {3, 4}, {2, 4}, {5, 9}, {7, 9}} {
		w, s := writer(t, memoryStore(), 0)
		appendBlocks(t, s, sized(c.length)...)
		got, err := w.Examine(ctx, shifted(t, w, uint64(c.n), 1))
		if got == nil {
			t.Logf("%v: %v", c, err)
		} else {
			_, parseErr := ParseConflict(w.Key(), got.Append(nil))
			t.Errorf("%v: Examine calls a stranger's proof a conflict; VerifyConflict: %v, ParseConflict: %v, Freeze: %v, frozen %v",
				c, VerifyConflict(w.Key(), got), parseErr, w.Freeze(ctx, got), w.Info().Frozen)
			w.Thaw(ctx)
		}
		b := appendDetached(w.DiscoveryKey(), shifted(t, w, uint64(c.n), 1))
		if v, err := VerifyDetached(w.Key(), b); err == nil && v.Proven != (Head{Length: uint64(c.n)}) {
			t.Errorf("%v: VerifyDetached vouches for %+v", c, v.Proven)
		}
		_, _, err = w.ApplyDetached(ctx, b)
		var conflict *ConflictError
		if errors.As(err, &conflict) {
			t.Errorf("%v: ApplyDetached: %v", c, err)
		}
	}
}

func TestStrangerCannotMoveAPrologueFeed(t *testing.T) {
	ctx := t.Context()
	w, s := prologueWriter(t, "a", "b", "c")
	r := create(t, memoryStore(), Options{Manifest: w.Manifest()})
	upgrade(t, w, r)
	p := prove(t, w, Request{Upgrade: &UpgradeRequest{Length: 3}})
	p.Upgrade.Additional, p.Upgrade.Signature = nil, nil
	p.Fork, p.Manifest = 1<<53-1, w.Manifest().Append(nil)
	b := appendDetached(w.DiscoveryKey(), p)
	if _, newer, err := r.CheckDetached(b); newer {
		t.Errorf("CheckDetached: newer, %v", err)
	}
	if _, a, err := r.ApplyDetached(ctx, b); a.Grown {
		t.Errorf("ApplyDetached: %v; reader is at fork %d length %d", err, r.Info().Fork, r.Info().Length)
	}
	g, err := w.Reorg(ctx, p)
	if err != nil {
		t.Logf("writer: %v", err)
		return
	}
	if err := g.Apply(ctx); err == nil {
		t.Errorf("the writer itself has lost its blocks: fork %d length %d", w.Info().Fork, w.Info().Length)
	}
	defer func() {
		if p := recover(); p != nil {
			t.Errorf("the writer's next Truncate panics: %v", p)
		}
	}()
	_, err = s.Truncate(ctx, 3, TruncateOptions{})
	t.Logf("truncate: %v", err)
}

func TestStrangerCannotMoveAStaticFeed(t *testing.T) {
	ctx := t.Context()
	o, _ := writer(t, memoryStore(), 6)
	f := create(t, memoryStore(), Options{Manifest: StaticManifest(o.Info().Head)})
	p := prove(t, o, Request{Upgrade: &UpgradeRequest{Length: 6}})
	p.Upgrade.Signature, p.Manifest = nil, nil
	if a := apply(t, f, p)[0]; a.Err != nil {
		t.Fatal(a.Err)
	}
	q := *p
	q.Fork = 77
	g, err := f.Reorg(ctx, &q)
	if err == nil && g.Apply(ctx) == nil {
		t.Errorf("fork %d", f.Info().Fork)
	}
}

func TestStrangerCannotForgeAHeadByPatch(t *testing.T) {
	ctx := t.Context()
	pair := KeyPairFromSeed([32]byte{7})
	m := &Manifest{Version: 1, AllowPatch: true, Quorum: 1, Signers: []Signer{{Namespace: DefaultNamespace(), PublicKey: pair.Public()}}}
	w := create(t, memoryStore(), Options{Manifest: m, KeyPair: &pair})
	appendBlocks(t, session(t, w), sized(8)...)
	r := create(t, memoryStore(), Options{Manifest: m})
	p := shifted(t, w, 4, 1)
	multi, err := parseMulti(p.Upgrade.Signature)
	if err != nil {
		t.Fatal(err)
	}
	forged := multiSignature{proofs: []signerProof{multi.proofs[0]}, nodes: []Node{p.Upgrade.Additional[0]}}
	forged.proofs[0].patch = 4
	p.Upgrade.Additional, p.Upgrade.Signature = nil, forged.appendMulti(nil)
	if a := apply(t, r, p)[0]; a.Err == nil {
		t.Errorf("a forged head is taken: length %d, %d bytes", r.Info().Length, r.Info().ByteLength)
	}
	if a := apply(t, r, prove(t, w, upgradeRequest(w, r)))[0]; a.Err != nil {
		t.Errorf("an honest upgrade after it: %v", a.Err)
	}
	if c, _ := w.Examine(ctx, prove(t, r, Request{Upgrade: &UpgradeRequest{Length: r.Info().Length}})); c != nil {
		t.Errorf("and to the writer the reader's head is a conflict: %v", c)
	}
}

func TestStrangerCannotPinACompatManifest(t *testing.T) {
	w, _ := writer(t, memoryStore(), 5)
	ds := memoryStore()
	r := reader(t, ds, w)
	apply(t, r, &Proof{Manifest: DefaultManifest([32]byte(w.Key())).Append(nil)})
	r = reopen(t, r, ds, Options{})
	if i := r.Info(); i.HasManifest {
		t.Errorf("believed, and stored: compat %v", i.Compat)
	}
	if a := apply(t, r, prove(t, w, Request{Upgrade: &UpgradeRequest{Length: 5}, Manifest: true}))[0]; a.Err != nil {
		t.Errorf("an honest upgrade after it: %v", a.Err)
	}
}

func TestTruncateToTheLastFork(t *testing.T) {
	for _, fork := range []uint64{1<<53 - 1, 1 << 53, 1<<64 - 1} {
		func() {
			_, s := writer(t, memoryStore(), 3)
			defer func() {
				if p := recover(); p != nil {
					t.Errorf("fork %d: panic %v", fork, p)
				}
			}()
			_, err := s.Truncate(t.Context(), 1, TruncateOptions{Fork: fork})
			_, err2 := s.Truncate(t.Context(), 1, TruncateOptions{})
			t.Logf("fork %d: %v, next %v", fork, err, err2)
		}()
	}
}
