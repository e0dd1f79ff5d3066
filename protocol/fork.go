package protocol

import (
	"context"
	"errors"

	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/internal/merkle"
	"github.com/p2pcore/p2pcore/internal/replica"
)

// headJob is an ask about heads: a higher fork that is followed, or a peer's head that is examined. It has what
// its proof costs the channel it came from, if that is counted.
type headJob struct {
	replica.Action
	ch   *channel
	cost load
}

func (w *workers) head(j headJob) {
	w.mu.Lock()
	w.heads = append(w.heads, j)
	w.mu.Unlock()
}

// headLoop does what asks about heads call for, one after the other. How many there are is bounded by the
// machine: a few for the feed, and one for each peer.
func (w *workers) headLoop(ctx context.Context) {
	for {
		w.mu.Lock()
		w.headsBusy = len(w.heads) > 0 && ctx.Err() == nil
		if !w.headsBusy {
			w.mu.Unlock()
			return
		}
		j := w.heads[0]
		w.heads = append(w.heads[:0], w.heads[1:]...)
		clear(w.heads[len(w.heads):cap(w.heads)])
		w.mu.Unlock()
		ev := w.doHead(ctx, j.Action)
		if j.ch != nil {
			j.ch.link.inbox.release(j.cost)
		}
		w.x.push(item{kind: machineEvent, ev: ev})
	}
}

func (w *workers) doHead(ctx context.Context, a replica.Action) replica.Event {
	switch a := a.(type) {
	case replica.StartReorg:
		r, err := w.x.core.Reorg(ctx, a.Proof)
		return w.reorged(ctx, a.Token, r, err)
	case replica.StepReorg:
		r := a.Search.(*feed.Reorg)
		err := r.Verify(ctx, a.Proof)
		ev := w.reorged(ctx, a.Token, r, err)
		if errors.Is(err, feed.ErrMissingNode) {
			ev.Fault = replica.FaultNotAvailable // it leads to no node that was asked for
		}
		return ev
	case replica.ApplyReorg:
		r := a.Search.(*feed.Reorg)
		if a.Early {
			r.Stop()
		}
		err := r.Apply(ctx)
		if err == nil {
			head := r.Head()
			w.x.log.Info("followed to a new fork", "fork", head.Fork, "length", head.Length, "ancestors", r.Ancestors())
		}
		return w.reorged(ctx, a.Token, r, err)
	case replica.Examine:
		conflict, err := w.x.core.Examine(ctx, a.Proof)
		if conflict != nil {
			err = w.x.core.Freeze(ctx, conflict)
		}
		return replica.Examined{Token: a.Token, Conflict: conflict != nil && err == nil, Fault: w.headFault(ctx, err), Err: err}
	}
	panic("protocol: no ask about heads")
}

func (w *workers) reorged(ctx context.Context, token replica.Token, r *feed.Reorg, err error) replica.Reorged {
	ev := replica.Reorged{Token: token, Fault: w.headFault(ctx, err), Err: err}
	if err == nil {
		ev.Search, ev.Length = r, r.Head().Length
		ev.Want, ev.More = r.Want()
	}
	return ev
}

func (w *workers) headFault(ctx context.Context, err error) replica.Fault {
	fault := applyFault(err)
	switch {
	case errors.Is(err, feed.ErrFrozen):
		return replica.FaultStale // the machine hears of it
	case errors.Is(err, feed.ErrNotAvailable):
		return replica.FaultNotAvailable
	case fault == replica.FaultFailed && ctx.Err() == nil:
		w.x.log.Error("comparing heads failed", "err", err)
	}
	return fault
}

// contradicts reports whether a proof has the right form and is wrong all the same: two heads may be
// signed. A malformed one says nothing about heads.
func contradicts(err error) bool {
	return errors.Is(err, feed.ErrInvalidChecksum) || errors.Is(err, feed.ErrInvalidSignature) || errors.Is(err, merkle.ErrPrologue)
}

// proofOf returns the proof that an action hands to the workers.
func proofOf(a replica.Action) *merkle.Proof {
	switch a := a.(type) {
	case replica.Apply:
		return a.Proof
	case replica.StartReorg:
		return a.Proof
	case replica.StepReorg:
		return a.Proof
	case replica.Examine:
		return a.Proof
	}
	return nil
}

// why returns what the feed says of a wish that ended with err.
func (x *Exchange) why(err error) error {
	if !errors.Is(err, replica.ErrFrozen) {
		return err
	}
	if c := x.core.Conflict(); c != nil {
		return c
	}
	return feed.ErrFrozen
}
