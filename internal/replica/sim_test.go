package replica

import (
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
