package corestore

import (
	"context"
	"fmt"

	datastore "github.com/ipfs/go-datastore"
	"golang.org/x/crypto/blake2b"

	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/internal/compact"
)

// defaultNamespace keeps the store's own default feed apart from all that has a name.
var defaultNamespace = Namespace(blake2b.Sum256([]byte("p2pcore/default")))

// defaultName is the name in that namespace which the default feed's key pair is derived from. It is no name
// that the feed could be looked up by.
const defaultName = "default"

// defaultRecord is what is stored of the default feed: which one it is, not the feed itself.
//
//	uint 1, uint kind; kind 1, the store's own: uint manifest version; kind 2, a given one: fixed32 key
type defaultRecord struct {
	given   bool
	key     feed.Key // of both kinds
	version int      // of the manifest; only of the store's own
}

const (
	defaultRecordVersion = 1
	defaultOwn           = 1
	defaultGiven         = 2
)

func (r defaultRecord) append(b []byte) []byte {
	b = compact.AppendUint(b, defaultRecordVersion)
	if r.given {
		b = compact.AppendUint(b, defaultGiven)
		return append(b, r.key[:]...)
	}
	b = compact.AppendUint(b, defaultOwn)
	return compact.AppendUint(b, uint64(r.version))
}

func (s *shared) parseDefault(b []byte) (defaultRecord, error) {
	d := compact.NewDecoder(b)
	version, kind := d.Uint(), d.Uint()
	if d.Err() == nil && version == defaultRecordVersion {
		switch kind {
		case defaultOwn:
			if v := d.Uint(); d.Err() == nil && (v == 1 || v == 2) {
				return s.ownDefault(int(v)), nil
			}
		case defaultGiven:
			if key := feed.Key(d.Fixed32()); d.Err() == nil {
				return defaultRecord{given: true, key: key}, nil
			}
		}
	}
	return defaultRecord{}, fmt.Errorf("%w: default record %x", ErrCorrupt, b)
}

func (s *shared) ownDefault(version int) defaultRecord {
	pair := s.primary.keyPair(defaultNamespace, defaultName)
	return defaultRecord{key: manifest(version, pair.Public()).Key(), version: version}
}

// loadDefault reads which feed is the default, or settles it: the one given, else the store's own.
func (s *shared) loadDefault(ctx context.Context) error {
	given := s.opts.DefaultKey
	s.opts.DefaultKey = nil // the caller's to change from now on
	stored, err := s.index.get(ctx, defaultKey)
	if err != nil {
		return err
	}
	if stored != nil {
		r, err := s.parseDefault(stored)
		if err != nil {
			return err
		}
		if given != nil && *given != r.key {
			return fmt.Errorf("%w: it is %s, not %s", ErrDefaultKey, r.key.DiscoveryKey().Short(), given.DiscoveryKey().Short())
		}
		s.standard = r
		return nil
	}
	s.standard = s.ownDefault(s.opts.ManifestVersion)
	if given != nil && *given != s.standard.key {
		s.standard = defaultRecord{given: true, key: *given}
	}
	if s.opts.ReadOnly {
		return nil
	}
	if err := s.ds.Put(ctx, defaultKey, s.standard.append(nil)); err != nil {
		return err
	}
	return s.sync(ctx)
}

// DefaultKey returns the key of the default feed, which need not exist yet.
func (s *Store) DefaultKey() feed.Key {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.standard.key
}

// Default opens the default feed, the group's face, or makes it: the feed of Options.DefaultKey, or, without one,
// a feed whose key pair is derived from the primary key, so that a restored primary key restores it. It is the same
// in all namespaces. Which feed it is has been settled when the store was first opened; the feed itself, and its
// line in List, come with the first call, so that a store that does without has no empty feed in it.
//
// The session can append if the secret is here: always of the store's own, of a given one as Keyed does. The errors are
// those of Keyed.
func (s *Store) Default(ctx context.Context) (*feed.Session, error) {
	leave, err := s.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	s.mu.Lock()
	r := s.standard
	s.mu.Unlock()
	if r.given {
		return s.openOrCreate(ctx, &record{key: r.key}, feed.Options{Key: &r.key})
	}
	pair := s.primary.keyPair(defaultNamespace, defaultName)
	rec := &record{key: r.key, kind: derivedSecret, origin: Name{Namespace: defaultNamespace, Name: defaultName}}
	return s.openOrCreate(ctx, rec, feed.Options{Manifest: manifest(r.version, pair.Public()), KeyPair: &pair})
}

// deleteDefault deletes the note that key was given as the default, if it was. A note that the default is the store's own
// tells nothing of that feed, and stays.
func (s *shared) deleteDefault(ctx context.Context, b datastore.Batch, key feed.Key) error {
	stored, err := s.index.get(ctx, defaultKey)
	if stored == nil || err != nil {
		return err
	}
	r, err := s.parseDefault(stored)
	if err != nil || !r.given || r.key != key {
		return err
	}
	return b.Delete(ctx, defaultKey)
}

// defaultDeleted gives the store its own default when the one given was deleted.
func (s *shared) defaultDeleted(key feed.Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.standard.given && s.standard.key == key {
		s.standard = s.ownDefault(s.opts.ManifestVersion)
	}
}
