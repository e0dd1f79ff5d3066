package feed

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/p2pcore/p2pcore/internal/compact"
)

// Examine holds a peer's signed head against the feed's, after its proofs have failed: p is an upgrade from
// length 0 to one that the feed has, of the same fork (replication.md 8). It returns the conflict if both
// are signed and differ, and nil if they are the same. It stores nothing; see Freeze.
//
// The error is ErrInvalidProof or ErrInvalidSignature (the peer has proven nothing), ErrStaleFork (of
// another fork), ErrStale (the feed is shorter by now), ErrNotAvailable (the feed lacks nodes to prove its own head at that length), ErrCorrupt
// (the feed's own head cannot be proven), ErrClosed, or the machine's.
func (f *Feed) Examine(ctx context.Context, p *Proof) (*ConflictError, error) {
	_, leave, ok := f.ops.Enter()
	defer leave()
	if !ok {
		return nil, ErrClosed
	}
	f.mu.RLock()
	who, head := f.who, f.head
	in := f.readLocked(nil)
	f.mu.RUnlock()
	defer in.leave()
	switch {
	case p.Upgrade == nil || p.Upgrade.Start != 0 || p.Upgrade.Length == 0 || p.Block != nil || p.Hash != nil || p.Seek != nil:
		return nil, fmt.Errorf("%w: not an upgrade from length 0 alone", ErrInvalidProof)
	case p.Fork != head.fork:
		return nil, fmt.Errorf("%w: %d, not %d", ErrStaleFork, p.Fork, head.fork)
	case who == nil || p.Upgrade.Length > head.length:
		return nil, fmt.Errorf("%w: length %d of %d", ErrStale, p.Upgrade.Length, head.length)
	}
	if _, err := verifyAlone(who, p); err != nil {
		return nil, err
	}
	theirs, err := provenHead(p)
	if err != nil {
		return nil, err
	}
	proved, err := in.tree.ProveMany(ctx, in.view, []Request{{Fork: p.Fork, Upgrade: &UpgradeRequest{Length: theirs.Length}}})
	if err != nil {
		return nil, fmt.Errorf("examine: %w", err)
	}
	own := proved[0].Proof
	if own == nil {
		return nil, fmt.Errorf("%w: %w", ErrNotAvailable, proved[0].Err)
	}
	own.Upgrade.Signature = head.signature
	if _, err := verifyAlone(who, own); err != nil {
		return nil, fmt.Errorf("%w: the own head: %w", ErrCorrupt, err)
	}
	ours, err := provenHead(own)
	if err != nil || ours.Hash == theirs.Hash {
		return nil, err
	}
	manifest := who.manifest.Append(nil)
	with := func(p *Proof) []byte {
		c := *p
		c.Manifest = manifest
		return appendDetached(f.dk, &c)
	}
	return &ConflictError{Ours: ours, Theirs: theirs, OurProof: with(own), TheirProof: with(p)}, nil
}

// VerifyConflict verifies the evidence of a conflict with the feed's key alone: that both proofs are signed
// heads of the same fork, and contradict each other. The error wraps ErrInvalidProof, or says what is wrong with one of the
// proofs as VerifyDetached does.
func VerifyConflict(key Key, c *ConflictError) error {
	ours, err := VerifyDetached(key, c.OurProof)
	if err != nil {
		return err
	}
	theirs, err := VerifyDetached(key, c.TheirProof)
	if err != nil {
		return err
	}
	if a, b := ours.Proven, theirs.Proven; a.Fork != b.Fork || a.Length != b.Length || a.Hash == b.Hash || a.Hash == (Hash{}) || b.Hash == (Hash{}) {
		return fmt.Errorf("%w: the heads do not contradict each other", ErrInvalidProof)
	}
	return nil
}

// Append appends the evidence to b, to be stored or shown to others.
func (e *ConflictError) Append(b []byte) []byte {
	b = compact.AppendUint(b, recordVersion)
	b = compact.AppendBytes(b, e.OurProof)
	return compact.AppendBytes(b, e.TheirProof)
}

// ParseConflict reads and verifies the evidence of a conflict of the feed of key. The errors are those of
// VerifyConflict.
func ParseConflict(key Key, b []byte) (*ConflictError, error) {
	d := compact.NewDecoder(b)
	if v := d.Uint(); d.Err() == nil && v != recordVersion {
		return nil, fmt.Errorf("%w: evidence of version %d", ErrInvalidProof, v)
	}
	e := &ConflictError{OurProof: slices.Clone(d.Bytes(maxEvidenceBytes)), TheirProof: slices.Clone(d.Bytes(maxEvidenceBytes))}
	if err := d.Err(); err != nil {
		return nil, fmt.Errorf("%w: evidence: %w", ErrInvalidProof, err)
	}
	if err := VerifyConflict(key, e); err != nil {
		return nil, err
	}
	ours, err := VerifyDetached(key, e.OurProof)
	if err != nil {
		return nil, err
	}
	theirs, err := VerifyDetached(key, e.TheirProof)
	if err != nil {
		return nil, err
	}
	e.Ours, e.Theirs = ours.Proven, theirs.Proven
	return e, nil
}

// Freeze stops the feed for good: its writer, or somebody with its key, has signed two heads that contradict
// each other, and nobody can know which blocks will be believed. Nothing is appended or taken any more (the
// error is c, which wraps ErrFrozen), and calls that wait end with it; what is stored can be read. It
// survives reopening, and is taken back by Thaw alone.
//
// The evidence is verified first; the error is one of VerifyConflict, ErrClosed, ctx's or the datastore's.
func (f *Feed) Freeze(ctx context.Context, c *ConflictError) error {
	if err := VerifyConflict(f.key, c); err != nil {
		return err
	}
	return f.setFrozen(ctx, c)
}

// Thaw takes a Freeze back and forgets the evidence. Whoever calls it decides that the history that is
// stored here is the right one; peers who have the other one, or have frozen, do not agree.
func (f *Feed) Thaw(ctx context.Context) error { return f.setFrozen(ctx, nil) }

// Conflict returns why the feed is frozen, with the evidence; nil if it is not.
func (f *Feed) Conflict() *ConflictError {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if !f.auth.frozen {
		return nil
	}
	return f.conflict
}

// frozen returns the error of a frozen feed. The caller holds the turn or mu.
func (f *Feed) frozen() error {
	if f.conflict != nil {
		return f.conflict
	}
	return ErrFrozen
}

// frozenError returns why nothing more can come; nil if the feed is not frozen.
func (f *Feed) frozenError() error {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if !f.auth.frozen {
		return nil
	}
	return f.frozen()
}

func (f *Feed) setFrozen(ctx context.Context, conflict *ConflictError) error {
	_, leave, ok := f.ops.Enter()
	defer leave()
	if !ok {
		return ErrClosed
	}
	giveBack, err := f.takeTurn(ctx)
	if err != nil {
		return err
	}
	old, err := f.storage.get(ctx, f.storage.conflictKey())
	if err == nil && f.auth.frozen != (conflict != nil) {
		auth := *f.auth
		auth.frozen = conflict != nil
		c := f.newCommit()
		c.auth, c.durable = &auth, true
		p := put{key: f.storage.conflictKey(), old: old}
		if conflict != nil {
			p.value = conflict.Append(nil)
		}
		c.puts = []put{p}
		if err = f.storage.write(ctx, c); err == nil {
			f.mu.Lock()
			f.conflict = conflict
			f.mu.Unlock()
			f.swap(&change{commit: c, tree: f.tree})
		}
	}
	giveBack()
	if err != nil {
		return err
	}
	if conflict != nil {
		f.log.Error("two contradicting heads are signed, the feed is frozen", "fork", conflict.Ours.Fork, "length", conflict.Ours.Length)
		f.mu.RLock()
		sessions := make([]*Session, 0, len(f.sessions))
		for s := range f.sessions {
			sessions = append(sessions, s)
		}
		f.mu.RUnlock()
		for _, s := range sessions {
			s.cancelWaiting(conflict)
		}
	}
	f.announce(Change{Head: f.Info().Head, Frozen: conflict != nil})
	return nil
}

// loadConflict reads the evidence when the feed is opened.
func (f *Feed) loadConflict(ctx context.Context) error {
	if !f.auth.frozen {
		return nil
	}
	b, err := f.storage.get(ctx, f.storage.conflictKey())
	if err != nil || b == nil {
		return err
	}
	if f.conflict, err = ParseConflict(f.key, b); err != nil {
		return errors.Join(ErrCorrupt, err)
	}
	return nil
}
