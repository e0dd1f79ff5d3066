package feed

import (
	"bytes"
	"errors"
)

func (m *modelRun) compare() {
	t, ctx := m.t, m.t.Context()
	m.compareLine("feed", &modelLine{session: m.session, blocks: m.blocks, fork: m.fork})
	if got, want := m.feed.Info().Head, m.archive.Info().Head; got != want {
		t.Fatalf("head %+v, want %+v", got, want)
	}
	for _, s := range m.snaps {
		m.compareLine("snapshot", s)
	}
	for name, b := range m.branches {
		// What the branch shares with the feed is there if the feed has it.
		for i := range b.blocks[:b.atBranch] {
			b.blocks[i].held = m.blocks[i].held
		}
		m.compareLine("branch "+name, b)
	}
	for k, v := range m.user {
		got, err := m.session.UserData(ctx, k)
		if err != nil || !bytes.Equal(got, v) || (got == nil) != (v == nil) {
			t.Fatalf("user data %s: %q, %v; want %q", k, got, err, v)
		}
	}
	if m.random.IntN(10) == 0 {
		m.must(m.feed.Check(ctx))
	}
}

func (m *modelRun) compareLine(what string, l *modelLine) {
	t, ctx := m.t, m.t.Context()
	t.Helper()
	info := l.session.Info()
	if info.Length != uint64(len(l.blocks)) || info.Fork != l.fork {
		t.Fatalf("%s: length %d, fork %d; want %d, %d", what, info.Length, info.Fork, len(l.blocks), l.fork)
	}
	size, local := uint64(0), uint64(0)
	for i, b := range l.blocks {
		size += uint64(len(b.data))
		if b.held {
			local++
		}
		if len(l.blocks) > 50 && m.random.IntN(len(l.blocks)) > 40 {
			continue // not all of them every time
		}
		got, err := l.session.GetLocal(ctx, uint64(i))
		switch {
		case b.held && (err != nil || !bytes.Equal(got, b.data)):
			t.Fatalf("%s: block %d: %q, %v; want %q", what, i, got, err, b.data)
		case !b.held && !l.frozen && !errors.Is(err, ErrNotAvailable) && !errors.Is(err, ErrSnapshotNotAvailable):
			t.Fatalf("%s: block %d, which was cleared: %q, %v", what, i, got, err)
		case !b.held && err == nil && !bytes.Equal(got, b.data):
			t.Fatalf("%s: block %d: %q; want %q or nothing", what, i, got, b.data)
		}
		if b.held {
			if offset := size - uint64(len(b.data)); len(b.data) > 0 {
				index, rest, err := l.session.Seek(ctx, offset)
				if err != nil || index > uint64(i) || rest != 0 && index != uint64(i) {
					t.Fatalf("%s: seek %d: %d, %d, %v; want %d", what, offset, index, rest, err, i)
				}
			}
		}
	}
	if info.ByteLength != size || !l.frozen && info.LocalBlocks != local {
		t.Fatalf("%s: %d bytes, %d blocks stored; want %d, %d", what, info.ByteLength, info.LocalBlocks, size, local)
	}
}
