package protocol

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/internal/replica"
)

var (
	swarmSeeds = flag.Int("swarm.seeds", 200, "networks that TestSwarmsConverge plays")
	swarmSeed  = flag.Int64("swarm.seed", -1, "the one that it plays, with a trace of what happens")
)

// What a network may need, by what is done to it; thousands of seeds stay below two thirds of the time, and of the
// messages all but the smallest networks.
const (
	// swarmSettles is the time in which all agree after the last thing that was done: the slowest cables take 0.2 s and
	// carry 20 kB/s, and a request may be refused and made again. Where the writer has truncated, a sparse neighbour
	// may hold nothing that helps to find what is left: each node on the way waits StallTimeout for it, and swarmHop
	// is what it needs besides.
	swarmSettles = 10 * time.Second
	swarmHop     = 5 * time.Second

	// swarmRests is a time in which nothing is sent in a network that has settled.
	swarmRests = 5 * time.Minute

	// A block travels twice to each reader at most, for each time that it was appended: it may be cleared, or asked of
	// several at the end of a download. It takes a request and an answer; swarmAnswers more are allowed for each
	// connection. swarmNews bounds all else: for each connection begun, and for each thing that is done, at each cable.
	swarmCopies  = 2
	swarmAnswers = 4
	swarmNews    = 16
)

// plot is a network that was drawn from a seed, and what is done to it.
type plot struct {
	*swarm
	t         testing.TB
	writer    *swarmNode
	made      int  // blocks ever appended
	acts      int  // things done
	truncated bool // by the writer
	opens     int  // connections
}

func newPlot(t testing.TB, seed uint64, tracing bool) *plot {
	p := &plot{swarm: newSwarm(seed, tracing), t: t}
	w := writer(t, byte(seed))
	p.writer = p.node(w)
	for range 1 + p.rng.IntN(7) {
		p.node(reader(t, w))
	}
	for i, n := range p.nodes {
		n.step(replica.SetDownloading{On: i > 0 || p.rng.IntN(2) == 0})
		if i > 0 { // a tree, so that all are connected
			p.join(p.nodes[p.rng.IntN(i)], n)
		}
	}
	for i, a := range p.nodes {
		for _, b := range p.nodes[:i] {
			if p.rng.IntN(3) == 0 && !slices.ContainsFunc(a.sockets, func(q *plug) bool { return q.other.node == b }) {
				p.join(a, b)
			}
		}
	}
	for _, c := range p.cables {
		p.act("cable %d-%d: %v, %d bytes per second", c.ends[0].node.name, c.ends[1].node.name, c.delay, c.speed)
		p.connect(c)
	}
	for _, n := range p.nodes[1:] {
		switch p.rng.IntN(5) {
		case 0, 1:
			p.act("%d follows", n.name)
			n.want(replica.Want{Follow: true})
		case 2:
			p.act("%d follows in order", n.name)
			n.want(replica.Want{Follow: true, Linear: true})
		default:
			p.wish(n)
		}
	}
	return p
}

func (p *plot) connect(c *cable) {
	if !c.up {
		p.opens++
		c.connect()
	}
}

// wish has a sparse reader want something.
func (p *plot) wish(n *swarmNode) {
	w := replica.Want{Priority: p.rng.IntN(2)}
	if p.rng.IntN(2) == 0 {
		w.Range.Start = p.rng.Uint64N(100)
		w.Range.End = w.Range.Start + 1 + p.rng.Uint64N(30)
		p.act("%d wants [%d, %d)", n.name, w.Range.Start, w.Range.End)
	} else {
		for range 1 + p.rng.IntN(10) {
			w.Blocks = append(w.Blocks, p.rng.Uint64N(100))
		}
		p.act("%d wants %v", n.name, w.Blocks)
	}
	n.want(w)
}

func (p *plot) append(n int) {
	blocks := make([][]byte, n)
	for i := range blocks {
		p.made++
		blocks[i] = append([]byte(fmt.Sprint("block ", p.made, " ")), make([]byte, p.rng.IntN(1+p.rng.IntN(2000)))...)
	}
	p.act("append %d", n)
	appendBlocks(p.t, p.writer.feed, blocks...)
}

func (p *plot) clear(n *swarmNode) {
	length := n.feed.Info().Length
	if length == 0 {
		return
	}
	start := p.rng.Uint64N(length)
	end := min(length, start+1+p.rng.Uint64N(20))
	p.act("%d clears [%d, %d)", n.name, start, end)
	s := session(p.t, n.feed)
	defer s.Close()
	if _, err := s.Clear(context.Background(), feed.Range{Start: start, End: end}); err != nil {
		p.fail("clear: %v", err)
	}
}

// disturb does one thing.
func (p *plot) disturb() {
	p.acts++
	reader := p.nodes[1+p.rng.IntN(len(p.nodes)-1)]
	switch p.rng.IntN(10) {
	case 0, 1, 2:
		p.append(1 + p.rng.IntN(30))
	case 3:
		if length := p.writer.feed.Info().Length; length > 0 {
			to := p.rng.Uint64N(length)
			p.act("truncate to %d", to)
			p.truncated = true
			truncate(p.t, p.writer.feed, to)
		}
	case 4:
		p.clear(p.writer)
	case 5:
		p.clear(reader)
	case 6, 7:
		c := p.cables[p.rng.IntN(len(p.cables))]
		if !c.up {
			return
		}
		p.act("cut %d-%d", c.ends[0].node.name, c.ends[1].node.name)
		c.cut()
		p.after(p.soon(2*time.Second), func() { p.connect(c) })
	default:
		p.wish(reader)
	}
}

// play does all, lets the network settle, and holds it against the bounds.
func (p *plot) play() {
	for range 5 + p.rng.IntN(25) {
		p.run(p.now+p.soon(400*time.Millisecond), nil)
		p.disturb()
	}
	for _, c := range p.cables {
		p.connect(c)
	}
	p.append(1)
	limit := swarmSettles
	if p.truncated {
		limit += time.Duration(len(p.nodes)-1) * (replica.StallTimeout + swarmHop)
	}
	p.run(p.now+limit, nil)
	if why := p.unsettled(); why != "" {
		p.fail("after %v: %s", limit, why)
	}
	sent := p.sent
	p.run(p.now+swarmRests, nil)
	if p.sent != sent {
		p.fail("%d messages in a network at rest", p.sent-sent)
	}
	p.checkMessages()
	for _, n := range p.nodes {
		if st := n.machine.Stats(); st.Inflight != 0 || st.InvalidProofs+st.InvalidRequests+st.Stalls+st.Checks != 0 {
			p.fail("node %d: %+v", n.name, st)
		}
		if err := n.feed.Check(context.Background()); err != nil {
			p.fail("node %d: %v", n.name, err)
		}
	}
}

func (p *plot) checkMessages() {
	answers := swarmCopies*p.made*(len(p.nodes)-1) + swarmAnswers*p.opens
	if got := p.messages["*wire.Data"]; got > answers {
		p.fail("%d answers, want at most %d", got, answers)
	}
	all := 2*answers + swarmNews*(p.opens+p.acts*len(p.cables))
	if p.sent > all {
		p.fail("%d messages, want at most %d", p.sent, all)
	}
}

// unsettled says what is missing: the writer's head, or a block that is wanted and can be had.
func (p *plot) unsettled() string {
	head := p.writer.feed.Info().Head
	for _, n := range p.nodes {
		if got := n.feed.Info().Head; got != head {
			return fmt.Sprintf("node %d has head %+v, want %+v", n.name, got, head)
		}
	}
	for b := range head.Length {
		if n := p.missing(b); n != nil {
			return fmt.Sprintf("node %d lacks block %d", n.name, b)
		}
	}
	return ""
}

// missing is a node that wants block b, lacks it, and has a neighbour that holds it.
func (p *plot) missing(b uint64) *swarmNode {
	for _, n := range p.nodes {
		if !n.wants(b) || n.has(b) {
			continue
		}
		for _, q := range n.sockets {
			if q.other.node.has(b) {
				return n
			}
		}
	}
	return nil
}

// report is what is printed of a seed that has failed.
func (p *plot) report() string {
	var out strings.Builder
	fmt.Fprintf(&out, "%s\nTo see all that happens: go test ./protocol -run TestSwarmsConverge -v -swarm.seed %d\n", strings.Join(p.failures, "\n"), p.seed)
	for _, line := range p.script {
		fmt.Fprintln(&out, line)
	}
	for _, line := range p.trace {
		fmt.Fprintln(&out, line)
	}
	for _, k := range slices.Sorted(maps.Keys(p.messages)) {
		fmt.Fprintln(&out, k, p.messages[k])
	}
	return out.String()
}

// Random networks end where the writer is, whatever was done to them.
func TestSwarmsConverge(t *testing.T) {
	if *swarmSeed >= 0 {
		p := newPlot(t, uint64(*swarmSeed), true)
		p.play()
		t.Log(p.report())
		if len(p.failures) > 0 {
			t.Fail()
		}
		return
	}
	for seed := range uint64(*swarmSeeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			p := newPlot(t, seed, false)
			p.play()
			if len(p.failures) > 0 {
				t.Error(p.report())
			}
		})
	}
}

// A seed says all that happens.
func TestSwarmsCanBeReplayed(t *testing.T) {
	for seed := range uint64(5) {
		first, second := newPlot(t, seed, true), newPlot(t, seed, true)
		first.play()
		second.play()
		for i, line := range first.trace {
			if len(second.trace) <= i || second.trace[i] != line {
				t.Fatalf("seed %d: line %d of the trace is\n%s\nand was\n%s", seed, i, append(second.trace, "missing")[min(i, len(second.trace))], line)
			}
		}
		if len(first.trace) == 0 {
			t.Errorf("seed %d: nothing has happened", seed)
		}
	}
}
