package corestore

import (
	"context"

	"github.com/p2pcore/p2pcore/feed"
)

// Signed opens the feed that m describes, or makes it: one of several signers, with a prologue, or static. pair is a
// signer's key pair, which the store remembers; nil if it has none. The session appends by itself only if pair alone is
// enough for m's quorum.
//
// The session is the caller's to close. The error is that of a manifest which is not valid, or one of Fresh's.
func (s *Store) Signed(ctx context.Context, m *feed.Manifest, pair *feed.KeyPair) (*feed.Session, error) {
	m, err := m.Normalize()
	if err != nil {
		return nil, err
	}
	leave, err := s.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	rec := &record{key: m.Key()}
	if pair != nil {
		rec.kind = storedSecret
	}
	session, err := s.openOrCreate(ctx, rec, feed.Options{Manifest: m, KeyPair: pair})
	if err != nil || pair != nil || s.opts.ReadOnly {
		return session, err
	}
	// It may have been stored by its key alone.
	if err := session.Feed().SetManifest(ctx, m); err != nil {
		session.Close()
		return nil, err
	}
	return session, nil
}
