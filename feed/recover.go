package feed

import (
	"context"
	"fmt"
)

// SetRecovering puts the feed into recovery, or takes it out of it, durably. In recovery nothing can be
// appended, truncated or committed (ErrRecovering), but longer heads of peers are taken. It is for a writer
// whose storage comes from a backup: if it appended before it has what its readers have seen, it would
// contradict itself, and they would freeze the feed for good.
func (f *Feed) SetRecovering(ctx context.Context, on bool) error {
	return f.changeAuth(ctx, func(a *authRecord) *authority {
		a.recovering = on
		return nil
	})
}

// Recover ends the recovery when enough peers (at least one) have confirmed for some seconds that they have
// nothing which is not here, and none of those connected has; longer heads are fetched meanwhile. It returns at once if the feed is not
// in recovery. The error is ErrNotAvailable if the feed has no Source that knows peers, ErrClosed, ctx's or the datastore's.
func (s *Session) Recover(ctx context.Context, peers int) error {
	ctx, done, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer done()
	if !s.feed.Info().Recovering {
		return nil
	}
	c, ok := s.feed.Source().(Confirmer)
	if !ok {
		return fmt.Errorf("%w: nobody knows peers that could confirm the length", ErrNotAvailable)
	}
	if err := c.Confirm(ctx, peers); err != nil {
		return because(ctx, err)
	}
	return s.feed.SetRecovering(ctx, false)
}

// changeAuth stores a changed auth record. The function that changes it has the turn, and returns the authority
// that is learned with it, or nil.
func (f *Feed) changeAuth(ctx context.Context, edit func(*authRecord) *authority) error {
	giveBack, leave, err := f.begin(ctx)
	if err != nil {
		return err
	}
	defer leave()
	defer giveBack()
	auth := *f.auth
	who := edit(&auth)
	c := f.newCommit()
	c.auth, c.durable = &auth, true
	if err := f.storage.write(ctx, c); err != nil {
		return err
	}
	f.swap(&change{commit: c, tree: f.tree, who: who})
	return nil
}
