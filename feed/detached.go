package feed

import (
	"context"
	"errors"
	"fmt"

	"github.com/p2pcore/p2pcore/internal/flattree"
	"github.com/p2pcore/p2pcore/internal/merkle"
	"github.com/p2pcore/p2pcore/internal/wire"
)

// Verified is what a detached proof proves.
type Verified struct {
	Key      Key
	Head     Head      // that is signed
	Manifest *Manifest // by which
	Proven   Head      // what the proof was asked for: Head, or an earlier length
	HasBlock bool
	Index    uint64 // of the block
	Block    []byte // as it is stored: encrypted, if the feed is
}

// ProveDetached returns a proof of the feed's head, and of block *index unless that is nil, that stands
// alone: who has it and the feed's key needs nothing else to verify it (VerifyDetached). It can be sent in
// a message or kept as a receipt. The bytes are those of Hypercore's fully remote proof (formats.md 11.6):
//
//	32 byte discovery key, data message with request id 0, which carries the manifest
//
// JavaScript verifies those of feeds with a single signer, and only against a store that has the feed.
//
// The error is ErrOutOfRange, ErrNotAvailable (the block, or a node that leads to it, is not stored; an
// empty feed has nothing to prove), ErrClosed, or the machine's.
func (f *Feed) ProveDetached(ctx context.Context, index *uint64) ([]byte, error) {
	info := f.Info()
	return f.proveDetached(ctx, index, info.Fork, info.Length)
}

func (f *Feed) proveDetached(ctx context.Context, index *uint64, fork, length uint64) ([]byte, error) {
	if length == 0 {
		return nil, fmt.Errorf("%w: the feed is empty", ErrNotAvailable)
	}
	req := Request{Fork: fork, Upgrade: &UpgradeRequest{Length: length}}
	if index != nil {
		if *index >= length {
			return nil, fmt.Errorf("%w: block %d of %d", ErrOutOfRange, *index, length)
		}
		req.Block = &BlockRequest{Index: *index}
	}
	proved, err := f.Prove(ctx, []Request{req})
	if err == nil {
		err = proved[0].Err
	}
	if err != nil {
		return nil, fmt.Errorf("prove: %w", err)
	}
	p := proved[0].Proof
	p.Manifest = f.Manifest().Append(nil) // of a compat feed too: JavaScript sends it here
	return appendDetached(f.dk, p), nil
}

func appendDetached(dk DiscoveryKey, p *Proof) []byte {
	d := wire.Data{Proof: *p}
	return d.Append(append(make([]byte, 0, len(dk)+d.Size()), dk[:]...))
}

// VerifyDetached verifies a detached proof of the feed of key, without any storage. It is safe to call with
// whatever somebody has sent; the result keeps parts of it.
//
// The error is ErrKeyMismatch (of another feed, or its manifest is), ErrInvalidManifest, ErrInvalidProof,
// ErrInvalidSignature.
func VerifyDetached(key Key, proof []byte) (*Verified, error) {
	p, err := parseDetached(key.DiscoveryKey(), proof)
	if err != nil {
		return nil, err
	}
	who := assumedAuthority(key)
	if p.Manifest != nil {
		m, err := ParseManifest(p.Manifest)
		if err != nil {
			return nil, err
		}
		if who, err = newAuthority(key, m); err != nil {
			return nil, err
		}
	}
	tree, err := verifyAlone(who, p)
	if err != nil {
		return nil, err
	}
	v := &Verified{Key: key, Head: tree.Head(), Manifest: who.manifest, Proven: tree.Head()}
	if p.Upgrade.Length < tree.Length() {
		if v.Proven, err = provenHead(p); err != nil {
			return nil, err
		}
	}
	if p.Block != nil {
		v.HasBlock, v.Index, v.Block = true, p.Block.Index, p.Block.Value
	}
	return v, nil
}

// provenHead is the head of the length that was asked for. Without a block or the like the nodes of the
// upgrade are its roots.
func provenHead(p *Proof) (Head, error) {
	if p.Block != nil || p.Hash != nil || p.Seek != nil {
		return Head{Fork: p.Fork, Length: p.Upgrade.Length}, nil // its hash would have to be computed again
	}
	tree, err := merkle.NewTree(p.Fork, p.Upgrade.Nodes)
	if err != nil || tree.Length() != p.Upgrade.Length {
		return Head{}, fmt.Errorf("%w: the nodes are not the roots of length %d", ErrInvalidProof, p.Upgrade.Length)
	}
	return tree.Head(), nil
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
	p := &m.(*wire.Data).Proof
	if p.Upgrade == nil || p.Upgrade.Start != 0 || p.Upgrade.Length == 0 {
		return nil, fmt.Errorf("%w: no upgrade from length 0", ErrInvalidProof)
	}
	return p, nil
}

// verifyAlone verifies a proof that begins at length 0, with nothing stored, and returns the tree that is
// signed.
func verifyAlone(who *authority, p *Proof) (*merkle.Tree, error) {
	tree, err := merkle.NewTree(p.Fork, nil)
	if err != nil {
		return nil, err
	}
	batch := tree.WithPrologue(who.prologue()).NewBatch()
	if err := batch.Verify(context.Background(), nothing{}, p, bounded{who}); err != nil {
		if errors.Is(err, merkle.ErrMissingNode) {
			err = fmt.Errorf("%w: %w", ErrInvalidProof, err)
		}
		return nil, err
	}
	return batch.Tree(), nil
}

// nothing is the storage of somebody who has none.
type nothing struct{}

func (nothing) ReadNodes(_ context.Context, at []flattree.Index, dst []Node) error {
	for i := range at {
		dst[i] = Node{Index: at[i]}
	}
	return nil
}

// CheckDetached is VerifyDetached for a feed that is stored, and says whether the proven head is newer
// than the feed's: of a later fork, or longer. It stores nothing.
func (f *Feed) CheckDetached(proof []byte) (v *Verified, newer bool, err error) {
	if v, err = VerifyDetached(f.key, proof); err != nil {
		return nil, false, err
	}
	here := f.Info().Head
	return v, v.Head.Fork > here.Fork || v.Head.Fork == here.Fork && v.Head.Length > here.Length, nil
}
