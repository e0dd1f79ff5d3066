package feed

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	datastore "github.com/ipfs/go-datastore"

	"github.com/p2pcore/p2pcore/internal/flattree"
)

// threeSigners returns a manifest of three signers, two of whom are enough, and their key pairs.
func threeSigners(t testing.TB, m Manifest) (*Manifest, []KeyPair) {
	t.Helper()
	var pairs []KeyPair
	for i := range 3 {
		pairs = append(pairs, KeyPairFromSeed([32]byte{1, byte(i)}))
		m.Signers = append(m.Signers, Signer{PublicKey: pairs[i].Public()})
	}
	n, err := m.Normalize()
	if err != nil {
		t.Fatal(err)
	}
	return n, pairs
}

func branch(t testing.TB, s *Session, name string) *Session {
	t.Helper()
	b, err := s.Branch(t.Context(), name, BranchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The flow of the JavaScript suite: every signer writes a branch of its own copy, what a quorum has is
// signed and committed, and goes to readers.
func TestSignersAgreeOnALengthAndReadersTakeIt(t *testing.T) {
	onStores(t, func(t *testing.T, ds datastore.Batching) {
		m, pairs := threeSigners(t, Manifest{Version: AutoVersion, AllowPatch: true})
		key := m.Key()
		f := create(t, ds, Options{Manifest: m, KeyPair: &pairs[0]})
		if f.Info().Writable {
			t.Error("one of two signers may write alone")
		}
		s := session(t, f)
		if _, err := s.Append(t.Context(), []byte("x")); !errors.Is(err, ErrNotWritable) {
			t.Errorf("append by one of two: %v", err)
		}
		other := create(t, memoryStore(), Options{Manifest: m, KeyPair: &pairs[2]})
		r := reader(t, memoryStore(), f)
		rounds := []struct{ mine, theirs int }{{5, 1}, {5, 5}, {6, 13}, {40, 13}}
		length := 0
		for i, round := range rounds {
			a, b := branch(t, s, "next"), branch(t, session(t, other), "next")
			appendBlocks(t, a, testBlocks(int(a.Info().Length), round.mine)...)
			appendBlocks(t, b, testBlocks(int(b.Info().Length), round.theirs)...)
			common := SignableLength([]uint64{a.Info().Length, b.Info().Length}, m.Quorum)
			if int(common) == length {
				continue
			}
			length = int(common)
			first, err := a.SignPartial(t.Context(), pairs[0], key, m, common)
			if err != nil {
				t.Fatal(err)
			}
			second, err := b.SignPartial(t.Context(), pairs[2], key, m, common)
			if err != nil {
				t.Fatal(err)
			}
			signature, err := Assemble(m, []Partial{second, first})
			if err != nil {
				t.Fatal(err)
			}
			for at, x := range map[*Session]*Session{s: a, session(t, other): b} {
				if _, err := at.Commit(t.Context(), x, CommitOptions{Length: common, Signature: signature}); err != nil {
					t.Fatalf("round %d, %+v: %v", i, round, err)
				}
			}
			upgrade(t, f, r)
			fetch(t, f, r, common-1)
			if r.Info().Head != f.Info().Head || r.Info().Head != other.Info().Head {
				t.Fatalf("round %d: reader at %+v, want %+v", i, r.Info().Head, f.Info().Head)
			}
		}
		if length != 13 {
			t.Errorf("the signers got to length %d", length)
		}
	})
}

// A signer's own feed, of another key, serves as well: only its blocks count.
func TestSignPartialOfTheSignersOwnFeed(t *testing.T) {
	t.Parallel()
	m, pairs := threeSigners(t, Manifest{Version: 1, AllowPatch: true})
	var parts []Partial
	for i, length := range []int{7, 4} {
		own := create(t, memoryStore(), Options{KeyPair: &pairs[i]})
		s := session(t, own)
		appendBlocks(t, s, testBlocks(0, length)...)
		p, err := s.SignPartial(t.Context(), pairs[i], m.Key(), m, 4)
		if err != nil || p.Patch != uint64(length-4) || (p.Patch > 0) != (len(p.Nodes) > 0) {
			t.Fatalf("partial %+v, %v", p, err)
		}
		parts = append(parts, p)
		for _, c := range []struct {
			name   string
			pair   KeyPair
			key    Key
			m      Manifest
			length uint64
			want   error
		}{
			{"another key", pairs[i], Key{1}, *m, 4, ErrKeyMismatch},
			{"no signer", NewKeyPair(), m.Key(), *m, 4, ErrNotWritable},
			{"no key pair", KeyPair{}, m.Key(), *m, 4, ErrNotWritable},
			{"too short", pairs[i], m.Key(), *m, uint64(length) + 1, ErrOutOfRange},
			{"patch not allowed", pairs[i], m.Key(), Manifest{Version: 1, Quorum: 2, Signers: m.Signers}, 3, ErrNotWritable},
		} {
			if p, err := s.SignPartial(t.Context(), c.pair, c.key, &c.m, c.length); !errors.Is(err, c.want) {
				t.Errorf("%s: %+v, %v, want %v", c.name, p, err, c.want)
			}
		}
		s.Close()
		if _, err := s.SignPartial(t.Context(), pairs[i], m.Key(), m, 4); !errors.Is(err, ErrClosed) {
			t.Errorf("closed: %v", err)
		}
	}
	f := create(t, memoryStore(), Options{Manifest: m})
	signature, err := Assemble(m, parts)
	if err != nil {
		t.Fatal(err)
	}
	wrong := AppendOptions{Signature: signature}
	if _, err := session(t, f).AppendWith(t.Context(), [][]byte{[]byte("other")}, wrong); !errors.Is(err, ErrInvalidSignature) {
		t.Errorf("append of other blocks: %v", err)
	}
	if _, err := session(t, f).AppendWith(t.Context(), testBlocks(0, 4), wrong); err != nil {
		t.Error(err)
	}
	r := reader(t, memoryStore(), f)
	upgrade(t, f, r)
}

// A patch without its nodes is a bad signature, whose sender is to blame; it is not asked for again.
func TestApplyBlamesForAPatchWithoutItsNodes(t *testing.T) {
	t.Parallel()
	m, pairs := threeSigners(t, Manifest{Version: 1, AllowPatch: true})
	blocks := testBlocks(0, 9)
	f := create(t, memoryStore(), Options{Manifest: m})
	parts := []Partial{contribution(t, pairs[0], m, 0, blocks, 5), contribution(t, pairs[1], m, 0, blocks[:5], 5)}
	signature, err := Assemble(m, parts)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := session(t, f).AppendWith(t.Context(), blocks[:5], AppendOptions{Signature: signature}); err != nil {
		t.Fatal(err)
	}
	r := reader(t, memoryStore(), f)
	p := prove(t, f, upgradeRequest(f, r))
	multi := multiSignature{proofs: []signerProof{*parts[0].proof(), *parts[1].proof()}, nodes: parts[0].Nodes[1:]}
	p.Upgrade.Signature = multi.appendMulti(nil)
	if a := apply(t, r, p)[0]; !errors.Is(a.Err, ErrInvalidSignature) || errors.Is(a.Err, ErrStale) || a.Grown {
		t.Errorf("a missing node: %+v", a)
	}
	p.Upgrade.Signature = signature
	if a := apply(t, r, p)[0]; a.Err != nil || !a.Grown {
		t.Errorf("all nodes: %+v", a)
	}
}

// With other roots than those of the head, a patch could lead from anywhere to what has been signed.
func TestVerifyHeadChecksTheRoots(t *testing.T) {
	t.Parallel()
	pair := KeyPairFromSeed([32]byte{1})
	m := DefaultManifest(pair.Public())
	m.AllowPatch = true
	blocks := testBlocks(0, 8)
	signed := contribution(t, pair, m, 0, blocks, 0) // the nodes are all there is
	short, _ := testTree(t, 0, blocks[:5])
	field := signed.Append(nil)
	forged := Head{Length: 3, Hash: Hash{1}}
	for name, c := range map[string]struct {
		h     Head
		roots []Node
		want  error
	}{
		"none":           {forged, nil, ErrInvalidSignature},
		"of another":     {forged, short.Roots(), ErrInvalidProof},
		"not of a tree":  {short.Head(), slices.Concat(short.Roots(), short.Roots()), ErrInvalidProof},
		"of the head":    {short.Head(), short.Roots(), ErrInvalidSignature}, // 8 blocks further than signed
		"of the head, 0": {Head{Hash: emptyTreeHash(t)}, nil, nil},
	} {
		if err := VerifyHead(m.Key(), m, c.h, c.roots, field); !errors.Is(err, c.want) {
			t.Errorf("roots %s: %v, want %v", name, err, c.want)
		}
		if err := signed.Verify(m.Key(), m, c.h, c.roots); (err == nil) != (c.want == nil) {
			t.Errorf("roots %s: partial: %v", name, err)
		}
	}
	if err := VerifyHead(Key{1}, m, short.Head(), short.Roots(), field); !errors.Is(err, ErrKeyMismatch) {
		t.Errorf("another key: %v", err)
	}
	if err := signed.Verify(Key{1}, m, short.Head(), short.Roots()); !errors.Is(err, ErrKeyMismatch) {
		t.Errorf("partial for another key: %v", err)
	}
	if err := VerifyHead(m.Key(), m, short.Head(), short.Roots(), make([]byte, MaxSignatureBytes+1)); !errors.Is(err, ErrInvalidSignature) {
		t.Errorf("too many bytes: %v", err)
	}
}

func emptyTreeHash(t *testing.T) Hash {
	tree, _ := testTree(t, 0, nil)
	return tree.Head().Hash
}

// One of several signers may write alone if one is enough; so may a key pair with as many seats.
func TestOneOfSeveralSignersWritesAlone(t *testing.T) {
	t.Parallel()
	a, b := KeyPairFromSeed([32]byte{1}), KeyPairFromSeed([32]byte{2})
	signers := func(pairs ...KeyPair) (out []Signer) {
		for _, p := range pairs {
			out = append(out, Signer{PublicKey: p.Public()})
		}
		return out
	}
	for _, c := range []struct {
		name   string
		quorum int
		signer []Signer
		may    bool
	}{
		{"1 of 2", 1, signers(a, b), true},
		{"1 of 2, second", 1, signers(b, a), true},
		{"2 of 2", 2, signers(a, b), false},
		{"2 seats of 3", 2, signers(a, b, a), true},
		{"3 of 3 with 2 seats", 3, signers(a, b, a), false},
	} {
		for version := range 4 {
			for _, allowPatch := range []bool{false, true} {
				m, err := Manifest{Version: version, AllowPatch: allowPatch, Quorum: c.quorum, Signers: c.signer}.Normalize()
				if err != nil {
					t.Fatal(err)
				}
				w := create(t, memoryStore(), Options{Manifest: m, KeyPair: &a})
				if w.Info().Writable != c.may {
					t.Errorf("%s, version %d: writable = %v", c.name, version, w.Info().Writable)
				}
				_, err = session(t, w).Append(t.Context(), []byte("x"), []byte("y"))
				if !c.may {
					if !errors.Is(err, ErrNotWritable) {
						t.Errorf("%s, version %d: append: %v", c.name, version, err)
					}
					if _, err := w.who.sign(a, Head{Length: 1}); !errors.Is(err, ErrNotWritable) {
						t.Errorf("%s, version %d: sign: %v", c.name, version, err)
					}
					continue
				}
				if err != nil {
					t.Fatalf("%s, version %d: %v", c.name, version, err)
				}
				upgrade(t, w, reader(t, memoryStore(), w))
			}
		}
	}
	static := StaticManifest(Head{Length: 3, Hash: Hash{1}})
	who, err := newAuthority(static.Key(), static)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := who.sign(a, Head{Length: 4}); !errors.Is(err, ErrNotWritable) {
		t.Errorf("static: %v", err)
	}
}

func TestUnwrapSignatureRefuses(t *testing.T) {
	t.Parallel()
	two := multiSignature{proofs: make([]signerProof, 2)}
	for _, b := range [][]byte{nil, {0, 0}, make([]byte, 63), make([]byte, 65), bytes.Repeat([]byte{1}, 67), two.appendMulti(nil)} {
		if got, err := UnwrapSignature(b); !errors.Is(err, ErrInvalidSignature) {
			t.Errorf("%x: %x, %v", b, got, err)
		}
	}
}

func TestParsePartialRefuses(t *testing.T) {
	t.Parallel()
	p := Partial{Signer: 3, Patch: 2, Nodes: []Node{{Index: 5, Size: 1, Hash: Hash{1}}}}
	good := p.Append(nil)
	if got, err := ParsePartial(good); err != nil || got.Signer != 3 || got.Patch != 2 || !slices.Equal(got.Nodes, p.Nodes) {
		t.Errorf("parsed %+v, %v", got, err)
	}
	two := multiSignature{proofs: make([]signerProof, 2)}
	large := Partial{Patch: 1}
	for i := range MaxPartialBytes / nodeBytes {
		large.Nodes = append(large.Nodes, Node{Index: flattree.Leaf(uint64(i))})
	}
	for name, b := range map[string][]byte{
		"empty": nil, "short": good[:len(good)-1], "long": append(slices.Clone(good), 0),
		"no signer": {0, 0}, "two signers": two.appendMulti(nil), "large": large.Append(nil),
	} {
		if got, err := ParsePartial(b); !errors.Is(err, ErrInvalidSignature) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	// The longest path there can be has room.
	far := Partial{Signer: 1 << 20, Patch: 1 << 52}
	for range 104 {
		far.Nodes = append(far.Nodes, Node{Index: 1<<53 - 2, Size: 1<<53 - 1, Hash: Hash{1}})
	}
	if _, err := ParsePartial(far.Append(nil)); err != nil {
		t.Error(err)
	}
}
