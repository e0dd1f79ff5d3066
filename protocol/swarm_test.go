package protocol

import (
	"container/heap"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/internal/replica"
	"github.com/p2pcore/p2pcore/internal/wire"
)

// swarm is a network of real feeds, state machines and muxers, under a clock of its own and without goroutines:
// whatever happens is an entry of one queue. So all of it follows from the seed, and can be had again.
//
//	feed ⇄ workers ⇄ machine ⇄ muxer ═ cable ═ muxer ⇄ machine ⇄ workers ⇄ feed
//
// What travels over one cable stays in order. All else is in the order that chance gives it: cables have delays that
// differ and vary, and what is asked of a feed, its answer, and the news of what has changed take their time.
type swarm struct {
	seed     uint64
	rng      *rand.Rand
	now      time.Duration // since the start
	queue    happenings
	count    uint64 // entries ever made
	nodes    []*swarmNode
	cables   []*cable
	messages map[string]int // sent, by type
	sent     int            // their sum
	script   []string       // what was done to the network
	trace    []string       // what has happened, if tracing
	tracing  bool
	failures []string
}

// happening is an entry of the queue.
type happening struct {
	at    time.Duration
	order uint64 // of two at once the one that was made first
	do    func()
}

type happenings []happening

func (h happenings) Len() int { return len(h) }
func (h happenings) Less(i, j int) bool {
	return h[i].at < h[j].at || h[i].at == h[j].at && h[i].order < h[j].order
}
func (h happenings) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *happenings) Push(x any)   { *h = append(*h, x.(happening)) }
func (h *happenings) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

func newSwarm(seed uint64, tracing bool) *swarm {
	return &swarm{seed: seed, tracing: tracing, rng: rand.New(rand.NewPCG(seed, 3)), messages: map[string]int{}}
}

// after has something happen later.
func (s *swarm) after(d time.Duration, do func()) {
	s.count++
	heap.Push(&s.queue, happening{s.now + d, s.count, do})
}

// soon is a delay of up to most.
func (s *swarm) soon(most time.Duration) time.Duration {
	return time.Duration(s.rng.Int64N(int64(most)))
}

// run lets things happen until end, or until done says so, if it is not nil.
func (s *swarm) run(end time.Duration, done func() bool) {
	for len(s.queue) > 0 && s.queue[0].at <= end && len(s.failures) == 0 {
		next := heap.Pop(&s.queue).(happening)
		s.now = next.at
		next.do()
		if done != nil && done() {
			return
		}
	}
	s.now = max(s.now, end)
}

func (s *swarm) note(format string, args ...any) {
	if s.tracing {
		s.trace = append(s.trace, fmt.Sprintf("%12v ", s.now)+fmt.Sprintf(format, args...))
	}
}

// act notes something that is done to the network.
func (s *swarm) act(format string, args ...any) {
	s.script = append(s.script, fmt.Sprintf("%12v ", s.now)+fmt.Sprintf(format, args...))
	s.note(format, args...)
}

func (s *swarm) fail(format string, args ...any) {
	s.failures = append(s.failures, fmt.Sprintf(format, args...))
}

// swarmNode is a feed with its machine. Its workers are those of an exchange that does not run.
type swarmNode struct {
	s       *swarm
	name    int
	feed    *feed.Feed
	sub     *feed.Subscription
	machine *replica.Machine
	plugs   map[replica.PeerID]*plug // with an open channel
	sockets []*plug                  // all
	lastID  replica.PeerID
	work    workers
	jobs    [4][]replica.Action // for the workers of each kind
	busy    [4]bool
	alarm   time.Duration // when a Tick is due; 0: none is
	tickets map[replica.Ticket]replica.Want
}

func (s *swarm) node(f *feed.Feed) *swarmNode {
	n := &swarmNode{
		s: s, name: len(s.nodes), feed: f,
		plugs: map[replica.PeerID]*plug{}, tickets: map[replica.Ticket]replica.Want{},
	}
	n.work.x = &Exchange{core: f, log: slog.New(slog.DiscardHandler)}
	n.machine = replica.New(local{f}, replica.Limits{}, rand.New(rand.NewPCG(s.rng.Uint64(), 4)))
	n.sub = f.SubscribeFunc(func() { s.after(s.soon(time.Millisecond), n.changed) })
	s.nodes = append(s.nodes, n)
	return n
}

func (n *swarmNode) changed() {
	if c, ok := n.sub.Take(); ok {
		n.step(replica.Changed{Added: c.Added, Dropped: c.Dropped, Forked: c.Forked, Ancestors: c.Ancestors})
	}
}

// want hands a wish to the machine.
func (n *swarmNode) want(w replica.Want) {
	w.Ticket = replica.Ticket(len(n.tickets) + 1)
	n.tickets[w.Ticket] = w
	n.step(w)
}

// wants reports whether a wish that is not resolved covers block b.
func (n *swarmNode) wants(b uint64) bool {
	for _, w := range n.tickets {
		if w.Follow || w.Range.Start <= b && b < w.Range.End || slices.Contains(w.Blocks, b) {
			return true
		}
	}
	return false
}

func (n *swarmNode) has(b uint64) bool { return n.feed.Has(feed.Range{Start: b, End: b + 1}) }

func (n *swarmNode) step(ev replica.Event) {
	now := time.Unix(1000, 0).Add(n.s.now)
	for _, a := range slices.Clone(n.machine.Step(now, ev)) {
		n.do(a)
	}
	if at, ok := n.machine.Deadline(); ok {
		due := max(at.Sub(time.Unix(1000, 0)), n.s.now)
		if n.alarm == 0 || due < n.alarm {
			n.alarm = max(due, 1)
			n.s.after(due-n.s.now, func() {
				if n.alarm > n.s.now {
					return // an earlier one has taken its place
				}
				n.alarm = 0
				n.step(replica.Tick{})
			})
		}
	}
}

func (n *swarmNode) do(a replica.Action) {
	switch a := a.(type) {
	case replica.Send:
		if p := n.plugs[a.Peer]; p != nil {
			n.s.messages[fmt.Sprintf("%T", a.Message)]++
			n.s.sent++
			if err := p.mux.Send(p.channel, a.Message.Type(), a.Message); err != nil {
				n.s.fail("node %d sends on a closed channel: %v", n.name, err)
			}
			p.pump()
		}
	case replica.Plan, replica.CanUpgrade:
		n.ask(0, a)
	case replica.Prove:
		n.ask(1, a)
	case replica.Apply:
		n.ask(2, a)
	case replica.StartReorg, replica.StepReorg, replica.ApplyReorg, replica.Examine:
		n.ask(3, a)
	case replica.Resolve:
		n.tickets[a.Ticket] = replica.Want{} // its number is not used again
		if a.Err != nil {
			n.s.fail("node %d: a wish ended with %v", n.name, a.Err)
		}
	case replica.CloseChannel:
		n.s.note("%d closes its channel %d, reopen %v", n.name, a.Peer, a.Reopen)
		if p := n.plugs[a.Peer]; p != nil {
			p.shut()
			if a.Reopen {
				p.reopenLater()
			}
		}
	case replica.Drop:
		n.s.fail("node %d drops a peer: %s: %v", n.name, a.Reason, a.Err)
	}
}

// ask hands work to the workers of a kind, of which one runs at a time, like those of an exchange.
func (n *swarmNode) ask(kind int, a replica.Action) {
	n.jobs[kind] = append(n.jobs[kind], a)
	if !n.busy[kind] {
		n.busy[kind] = true
		n.s.after(n.s.soon(3*time.Millisecond), func() { n.labour(kind) })
	}
}

// labour does some of the work that waits, and tells the machine a little later.
func (n *swarmNode) labour(kind int) {
	count := 1 + n.s.rng.IntN(len(n.jobs[kind]))
	jobs := n.jobs[kind][:count:count]
	n.jobs[kind] = n.jobs[kind][count:]
	events := n.perform(kind, jobs)
	n.s.after(n.s.soon(3*time.Millisecond), func() {
		for _, ev := range events {
			n.step(ev)
		}
		n.busy[kind] = len(n.jobs[kind]) > 0
		if n.busy[kind] {
			n.labour(kind)
		}
	})
}

func (n *swarmNode) perform(kind int, jobs []replica.Action) (events []replica.Event) {
	ctx := context.Background()
	for _, a := range jobs {
		switch a := a.(type) {
		case replica.Plan:
			nodes, err := n.feed.Plan(ctx, a.Blocks)
			events = append(events, replica.Planned{Token: a.Token, Nodes: nodes, Err: err})
		case replica.CanUpgrade:
			ok, err := n.feed.CanUpgrade(ctx, a.Length)
			events = append(events, replica.Verdict{Token: a.Token, OK: ok && err == nil})
		case replica.Prove:
			out, err := n.feed.Prove(ctx, []feed.Request{a.Request})
			if err != nil {
				n.s.fail("node %d: proving: %v", n.name, err)
				return nil
			}
			events = append(events, replica.Proved{Token: a.Token, Proof: out[0].Proof, Fault: proveFault(out[0].Err)})
		case replica.Apply: // below, all at once
		default:
			events = append(events, n.work.doHead(ctx, a))
		}
	}
	if kind != 2 {
		return events
	}
	var proofs []*feed.Proof
	for _, a := range jobs {
		proofs = append(proofs, a.(replica.Apply).Proof)
	}
	results, err := n.feed.Apply(ctx, proofs)
	if err != nil {
		n.s.fail("node %d: applying: %v", n.name, err)
		return nil
	}
	for i, r := range results {
		if f := applyFault(r.Err); f != replica.FaultNone && f != replica.FaultStale {
			n.s.note("%d: proof refused: %v", n.name, r.Err)
		}
		events = append(events, replica.Applied{
			Token: jobs[i].(replica.Apply).Token, Fault: applyFault(r.Err), Err: r.Err, Stored: r.Stored, Grown: r.Grown,
		})
	}
	return events
}

// describe is a message in a line, without hashes and values.
func describe(msg wire.Message) string {
	var out strings.Builder
	say := func(what string, is bool, values ...any) {
		if is {
			fmt.Fprint(&out, " ", what, " ", fmt.Sprint(values...))
		}
	}
	switch m := msg.(type) {
	case *wire.Request:
		fmt.Fprintf(&out, "request %d: fork %d", m.ID, m.Fork)
		if m.Block != nil {
			say("block", true, *m.Block)
		}
		if m.Hash != nil {
			say("hash", true, *m.Hash)
		}
		if m.Upgrade != nil {
			say("upgrade", true, *m.Upgrade)
		}
		say("manifest", m.Manifest)
	case *wire.Data:
		fmt.Fprintf(&out, "data %d: fork %d", m.ID, m.Proof.Fork)
		if b := m.Proof.Block; b != nil {
			say("block", true, b.Index, " with ", len(b.Nodes), " nodes")
		}
		if h := m.Proof.Hash; h != nil {
			say("hash", true, h.Index, " with ", len(h.Nodes), " nodes")
		}
		if u := m.Proof.Upgrade; u != nil {
			say("upgrade", true, u.Start, "+", u.Length)
		}
		say("manifest", m.Proof.Manifest != nil)
	default:
		fmt.Fprintf(&out, "%T%+v", msg, msg)
	}
	return strings.ReplaceAll(out.String(), "*wire.", "")
}
