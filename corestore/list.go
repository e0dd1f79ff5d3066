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
	Default      bool      // it is the store's default feed
	Removed      bool      // it has left the group; see Store.Remove
}

func (s *shared) entry(r *record) Entry {
	e := Entry{
		Key: r.key, DiscoveryKey: r.key.DiscoveryKey(), Names: r.names,
		Writable: r.kind != noSecret, Removed: r.removed(),
	}
	if len(r.names) > 0 {
		e.Name, e.Namespace = r.names[0].Name, r.names[0].Namespace
	}
	s.mu.Lock()
	e.Default = s.standard.key == r.key
	s.mu.Unlock()
	return e
}

// List returns the feeds of the group in the order they came into the store; from a namespace, those that
// have a name in it, and then Name is that name. Feeds that were removed are left out. An error ends the list. Feeds
// made meanwhile may be missing. The loop's body may use the store but must not close it.
//
// From the root it holds one record at a time in memory, from a namespace the numbers of the feeds there.
func (s *Store) List(ctx context.Context) iter.Seq2[Entry, error] { return s.list(ctx, false) }

// Removed returns the feeds that Remove has taken out of the group and that are still stored, as List does.
func (s *Store) Removed(ctx context.Context) iter.Seq2[Entry, error] { return s.list(ctx, true) }

func (s *Store) list(ctx context.Context, removed bool) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		leave, err := s.enter()
		if err != nil {
			yield(Entry{}, err)
			return
		}
		defer leave()
		records := s.records(ctx)
		if s.scoped {
			records = s.recordsOfNames(ctx)
		}
		for r, err := range records {
			if err != nil {
				yield(Entry{}, fmt.Errorf("list feeds: %w", err))
				return
			}
			if r.removed() != removed {
				continue
			}
			e := s.entry(r)
			if s.scoped {
				i := slices.IndexFunc(e.Names, func(n Name) bool { return n.Namespace == s.ns })
				if i < 0 {
					continue
				}
				e.Name, e.Namespace = e.Names[i].Name, s.ns
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

// records reads the records of all feeds in the order of their numbers.
func (s *shared) records(ctx context.Context) iter.Seq2[*record, error] {
	return func(yield func(*record, error) bool) {
		results, err := s.ds.Query(ctx, query.Query{Prefix: feedPrefix, Orders: []query.Order{query.OrderByKey{}}})
		if err != nil {
			yield(nil, err)
			return
		}
		defer results.Close()
		for {
			result, ok := results.NextSync()
			if !ok {
				return
			}
			r, err := s.listed(ctx, result)
			if (r != nil || err != nil) && !yield(r, err) || err != nil {
				return
			}
		}
	}
}

// listed reads one result of the query of records, nil if there is no such feed.
func (s *shared) listed(ctx context.Context, result query.Result) (*record, error) {
	if result.Error != nil {
		return nil, result.Error
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	r, err := parseRecord(result.Value)
	if err != nil {
		return nil, err
	}
	if s.atomic {
		if s.deletions.hides(r.key.DiscoveryKey()) {
			return nil, nil
		}
		return r, nil
	}
	// Without atomic batches a record may be what a crash left of a feed that was not made.
	n, err := numberOf(result.Key)
	if err != nil {
		return nil, err
	}
	now, known, err := s.index.number(ctx, r.key.DiscoveryKey())
	if err != nil || !known || now != n {
		return nil, err
	}
	return r, nil
}

// recordsOfNames reads the records of the feeds that the names of this namespace lead to, in the order of their numbers.
func (s *Store) recordsOfNames(ctx context.Context) iter.Seq2[*record, error] {
	return func(yield func(*record, error) bool) {
		numbers, err := s.numbersOfNames(ctx)
		if err != nil {
			yield(nil, err)
			return
		}
		for _, n := range numbers {
			b, err := s.index.get(ctx, recordKey(n))
			if err == nil && b == nil {
				continue // deleted meanwhile
			}
			var r *record
			if err == nil {
				r, err = parseRecord(b)
			}
			if !yield(r, err) || err != nil {
				return
			}
		}
	}
}

// numbersOfNames returns the numbers of the feeds that have a name in this namespace, each once, sorted.
func (s *Store) numbersOfNames(ctx context.Context) ([]uint32, error) {
	results, err := s.ds.Query(ctx, query.Query{Prefix: namesPrefix(s.ns)})
	if err != nil {
		return nil, err
	}
	defer results.Close()
	var numbers []uint32
	for {
		result, ok := results.NextSync()
		if !ok {
			break
		}
		if result.Error != nil {
			return nil, result.Error
		}
		if len(result.Value) != 32 {
			return nil, fmt.Errorf("%w: name entry of %d bytes", ErrCorrupt, len(result.Value))
		}
		n, ok, err := s.index.number(ctx, feed.DiscoveryKey(result.Value))
		if err != nil {
			return nil, err
		}
		if ok {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return slices.Compact(numbers), nil
}

// Find returns what the store knows of the feed of key, also of a removed one; ok is false if it is not stored.
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
	return s.entry(rec), true, nil
}

// Stored reports whether the feed of key is in the store, removed or not.
func (s *Store) Stored(ctx context.Context, key feed.Key) (bool, error) {
	leave, err := s.enter()
	if err != nil {
		return false, err
	}
	defer leave()
	_, ok, err := s.index.number(ctx, key.DiscoveryKey())
	return ok, err
}

// LookupName returns the key of the feed that name stands for in this namespace, removed or not; ok is false if no
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
		return s.readOnly()
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
