package corestore

import (
	"context"
	"errors"

	"github.com/p2pcore/p2pcore/feed"
)

// Named opens the feed called name in this namespace, or makes it. Its key pair is derived from the
// primary key, so the session can append (not in a read-only store). A name that was given to a feed
// with Alias opens that feed, and then the session can append if the store has that feed's secret.
//
// The session is the caller's to close. The error is ErrName, ErrClosed, ErrUnknownFeed with ErrReadOnly (not stored,
// and the store is read-only), the datastore's, or wraps ctx's.
func (s *Store) Named(ctx context.Context, name string) (*feed.Session, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	leave, err := s.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	full := Name{Namespace: s.ns, Name: name}
	pair := s.KeyPair(name)
	m := manifest(s.opts.ManifestVersion, pair.Public())
	rec := &record{key: m.Key(), kind: derivedSecret, origin: full, names: []Name{full}}
	dk, ok, err := s.index.named(ctx, full)
	if err != nil {
		return nil, err
	}
	if ok {
		session, err := s.openNamed(ctx, dk)
		switch {
		case errors.Is(err, ErrUnknownFeed):
			// Only a datastore without atomic batches leaves a name without a feed. The feed is made.
		case err != nil || dk != rec.key.DiscoveryKey() || s.opts.ReadOnly || session.Info().Writable:
			return session, err
		default:
			// The feed was deleted after its name was read, and opened again by its key: it lacks its name and its secret.
			if err := session.Close(); err != nil {
				return nil, err
			}
		}
	}
	return s.openOrCreate(ctx, rec, feed.Options{Manifest: m, KeyPair: &pair})
}

// Fresh makes a feed with a new random key pair, which the store remembers. The session can append.
// The error is ErrClosed, ErrReadOnly, the datastore's, or wraps ctx's.
func (s *Store) Fresh(ctx context.Context) (*feed.Session, error) {
	return s.Paired(ctx, feed.NewKeyPair())
}

// Paired opens the feed that pair alone writes, or makes it; the store remembers the secret. The
// errors are those of Fresh.
func (s *Store) Paired(ctx context.Context, pair feed.KeyPair) (*feed.Session, error) {
	leave, err := s.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	m := manifest(s.opts.ManifestVersion, pair.Public())
	rec := &record{key: m.Key(), kind: storedSecret}
	return s.openOrCreate(ctx, rec, feed.Options{Manifest: m, KeyPair: &pair})
}

// Keyed opens the feed of key, or makes an empty one that waits for peers and is remembered. The
// session can append only if the store has the feed's secret. The error is ErrClosed, ErrUnknownFeed with
// ErrReadOnly (not stored, and the store is read-only), the datastore's, or wraps ctx's.
func (s *Store) Keyed(ctx context.Context, key feed.Key) (*feed.Session, error) {
	leave, err := s.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	return s.openOrCreate(ctx, &record{key: key}, feed.Options{Key: &key})
}

// Get opens the feed of a key given as text, as Keyed does: 52 digits of z-base-32, 64 of hexadecimal, or a link.
// The error is feed.ErrMalformedKey, or one of Keyed's.
func (s *Store) Get(ctx context.Context, key string) (*feed.Session, error) {
	k, err := feed.ParseKey(key)
	if err != nil {
		return nil, err
	}
	return s.Keyed(ctx, k)
}

// Discovered opens the feed of a discovery key if it is stored; without its key it cannot be made. The error is
// ErrUnknownFeed if it is not stored, ErrClosed, the datastore's, or wraps ctx's.
func (s *Store) Discovered(ctx context.Context, dk feed.DiscoveryKey) (*feed.Session, error) {
	leave, err := s.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	return s.openNamed(ctx, dk)
}

// Resolve returns the feed of a discovery key if it is stored and in the group, opening it if need be. The feed stays
// open until release is called, which may be done more than once and by any goroutine. It does not
// count as active. The error is ErrUnknownFeed (of one that has left the group, ErrRemoved), ErrClosed, the datastore's, or wraps ctx's.
func (s *Store) Resolve(ctx context.Context, dk feed.DiscoveryKey) (f *feed.Feed, release func(), err error) {
	return s.resolve(ctx, dk, false)
}
