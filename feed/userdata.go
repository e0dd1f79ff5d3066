package feed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"

	datastore "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
)

// UserData returns what SetUserData has stored under key, nil if there is nothing. The result is the
// caller's. In an atom's session it is what the atom is going to store. The error is ErrName, ErrClosed,
// or the datastore's.
func (s *Session) UserData(ctx context.Context, key string) ([]byte, error) {
	if err := checkName(key); err != nil {
		return nil, err
	}
	if s.Closed() {
		return nil, ErrClosed
	}
	f := s.feed
	_, leave, ok := f.ops.Enter()
	defer leave()
	if !ok {
		return nil, ErrClosed
	}
	if s.line != nil && s.line.mem != nil {
		if value, ok := s.line.mem.userValue(key); ok {
			return bytes.Clone(value), nil
		}
	}
	return f.storage.userData(ctx, key)
}

// userData reads a value. After a commit that has failed it is the one of before, whatever is stored.
func (s *storage) userData(ctx context.Context, key string) ([]byte, error) {
	if value, ok := s.undone(s.userKey(key)); ok {
		return bytes.Clone(value), nil
	}
	return s.get(ctx, s.userKey(key))
}

func (m *memory) userValue(key string) ([]byte, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	value, ok := m.userData[key]
	return value, ok
}

// SetUserData stores a value of the application beside the feed, durably; nil deletes it. It is local:
// no peer hears of it. Keys of other packages begin with their name and a slash. In an atom's session it
// is stored with the flush.
//
// The error is ErrName (a key of 0 or more than MaxNameBytes bytes), ErrBlockTooLarge (more than
// MaxUserDataBytes), ErrNoSpace, ErrClosed, the datastore's, or wraps ctx's.
func (s *Session) SetUserData(ctx context.Context, key string, value []byte) error {
	if err := checkName(key); err != nil {
		return err
	}
	if len(value) > MaxUserDataBytes {
		return fmt.Errorf("%w: %d bytes of user data", ErrBlockTooLarge, len(value))
	}
	if s.Closed() {
		return ErrClosed
	}
	value = bytes.Clone(value) // nil stays nil
	if s.line != nil && s.line.mem != nil {
		m := s.line.mem
		m.mu.Lock()
		defer m.mu.Unlock()
		m.userData[key] = value
		return nil
	}
	f := s.feed
	giveBack, leave, err := f.begin(ctx)
	if err != nil {
		return err
	}
	defer leave()
	defer giveBack()
	if value != nil {
		if err := f.checkSpace(uint64(len(value))); err != nil {
			return err
		}
	}
	old, err := f.storage.userData(ctx, key)
	if err != nil {
		return err
	}
	c := f.newCommit()
	c.durable = true
	c.puts = []put{{key: f.storage.userKey(key), value: value, old: old}}
	if err := f.storage.write(ctx, c); err != nil {
		return err
	}
	f.swap(&change{commit: c, tree: f.tree})
	return nil
}

// UserDatum is one entry of AllUserData.
type UserDatum struct {
	Key   string
	Value []byte // the caller's
}

var errStop = errors.New("stop")

// AllUserData returns all that SetUserData has stored, in no order. An error ends the list. An atom's
// session lists what is stored, not what it is going to store.
func (s *Session) AllUserData(ctx context.Context) iter.Seq2[UserDatum, error] {
	return func(yield func(UserDatum, error) bool) {
		f := s.feed
		_, leave, ok := f.ops.Enter()
		defer leave()
		if !ok || s.Closed() {
			yield(UserDatum{}, ErrClosed)
			return
		}
		err := f.storage.queryNamed(ctx, "/u", func(key string, value []byte) error {
			name, err := f.storage.nameOf("/u", key)
			if before, ok := f.storage.undone(datastore.RawKey(key)); ok {
				if value = before; value == nil {
					return nil
				}
			}
			if err == nil && !yield(UserDatum{name, value}, nil) {
				return errStop
			}
			return err
		})
		if err != nil && !errors.Is(err, errStop) {
			yield(UserDatum{}, err)
		}
	}
}

// queryNamed calls fn for every record below the feed's prefix and kind, in no particular order.
func (s *storage) queryNamed(ctx context.Context, kind string, fn func(key string, value []byte) error) error {
	results, err := s.ds.Query(ctx, query.Query{Prefix: s.prefix + kind})
	if err != nil {
		return fmt.Errorf("feed: list records: %w", err)
	}
	defer func() { _ = results.Close() }()
	for r := range results.Next() {
		if r.Error != nil {
			return fmt.Errorf("feed: list records: %w", r.Error)
		}
		if err := fn(r.Key, r.Value); err != nil {
			return err
		}
	}
	return ctx.Err()
}
