package feed

import (
	"context"
	"fmt"

	datastore "github.com/ipfs/go-datastore"
)

// Purge deletes all that is stored of the feed under the prefix: blocks, tree, head, keys, branches, user
// data. It need not be open, and must not be: use Feed.Purge then. Purging what is not there is no error.
// It is durable when it returns, and the datastore has been made to give the space back.
//
// The identity goes first: whatever a crash leaves cannot be opened, and the next Purge deletes it. A
// feed with the same key that is made later must begin at a fork past the last one, see
// Options.Fork; whoever purges keeps that number.
func Purge(ctx context.Context, ds datastore.Batching, prefix string) error {
	opts := Options{Prefix: prefix}
	if err := opts.normalize(); err != nil {
		return err
	}
	s := newStorage(ds, &opts)
	if err := s.purge(ctx); err != nil {
		return fmt.Errorf("feed: purge: %w", err)
	}
	return nil
}

// Purge closes the feed and deletes all that is stored of it.
func (f *Feed) Purge(ctx context.Context) error {
	if err := f.Close(); err != nil {
		return err
	}
	if err := f.storage.purge(ctx); err != nil {
		return fmt.Errorf("feed: purge: %w", err)
	}
	return nil
}

func (s *storage) purge(ctx context.Context) error {
	if s.readOnly != nil {
		return s.readOnly
	}
	if err := s.ds.Delete(ctx, s.authKey()); err != nil {
		return err
	}
	if err := s.ds.Sync(ctx, datastore.RawKey(s.prefix)); err != nil {
		return err
	}
	start, end := s.prefix+"/", s.prefix+"0" // "0" follows "/"
	if d, ok := s.ds.(RangeDeleter); ok {
		if err := d.DeleteRange(ctx, start, end); err != nil {
			return err
		}
	} else if err := s.deleteAll(ctx); err != nil {
		return err
	}
	if err := s.ds.Sync(ctx, datastore.RawKey(s.prefix)); err != nil {
		return err
	}
	if c, ok := s.ds.(Compacter); ok {
		return c.Compact(ctx, start, end)
	}
	return nil
}

func (s *storage) deleteAll(ctx context.Context) error {
	var keys []datastore.Key
	err := s.query(ctx, true, func(key string, _ []byte, _ int) error {
		keys = append(keys, datastore.RawKey(key))
		return nil
	})
	if err != nil {
		return err
	}
	return s.deleteKeys(ctx, keys)
}
