package feed

import (
	"context"
	"fmt"
	"slices"

	"github.com/p2pcore/p2pcore/internal/merkle"
)

// Reorg follows the writer to another fork: it searches for the last block that the feed and the fork
// have in common (replication.md 4), and stores nothing before Apply. It is not safe for concurrent use,
// but the feed may be used meanwhile.
type Reorg struct {
	feed   *Feed
	search *merkle.Reorg
	who    *authority
	learns bool // the manifest was not known
}

// HashWant is the next step of a Reorg: a hash request for the leaf of any block of the range that the
// peer has, with this number of Nodes.
type HashWant = merkle.Want

// Reorg verifies the proof of a longer fork's head, an upgrade from length 0 and perhaps the manifest,
// and begins the search. The error is ErrStaleFork if the fork is not past the feed's, ErrInvalidProof,
// ErrInvalidSignature, ErrFrozen, ErrClosed, or the machine's.
func (f *Feed) Reorg(ctx context.Context, p *Proof) (*Reorg, error) {
	_, leave, ok := f.ops.Enter()
	defer leave()
	if !ok {
		return nil, ErrClosed
	}
	if err := f.frozenError(); err != nil {
		return nil, err
	}
	f.mu.RLock()
	who, _ := f.authorityFor(p) // at worst assumed, and about to be proven by the signature
	learns := f.who == nil
	in := f.readLocked(nil)
	f.mu.RUnlock()
	defer in.leave()
	search, err := in.tree.WithPrologue(who.prologue()).NewReorg(ctx, in.view, p, forkBound{bounded{who}})
	if err != nil {
		return nil, fmt.Errorf("reorg: %w", err)
	}
	return &Reorg{feed: f, search: search, who: who, learns: learns}, nil
}

// Head returns the verified head of the new fork.
func (r *Reorg) Head() Head { return r.search.Tree().Head() }

// Ancestors returns how many blocks both forks are known to have in common, for now.
func (r *Reorg) Ancestors() uint64 { return r.search.Ancestors() }

// Want returns what to ask for next. There is nothing when the search has finished.
func (r *Reorg) Want() (HashWant, bool) { return r.search.Want() }

// Stop ends the search before it has finished: Ancestors stays what it is, and the blocks past it are given
// up although some may be common.
func (r *Reorg) Stop() { r.search.Stop() }

// Verify takes the answer to Want and goes on with the search. The errors are ErrStaleFork,
// ErrInvalidProof, ErrMissingNode, ErrInvalidChecksum; ErrStale if the feed has changed, so that the
// search has to begin again; ErrClosed, or the machine's. After one of the proof's the search is as before.
func (r *Reorg) Verify(ctx context.Context, p *Proof) error {
	f := r.feed
	_, leave, ok := f.ops.Enter()
	defer leave()
	if !ok {
		return ErrClosed
	}
	in := f.read(nil)
	defer in.leave()
	if in.tree.Head() != r.search.Base() {
		return fmt.Errorf("%w: the feed has changed", ErrStale)
	}
	if err := r.search.Verify(ctx, in.view, p); err != nil {
		return fmt.Errorf("reorg: %w", err)
	}
	return nil
}

// Apply makes the new fork the feed's, once the search has finished: blocks past the common ones are
// dropped and have to be fetched again. The feed's subscriptions are told.
//
// The error is ErrStale if the feed has changed since the search began or it has not finished, ErrFrozen,
// ErrNoSpace, ErrClosed, ctx's or the datastore's.
func (r *Reorg) Apply(ctx context.Context) error {
	f := r.feed
	giveBack, leave, err := f.begin(ctx)
	if err != nil {
		return err
	}
	defer leave()
	change, err := r.applyInTurn(ctx)
	dead := f.storage.takeDead()
	giveBack()
	if err != nil {
		return err
	}
	f.announce(change)
	return f.storage.compact(ctx, dead)
}

func (r *Reorg) applyInTurn(ctx context.Context) (Change, error) {
	f := r.feed
	if f.auth.frozen {
		return Change{}, f.frozen()
	}
	if _, more := r.search.Want(); more || f.tree.Head() != r.search.Base() {
		return Change{}, fmt.Errorf("%w: the feed has changed, or the search has not ended", ErrStale)
	}
	learned := f.who == nil && r.learns
	if learned {
		f.authDirty = true
		f.mu.Lock()
		f.auth, f.who = f.auth.withManifest(r.who.manifest), r.who
		f.mu.Unlock()
	}
	change, err := f.rewrite(ctx, &rewriting{
		keep: r.search.Ancestors(), tree: r.search.Tree(),
		signature: slices.Clone(r.search.Signature()), nodes: r.search.Nodes(),
	})
	change.Manifest = learned
	if err == nil {
		f.hints.add(r.search.Unproven())
	}
	return change, err
}
