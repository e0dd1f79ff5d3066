package replica

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/p2pcore/p2pcore/internal/merkle"
	"github.com/p2pcore/p2pcore/internal/wire"
)

// world is several machines on a fake network. Messages of one channel arrive in order; everything
// else, answers to asks included, happens in an order drawn at random.
type world struct {
	t     *testing.T
	rng   *rand.Rand
	now   time.Time
	nodes []*simNode
	sent  map[string]int // by direction and kind of message
	lies  int            // per mille of answers that are wrong
	mute  int            // per mille of answers that are refused
}

type simNode struct {
	w        *world
	name     int
	feed     *fakeFeed
	m        *Machine
	links    []*simLink // in order of opening; map order would not be reproducible
	nextPeer PeerID
	asks     []func() Event // answers not yet given
	lying    bool
	silent   bool // answers no request
	resolved map[Ticket]error
	dropped  int
}

// simLink is one side of a channel.
type simLink struct {
	node    *simNode
	id      PeerID
	other   *simLink
	inbox   []wire.Message
	written int // bytes sent and not yet given back as Room
	closed  bool
	ending  bool // the other side has closed; what it had sent is read first
}

const simRoom = 4096

func newWorld(t *testing.T, seed uint64) *world {
	return &world{t: t, rng: rand.New(rand.NewPCG(seed, 1)), now: time.Unix(1000, 0), sent: map[string]int{}}
}

func (w *world) node(length uint64, have ...merkle.Range) *simNode {
	f := &fakeFeed{info: Info{Length: length, ByteLength: length * 100, HasManifest: length > 0}}
	for _, r := range have {
		f.bits.SetRange(r.Start, r.End, true)
	}
	n := &simNode{w: w, name: len(w.nodes), feed: f, resolved: map[Ticket]error{}}
	n.m = New(f, Limits{}, rand.New(rand.NewPCG(w.rng.Uint64(), 2)))
	w.nodes = append(w.nodes, n)
	n.step(SetDownloading{On: true})
	return n
}

func (w *world) connect(a, b *simNode) {
	a.nextPeer++
	b.nextPeer++
	x, y := &simLink{node: a, id: a.nextPeer}, &simLink{node: b, id: b.nextPeer}
	x.other, y.other = y, x
	a.links, b.links = append(a.links, x), append(b.links, y)
	a.step(Opened{Peer: x.id, Seeks: true, Room: simRoom})
	b.step(Opened{Peer: y.id, Seeks: true, Room: simRoom})
}

// cut closes a channel at both ends.
func (w *world) cut(l *simLink) {
	for _, s := range []*simLink{l, l.other} {
		if !s.closed {
			s.closed = true
			s.node.links = without(s.node.links, s)
			s.node.step(Closed{Peer: s.id})
		}
	}
}

// end closes a channel at one end; the other reads what was sent before.
func (w *world) end(l *simLink) {
	l.closed = true
	l.node.links = without(l.node.links, l)
	l.other.ending = true
}

func (n *simNode) link(id PeerID) *simLink {
	i := slices.IndexFunc(n.links, func(l *simLink) bool { return l.id == id })
	if i < 0 {
		return nil
	}
	return n.links[i]
}

func (n *simNode) step(ev Event) {
	actions := slices.Clone(n.m.Step(n.w.now, ev))
	for _, a := range actions {
		n.do(a)
	}
	checkBounds(n.w.t, n.m)
}

func (n *simNode) do(a Action) {
	switch a := a.(type) {
	case Send:
		n.deliver(a)
	case Plan:
		n.asks = append(n.asks, func() Event { return Planned{Token: a.Token, Nodes: make([]uint64, len(a.Blocks))} })
	case CanUpgrade:
		n.asks = append(n.asks, func() Event {
			// A contiguous feed has all its nodes.
			return Verdict{Token: a.Token, OK: n.feed.bits.FirstUnset(0) >= a.Length || n.w.rng.IntN(4) > 0}
		})
	case Prove:
		if !n.silent {
			n.asks = append(n.asks, func() Event { return n.prove(a) })
		}
	case Apply:
		n.asks = append(n.asks, func() Event {
			if b := a.Proof.Block; b != nil && len(b.Value) > 0 && b.Value[0] == 'X' {
				return Applied{Token: a.Token, Fault: FaultInvalid}
			} else if b != nil && len(b.Value) > 0 && b.Value[0] == 'Y' {
				return Applied{Token: a.Token, Fault: FaultContradicts}
			}
			if n.w.rng.IntN(20) == 0 {
				return Applied{Token: a.Token, Fault: FaultStale}
			}
			return n.feed.apply(a.Token, a.Proof)
		})
	case StartReorg:
		n.askFork(a.Token, func() Reorged { return n.feed.startReorg(a.Token, a.Proof) })
	case StepReorg:
		n.askFork(a.Token, func() Reorged { return n.feed.stepReorg(a.Token, a.Search, a.Proof) })
	case ApplyReorg:
		n.askFork(a.Token, func() Reorged { return n.feed.applyReorg(a) })
	case Examine:
		n.asks = append(n.asks, func() Event { return n.feed.examine(a.Token, a.Proof) })
	case Resolve:
		if _, twice := n.resolved[a.Ticket]; twice {
			n.w.t.Errorf("node %d: ticket %d resolved twice", n.name, a.Ticket)
		}
		n.resolved[a.Ticket] = a.Err
	case CloseChannel:
		if l := n.link(a.Peer); l != nil {
			other := l.other.node
			n.w.end(l)
			if a.Reopen {
				n.w.connect(n, other)
			}
		}
	case Drop:
		n.dropped++
		if l := n.link(a.Peer); l != nil {
			n.w.cut(l)
		}
	}
}

func (n *simNode) deliver(a Send) {
	l := n.link(a.Peer)
	if l == nil {
		n.w.t.Fatalf("node %d sends %s to closed channel %d", n.name, showMessage(a.Message), a.Peer)
	}
	l.written += a.Message.Size()
	n.w.sent[fmt.Sprintf("%d>%d %T", n.name, l.other.node.name, a.Message)]++
	if !l.other.closed {
		l.other.inbox = append(l.other.inbox, a.Message)
	}
}

func (n *simNode) prove(a Prove) Event {
	pr := n.feed.prove(a.Token, a.Request, 100)
	if n.lying && pr.Proof != nil && pr.Proof.Upgrade != nil && n.feed.tree != nil {
		pr.Proof.Upgrade.Signature[0] = forged
	}
	if pr.Proof == nil || pr.Proof.Block == nil {
		return pr
	}
	if n.lying && n.w.rng.IntN(1000) < n.w.lies {
		pr.Proof.Block.Value[0] = "XY"[n.w.rng.IntN(2)]
	} else if n.lying && n.w.rng.IntN(1000) < n.w.mute {
		return Proved{Token: a.Token, Fault: FaultNotAvailable}
	}
	return pr
}

// move lets one thing happen. It returns false when nothing is left to happen.
func (w *world) move() bool {
	var moves []func()
	for _, n := range w.nodes {
		if len(n.asks) > 0 {
			moves = append(moves, func() {
				i := w.rng.IntN(len(n.asks))
				ask := n.asks[i]
				n.asks = slices.Delete(n.asks, i, i+1)
				n.step(ask())
			})
		}
		if len(n.feed.added)+len(n.feed.dropped) > 0 || n.feed.moved {
			moves = append(moves, func() { n.step(n.feed.changed()) })
		}
		for _, l := range n.links {
			if len(l.inbox) > 0 {
				moves = append(moves, func() {
					msg := l.inbox[0]
					l.inbox = l.inbox[1:]
					n.step(Received{Peer: l.id, Message: msg})
				})
			}
			if l.ending && len(l.inbox) == 0 {
				moves = append(moves, func() { w.cut(l) })
			}
			if l.written > 0 {
				moves = append(moves, func() {
					give := l.written
					l.written = 0
					n.step(Room{Peer: l.id, Bytes: give})
				})
			}
		}
	}
	if len(moves) == 0 {
		return false
	}
	moves[w.rng.IntN(len(moves))]()
	return true
}

// run lets things happen until nothing is left, and fails if that takes too long.
func (w *world) run(most int) {
	w.t.Helper()
	for range most {
		if !w.move() {
			return
		}
	}
	w.t.Fatalf("still busy after %d moves: %v", most, w.sent)
}

// wait lets time pass: timers run, then what they have caused.
func (w *world) wait(d time.Duration, most int) {
	w.t.Helper()
	w.now = w.now.Add(d)
	for _, n := range w.nodes {
		n.step(Tick{})
	}
	w.run(most)
}

// checkBounds looks at what must hold in a machine after every Step, whatever came in.
func checkBounds(t testing.TB, m *Machine) {
	t.Helper()
	sent, applying := 0, 0
	for _, p := range m.order {
		perPeer := 0
		for id, r := range p.requests {
			if r == nil || r.state == stateCancelled || r.state == stateLate {
				continue
			}
			if r.state != stateSent || r.id != uint64(id) || r.peer != p {
				t.Fatalf("peer %d: slot %d holds request %d of peer %d in state %d", p.id, id, r.id, r.peer.id, r.state)
			}
			if rs, n := m.rivals(r.block); r.hasBlock && !slices.Contains(rs[:n], r) {
				t.Fatalf("block %d is in flight and not known to be", r.block)
			}
			perPeer++
		}
		if perPeer != p.sent || p.sent > p.inflight || p.inflight > p.limit {
			t.Fatalf("peer %d: %d sent, counted %d, %d in flight, window %d", p.id, perPeer, p.sent, p.inflight, p.limit)
		}
		sent += perPeer
		ahead := max(pickChunk, p.limit/2)
		checks := []struct {
			what      string
			got, most int
		}{
			{"ready and planning", len(p.ready) + p.planning, p.limit + 3*ahead + pickChunk},
			{"wanted pages", len(p.pages), maxWantPages},
			{"known bytes", p.known.bits.Size(), maxKnownBytes},
			{"pending adds", len(p.adds), maxPendingRanges},
			{"pending drops", len(p.drops), maxPendingRanges},
			{"cancelled ids", len(p.cancelled), maxCancelled + MaxWindow},
			{"ids", len(p.requests), maxCancelled + 2*MaxWindow},
			{"queued requests", len(p.served), m.limits.QueuedRequests},
			{"waiting", len(p.waiting[0]) + len(p.waiting[1]), 4*m.limits.QueuedRequests + 2},
			{"answers", len(p.answers), m.limits.Proving + maxInvalidRequests},
			{"remote pages", len(p.remoteWants.pages), maxServedMemory},
			{"due pages", len(p.remoteWants.due), maxServedMemory + maxServedAnyMemory},
			{"wants of any block", len(p.remoteWants.anys), maxServedAnyMemory},
			{"odd wants", len(p.remoteWants.odd), maxOddWants},
			{"extensions", len(p.extensions), m.limits.Extensions},
			{"refusals", len(p.refusals), 64},
			{"pushes", len(p.push.queue), maxPendingRanges},
			{"held upgrades", len(p.push.held), 2 * m.limits.QueuedRequests},
			{"pushes being verified", p.taking, maxTaking},
		}
		for _, c := range checks {
			if c.got > c.most {
				t.Fatalf("peer %d: %d %s, at most %d allowed", p.id, c.got, c.what, c.most)
			}
		}
	}
	rare := 0
	for b := range m.fetches {
		rs, n := m.rivals(b)
		for _, r := range rs[:n] {
			if r.rare {
				rare++
			}
		}
		for i, r := range rs[:n] {
			if r.block != b || r.state > stateApplying || n > 1 && r.state < stateSent {
				t.Fatalf("block %d is asked of %d peers, and request %d is for block %d in state %d", b, n, i, r.block, r.state)
			}
			if slices.ContainsFunc(rs[:i], func(o *request) bool { return o.peer == r.peer }) {
				t.Fatalf("block %d is asked twice of peer %d", b, r.peer.id)
			}
		}
	}
	if rare != m.rareAsked {
		t.Fatalf("%d rare blocks are asked for, counted %d", rare, m.rareAsked)
	}
	for _, r := range m.applies {
		if r.state == stateApplying {
			applying++
		}
	}
	for _, r := range m.reorgs {
		if r.state == stateApplying {
			applying++
		}
	}
	if len(m.candidates) > maxCandidates {
		t.Fatalf("%d forks are being asked about", len(m.candidates))
	}
	for _, c := range m.candidates {
		if c.search == nil && c.asked == nil || c.fork <= m.info.Fork && c != m.applying {
			t.Fatalf("fork %d is left, ours is %d, %v", c.fork, m.info.Fork, c)
		}
	}
	checking := len(m.examined)
	for _, p := range m.order {
		if p.check != nil {
			checking++
		}
	}
	if checking != m.checking {
		t.Fatalf("%d checks are under way, counted %d", checking, m.checking)
	}
	if sent+applying != m.inflight {
		t.Fatalf("in flight: %d sent and %d applying, counted %d", sent, applying, m.inflight)
	}
	if len(m.proofs) > m.limits.Proving {
		t.Fatalf("%d proofs being built", len(m.proofs))
	}
	for b, r := range m.fetches {
		if r.state == stateDone || r.block != b {
			t.Fatalf("block %d is held by a request in state %d for %d", b, r.state, r.block)
		}
	}
}

// TestReadersBecomeComplete lets readers fetch a whole feed from a writer, from each other and from
// a liar, while channels break, at every order of events that the seeds give.
func TestReadersBecomeComplete(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, seed)
			const length = 300
			writer := w.node(length, merkle.Range{End: length})
			sparse := w.node(length, merkle.Range{Start: 100, End: 180}, merkle.Range{Start: 250, End: 251})
			readers := []*simNode{w.node(0), w.node(0), w.node(0)}
			liar := w.node(length, merkle.Range{End: length})
			liar.lying, w.lies, w.mute = true, 100, 300
			for i, r := range readers {
				w.connect(r, writer)
				w.connect(sparse, r)
				w.connect(r, liar)
				w.connect(r, readers[(i+1)%len(readers)])
			}
			for i, r := range readers {
				r.step(Want{Ticket: 1, Range: merkle.Range{End: length}, Linear: i == 0})
				r.step(Want{Ticket: 2, Range: merkle.Range{Start: 299, End: 300}, Priority: 1})
				r.step(Want{Ticket: 3, Blocks: []uint64{7, 250, 3, 3}})
			}
			for range 20 {
				for range 200 {
					w.move()
				}
				r := readers[w.rng.IntN(len(readers))]
				if len(r.links) > 0 {
					l := r.links[w.rng.IntN(len(r.links))]
					other := l.other.node
					w.cut(l)
					if other != liar {
						w.connect(other, r)
					}
				}
			}
			w.run(100_000)
			for range 4 {
				w.wait(StallTimeout, 100_000)
			}
			for i, r := range readers {
				if n := r.feed.bits.Count(0, length); n != length || len(r.resolved) != 3 {
					t.Errorf("reader %d: %d of %d blocks, tickets %v", i, n, length, r.resolved)
				}
				if s := r.m.Stats(); s.Inflight != 0 || s.InflightBytes != 0 || s.Wants != 0 || len(r.m.fetches) != 0 {
					t.Errorf("reader %d: left over: %+v, %d fetches", i, s, len(r.m.fetches))
				}
			}
		})
	}
}

// TestFollowersKeepUp appends while readers follow, in a chain: only the first knows the writer.
func TestFollowersKeepUp(t *testing.T) {
	for seed := range uint64(30) {
		w := newWorld(t, seed)
		writer := w.node(3, merkle.Range{End: 3})
		a, b := w.node(0), w.node(0)
		w.connect(writer, a)
		w.connect(a, b)
		for _, r := range []*simNode{a, b} {
			r.step(Want{Ticket: 1, Follow: true})
		}
		for range 50 {
			writer.feed.store(writer.feed.info.Length)
			writer.feed.info.Length++
			for range w.rng.IntN(40) {
				w.move()
			}
		}
		w.run(100_000)
		w.wait(StallTimeout, 100_000)
		for _, r := range []*simNode{a, b} {
			if got := r.feed.bits.Count(0, 53); got != 53 || r.feed.info.Length != 53 {
				t.Errorf("seed %d: reader %d has %d blocks at length %d, want 53", seed, r.name, got, r.feed.info.Length)
			}
		}
		if got := a.links[0]; got.node.m.peers[got.id].known.contig != 53 {
			t.Errorf("seed %d: the reader does not know that the writer is complete", seed)
		}
	}
}

// TestMessageEconomy counts the messages between peers that have nothing to give each other.
func TestMessageEconomy(t *testing.T) {
	for _, c := range []struct {
		name   string
		length uint64
		have   []merkle.Range
		want   map[string]int
	}{
		{"complete", 10, []merkle.Range{{End: 10}}, map[string]int{
			"0>1 *wire.Sync": 1, "1>0 *wire.Sync": 1, "0>1 *wire.Range": 1, "1>0 *wire.Range": 1}},
		{"empty", 0, nil, map[string]int{"0>1 *wire.Sync": 1, "1>0 *wire.Sync": 1}},
		{"sparse", 10, []merkle.Range{{Start: 4, End: 5}}, map[string]int{"0>1 *wire.Sync": 1, "1>0 *wire.Sync": 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, 1)
			a, b := w.node(c.length, c.have...), w.node(c.length, c.have...)
			w.connect(a, b)
			w.run(1000)
			w.wait(StallTimeout, 1000)
			if fmt.Sprint(w.sent) != fmt.Sprint(c.want) {
				t.Errorf("got %v, want %v", w.sent, c.want)
			}
		})
	}
}

// TestBulkIsSpread has one reader and four complete peers: each block travels once, and everybody
// helps.
func TestBulkIsSpread(t *testing.T) {
	w := newWorld(t, 7)
	const length = 2000
	r := w.node(length)
	for range 4 {
		w.connect(r, w.node(length, merkle.Range{End: length}))
	}
	w.run(1000)
	r.step(Want{Ticket: 1, Range: merkle.Range{End: length}})
	w.run(200_000)
	var counts []int
	total := 0
	for i := 1; i <= 4; i++ {
		n := w.sent[fmt.Sprintf("%d>0 *wire.Data", i)]
		counts = append(counts, n)
		total += n
	}
	// One stale result in twenty is asked for again.
	if total > length*11/10 || slices.MinFunc(counts, cmp.Compare[int]) < length/10 {
		t.Errorf("answers per peer: %v, want about %d each", counts, length/4)
	}
	if _, ok := r.resolved[1]; !ok {
		t.Error("the download did not end")
	}
}

// TestManySparsePagesAreFound has one block in each of more pages than can be wanted at once.
func TestManySparsePagesAreFound(t *testing.T) {
	w := newWorld(t, 3)
	const pages = maxWantPages + 200
	const length = pages * wantPage
	r := w.node(length)
	var have []merkle.Range
	for i := range uint64(pages) {
		have = append(have, merkle.Range{Start: i*wantPage + 17, End: i*wantPage + 18})
	}
	w.connect(r, w.node(length, have...))
	r.step(Want{Ticket: 1, Range: merkle.Range{End: length}})
	w.run(100_000)
	if got := r.feed.bits.Count(0, length); got != pages {
		t.Errorf("%d blocks found, want %d", got, pages)
	}
}
