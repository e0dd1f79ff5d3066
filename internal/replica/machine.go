package replica

import (
	"iter"
	"math/rand/v2"
	"time"

	"github.com/p2pcore/p2pcore/internal/bitfield"
	"github.com/p2pcore/p2pcore/internal/merkle"
	"github.com/p2pcore/p2pcore/internal/wire"
)

// Local answers from memory what the machine asks about the feed. It is called from New and Step
// only.
type Local interface {
	Info() Info
	// Ranges yields the maximal runs of stored blocks in r, in order.
	Ranges(r merkle.Range) iter.Seq[merkle.Range]
}

// Info is the part of a feed's state that replication decides by.
type Info struct {
	Fork        uint64
	Length      uint64 // in blocks
	ByteLength  uint64 // of all blocks below Length; used as an estimate of the size of a block
	HasManifest bool   // the manifest is known and may travel: false for compat feeds
	Frozen      bool   // conflicting heads were seen: nothing is asked or served
}

// Machine is the replication of one feed. It is not safe for concurrent use.
type Machine struct {
	// Set in New.
	local  Local
	limits Limits
	rng    *rand.Rand

	// Of the current Step.
	now       time.Time
	out       []Action
	dirty     []*peer      // peers to look at before the Step ends
	working   []*peer      // those being looked at
	picked    []*request   // to be put in one Plan
	rescan    merkle.Range // hull of the blocks that went back to the queue
	checkIdle bool         // our downloading flag may have gone down
	rewritten bool         // the fork has changed, and what that did is known
	words     [2][]uint32  // scratch of pickRange
	listSteps uint64       // entries of lists that were looked at, for tests

	// A mirror of the feed, so that Step does not ask Local per block. It lags behind the feed by
	// the events under way, which costs at worst a request too many or a refusal.
	info   Info
	have   bitfield.Bitfield
	contig uint64 // blocks held without a gap from 0

	remoteContig uint64 // so many a remote has announced to hold on this fork, maybe more than there are; see remotecontig.go

	peers map[PeerID]*peer
	order []*peer // as opened
	met   bool    // there was a peer once
	// ring holds the peers whose requests wait to be served, next first.
	ring []*peer

	lastToken Token
	promised  map[promise]struct{} // scratch of shorten
	plans     map[Token][]*request
	verdicts  map[Token]*peer // asks that count
	judging   map[Token]*peer // all asks that are out
	applies   map[Token]*request
	proofs    map[Token]*serving
	overtaken []*serving // refused when the Changed of a new fork has come, and been told

	// fetches holds the requests of each block that is being planned, asked or applied.
	fetches       map[uint64]*request
	swaps         []swappable // scratch of swap
	swapAt        time.Time   // when to look at idle peers; zero: need not
	inflight      int         // requests sent and not yet answered and applied, over all peers
	inflightBytes int         // of the blocks that they ask for, estimated
	upgrade       *request    // the only upgrade in flight
	lazy          bool        // it is asked only for who waits; see lazy.go
	manifest      *request    // the only lone manifest request in flight

	// Of the forks past ours; see fork.go.
	refuseForks bool
	candidates  []*candidate       // highest fork first, at most maxCandidates
	reorgs      map[Token]*request // answers being verified
	applying    *candidate         // is being made our own fork; with applyToken
	applyToken  Token

	// Of conflicting heads; see conflict.go.
	checking int             // peers that have to prove their head, and proofs of heads being verified
	examined map[Token]*peer // proofs of heads being verified
	warnings map[Token]*peer // proofs of our own frozen head being built

	// What keeps seeds from sending what readers could; see economy.go.
	readers   []*peer   // scratch of economise
	rareAsked int       // blocks that no reader holds and that are asked for, or about to be
	sparing   time.Time // since when a seed is not asked for what readers hold; zero: none is
	shared    time.Time // when a peer that is no seed last sent a block

	tickets map[Ticket]*want
	wants   []*want            // ranges and lists, highest priority first, then oldest
	seeks   []*want            // as they came
	updates []Ticket           // as they came
	waiters map[uint64][]*want // by the first block that they lack
	// urgent holds the blocks that single gets wait for, urgentRefs how many wait for each.
	urgent     bitfield.Bitfield
	urgentRefs map[uint64]int

	// Of blocks that travel unasked; see push.go and pushed.go.
	allowPush bool
	pushOnly  bool
	pushes    map[Token]*request // being verified
	forcing   []*want            // are asked for although pushOnly is set

	downloading bool
	opening     int
	finding     bool

	wake  time.Time // when to look at all timers; early is allowed
	stats Stats
}

// New returns a machine without peers. It draws from rng, which must not be used elsewhere.
func New(local Local, limits Limits, rng *rand.Rand) *Machine {
	m := &Machine{
		local: local, limits: limits.withDefaults(), rng: rng,
		peers:    map[PeerID]*peer{},
		promised: map[promise]struct{}{}, plans: map[Token][]*request{}, verdicts: map[Token]*peer{}, judging: map[Token]*peer{},
		applies: map[Token]*request{}, proofs: map[Token]*serving{},
		fetches: map[uint64]*request{},
		pushes:  map[Token]*request{},
		reorgs:  map[Token]*request{}, examined: map[Token]*peer{}, warnings: map[Token]*peer{},
		tickets: map[Ticket]*want{}, waiters: map[uint64][]*want{}, urgentRefs: map[uint64]int{},
		info: local.Info(),
	}
	m.loadHave(merkle.Range{End: m.info.Length})
	return m
}

// Step takes one event at time now and returns what is to be done about it, in order. Time must
// not run backwards. The slice is valid until the next Step.
func (m *Machine) Step(now time.Time, ev Event) []Action {
	clear(m.out)
	m.out, m.now = m.out[:0], now
	m.dispatch(ev)
	m.tick()
	m.settle()
	return m.out
}

func (m *Machine) dispatch(ev Event) {
	switch e := ev.(type) {
	case Received:
		if p := m.peers[e.Peer]; p != nil {
			m.receive(p, e.Message)
		}
	case Applied:
		m.onApplied(e)
	case Planned:
		m.onPlanned(e)
	case Proved:
		m.onProved(e)
	case Room:
		m.onRoom(e)
	case Changed:
		m.onChanged(e)
	case Verdict:
		m.onVerdict(e)
	case Opened:
		m.onOpened(e)
	case Closed:
		if p := m.peers[e.Peer]; p != nil {
			m.remove(p)
		}
	case Want:
		m.onWant(e)
	case WantUpgrade:
		m.onWantUpgrade(e.Ticket)
	case WantSeek:
		m.onWantSeek(e)
	case Forget:
		m.onForget(e.Ticket)
	case Reorged:
		m.onReorged(e)
	case Examined:
		m.onExamined(e)
	case SetDownloading:
		m.onSetDownloading(e.On)
	case SetPush:
		m.onSetPush(e)
	case SetLazy:
		m.onSetLazy(e.On)
	case Push:
		m.onPush(e)
	case Prospects:
		m.opening, m.finding = e.Opening, e.Finding
	case Extend:
		m.onExtend(e)
	}
}

func (m *Machine) receive(p *peer, msg wire.Message) {
	switch msg := msg.(type) {
	case *wire.Data:
		m.onData(p, msg)
	case *wire.Request:
		m.onRequest(p, msg)
	case *wire.Range:
		m.onRange(p, msg)
	case *wire.Bitfield:
		m.onBitfield(p, msg)
	case *wire.Sync:
		m.onSync(p, msg)
	case *wire.NoData:
		m.onNoData(p, msg)
	case *wire.Cancel:
		m.onCancel(p, msg.ID)
	case *wire.Want:
		m.onRemoteWant(p, msg)
	case *wire.Unwant:
		m.onRemoteUnwant(p, msg)
	case *wire.Extension:
		m.onExtension(p, msg)
	}
}

// settle does what the event has made possible: it sends what waited for credit, fills the windows,
// and starts proofs.
func (m *Machine) settle() {
	for again := true; again; again = len(m.dirty) > 0 || m.rescan.Len() > 0 {
		if r := m.rescan; r.Len() > 0 {
			m.rescan = merkle.Range{}
			m.recount()
			for _, p := range m.order {
				p.rescan(r)
				m.touch(p)
			}
		}
		m.settleForks()
		m.fill()
		m.serve()
		m.endIdle()
	}
	if len(m.updates) > 0 && !m.mayGrow() {
		m.resolveUpdates(false)
	}
}

// touch has p looked at before the Step ends.
func (m *Machine) touch(p *peer) {
	if !p.dirty && !p.gone {
		p.dirty = true
		m.dirty = append(m.dirty, p)
	}
}

func (m *Machine) touchAll() {
	for _, p := range m.order {
		m.touch(p)
	}
}

func (m *Machine) emit(a Action) { m.out = append(m.out, a) }

func (m *Machine) token() Token {
	m.lastToken++
	return m.lastToken
}

// Deadline returns when Step wants to be called with Tick, if nothing else happens before. It may
// be early.
func (m *Machine) Deadline() (time.Time, bool) { return m.wake, !m.wake.IsZero() }

func (m *Machine) wakeAt(t time.Time) {
	if m.wake.IsZero() || t.Before(m.wake) {
		m.wake = t
	}
}

// tick looks at the timers of all peers when the earliest may have run out. Timers that were put
// off meanwhile are found again here, so putting one off costs nothing.
func (m *Machine) tick() {
	if m.wake.IsZero() || m.now.Before(m.wake) {
		return
	}
	m.wake = time.Time{}
	m.tickSwaps()
	for _, p := range append([]*peer(nil), m.order...) {
		m.tickServing(p)
		m.tickAsking(p)
		m.tickCheck(p)
	}
	m.tickForks()
}
