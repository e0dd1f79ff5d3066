package feed

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/p2pcore/p2pcore/internal/flattree"
	"github.com/p2pcore/p2pcore/internal/merkle"
	"github.com/p2pcore/p2pcore/internal/wire"
)

// Verified is what a detached proof proves. Proven is a part of what Head signs, so both bind the signer.
type Verified struct {
	Key       Key
	Head      Head      // that is signed
	Manifest  *Manifest // by which
	FromProof bool      // Manifest came with the proof, and it takes more than the key to know it
	Proven    Head      // what the proof leads to: Head, or fork and length alone of an earlier one, which nobody has signed
	HasBlock  bool
	Index     uint64 // of the block, below Proven.Length
	Block     []byte // as it is stored: encrypted, if the feed is
}

// ProveDetached returns a proof of the feed's head, and of block *index unless that is nil, that stands
// alone: who has it and the feed's key needs nothing else to verify it (VerifyDetached). It can be sent in
// a message or kept as a receipt. The bytes are those of Hypercore's fully remote proof (formats.md 11.6):
//
//	32 byte discovery key, data message with request id 0, which carries the manifest
//
// JavaScript verifies those of feeds with a single signer whose key is not the public key itself, and only
// against a store that knows the feed's manifest; VerifyDetached verifies those of all feeds.
//
// The error is ErrOutOfRange, ErrNotAvailable (the block, or a node that leads to it, is not stored; an
// empty feed has nothing to prove), ErrCorrupt, ErrClosed, or the machine's.
func (f *Feed) ProveDetached(ctx context.Context, index *uint64) ([]byte, error) {
	_, leave, ok := f.ops.Enter()
	defer leave()
	if !ok {
		return nil, ErrClosed
	}
	f.mu.RLock()
	in, who, signature := f.readLocked(nil), f.who, f.head.signature
	g, has := uint32(0), false
	if index != nil && *index < in.tree.Length() {
		g, has, _ = f.whereLocked(nil, *index)
	}
	f.mu.RUnlock()
	defer in.leave()
	length := in.tree.Length()
	var block *BlockRequest
	switch {
	case length == 0 || who == nil:
		return nil, fmt.Errorf("%w: the feed is empty", ErrNotAvailable)
	case index == nil:
	case *index >= length:
		return nil, fmt.Errorf("%w: block %d of %d", ErrOutOfRange, *index, length)
	case !has:
		return nil, fmt.Errorf("%w: block %d", ErrNotAvailable, *index)
	default:
		block = &BlockRequest{Index: *index}
	}
	p, err := proveAlone(ctx, in.tree, in.view, Request{Block: block, Upgrade: &UpgradeRequest{Length: length}})
	if err != nil {
		return nil, fmt.Errorf("prove: %w", err)
	}
	if block != nil {
		if p.Block.Value, err = f.readBlock(ctx, g, *index); err != nil {
			return nil, err
		}
	}
	p.Upgrade.Signature = signature
	p.Manifest = who.manifest.Append(nil) // of a compat feed too: JavaScript sends it here
	return appendDetached(f.dk, p), nil
}

// proveAlone is Tree.Prove for who has nothing. Such a proof leads past a prologue at once: the signature
// vouches for all of it.
func proveAlone(ctx context.Context, tree *merkle.Tree, r merkle.NodeReader, req Request) (*Proof, error) {
	p, err := tree.WithPrologue(nil).Prove(ctx, r, req)
	if errors.Is(err, merkle.ErrMissingNode) {
		err = fmt.Errorf("%w: %w", ErrNotAvailable, err)
	}
	return p, err
}

func appendDetached(dk DiscoveryKey, p *Proof) []byte {
	d := wire.Data{Proof: *p}
	return d.Append(append(make([]byte, 0, len(dk)+d.Size()), dk[:]...))
}

// VerifyDetached verifies a detached proof of the feed of key, without any storage: whose manifest it
// carries, or whose key is the public key itself. It is safe to call with whatever somebody has sent; the
// result keeps parts of it. More than one byte string may prove the same, so compare results.
//
// The error is ErrKeyMismatch (of another feed, or its manifest is), ErrInvalidManifest, ErrInvalidProof,
// ErrInvalidSignature.
func VerifyDetached(key Key, proof []byte) (*Verified, error) {
	v, _, err := verifyDetached(key, nil, proof)
	return v, err
}

// DetachedKey returns the key of the feed that a detached proof says it is of, by the manifest that it carries. That
// is the word of whoever made the proof: to whom the feed belongs, the key alone tells. The error is ErrInvalidProof,
// ErrInvalidManifest, or ErrKeyMismatch: the proof names no key.
func DetachedKey(proof []byte) (Key, error) {
	var dk DiscoveryKey
	copy(dk[:], proof)
	p, err := parseDetached(dk, proof)
	if err != nil {
		return Key{}, err
	}
	if len(p.Manifest) == 0 {
		return Key{}, fmt.Errorf("%w: the proof carries no manifest, so only the feed's key tells whose it is", ErrKeyMismatch)
	}
	m, err := ParseManifest(p.Manifest)
	if err != nil {
		return Key{}, err
	}
	keys := []Key{m.Key()}
	for _, signer := range m.Signers { // of a compat feed the signer's key is the feed's
		keys = append(keys, Key(signer.PublicKey))
	}
	for _, key := range keys {
		if key.DiscoveryKey() == dk {
			return key, nil
		}
	}
	return Key{}, fmt.Errorf("%w: the manifest in the proof is of another feed", ErrKeyMismatch)
}

// VerifyDetachedBy is VerifyDetached for who knows the manifest of key: one that the proof carries is not
// looked at, and none is needed. The error is ErrKeyMismatch also if m is not of key.
func VerifyDetachedBy(key Key, m *Manifest, proof []byte) (*Verified, error) {
	who, err := newAuthority(key, m)
	if err != nil {
		return nil, err
	}
	v, _, err := verifyDetached(key, who, proof)
	return v, err
}

// verifyDetached verifies by who, or if it is nil by what the proof says of itself.
func verifyDetached(key Key, who *authority, proof []byte) (*Verified, *alone, error) {
	p, err := parseDetached(key.DiscoveryKey(), proof)
	if err != nil {
		return nil, nil, err
	}
	carried := false
	switch {
	case who != nil:
	case p.Manifest == nil:
		who = assumedAuthority(key)
	default:
		m, err := ParseManifest(p.Manifest)
		if err != nil {
			return nil, nil, err
		}
		if who, err = newAuthority(key, m); err != nil {
			return nil, nil, err
		}
		if carried = !who.compat; who.compat {
			who = assumedAuthority(key) // nothing vouches for what else an old feed's manifest says
		}
	}
	a, err := verifyAlone(who, p)
	if err != nil {
		return nil, nil, err
	}
	v := &Verified{Key: key, Head: a.tree.Head(), Manifest: who.manifest, FromProof: carried, Proven: a.proven}
	if p.Block != nil {
		v.HasBlock, v.Index, v.Block = true, p.Block.Index, p.Block.Value
	}
	return v, a, nil
}

func parseDetached(dk DiscoveryKey, b []byte) (*Proof, error) {
	if len(b) < len(dk) {
		return nil, fmt.Errorf("%w: %d bytes", ErrInvalidProof, len(b))
	}
	if DiscoveryKey(b[:len(dk)]) != dk {
		return nil, fmt.Errorf("%w: the proof is of another feed", ErrKeyMismatch)
	}
	m, err := wire.Parse(wire.TypeData, b[len(dk):])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidProof, err)
	}
	d := m.(*wire.Data)
	p := &d.Proof
	if d.ID != 0 {
		return nil, fmt.Errorf("%w: an answer to request %d", ErrInvalidProof, d.ID)
	}
	if p.Upgrade == nil || p.Upgrade.Start != 0 || p.Upgrade.Length == 0 {
		return nil, fmt.Errorf("%w: no upgrade from length 0", ErrInvalidProof)
	}
	return p, nil
}

// alone is what a proof proves that begins at length 0, with nothing stored.
type alone struct {
	proof  *Proof
	tree   *merkle.Tree // that is signed
	proven Head         // of the length that the upgrade leads to before its additional nodes; see heads
	roots  []Node       // of that length: only their hashes are vouched for, unless it is the signed one
	nodes  []Node       // of the tree, as far as the proof has them
}

// verifyAlone verifies such a proof. A block that hangs on nothing that is signed makes it invalid.
func verifyAlone(who *authority, p *Proof) (*alone, error) {
	tree, err := merkle.NewTree(p.Fork, nil)
	if err != nil {
		return nil, err
	}
	tree = tree.WithPrologue(who.prologue())
	batch := tree.NewBatch()
	if err := batch.Verify(context.Background(), nothing{}, p, forkBound{bounded{who}}); err != nil {
		return nil, unanchored(err)
	}
	a := &alone{proof: p, tree: batch.Tree(), proven: batch.Head(), roots: batch.Tree().Roots(), nodes: slices.Concat(batch.Nodes(), batch.Unproven())}
	if len(p.Upgrade.Additional) == 0 {
		return a, nil
	}
	// The way to the signed head leads through this one: the same nodes without those that come after.
	part, u := *p, *p.Upgrade
	part.Upgrade, u.Additional = &u, nil
	batch = tree.NewBatch()
	if err := batch.Verify(context.Background(), nothing{}, &part, anybody{}); err != nil {
		return nil, unanchored(err)
	}
	// A parent commits to the sum of its children's sizes: who sends both can move bytes from one to the
	// other. So what is not signed itself has no byte length, and no tree hash, that could be believed.
	a.proven, a.roots = Head{Fork: p.Fork, Length: batch.Head().Length}, batch.Tree().Roots()
	return a, nil
}

// unanchored sorts out that with nothing stored, a part that does not hang on the upgrade is invalid.
func unanchored(err error) error {
	if errors.Is(err, merkle.ErrMissingNode) {
		err = fmt.Errorf("%w: %w", ErrInvalidProof, err)
	}
	return err
}

// anybody accepts each head: those on the way to one that is signed.
type anybody struct{}

func (anybody) VerifyHead(Head, []Node, []byte) error { return nil }

// nothing is the storage of somebody who has none.
type nothing struct{}

func (nothing) ReadNodes(_ context.Context, at []flattree.Index, dst []Node) error {
	for i := range at {
		dst[i] = Node{Index: at[i]}
	}
	return nil
}
