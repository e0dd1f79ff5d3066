package feed

import (
	"context"
	"errors"
	"fmt"

	"github.com/p2pcore/p2pcore/internal/merkle"
)

// TreeHash returns the tree hash at a length, which is what signers sign. Past the end it waits for the
// feed to grow, and where nodes are missing it fetches the last block, which brings them, as Get does.
//
// The error is ErrNotAvailable if nodes are missing and nobody brings them, and those of Get.
func (s *Session) TreeHash(ctx context.Context, length uint64) (Hash, error) {
	tree, err := s.treeAt(ctx, length)
	if err != nil {
		return Hash{}, err
	}
	return tree.Head().Hash, nil
}

// SignableAt returns the bytes that signer, an index in the manifest's list, signs for the feed of length
// blocks under a fork number (Signable): the feed's own fork to vouch for what is here, or the next one to
// truncate it. The signature goes into AppendOptions, CommitOptions, TruncateOptions, or to other signers.
//
// The error is ErrOutOfRange if there is no such signer, ErrNotAvailable if the manifest is not known, and
// those of TreeHash.
func (s *Session) SignableAt(ctx context.Context, signer int, length, fork uint64) ([]byte, error) {
	tree, err := s.treeAt(ctx, length)
	if err != nil {
		return nil, err
	}
	m := s.feed.Manifest()
	switch {
	case m == nil:
		return nil, fmt.Errorf("%w: the manifest is not known", ErrNotAvailable)
	case signer < 0 || signer >= len(m.Signers):
		return nil, fmt.Errorf("%w: signer %d of %d", ErrOutOfRange, signer, len(m.Signers))
	}
	h := tree.Head()
	h.Fork = fork
	return Signable(s.feed.key, m, signer, h), nil
}

func (s *Session) treeAt(ctx context.Context, length uint64) (*merkle.Tree, error) {
	if s.Closed() {
		return nil, ErrClosed
	}
	if s.Info().Length < length {
		if _, err := s.Get(ctx, length-1); err != nil {
			return nil, err
		}
	}
	tree, err := s.readTree(ctx, length)
	if !errors.Is(err, ErrMissingNode) || length == 0 {
		return tree, err
	}
	if s.source() == nil || s.Has(length-1) {
		return nil, fmt.Errorf("%w: nodes of length %d", ErrNotAvailable, length)
	}
	if _, err := s.Get(ctx, length-1); err != nil {
		return nil, err
	}
	if tree, err = s.readTree(ctx, length); errors.Is(err, ErrMissingNode) {
		err = fmt.Errorf("%w: %w", ErrNotAvailable, err)
	}
	return tree, err
}

func (s *Session) readTree(ctx context.Context, length uint64) (*merkle.Tree, error) {
	f := s.feed
	_, leave, ok := f.ops.Enter()
	defer leave()
	if !ok {
		return nil, ErrClosed
	}
	in := f.read(s.line)
	defer in.leave()
	if length == in.tree.Length() {
		return in.tree, nil
	}
	if length > in.tree.Length() {
		return nil, fmt.Errorf("%w: length %d of %d", ErrOutOfRange, length, in.tree.Length())
	}
	tree, err := merkle.ReadTree(ctx, in.view, in.view.fork, length)
	if err != nil {
		return nil, fmt.Errorf("tree of length %d: %w", length, err)
	}
	return tree, nil
}
