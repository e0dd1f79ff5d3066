package feed

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	datastore "github.com/ipfs/go-datastore"
)

func TestAppendGetReopen(t *testing.T) {
	onStores(t, func(t *testing.T, ds datastore.Batching) {
		f, s := writer(t, ds, 0)
		length := 0
		for _, n := range []int{1, 0, 2, 63, 64, 65, 129, 1} {
			info, err := s.Append(t.Context(), testBlocks(length, length+n)...)
			if err != nil {
				t.Fatal(err)
			}
			length += n
			if info.Length != uint64(length) || info.ContiguousLength != info.Length || info.LocalBlocks != info.Length || !info.Writable {
				t.Fatalf("after %d blocks: %+v", length, info)
			}
		}
		f = reopen(t, f, ds, Options{})
		s = session(t, f)
		for i := range length {
			b, err := s.Get(t.Context(), uint64(i))
			if err != nil || !bytes.Equal(b, testBlock(i)) {
				t.Fatalf("block %d: %q, %v, want %q", i, b, err, testBlock(i))
			}
		}
		if _, err := s.Get(t.Context(), uint64(length)); !errors.Is(err, ErrOutOfRange) {
			t.Errorf("past the end: %v, want ErrOutOfRange", err)
		}
		if !s.Info().Writable {
			t.Error("the stored key pair is not used")
		}
		i := 0
		for b, err := range s.Blocks(t.Context(), Range{End: 1 << 40}, ReadOptions{}) {
			if err != nil || !bytes.Equal(b, testBlock(i)) {
				t.Fatalf("block %d of the iteration: %q, %v", i, b, err)
			}
			i++
		}
		if i != length {
			t.Errorf("the iteration ended at %d of %d", i, length)
		}
	})
}

func TestAppendRefuses(t *testing.T) {
	f, s := writer(t, memoryStore(), 3)
	before := f.Info()
	if _, err := s.Append(t.Context(), []byte("fine"), make([]byte, MaxBlockBytes+1)); !errors.Is(err, ErrBlockTooLarge) {
		t.Errorf("a block too large: %v", err)
	}
	readOnly, err := f.Session(SessionOptions{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := readOnly.Append(t.Context(), []byte("x")); !errors.Is(err, ErrNotWritable) || readOnly.Info().Writable {
		t.Errorf("a session that only reads: %v", err)
	}
	stranger := NewKeyPair()
	if _, err := f.Session(SessionOptions{KeyPair: &stranger}); !errors.Is(err, ErrNotWritable) {
		t.Errorf("a stranger's key pair: %v", err)
	}
	f.space = func() error { return ErrNoSpace }
	if _, err := s.Append(t.Context(), []byte("x")); !errors.Is(err, ErrNoSpace) {
		t.Errorf("a full disk: %v", err)
	}
	f.space = nil
	if got := f.Info(); got != before {
		t.Errorf("refused appends have left %+v, was %+v", got, before)
	}
	s.Close()
	if _, err := s.Append(t.Context(), []byte("x")); !errors.Is(err, ErrClosed) {
		t.Errorf("a closed session: %v", err)
	}
}

func TestOpenAndCreateRefuse(t *testing.T) {
	onStores(t, func(t *testing.T, ds datastore.Batching) {
		if _, err := Open(t.Context(), ds, Options{Prefix: testPrefix}); !errors.Is(err, ErrNotFound) {
			t.Errorf("open of nothing: %v", err)
		}
		f, _ := writer(t, ds, 3)
		pair := NewKeyPair()
		if _, err := Create(t.Context(), ds, Options{Prefix: testPrefix, KeyPair: &pair}); !errors.Is(err, ErrExists) {
			t.Errorf("create twice: %v", err)
		}
		f.Close()
		for name, opts := range map[string]Options{
			"key":      {Key: &Key{1}},
			"key pair": {KeyPair: &pair},
			"manifest": {Manifest: DefaultManifest([32]byte{1})},
		} {
			opts.Prefix = testPrefix
			if _, err := Open(t.Context(), ds, opts); !errors.Is(err, ErrKeyMismatch) {
				t.Errorf("open with another %s: %v", name, err)
			}
		}
		for _, prefix := range []string{"", "/", "x", "/a/", "/a//b"} {
			if _, err := Open(t.Context(), ds, Options{Prefix: prefix}); err == nil {
				t.Errorf("prefix %q is accepted", prefix)
			}
		}
	})
}

func TestReplicateSparselyAndReopen(t *testing.T) {
	onStores(t, func(t *testing.T, ds datastore.Batching) {
		const length = 300
		w, ws := writer(t, memoryStore(), length)
		r := reader(t, ds, w)
		upgrade(t, w, r)
		random := rand.New(rand.NewPCG(1, 2))
		order := random.Perm(length)
		for n, i := range order {
			fetch(t, w, r, uint64(i))
			switch n {
			case 50, 200:
				r = reopen(t, r, ds, Options{})
			case 120:
				appendBlocks(t, ws, testBlocks(length, length+40)...)
				upgrade(t, w, r)
			}
			if n%50 == 0 {
				if err := r.Check(t.Context()); err != nil {
					t.Fatalf("after %d blocks: %v", n+1, err)
				}
			}
		}
		info := r.Info()
		if info.ContiguousLength != length || info.LocalBlocks != length || info.Length != length+40 {
			t.Errorf("got %+v", info)
		}
		s := session(t, r)
		for i := range length {
			if b, err := s.Get(t.Context(), uint64(i)); err != nil || !bytes.Equal(b, testBlock(i)) {
				t.Fatalf("block %d: %q, %v", i, b, err)
			}
		}
		if _, err := s.Get(t.Context(), length); !errors.Is(err, ErrNotAvailable) {
			t.Errorf("a missing block: %v", err)
		}
		// What the reader has, it can serve.
		third := reader(t, memoryStore(), w)
		upgrade(t, r, third)
		for i := range length {
			fetch(t, r, third, uint64(i))
		}
	})
}

func TestSparseBitPages(t *testing.T) {
	const length = 100_000 // four bit pages
	w, s := writer(t, memoryStore(), 0)
	for i := 0; i < length; i += 10_000 {
		appendBlocks(t, s, testBlocks(i, i+10_000)...)
	}
	onStores(t, func(t *testing.T, ds datastore.Batching) {
		r := reader(t, ds, w)
		upgrade(t, w, r)
		fetch(t, w, r, 99_999, 70_000, 33_000, 32_767, 32_768)
		r = reopen(t, r, ds, Options{})
		fetch(t, w, r, 3)
		var reqs []Request
		for i := range uint64(40_000) {
			if !r.Has(Range{Start: i, End: i + 1}) {
				reqs = append(reqs, Request{Block: &BlockRequest{Index: i}})
			}
		}
		for start := 0; start < len(reqs); start += 500 {
			part := reqs[start:min(start+500, len(reqs))]
			blocks := make([]uint64, len(part))
			for i := range part {
				blocks[i] = part[i].Block.Index
			}
			nodes, err := r.Plan(t.Context(), blocks)
			if err != nil {
				t.Fatal(err)
			}
			for i := range part {
				part[i].Block.Nodes = nodes[i]
			}
			proved, err := w.Prove(t.Context(), part)
			if err != nil {
				t.Fatal(err)
			}
			var ps []*Proof
			for _, p := range proved {
				ps = append(ps, p.Proof)
			}
			for i, a := range apply(t, r, ps...) {
				if a.Err != nil || !a.Stored {
					t.Fatalf("block %d: %+v", blocks[i], a)
				}
			}
		}
		if got := r.Info().ContiguousLength; got != 40_000 {
			t.Errorf("contiguous length %d, want 40000", got)
		}
		if got := r.storage.bitPages; !slices.Equal(got, []uint64{1, 2, 3}) {
			t.Errorf("stored bit pages %v, want [1 2 3]: page 0 is full", got)
		}
		r = reopen(t, r, ds, Options{})
		if !r.Has(Range{Start: 70_000, End: 70_001}) || r.Has(Range{Start: 70_001, End: 70_002}) {
			t.Error("bits past the contiguous length are wrong")
		}
	})
}

func TestApplyRefusesEveryFlippedBit(t *testing.T) {
	w, _ := writer(t, memoryStore(), 21)
	proofs := func(r *Feed) (ps []*Proof) {
		ps = append(ps, prove(t, w, upgradeRequest(w, r)))
		req := upgradeRequest(w, r)
		req.Block = &BlockRequest{Index: 17}
		return append(ps, prove(t, w, req))
	}
	for n, p := range proofs(reader(t, memoryStore(), w)) {
		u := p.Upgrade
		flips := []*byte{&u.Nodes[0].Hash[0], &u.Nodes[0].Hash[31], &u.Signature[5], &p.Manifest[40]}
		if p.Block != nil {
			flips = append(flips, &p.Block.Value[0], &p.Block.Nodes[0].Hash[7])
		}
		// What the proof points to belongs to the writer's caches in part: work on copies.
		u.Signature, p.Manifest = bytes.Clone(u.Signature), bytes.Clone(p.Manifest)
		flips[2], flips[3] = &u.Signature[5], &p.Manifest[40]
		for i, b := range flips {
			*b ^= 4
			// A new reader each time: it would keep a manifest that is right.
			fresh := reader(t, memoryStore(), w)
			if a := apply(t, fresh, p)[0]; !errors.Is(a.Err, ErrInvalidSignature) {
				t.Errorf("proof %d, flip %d: %v, want ErrInvalidSignature", n, i, a.Err)
			}
			if info := fresh.Info(); info.Length != 0 || info.LocalBlocks != 0 {
				t.Errorf("proof %d, flip %d: left %+v", n, i, info)
			}
			*b ^= 4
		}
		u.Nodes[0].Size++
		if a := apply(t, reader(t, memoryStore(), w), p)[0]; a.Err == nil {
			t.Errorf("proof %d: accepted with another size", n)
		}
		u.Nodes[0].Size--
	}
	r := reader(t, memoryStore(), w)
	upgrade(t, w, r)
	p := prove(t, w, blockRequest(t, w, r, 5))
	p.Block.Value[0] ^= 1
	if a := apply(t, r, p)[0]; !errors.Is(a.Err, ErrInvalidChecksum) || a.Stored {
		t.Errorf("a wrong block: %+v", a)
	}
	p.Block.Value[0] ^= 1
	p.Fork = 3
	if a := apply(t, r, p)[0]; !errors.Is(a.Err, ErrStaleFork) {
		t.Errorf("another fork: %+v", a)
	}
	p.Fork = 0
	p.Block.Nodes = p.Block.Nodes[:1]
	if a := apply(t, r, p)[0]; !errors.Is(a.Err, ErrStale) || errors.Is(a.Err, ErrInvalidProof) {
		t.Errorf("no anchor: %+v", a)
	}
}

func TestApplyBatchOnNodesOfEarlierProofs(t *testing.T) {
	onStores(t, func(t *testing.T, ds datastore.Batching) {
		w, _ := writer(t, memoryStore(), 16)
		r := reader(t, ds, w)
		upgrade(t, w, r)
		// The second proof hangs on nodes that the first one brings; the third is wrong.
		first := prove(t, w, blockRequest(t, w, r, 4))
		second := prove(t, w, Request{Block: &BlockRequest{Index: 5}})
		wrong := prove(t, w, Request{Block: &BlockRequest{Index: 6, Nodes: 1}})
		wrong.Block.Value = []byte("wrong")
		again := prove(t, w, Request{Block: &BlockRequest{Index: 5}})
		got := apply(t, r, first, second, wrong, again)
		if !got[0].Stored || !got[1].Stored || got[2].Err == nil || got[3].Err != nil {
			t.Errorf("got %+v", got)
		}
		if n := r.Info().LocalBlocks; n != 2 {
			t.Errorf("%d blocks are stored, want 2", n)
		}
	})
}

func TestProveWhatIsNotThere(t *testing.T) {
	w, _ := writer(t, memoryStore(), 8)
	r := reader(t, memoryStore(), w)
	upgrade(t, w, r)
	proved, err := r.Prove(t.Context(), []Request{
		{Block: &BlockRequest{Index: 1}},
		{Block: &BlockRequest{Index: 1}, Manifest: true},
		{Fork: 2, Upgrade: &UpgradeRequest{Length: 8}},
		{Upgrade: &UpgradeRequest{Start: 3, Length: 100}},
		{Upgrade: &UpgradeRequest{Start: 3, Length: 5}},
		{Manifest: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []error{ErrNotAvailable, nil, ErrStaleFork, ErrInvalidRequest, ErrNotAvailable, nil} {
		if !errors.Is(proved[i].Err, want) || want == nil && proved[i].Proof.Manifest == nil {
			t.Errorf("request %d: %+v, want %v", i, proved[i], want)
		}
	}
	if can, err := r.CanUpgrade(t.Context(), 3); can || err != nil {
		t.Errorf("CanUpgrade(3) = %v, %v without the roots", can, err)
	}
	if can, err := w.CanUpgrade(t.Context(), 3); !can || err != nil {
		t.Errorf("CanUpgrade(3) = %v, %v at the writer", can, err)
	}
}

func TestCompatFeed(t *testing.T) {
	onStores(t, func(t *testing.T, ds datastore.Batching) {
		pair := KeyPairFromSeed([32]byte{9})
		key := Key(pair.Public())
		w := create(t, memoryStore(), Options{Key: &key, KeyPair: &pair})
		appendBlocks(t, session(t, w), testBlocks(0, 5)...)
		if info := w.Info(); !info.Compat || !info.Writable || w.ManifestBytes() != nil {
			t.Errorf("writer: %+v", info)
		}
		r := reader(t, ds, w)
		upgrade(t, w, r)
		if info := r.Info(); !info.Compat || !info.HasManifest {
			t.Errorf("reader: %+v", info)
		}
		reopen(t, r, ds, Options{})
	})
}

func TestKeyPairMakesAStoredFeedWritable(t *testing.T) {
	onStores(t, func(t *testing.T, ds datastore.Batching) {
		pair := KeyPairFromSeed([32]byte{8})
		key := DefaultManifest(pair.Public()).Key()
		f := create(t, ds, Options{Key: &key})
		if info := f.Info(); info.Writable || info.HasManifest {
			t.Errorf("by the key alone: %+v", info)
		}
		f.Close()
		f, err := Open(t.Context(), ds, Options{Prefix: testPrefix, KeyPair: &pair})
		if err != nil {
			t.Fatal(err)
		}
		checkAtEnd(t, f)
		appendBlocks(t, session(t, f), testBlocks(0, 3)...)
		f.Close()
		// The manifest has been stored with the append, the key pair has not.
		if f, err = Open(t.Context(), ds, Options{Prefix: testPrefix}); err != nil {
			t.Fatal(err)
		}
		checkAtEnd(t, f)
		if info := f.Info(); info.Writable || !info.HasManifest || info.Length != 3 {
			t.Errorf("reopened: %+v", info)
		}
	})
}

func TestCreateCommitsAlso(t *testing.T) {
	ds := memoryStore()
	pair := NewKeyPair()
	mark := datastore.NewKey("/index/x")
	_ = create(t, ds, Options{KeyPair: &pair, Also: func(ctx context.Context, b datastore.Batch) error {
		return b.Put(ctx, mark, []byte("y"))
	}})
	if ok, err := ds.Has(t.Context(), mark); !ok || err != nil {
		t.Errorf("the other record is not there: %v", err)
	}
	keys, err := ds.Query(t.Context(), allKeys)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := keys.Rest()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Key, testPrefix+"/") && e.Key != mark.String() {
			t.Errorf("key %s lies outside the prefix", e.Key)
		}
	}
}

func TestSubscriptionsMerge(t *testing.T) {
	f, s := writer(t, memoryStore(), 0)
	woken := 0
	sub := f.SubscribeFunc(func() { woken++ })
	appendBlocks(t, s, testBlocks(0, 3)...)
	appendBlocks(t, s, testBlocks(3, 5)...)
	c, err := sub.Next(t.Context())
	if err != nil || c.Head.Length != 5 || len(c.Added) != 1 || c.Added[0] != (Range{Start: 0, End: 5}) {
		t.Errorf("got %+v, %v", c, err)
	}
	if woken != 1 {
		t.Errorf("woken %d times, want once", woken)
	}
	if c, ok := sub.Take(); ok {
		t.Errorf("taken twice: %+v", c)
	}
	appendBlocks(t, s, testBlock(5))
	f.Close()
	if c, err := sub.Next(t.Context()); err != nil || c.Head.Length != 6 {
		t.Errorf("what was pending at the close: %+v, %v", c, err)
	}
	if _, err := sub.Next(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("after the close: %v", err)
	}
	if _, err := f.Subscribe().Next(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("a subscription of a closed feed: %v", err)
	}
}

func TestRangeLists(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		var a, b []Range
		set := map[uint64]bool{}
		fill := func(in bool) (out []Range) {
			at := uint64(0)
			for range random.IntN(5) {
				start := at + uint64(random.IntN(4))
				end := start + 1 + uint64(random.IntN(4))
				out = append(out, Range{Start: start, End: end})
				at = end + 1
			}
			for _, r := range out {
				for i := r.Start; i < r.End; i++ {
					set[i] = in
				}
			}
			return out
		}
		a, b = fill(true), nil
		var got []Range
		if random.IntN(2) == 0 {
			b = fill(true)
			got = mergeRanges(append([]Range(nil), a...), b, MaxChangeRanges)
		} else {
			b = fill(false)
			got = subtractRanges(a, b)
		}
		for i := range uint64(60) {
			in := false
			for _, r := range got {
				in = in || r.Start <= i && i < r.End
			}
			if in != set[i] {
				t.Fatalf("%v and %v: got %v, wrong at %d", a, b, got, i)
			}
		}
	}
	var many []Range
	for i := range uint64(3 * MaxChangeRanges) {
		many = mergeRanges(many, []Range{{Start: i * 10, End: i*10 + 1 + i%3}}, MaxChangeRanges)
		if len(many) > MaxChangeRanges {
			t.Fatalf("%d ranges are kept", len(many))
		}
	}
}
