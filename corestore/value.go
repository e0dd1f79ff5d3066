package corestore

import (
	"context"
	"errors"
	"fmt"
)

// Value returns what SetValue stored under key, nil if there is nothing.
func (s *Store) Value(ctx context.Context, key string) ([]byte, error) {
	if err := checkValueKey(key); err != nil {
		return nil, err
	}
	leave, err := s.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	return s.index.get(ctx, valueKey(key))
}

// SetValue stores a small setting of another package under key, durably; nil removes it. Keys belong
// to whoever uses them first: begin them with the package's name. Values are the same in all
// namespaces. The error is ErrReadOnly, ErrClosed or the datastore's.
func (s *Store) SetValue(ctx context.Context, key string, value []byte) error {
	if err := checkValueKey(key); err != nil {
		return err
	}
	if s.opts.ReadOnly {
		return s.readOnly()
	}
	leave, err := s.enter()
	if err != nil {
		return err
	}
	defer leave()
	if value == nil {
		err = s.ds.Delete(ctx, valueKey(key))
	} else {
		err = s.ds.Put(ctx, valueKey(key), value)
	}
	if err != nil {
		return fmt.Errorf("store value %q: %w", key, err)
	}
	return s.sync(ctx)
}

func checkValueKey(key string) error {
	if key == "" || len(key) > MaxNameBytes {
		return errors.New("corestore: a value's key has 1 to 1024 bytes")
	}
	return nil
}
