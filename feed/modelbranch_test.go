package feed

import (
	"bytes"
	"errors"
	"slices"

	"github.com/p2pcore/p2pcore/internal/brittle"
)

var branchNames = []string{"a", "b", "other branch"}

func (m *modelRun) beginBranch() {
	name := branchNames[m.random.IntN(len(branchNames))]
	at := uint64(m.truncateTo(len(m.blocks), 10))
	m.note("branch %s at %d of %d", name, at, len(m.blocks))
	s, err := m.session.Branch(m.t.Context(), name, BranchOptions{Overwrite: true, Checkout: &at})
	if m.failed(err) {
		return
	}
	if old := m.branches[name]; old != nil {
		m.must(old.session.Close())
	}
	m.branches[name] = &modelLine{session: s, blocks: slices.Clone(m.blocks[:at]), fork: m.fork, atBranch: int(at)}
}

func (m *modelRun) useBranch() {
	ctx := m.t.Context()
	names := make([]string, 0, 3)
	for _, name := range branchNames {
		if m.branches[name] != nil {
			names = append(names, name)
		}
	}
	name := names[m.random.IntN(len(names))]
	b := m.branches[name]
	switch k := m.random.IntN(10); {
	case k < 4:
		blocks, model := m.fresh()
		m.note("branch %s: append %d to %d", name, len(blocks), len(b.blocks))
		if _, err := b.session.Append(ctx, blocks...); m.failed(err) {
			return
		}
		b.blocks = append(b.blocks, model...)
	case k < 6:
		length := m.truncateTo(len(b.blocks), 10)
		m.note("branch %s: truncate %d to %d", name, len(b.blocks), length)
		if _, err := b.session.Truncate(ctx, uint64(length), TruncateOptions{}); m.failed(err) {
			return
		}
		b.blocks, b.atBranch = slices.Clone(b.blocks[:length]), min(b.atBranch, length)
		b.fork++
	case k < 9:
		m.commitBranch(name, b)
	default:
		m.note("delete branch %s", name)
		if m.failed(m.feed.DeleteBranch(ctx, name)) {
			return
		}
		m.must(b.session.Close())
		delete(m.branches, name)
	}
}

func (m *modelRun) commitBranch(name string, b *modelLine) {
	ctx := m.t.Context()
	length := len(b.blocks)
	if m.random.IntN(3) == 0 {
		length = m.random.IntN(length + 1)
	}
	m.note("branch %s of %d: commit %d to %d", name, len(b.blocks), length, len(m.blocks))
	prefix := length == 0 || length >= len(m.blocks)
	if length == 0 {
		prefix = len(b.blocks) >= len(m.blocks)
		length = len(b.blocks)
	}
	for i := b.atBranch; prefix && i < len(m.blocks); i++ {
		prefix = bytes.Equal(b.blocks[i].data, m.blocks[i].data)
	}
	available := true
	for i := len(m.blocks); prefix && i < length; i++ {
		available = available && b.blocks[i].held
	}
	_, err := m.session.Commit(ctx, b.session, CommitOptions{Length: uint64(length)})
	switch {
	case errors.Is(err, brittle.Err):
		m.failed(err)
	case !prefix:
		if !errors.Is(err, ErrDiverged) {
			m.t.Fatalf("commit of a branch that has diverged: %v", err)
		}
	case !available:
		if !errors.Is(err, ErrNotAvailable) {
			m.t.Fatalf("commit of a branch with a missing block: %v", err)
		}
	default:
		m.failed(err)
		grown := length > len(m.blocks)
		for _, block := range b.blocks[min(len(m.blocks), length):length] {
			appendBlocks(m.t, m.keeper, block.data)
			m.blocks = append(m.blocks, block)
		}
		if ds, ok := m.ds.(*brittle.Store); ok && ds.Broken() {
			m.doubt = true
			if b.session.Info().SignedLength < uint64(length) {
				return // the branch was not told
			}
		}
		if length == len(b.blocks) && (grown || b.atBranch < length) {
			b.atBranch, b.fork = length, m.fork
			b.blocks = slices.Clone(m.blocks)
		}
	}
}
