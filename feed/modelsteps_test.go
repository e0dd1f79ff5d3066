package feed

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/p2pcore/p2pcore/internal/brittle"
)

// fresh returns blocks that were never there.
func (m *modelRun) fresh() (blocks [][]byte, model []modelBlock) {
	n := 1 + m.random.IntN(5)
	if m.random.IntN(8) == 0 {
		n = 1 + m.random.IntN(200)
	}
	for range n {
		m.counter++
		b := bytes.Repeat(fmt.Appendf(nil, "%d;", m.counter), m.random.IntN(4))
		blocks = append(blocks, b)
		model = append(model, modelBlock{b, true})
	}
	return blocks, model
}

func (m *modelRun) truncateTo(length, n int) int {
	// Mostly near the end.
	if m.random.IntN(4) > 0 {
		return max(0, length-m.random.IntN(n))
	}
	return m.random.IntN(length + 1)
}

func (m *modelRun) step() {
	t, ctx := m.t, m.t.Context()
	t.Helper()
	k := m.random.IntN(100)
	if ds, ok := m.ds.(*brittle.Store); ok && k < 93 && m.random.IntN(4) == 0 {
		ds.Fail(1+m.random.IntN(12), false)
		defer ds.Heal()
	}
	switch {
	case k < 30:
		blocks, model := m.fresh()
		m.note("append %d", len(blocks))
		if _, err := m.session.Append(ctx, blocks...); m.failed(err) {
			return
		}
		appendBlocks(t, m.keeper, blocks...)
		m.blocks = append(m.blocks, model...)
	case k < 42:
		length := m.truncateTo(len(m.blocks), 20)
		m.note("truncate %d to %d", len(m.blocks), length)
		for _, s := range []*Session{m.session, m.keeper} {
			if _, err := s.Truncate(ctx, uint64(length), TruncateOptions{}); m.failed(err) {
				return
			}
		}
		m.truncated(length)
		m.fork++
	case k < 50:
		start := m.random.IntN(len(m.blocks) + 1)
		end := min(len(m.blocks), start+m.random.IntN(100))
		m.note("clear %d to %d", start, end)
		cleared, err := m.session.Clear(ctx, Range{Start: uint64(start), End: uint64(end)})
		if m.failed(err) {
			return
		}
		var want Cleared
		for i := start; i < end; i++ {
			if m.blocks[i].held {
				m.blocks[i].held = false
				want.Blocks++
				want.Bytes += uint64(len(m.blocks[i].data))
			}
		}
		if cleared != want {
			t.Fatalf("cleared %+v, want %+v", cleared, want)
		}
	case k < 58:
		var missing []uint64
		for i := range m.blocks {
			if !m.blocks[i].held && m.random.IntN(3) > 0 {
				missing = append(missing, uint64(i))
			}
		}
		m.note("fetch %d", missing)
		for _, i := range missing {
			if err := tryFetch(ctx, m.archive, m.feed, i); m.failed(err) {
				return
			}
			m.blocks[i].held, m.volatile[int(i)] = true, true
		}
	case k < 64 && len(m.snaps) < 4:
		m.note("snapshot of %d", len(m.blocks))
		s, err := m.session.Snapshot()
		m.must(err)
		m.snaps = append(m.snaps, &modelLine{session: s, blocks: slices.Clone(m.blocks), fork: m.fork, frozen: true})
	case k < 68 && len(m.snaps) > 0:
		i := m.random.IntN(len(m.snaps))
		m.note("close a snapshot of %d", len(m.snaps[i].blocks))
		m.must(m.snaps[i].session.Close())
		m.snaps = slices.Delete(m.snaps, i, i+1)
	case k < 73:
		m.beginBranch()
	case k < 85 && len(m.branches) > 0:
		m.useBranch()
	case k < 88:
		m.setUserData(m.session)
	case k < 93 && m.feed.storage.atomic:
		m.atom()
	case k < 97:
		m.reopen()
	case k < 99:
		if ds, ok := m.ds.(*brittle.Store); ok {
			m.crash(ds)
		}
	}
}

// crash loses what was not synced: downloads, and nothing else.
func (m *modelRun) crash(ds *brittle.Store) {
	m.settle()
	m.note("crash")
	ds.Crash()
	m.open() // and nobody closes the one that has crashed
	for i := range m.volatile {
		if i >= len(m.blocks) || !m.blocks[i].held {
			continue
		}
		_, err := m.session.GetLocal(m.t.Context(), uint64(i))
		if errors.Is(err, ErrNotAvailable) {
			m.blocks[i].held = false
		}
	}
}

// truncated tells the model's lines that the feed gives up what is past length.
func (m *modelRun) truncated(length int) {
	for _, b := range m.branches {
		b.atBranch = min(b.atBranch, length)
	}
	m.blocks = slices.Clone(m.blocks[:min(length, len(m.blocks))])
}

func (m *modelRun) setUserData(s *Session) {
	key := fmt.Sprintf("key/%d", m.random.IntN(5))
	value := []byte(nil)
	if m.random.IntN(3) > 0 {
		value = fmt.Appendf([]byte{}, "%d", m.random.IntN(1000))
	}
	m.note("user data %s", key)
	if m.failed(s.SetUserData(m.t.Context(), key, value)) {
		return
	}
	m.user[key] = value
}

func (m *modelRun) reopen() {
	m.calm(true)
	defer m.calm(false)
	m.settle()
	m.note("reopen")
	before := m.feed.Info()
	m.must(m.feed.Close())
	m.open()
	// After a crash of a datastore that is not atomic, bits of lost blocks may come back until they are read.
	if ds, ok := m.ds.(*brittle.Store); (!ok || ds.AtomicBatch()) && m.feed.Info() != before {
		m.t.Fatalf("reopened as %+v, was %+v", m.feed.Info(), before)
	}
}

func (m *modelRun) open() {
	f, err := Open(m.t.Context(), m.ds, Options{Prefix: testPrefix})
	m.must(err)
	m.must(f.Check(m.t.Context()))
	m.snaps = nil
	m.feed, m.session = f, session(m.t, f)
	for name, b := range m.branches {
		s, err := m.session.Branch(m.t.Context(), name, BranchOptions{})
		m.must(err)
		b.session = s
	}
}
