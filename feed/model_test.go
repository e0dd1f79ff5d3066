package feed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	datastore "github.com/ipfs/go-datastore"

	"github.com/p2pcore/p2pcore/internal/brittle"
)

// The model of a feed is a slice of blocks. A random program runs on the feed and on the model, and what
// the feed says is held against what the model has after every step.

// modelBlock is a block of the model; held is false once it was cleared.
type modelBlock struct {
	data []byte
	held bool
}

type modelLine struct {
	session  *Session
	blocks   []modelBlock
	fork     uint64
	frozen   bool
	atBranch int // of a branch: how much of the feed it shares
}

type modelRun struct {
	t        *testing.T
	random   *rand.Rand
	ds       datastore.Batching
	feed     *Feed
	session  *Session
	archive  *Feed // the same feed without clears, to fetch blocks again
	keeper   *Session
	blocks   []modelBlock
	fork     uint64
	snaps    []*modelLine
	branches map[string]*modelLine
	user     map[string][]byte
	volatile map[int]bool // blocks that were fetched since the last durable operation
	doubt    bool         // a write has failed, and what is stored may be newer
	log      []string
	counter  int
}

// TestRandomProgramsAgreeWithASlice runs the programs; also on a datastore of which operations fail, and that
// crashes. P2PCORE_SEED picks one seed, P2PCORE_SEEDS the number of random ones, P2PCORE_STEPS that of steps.
func TestRandomProgramsAgreeWithASlice(t *testing.T) {
	var programs []uint64
	for range seeds(t) {
		programs = append(programs, rand.Uint64())
	}
	steps := 400 // in each of the stores
	if testing.Short() {
		steps = 100
	}
	if v := os.Getenv("P2PCORE_SEED"); v != "" {
		seed, err := strconv.ParseUint(v, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		programs = []uint64{seed}
	}
	if v := os.Getenv("P2PCORE_STEPS"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil {
			t.Fatal(err)
		}
		steps = n
	}
	for _, seed := range programs {
		onStores(t, func(t *testing.T, ds datastore.Batching) { runModel(t, ds, seed, steps) })
		for _, atomic := range []bool{true, false} {
			t.Run(fmt.Sprintf("crashing, atomic %v", atomic), func(t *testing.T) {
				t.Parallel()
				runModel(t, brittle.New(atomic, seed), seed, steps)
			})
		}
	}
}

func runModel(t *testing.T, ds datastore.Batching, seed uint64, steps int) {
	pair := KeyPairFromSeed([32]byte{7})
	m := &modelRun{volatile: map[int]bool{}, t: t, random: rand.New(rand.NewPCG(seed, 9)), ds: ds, branches: map[string]*modelLine{}, user: map[string][]byte{}}
	var err error
	if m.feed, err = Create(t.Context(), ds, Options{Prefix: testPrefix, KeyPair: &pair}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.feed.Close() })
	m.session = session(t, m.feed)
	m.archive = create(t, atomicStore{memoryStore()}, Options{KeyPair: &pair})
	m.keeper = session(t, m.archive)
	defer func() {
		if t.Failed() {
			t.Logf("seed %d; the last steps:\n%s", seed, strings.Join(m.log[max(0, len(m.log)-40):], "\n"))
		}
	}()
	for range steps {
		m.step()
		m.compare()
		if t.Failed() {
			return
		}
	}
	m.end()
}

func (m *modelRun) note(format string, args ...any) {
	m.log = append(m.log, fmt.Sprintf(format, args...))
}

// failed reports whether an operation failed because the datastore did. Nothing has changed then.
func (m *modelRun) failed(err error) bool {
	m.t.Helper()
	if errors.Is(err, brittle.Err) {
		m.note("  failed")
		m.doubt = true
		return true
	}
	m.must(err)
	return false
}

// calm says whether operations may fail.
func (m *modelRun) calm(on bool) {
	if ds, ok := m.ds.(*brittle.Store); ok {
		ds.Calm(on)
	}
}

// settle leaves no doubt about what is stored.
func (m *modelRun) settle() {
	if m.doubt {
		m.setUserData(m.session)
		m.doubt = false
	}
}

func (m *modelRun) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

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

// end closes what keeps old records and looks whether they are gone.
func (m *modelRun) end() {
	t, ctx := m.t, m.t.Context()
	for _, s := range m.snaps {
		m.must(s.session.Close())
	}
	m.snaps = nil
	for name, b := range m.branches {
		m.must(b.session.Close())
		m.must(m.feed.DeleteBranch(ctx, name))
	}
	m.branches = nil
	m.note("end")
	m.compare()
	if ds, ok := m.ds.(*brittle.Store); ok && !ds.AtomicBatch() {
		return // leftovers of what a crash has interrupted may lie past the head
	}
	assertNoGarbage(t, m.feed)
	m.reopen()
	m.compare()
	assertNoGarbage(t, m.feed)
}

// assertNoGarbage fails if a block or node page is stored that the feed does not read.
func assertNoGarbage(t *testing.T, f *Feed) {
	t.Helper()
	for _, k := range garbageOf(t, f) {
		t.Errorf("%+v is garbage", k)
	}
}

// junk is a record that nobody reads.
type junk struct {
	kind       string
	generation uint32
	id, end    uint64 // end is past the last block of a page
}

func garbageOf(t *testing.T, f *Feed) (all []junk) {
	t.Helper()
	err := f.storage.query(context.Background(), true, func(key string, _ []byte, _ int) error {
		kind, g, id, ok := f.storage.parseRecordKey(key)
		switch {
		case !ok:
		case kind == 'b' && (!f.bits.Has(id) || f.head.generations.of(id) != g):
			all = append(all, junk{"block", g, id, id + 1})
		case kind == 'n' && f.head.generations.ofPage(pageID(id)) != g:
			_, end := pageID(id).blocks()
			all = append(all, junk{"page", g, id, end})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
