package feed

import (
	"slices"
)

func (m *modelRun) atom() {
	t, ctx := m.t, m.t.Context()
	a := NewAtom()
	s, err := a.Session(m.feed, SessionOptions{})
	m.must(err)
	blocks, forks := slices.Clone(m.blocks), m.fork
	user := map[string][]byte{}
	for k, v := range m.user {
		user[k] = v
	}
	discard := m.random.IntN(4) == 0
	m.note("atom, discard %v", discard)
	ops := m.random.IntN(4)
	type op struct {
		truncate int
		blocks   [][]byte
	}
	var done []op
	for range ops {
		if m.random.IntN(3) == 0 {
			length := m.truncateTo(len(blocks), 10)
			m.note("  truncate %d to %d", len(blocks), length)
			if _, err := s.Truncate(ctx, uint64(length), TruncateOptions{}); m.failed(err) {
				a.Discard()
				return
			}
			blocks = slices.Clone(blocks[:length])
			forks++
			done = append(done, op{truncate: length})
		} else {
			data, model := m.fresh()
			m.note("  append %d to %d", len(data), len(blocks))
			appendBlocks(t, s, data...)
			blocks = append(blocks, model...)
			done = append(done, op{truncate: -1, blocks: data})
		}
	}
	m.calm(true)
	m.compareLine("atom", &modelLine{session: s, blocks: blocks, fork: forks})
	m.calm(false)
	if m.random.IntN(2) == 0 {
		saved := m.user
		m.user = user
		m.setUserData(s)
		user, m.user = m.user, saved
	}
	if discard {
		a.Discard()
		return
	}
	if m.failed(a.Flush(ctx)) {
		a.Discard()
		return
	}
	least := len(m.blocks)
	for _, o := range done {
		if o.truncate >= 0 {
			least = min(least, o.truncate)
			_, err := m.keeper.Truncate(ctx, uint64(o.truncate), TruncateOptions{})
			m.must(err)
		} else {
			appendBlocks(t, m.keeper, o.blocks...)
		}
	}
	if forks != m.fork {
		m.truncated(least)
	}
	m.blocks, m.fork, m.user = blocks, forks, user
}
