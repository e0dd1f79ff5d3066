package corestore

import (
	"context"
	"fmt"

	"golang.org/x/crypto/blake2b"

	"github.com/p2pcore/p2pcore/feed"
)

// encryptionNamespace keeps encryption keys apart from all other uses of the primary key.
var encryptionNamespace = blake2b.Sum256([]byte("p2pcore/encryption"))

// DeriveEncryptionKey returns the encryption key that belongs to a feed in this store: from the primary
// key and the feed's key, so that a restored primary key restores it.
func (s *Store) DeriveEncryptionKey(key feed.Key) feed.EncryptionKey {
	h, err := blake2b.New256(s.primary.key[:])
	if err != nil {
		panic(err) // only for keys longer than 64 bytes
	}
	h.Write(encryptionNamespace[:])
	h.Write(key[:])
	var k feed.EncryptionKey
	h.Sum(k[:0])
	return k
}

// EncryptionKey returns the encryption key that is stored for a feed; ok is false if there is none. The error is
// ErrClosed, ErrCorrupt, or the datastore's.
func (s *Store) EncryptionKey(ctx context.Context, key feed.Key) (k feed.EncryptionKey, ok bool, err error) {
	leave, err := s.enter()
	if err != nil {
		return k, false, err
	}
	defer leave()
	return s.index.encryption(ctx, key.DiscoveryKey())
}

func (x index) encryption(ctx context.Context, dk feed.DiscoveryKey) (k feed.EncryptionKey, ok bool, err error) {
	b, err := x.get(ctx, encryptionKey(dk))
	if b == nil || err != nil {
		return k, false, err
	}
	if len(b) != len(k) {
		return k, false, fmt.Errorf("%w: encryption key of %d bytes", ErrCorrupt, len(b))
	}
	return feed.EncryptionKey(b), true, nil
}

// SetEncryptionKey stores the encryption key of a stored feed, durably, or deletes it if k is nil. Sessions
// opened from then on read and write with it. It does not change what is stored of the feed: set it before
// the first block is appended, or to the key that the feed was written with.
//
// The error is ErrUnknownFeed, ErrReadOnly, ErrClosed, the datastore's, or wraps ctx's.
func (s *Store) SetEncryptionKey(ctx context.Context, key feed.Key, k *feed.EncryptionKey) error {
	if s.opts.ReadOnly {
		return s.readOnly()
	}
	f, release, err := s.Resolve(ctx, key.DiscoveryKey())
	if err != nil {
		return err
	}
	defer release()
	leave, err := s.enter()
	if err != nil {
		return err
	}
	defer leave()
	if err := take(ctx, s.turn); err != nil {
		return err
	}
	defer func() { <-s.turn }()
	// A feed that was deleted meanwhile leaves nothing behind.
	if _, stored, err := s.index.number(ctx, key.DiscoveryKey()); err != nil {
		return err
	} else if !stored {
		return ErrUnknownFeed
	}
	at := encryptionKey(key.DiscoveryKey())
	if k == nil {
		err = s.ds.Delete(ctx, at)
	} else {
		err = s.ds.Put(ctx, at, k[:])
	}
	if err == nil {
		err = s.sync(ctx)
	}
	if err != nil {
		return fmt.Errorf("store encryption key: %w", err)
	}
	f.SetEncryption(encryptionOf(f, k))
	return nil
}

// encryptionOf returns the encryption of a feed with the key; nil if there is none.
func encryptionOf(f *feed.Feed, k *feed.EncryptionKey) feed.Encryption {
	if k == nil {
		return nil
	}
	return feed.NewLateBlockEncryption(f.Key(), func() bool { return f.Info().Compat }, *k)
}
