package api

import (
	"context"
	"time"
)

const (
	// headPatience is how long after the first head a longer one is waited for.
	headPatience = 2 * time.Second
	headPoll     = 50 * time.Millisecond
)

// settle returns the length to fetch when nobody says it: the longest head proven once every connected
// peer has synced and the look-up under way has ended, at most headPatience after the first head.
//
// A feed without any block has no head. It counts as empty when peers that share it have synced, tell of none,
// and headPatience has passed.
func (r *reach) settle(ctx context.Context) (uint64, error) {
	var first time.Time // since when something could be returned
	for {
		grown, err := r.upgradeFor(ctx)
		if err != nil {
			return 0, err
		}
		length := r.session.Info().Length
		peers := r.n.FeedPeers(r.key)
		known := length > 0
		if !known && len(peers) > 0 && !grown {
			known = true
			for _, p := range peers {
				known = known && p.Synced && p.RemoteLength == 0
			}
		}
		if !known {
			first = time.Time{}
		} else if first.IsZero() {
			first = time.Now()
		}
		switch {
		case known && time.Since(first) >= headPatience:
			return length, nil
		case length > 0 && !grown && r.pending.Load() == 0 && (len(peers) > 0 || r.alone()):
			return length, nil
		}
		if !sleep(ctx, headPoll) {
			return 0, ctx.Err()
		}
	}
}

// upgradeFor is upgrade, given up after a while: a peer may hold the answer back.
func (r *reach) upgradeFor(ctx context.Context) (bool, error) {
	short, cancel := context.WithTimeout(ctx, 10*headPoll)
	defer cancel()
	grown, err := r.upgrade(short)
	if short.Err() != nil && ctx.Err() == nil {
		return true, nil // not certain that there is nothing longer
	}
	return grown, err
}

// until waits until the feed has at least length blocks.
func (r *reach) until(ctx context.Context, length uint64) error {
	sub := r.session.Feed().Subscribe()
	defer sub.Close()
	r.group.Go(func(group context.Context) {
		for r.session.Info().Length < length {
			if _, err := r.upgradeFor(ctx); err != nil {
				return
			}
			if !sleep(ctx, headPoll) || group.Err() != nil {
				return
			}
		}
	})
	for r.session.Info().Length < length {
		if _, err := sub.Next(ctx); err != nil {
			return err
		}
	}
	return nil
}
