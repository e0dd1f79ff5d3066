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
// are signed and differ at a length that both have, and nil if they are the same. It stores nothing; see Freeze.
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
	theirs, err := verifyAlone(who, p)
	if err != nil {
		return nil, err
	}
	// At the signed length too: the other one may be that of a prologue, where no two heads differ.
	lengths := []uint64{theirs.proven.Length}
	if n := theirs.tree.Length(); n != lengths[0] && n <= head.length {
		lengths = append(lengths, n)
	}
	var missing error
	for _, length := range lengths {
		own, err := proveAlone(ctx, in.tree, in.view, Request{Upgrade: &UpgradeRequest{Length: length}})
		if errors.Is(err, ErrNotAvailable) {
			missing = err
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("examine: %w", err)
		}
		own.Upgrade.Signature = head.signature
		ours, err := verifyAlone(who, own)
		if err != nil {
			return nil, fmt.Errorf("%w: the own head: %w", ErrCorrupt, err)
		}
		if c := contradiction(ours, theirs); c != nil {
			c.OurProof, c.TheirProof = f.evidence(who, own), f.evidence(who, p)
			return c, nil
		}
	}
	if missing != nil {
		return nil, fmt.Errorf("examine: %w", missing)
	}
	return nil, nil
}

// evidence is a proof in the form in which it is stored and shown.
func (f *Feed) evidence(who *authority, p *Proof) []byte {
	c := *p
	c.Manifest = who.manifest.Append(nil)
	return appendDetached(f.dk, &c)
}

// milestone is a length of which a proof tells the roots. Its head has byte length and hash if it is signed.
type milestone struct {
	head  Head
	roots []Node
}

func (a *alone) milestones() [2]milestone {
	return [2]milestone{{a.proven, a.roots}, {a.tree.Head(), a.tree.Roots()}}
}

// contradiction returns the first pair of heads that no feed can have both, without the proofs; nil if there
// is none. The two milestones of one side are of one history, both bound by its signature: a node's hash
// commits to all that is below it. Only hashes are compared, since sizes on the way to a signed head can be
// anybody's lie; where hashes are the same, so is what they stand for.
func contradiction(ours, theirs *alone) *ConflictError {
	for _, a := range ours.milestones() {
		for _, b := range theirs.milestones() {
			if a.head.Fork != b.head.Fork || a.head.Length != b.head.Length {
				continue
			}
			same := func(x, y Node) bool { return x.Index == y.Index && x.Hash == y.Hash }
			if !slices.EqualFunc(a.roots, b.roots, same) {
				return &ConflictError{Ours: a.head, Theirs: b.head}
			}
		}
	}
	return nil
}

// VerifyConflict verifies the evidence of a conflict with the feed's key alone: that both proofs are signed
// heads of the same fork, that they contradict each other, and that Ours and Theirs say where. The error
// wraps ErrInvalidProof, or says what is wrong with one of the proofs as VerifyDetached does.
func VerifyConflict(key Key, c *ConflictError) error {
	proven, err := verifyEvidence(key, c.OurProof, c.TheirProof)
	if err == nil && (proven.Ours != c.Ours || proven.Theirs != c.Theirs) {
		err = fmt.Errorf("%w: the evidence is of other heads", ErrInvalidProof)
	}
	return err
}

func verifyEvidence(key Key, ourProof, theirProof []byte) (*ConflictError, error) {
	_, ours, err := verifyDetached(key, nil, ourProof)
	if err != nil {
		return nil, fmt.Errorf("our proof: %w", err)
	}
	_, theirs, err := verifyDetached(key, nil, theirProof)
	if err != nil {
		return nil, fmt.Errorf("their proof: %w", err)
	}
	c := contradiction(ours, theirs)
	if c == nil {
		return nil, fmt.Errorf("%w: the heads do not contradict each other", ErrInvalidProof)
	}
	c.OurProof, c.TheirProof = ourProof, theirProof
	return c, nil
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
	ours, theirs := slices.Clone(d.Bytes(maxEvidenceBytes)), slices.Clone(d.Bytes(maxEvidenceBytes))
	if err := d.Err(); err != nil {
		return nil, fmt.Errorf("%w: evidence: %w", ErrInvalidProof, err)
	}
	return verifyEvidence(key, ours, theirs)
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
	giveBack, leave, err := f.begin(ctx)
	if err != nil {
		return err
	}
	defer leave()
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
