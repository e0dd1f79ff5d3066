package corestore

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/p2pcore/p2pcore/feed"
)

// AuditOptions of Store.Audit.
type AuditOptions struct {
	// Repair drops what does not fit, so that it is fetched again; see feed.Feed.Repair.
	Repair bool
}

// Audited is the outcome of the audit of one feed.
type Audited struct {
	Entry
	Info feed.Info // zero if the feed could not be opened
	// Damage is what was found, nil if nothing is wrong. It wraps feed.ErrCorrupt; often it is a *feed.CheckError.
	Damage error
	// Repaired is what the repair has dropped, nil if there was none.
	Repaired *feed.Repaired
	// Left is the damage that is still there: a repair leaves none, unless the head itself is damaged.
	Left error
}

// Audit audits all feeds that List lists, one after the other, as feed.Feed.Check does. It reads everything that is stored,
// and a feed that is damaged does not keep the others from being looked at. Feeds are not shared because of it. An error ends
// the audit; it is one of List's, or the datastore's.
func (s *Store) Audit(ctx context.Context, o AuditOptions) iter.Seq2[Audited, error] {
	return func(yield func(Audited, error) bool) {
		for e, err := range s.List(ctx) {
			if err != nil {
				yield(Audited{}, err)
				return
			}
			a, err := s.audit(ctx, e, o)
			if errors.Is(err, ErrUnknownFeed) {
				continue // deleted meanwhile
			}
			if !yield(a, err) || err != nil {
				return
			}
		}
	}
}

// AuditFeed audits one stored feed, removed or not. The error is ErrUnknownFeed, ErrClosed, ctx's, or the datastore's.
func (s *Store) AuditFeed(ctx context.Context, key feed.Key, o AuditOptions) (Audited, error) {
	e, ok, err := s.Find(ctx, key)
	if err != nil {
		return Audited{}, err
	}
	if !ok {
		return Audited{}, ErrUnknownFeed
	}
	return s.audit(ctx, e, o)
}

func (s *Store) audit(ctx context.Context, e Entry, o AuditOptions) (Audited, error) {
	a := Audited{Entry: e}
	f, release, err := s.Inspect(ctx, e.Key)
	if errors.Is(err, feed.ErrCorrupt) {
		a.Damage, a.Left = err, err
		return a, nil
	}
	if err != nil {
		return a, err
	}
	defer release()
	a.Info = f.Info()
	if a.Damage, err = check(ctx, f); err != nil {
		return a, fmt.Errorf("audit feed %s: %w", e.Key, err)
	}
	a.Left = a.Damage
	if a.Damage == nil || !o.Repair {
		return a, nil
	}
	done, err := f.Repair(ctx)
	if errors.Is(err, feed.ErrCorrupt) { // the head
		a.Left = errors.Join(a.Damage, err)
		return a, nil
	}
	if err != nil {
		return a, fmt.Errorf("repair feed %s: %w", e.Key, err)
	}
	a.Repaired, a.Info = &done, f.Info()
	if a.Left, err = check(ctx, f); err != nil {
		return a, fmt.Errorf("audit feed %s: %w", e.Key, err)
	}
	return a, nil
}

// check tells damage from what kept it from looking.
func check(ctx context.Context, f *feed.Feed) (damage, err error) {
	err = f.Check(ctx)
	if errors.Is(err, feed.ErrCorrupt) {
		return err, nil
	}
	return nil, err
}
