package feed

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
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
