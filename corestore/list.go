package corestore

import (
	"context"
	"fmt"
	"iter"
	"slices"

	"github.com/ipfs/go-datastore/query"

	"github.com/p2pcore/p2pcore/feed"
)

// Entry is what the store knows of a feed without opening it.
type Entry struct {
	Key          feed.Key
	DiscoveryKey feed.DiscoveryKey
	Name         string    // the first of Names, "" if there is none
	Namespace    Namespace // that name's
	Names        []Name    // in the order they were given
	Writable     bool      // the store has the feed's secret
}

func (r *record) entry() Entry {
	e := Entry{Key: r.key, DiscoveryKey: r.key.DiscoveryKey(), Names: r.names, Writable: r.kind != noSecret}
	if len(r.names) > 0 {
		e.Name, e.Namespace = r.names[0].Name, r.names[0].Namespace
	}
	return e
}

// List returns the feeds of the store in the order they came into it; from a namespace, those that
// have a name in it, and then Name is that name. An error ends the list. Feeds made meanwhile may be
// missing. The loop's body may use the store but must not close it.
func (s *Store) List(ctx context.Context) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		leave, err := s.enter()
		if err != nil {
			yield(Entry{}, err)
			return
		}
		defer leave()
		results, err := s.ds.Query(ctx, query.Query{Prefix: feedPrefix, Orders: []query.Order{query.OrderByKey{}}})
		if err != nil {
			yield(Entry{}, fmt.Errorf("list feeds: %w", err))
			return
		}
		defer results.Close()
		for {
			result, ok := results.NextSync()
			if !ok {
				return
			}
			entry, listed, err := s.listed(ctx, result)
			if err != nil {
				yield(Entry{}, fmt.Errorf("list feeds: %w", err))
				return
			}
			if listed && !yield(entry, nil) {
				return
			}
		}
	}
}

// listed reads one result of List's query.
func (s *Store) listed(ctx context.Context, result query.Result) (e Entry, ok bool, err error) {
	if result.Error != nil {
		return e, false, result.Error
	}
	if err := ctx.Err(); err != nil {
		return e, false, err
	}
	rec, err := parseRecord(result.Value)
	if err != nil {
		return e, false, err
	}
	e = rec.entry()
	if !s.root {
		i := slices.IndexFunc(e.Names, func(n Name) bool { return n.Namespace == s.ns })
		if i < 0 {
			return e, false, nil
		}
		e.Name, e.Namespace = e.Names[i].Name, s.ns
	}
	if s.atomic {
		return e, true, nil
	}
	// Without atomic batches a record may be what a crash left of a feed that was not made.
	n, err := numberOf(result.Key)
	if err != nil {
		return e, false, err
	}
	now, known, err := s.index.number(ctx, e.DiscoveryKey)
	return e, known && now == n, err
}

// Find returns what the store knows of the feed of key; ok is false if it is not stored.
func (s *Store) Find(ctx context.Context, key feed.Key) (e Entry, ok bool, err error) {
	leave, err := s.enter()
	if err != nil {
		return e, false, err
	}
	defer leave()
	_, rec, err := s.index.find(ctx, key.DiscoveryKey())
	if err != nil || rec == nil {
		return e, false, err
	}
	return rec.entry(), true, nil
}

// Stored reports whether the feed of key is in the store.
func (s *Store) Stored(ctx context.Context, key feed.Key) (bool, error) {
	leave, err := s.enter()
	if err != nil {
		return false, err
	}
	defer leave()
	_, ok, err := s.index.number(ctx, key.DiscoveryKey())
	return ok, err
}

// LookupName returns the key of the feed that name stands for in this namespace; ok is false if no
// feed has the name. It opens and makes nothing.
func (s *Store) LookupName(ctx context.Context, name string) (key feed.Key, ok bool, err error) {
	if err := checkName(name); err != nil {
		return key, false, err
	}
	leave, err := s.enter()
	if err != nil {
		return key, false, err
	}
	defer leave()
	dk, ok, err := s.index.named(ctx, Name{Namespace: s.ns, Name: name})
	if err != nil || !ok {
		return key, false, err
	}
	_, rec, err := s.index.find(ctx, dk)
	if err != nil || rec == nil {
		return key, false, err
	}
	return rec.key, true, nil
}

// Alias gives the stored feed of key a name in this namespace, durably. A feed may have several
// names. The error is ErrName, ErrNameTaken (another feed's), ErrUnknownFeed, ErrReadOnly, ErrClosed,
// the datastore's, or wraps ctx's.
func (s *Store) Alias(ctx context.Context, name string, key feed.Key) error {
	if err := checkName(name); err != nil {
		return err
	}
	if s.opts.ReadOnly {
		return ErrReadOnly
	}
	leave, err := s.enter()
	if err != nil {
		return err
	}
	defer leave()
	if err := take(ctx, s.turn); err != nil {
		return err
	}
	defer func() { <-s.turn }()

	dk := key.DiscoveryKey()
	n, rec, err := s.index.find(ctx, dk)
	if err != nil {
		return err
	}
	if rec == nil {
		return ErrUnknownFeed
	}
	full := Name{Namespace: s.ns, Name: name}
	taken, ok, err := s.index.named(ctx, full)
	if err != nil {
		return err
	}
	if ok && taken != dk {
		return fmt.Errorf("%w: %q", ErrNameTaken, name)
	}
	if ok && slices.Contains(rec.names, full) {
		return nil
	}
	if !ok && !s.atomic {
		// A crash before the record knows of it leaves a name that works, and no feed that claims a
		// name which leads elsewhere.
		if err := s.index.putName(ctx, s.ds, full, dk); err != nil {
			return err
		}
		if err := s.sync(ctx); err != nil {
			return err
		}
	}
	rec.addName(full)
	return s.update(ctx, n, rec)
}

func checkName(name string) error {
	if name == "" || len(name) > MaxNameBytes {
		return fmt.Errorf("%w: %d bytes, want 1 to %d", ErrName, len(name), MaxNameBytes)
	}
	return nil
}
