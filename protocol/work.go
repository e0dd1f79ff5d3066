package protocol

import (
	"cmp"
	"context"
	"errors"
	"sync"

	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/internal/replica"
)

// workers do what touches the feed's storage: one applies, one proves, one answers questions, and one compares heads. Each
// runs while it has something to do and takes all that has come up meanwhile at once, so that a busy
// feed sees few and large calls.
type workers struct {
	x *Exchange // set in NewExchange

	// Under mu.
	mu       sync.Mutex
	applies  []applyJob
	proves   []replica.Prove
	asks     []replica.Action // Plan, CanUpgrade
	applying bool
	proving  bool
	asking   bool

	heads     []headJob
	headsBusy bool
}

// applyJob is a proof to apply, with what it costs the channel it came from, if that is counted.
type applyJob struct {
	replica.Apply
	ch   *channel
	cost load
}

func (w *workers) apply(j applyJob) {
	w.mu.Lock()
	w.applies = append(w.applies, j)
	w.mu.Unlock()
}

func (w *workers) prove(a replica.Prove) {
	w.mu.Lock()
	w.proves = append(w.proves, a)
	w.mu.Unlock()
}

func (w *workers) ask(a replica.Action) {
	w.mu.Lock()
	w.asks = append(w.asks, a)
	w.mu.Unlock()
}

// start starts the workers that have something to do.
func (w *workers) start() {
	w.mu.Lock()
	defer w.mu.Unlock()
	run := func(busy *bool, jobs int, fn func(context.Context)) {
		if !*busy && jobs > 0 && w.x.group.Go(fn) {
			*busy = true
		}
	}
	run(&w.applying, len(w.applies), w.applyLoop)
	run(&w.proving, len(w.proves), w.proveLoop)
	run(&w.asking, len(w.asks), w.askLoop)
	run(&w.headsBusy, len(w.heads), w.headLoop)
}

// applyLoop applies proofs in the order in which they came.
func (w *workers) applyLoop(ctx context.Context) {
	var jobs []applyJob
	var proofs []*feed.Proof
	var items []item
	for {
		jobs = w.takeApplies(jobs[:0])
		if len(jobs) == 0 || ctx.Err() != nil {
			return
		}
		proofs, items = proofs[:0], items[:0]
		for _, j := range jobs {
			proofs = append(proofs, j.Proof)
		}
		results, err := w.x.core.Apply(ctx, proofs)
		for i, j := range jobs {
			ev := replica.Applied{Token: j.Token, Fault: replica.FaultFailed, Err: err}
			if i < len(results) {
				r := results[i]
				ev = replica.Applied{Token: j.Token, Fault: applyFault(r.Err), Err: r.Err, Stored: r.Stored, Grown: r.Grown}
			}
			items = append(items, item{kind: machineEvent, ev: ev})
			if j.ch != nil {
				j.ch.link.inbox.release(j.cost)
			}
		}
		if err != nil && ctx.Err() == nil {
			w.x.log.Error("storing blocks failed", "err", err)
		}
		w.x.push(items...)
		clear(jobs)
		clear(proofs)
		clear(items)
	}
}

func (w *workers) takeApplies(dst []applyJob) []applyJob {
	w.mu.Lock()
	defer w.mu.Unlock()
	bytes, n := 0, 0
	for n < len(w.applies) && n < maxApplyCount && bytes < maxApplyBytes {
		if b := w.applies[n].Proof.Block; b != nil {
			bytes += len(b.Value)
		}
		n++
	}
	dst = append(dst, w.applies[:n]...)
	w.applies = append(w.applies[:0], w.applies[n:]...)
	if cap(w.applies) > maxSpare && len(w.applies) == 0 {
		w.applies = nil
	}
	clear(w.applies[len(w.applies):cap(w.applies)])
	w.applying = n > 0
	return dst
}

func applyFault(err error) replica.Fault {
	switch {
	case err == nil:
		return replica.FaultNone
	case errors.Is(err, feed.ErrStale), errors.Is(err, feed.ErrStaleFork), errors.Is(err, feed.ErrMissingNode):
		return replica.FaultStale
	case contradicts(err):
		return replica.FaultContradicts
	case errors.Is(err, feed.ErrInvalidProof), errors.Is(err, feed.ErrBlockTooLarge):
		return replica.FaultInvalid
	}
	return replica.FaultFailed
}

// proveLoop answers requests of all peers, in the order in which the machine gave them out.
func (w *workers) proveLoop(ctx context.Context) {
	var jobs []replica.Prove
	var reqs []feed.Request
	var items []item
	for {
		w.mu.Lock()
		n := min(len(w.proves), maxProveCount)
		jobs = append(jobs[:0], w.proves[:n]...)
		w.proves = append(w.proves[:0], w.proves[n:]...)
		w.proving = n > 0 && ctx.Err() == nil
		w.mu.Unlock()
		if n == 0 || ctx.Err() != nil {
			return
		}
		reqs, items = reqs[:0], items[:0]
		for _, j := range jobs {
			reqs = append(reqs, j.Request)
		}
		results, err := w.x.core.Prove(ctx, reqs)
		var deferred []replica.Prove
		for i, j := range jobs {
			ev := replica.Proved{Token: j.Token, Fault: replica.FaultFailed}
			if i < len(results) {
				if errors.Is(results[i].Err, feed.ErrDeferred) {
					deferred = append(deferred, j)
					continue
				}
				ev = replica.Proved{Token: j.Token, Proof: results[i].Proof, Fault: proveFault(results[i].Err)}
				if ev.Fault == replica.FaultFailed {
					err = cmp.Or(err, results[i].Err)
				}
			}
			items = append(items, item{kind: machineEvent, ev: ev})
		}
		if len(deferred) > 0 {
			w.mu.Lock()
			w.proves = append(deferred, w.proves...)
			w.mu.Unlock()
		}
		if err != nil && ctx.Err() == nil {
			w.x.log.Error("reading blocks failed", "err", err)
		}
		w.x.push(items...)
		clear(items)
	}
}

func proveFault(err error) replica.Fault {
	switch {
	case err == nil:
		return replica.FaultNone
	case errors.Is(err, feed.ErrStaleFork), errors.Is(err, feed.ErrStale):
		return replica.FaultStale
	case errors.Is(err, feed.ErrNotAvailable), errors.Is(err, feed.ErrMissingNode):
		return replica.FaultNotAvailable
	case errors.Is(err, feed.ErrInvalidRequest):
		return replica.FaultInvalid
	}
	return replica.FaultFailed
}

// askLoop answers questions about the tree.
func (w *workers) askLoop(ctx context.Context) {
	for {
		w.mu.Lock()
		asks := w.asks
		w.asks = nil
		w.asking = len(asks) > 0 && ctx.Err() == nil
		w.mu.Unlock()
		if len(asks) == 0 || ctx.Err() != nil {
			return
		}
		items := make([]item, 0, len(asks))
		for _, a := range asks {
			var ev replica.Event
			switch a := a.(type) {
			case replica.Plan:
				nodes, err := w.x.core.Plan(ctx, a.Blocks)
				ev = replica.Planned{Token: a.Token, Nodes: nodes, Err: err}
			case replica.CanUpgrade:
				ok, err := w.x.core.CanUpgrade(ctx, a.Length)
				if err != nil && ctx.Err() == nil {
					w.x.log.Error("reading the tree failed", "err", err)
				}
				ev = replica.Verdict{Token: a.Token, OK: ok && err == nil}
			}
			items = append(items, item{kind: machineEvent, ev: ev})
		}
		w.x.push(items...)
	}
}
