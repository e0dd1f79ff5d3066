package protocol

import (
	"context"
	"fmt"
	"time"

	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/internal/compact"
	"github.com/p2pcore/p2pcore/internal/replica"
)

var (
	_ feed.Source    = (*Exchange)(nil)
	_ feed.Confirmer = (*Exchange)(nil)
)

// Fetch implements feed.Source: it returns when all wanted blocks are stored, or with ctx's error, or
// ErrClosed, or the failure that keeps them from being stored, of a frozen feed a *feed.ConflictError. With
// Follow it returns with an error only.
func (x *Exchange) Fetch(ctx context.Context, w feed.Want) error {
	_, err := x.wish(ctx, func(t replica.Ticket) replica.Event {
		return replica.Want{
			Ticket: t, Range: w.Range, Blocks: w.Blocks, Linear: w.Linear, Priority: w.Priority, Follow: w.Follow,
			Force: w.Force,
		}
	})
	return err
}

// Seek implements feed.Source: one step of the search for a byte offset. Past 2^53-1 there is nothing to
// ask for, and it is feed.ErrOutOfRange.
func (x *Exchange) Seek(ctx context.Context, byteOffset, padding uint64) error {
	if byteOffset > compact.MaxInt {
		return fmt.Errorf("%w: byte %d", feed.ErrOutOfRange, byteOffset)
	}
	place, err := x.core.Locate(ctx, byteOffset, padding)
	if err != nil || place.Found {
		return err
	}
	_, err = x.wish(ctx, func(t replica.Ticket) replica.Event {
		return replica.WantSeek{Ticket: t, Bytes: byteOffset, Padding: padding, Span: place.Window}
	})
	return err
}

// Upgrade implements feed.Source.
func (x *Exchange) Upgrade(ctx context.Context) (grown bool, err error) {
	return x.wish(ctx, func(t replica.Ticket) replica.Event { return replica.WantUpgrade{Ticket: t} })
}

// Confirm implements feed.Confirmer: it returns when, for eight seconds on end, at least peers peers have
// said that they are on our fork and not longer than we are, and none has said anything else. That is how
// long JavaScript waits for the same (32 looks in 250 ms).
func (x *Exchange) Confirm(ctx context.Context, peers int) error {
	look := time.NewTicker(confirmInterval)
	defer look.Stop()
	for agreed := 0; agreed < confirmLooks; {
		select {
		case <-look.C:
		case <-x.closing:
			return ErrClosed
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if x.confirmed(peers) {
			agreed++
		} else {
			agreed = 0
		}
	}
	return nil
}

func (x *Exchange) confirmed(peers int) bool {
	here := x.core.Info()
	agree := 0
	for _, p := range x.Peers() {
		switch {
		case !p.Synced:
		case p.RemoteFork == here.Fork && p.RemoteLength <= here.Length:
			agree++
		case p.RemoteFork >= here.Fork:
			return false // is ahead of us
		}
	}
	return agree >= max(peers, 1)
}

// wish hands a wish to the machine and waits until it is resolved.
func (x *Exchange) wish(ctx context.Context, event func(replica.Ticket) replica.Event) (grown bool, err error) {
	if err := context.Cause(ctx); err != nil {
		return false, err
	}
	ticket := replica.Ticket(x.tickets.Add(1))
	done := make(chan replica.Resolve, 1)
	x.mu.Lock()
	if x.closed {
		x.mu.Unlock()
		return false, ErrClosed
	}
	x.waiting[ticket] = done
	x.inbox = append(x.inbox, item{kind: machineEvent, ev: event(ticket)})
	x.startLocked()
	x.mu.Unlock()

	select {
	case r := <-done:
		return r.Grown, x.why(r.Err)
	case <-x.closing:
		return false, ErrClosed
	case <-ctx.Done():
		x.mu.Lock()
		delete(x.waiting, ticket)
		x.mu.Unlock()
		x.push(item{kind: machineEvent, ev: replica.Forget{Ticket: ticket}})
		return false, context.Cause(ctx)
	}
}
