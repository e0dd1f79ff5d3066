package node

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
)

// The model: two nodes with the real machine each, joined by a network that delays every message and every
// notice by a random time, breaks streams, lets one side notice a break long after the other, and
// restarts nodes. A virtual clock runs the events in order.

// modelStream is one stream of the network, seen from outside.
type modelStream struct {
	opener   int         // node 0 or 1
	epoch    [2]int      // life of each node that the stream belongs to
	id       [2]streamID // name at each end; 0: unknown there
	over     [2]bool     // that end has ended
	attached [2]bool     // that end runs it
	ready    [2]float64  // arrival of the last message at that end: messages of a stream keep their order
	frame    stamp       // the opener's
	broken   bool
}

type modelNode struct {
	d      *dedup
	id     peer.ID
	epoch  int
	boot   uint64
	number uint64
	byID   map[streamID]*modelStream
}

type model struct {
	rng    *rand.Rand
	now    float64
	queue  []modelEvent
	nodes  [2]*modelNode
	all    []*modelStream
	faults bool
	steps  int
}

type modelEvent struct {
	at float64
	do func()
}

func newModel(seed uint64) *model {
	m := &model{rng: rand.New(rand.NewPCG(seed, 1)), faults: true}
	for i := range m.nodes {
		n := &modelNode{id: peer.ID([]string{"A", "B"}[i])}
		m.nodes[i] = n
		m.boot(i)
	}
	return m
}

func (m *model) boot(i int) {
	n := m.nodes[i]
	n.epoch++
	n.boot++
	n.number = 0
	n.d = newDedup(n.id)
	n.byID = make(map[streamID]*modelStream)
}

// after runs do at a random time up to max from now, in the life of node i that is running.
func (m *model) after(i int, max float64, do func()) { m.at(i, m.now+m.rng.Float64()*max, do) }

func (m *model) at(i int, t float64, do func()) {
	epoch := m.nodes[i].epoch
	m.queue = append(m.queue, modelEvent{at: t, do: func() {
		if m.nodes[i].epoch == epoch {
			do()
		}
	}})
}

// step runs the earliest event and tells whether there was one.
func (m *model) step() bool {
	if len(m.queue) == 0 {
		return false
	}
	first := 0
	for i, e := range m.queue {
		if e.at < m.queue[first].at {
			first = i
		}
	}
	e := m.queue[first]
	m.queue = append(m.queue[:first], m.queue[first+1:]...)
	m.now = e.at
	m.steps++
	e.do()
	return true
}

// want is the policy of both nodes: whoever holds no stream opens one, some time later.
func (m *model) want(i int) {
	m.after(i, 3, func() {
		n := m.nodes[i]
		n.d.wanted(m.nodes[1-i].id)
		m.carryOut(i)
	})
}

func (m *model) stamp(i int) stamp {
	n := m.nodes[i]
	n.number++
	return stamp{n.boot, n.number}
}

func (m *model) carryOut(i int) {
	n := m.nodes[i]
	for _, dec := range n.d.take() {
		switch dec.do {
		case doOpen:
			m.open(i, dec.stream)
		case doAttach:
			s := n.byID[dec.stream]
			if s.over[i] {
				continue // the end is on its way
			}
			s.attached[i] = true
			if s.opener != i {
				frame := m.stamp(i)
				m.send(s, i, func() {
					m.nodes[1-i].d.answered(n.id, s.id[1-i], frame, false)
					m.carryOut(1 - i)
				})
			}
		case doReset:
			s := n.byID[dec.stream]
			m.end(s, i, 0.3)
			m.send(s, i, func() { m.end(s, 1-i, 0.3) })
		}
	}
}

func (m *model) open(i int, id streamID) {
	n := m.nodes[i]
	s := &modelStream{opener: i, frame: m.stamp(i)}
	s.epoch[i] = n.epoch
	s.epoch[1-i] = m.nodes[1-i].epoch
	s.id[i] = id
	n.byID[id] = s
	m.all = append(m.all, s)
	// The opener's deadline for the answer.
	m.at(i, m.now+20, func() {
		if !s.attached[i] {
			m.end(s, i, 0.1)
			m.send(s, i, func() { m.end(s, 1-i, 0.3) })
		}
	})
	m.send(s, i, func() {
		if s.over[1-i] {
			return
		}
		remote := m.nodes[1-i]
		s.id[1-i] = remote.d.incoming(n.id, s.frame, false)
		remote.byID[s.id[1-i]] = s
		m.carryOut(1 - i)
	})
	if m.faults && m.rng.IntN(2) == 0 {
		m.after(i, 12, func() { m.breakStream(s) })
	}
}

// send delivers do at the other end than i, after everything sent before on s.
func (m *model) send(s *modelStream, i int, do func()) {
	to := 1 - i
	t := max(m.now+m.rng.Float64(), s.ready[to])
	s.ready[to] = t
	m.queue = append(m.queue, modelEvent{at: t, do: func() {
		if !s.broken && m.nodes[to].epoch == s.epoch[to] {
			do()
		}
	}})
}

// breakStream loses what is under way; the two ends notice at different times.
func (m *model) breakStream(s *modelStream) {
	if s.broken {
		return
	}
	s.broken = true
	for i := range m.nodes {
		if m.nodes[i].epoch == s.epoch[i] {
			m.after(i, 15, func() { m.end(s, i, 0.1) })
		}
	}
}

// end makes end i of s end within the delay. The stream's goroutine there reports it to the machine.
func (m *model) end(s *modelStream, i int, delay float64) {
	if s.over[i] {
		return
	}
	s.over[i] = true
	if s.id[i] == 0 {
		return // its opening frame never arrived
	}
	m.after(i, delay, func() {
		s.attached[i] = false
		m.nodes[i].d.ended(m.nodes[1-i].id, s.id[i])
		m.carryOut(i)
		if !m.nodes[i].d.holds(m.nodes[1-i].id) {
			m.want(i)
		}
		// A stream that ends here without a reset still ends there.
		m.send(s, i, func() { m.end(s, 1-i, 0.3) })
	})
}

func (m *model) restart(i int) {
	for _, s := range m.all {
		if s.epoch[i] == m.nodes[i].epoch && !s.broken {
			s.broken = true
			if m.nodes[1-i].epoch == s.epoch[1-i] {
				m.after(1-i, 15, func() { m.end(s, 1-i, 0.1) })
			}
		}
	}
	m.boot(i)
	m.want(i)
}

// live returns the streams that run at end i.
func (m *model) live(i int) (live []*modelStream) {
	for _, s := range m.all {
		if s.epoch[i] == m.nodes[i].epoch && s.attached[i] {
			live = append(live, s)
		}
	}
	return live
}

func TestDedupEndsWithOneStreamTheSameAtBothEnds(t *testing.T) {
	t.Parallel()
	runs := uint64(20000)
	if testing.Short() {
		runs = 2000
	}
	for seed := range runs {
		if err := runModel(seed); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

func runModel(seed uint64) error {
	m := newModel(seed)
	m.want(0)
	m.want(1)
	for range m.rng.IntN(4) {
		i := m.rng.IntN(2)
		m.queue = append(m.queue, modelEvent{at: m.rng.Float64() * 40, do: func() { m.restart(i) }})
	}
	m.queue = append(m.queue, modelEvent{at: 60, do: func() { m.faults = false }})
	for m.step() {
		for i := range m.nodes {
			if n := len(m.live(i)); n > 1 {
				return fmt.Errorf("at %.2f node %d runs %d streams", m.now, i, n)
			}
		}
		if m.steps > 20000 {
			return fmt.Errorf("no end: livelock")
		}
	}
	a, b := m.live(0), m.live(1)
	if len(a) != 1 || len(b) != 1 {
		return fmt.Errorf("at the end the nodes run %d and %d streams, want 1 and 1", len(a), len(b))
	}
	if a[0] != b[0] {
		return fmt.Errorf("at the end the nodes run different streams")
	}
	for i, n := range m.nodes {
		pr := n.d.pairs[m.nodes[1-i].id]
		if pr == nil || pr.held == nil || pr.reserve != nil || len(pr.losers) != 0 {
			return fmt.Errorf("at the end node %d has the state %+v", i, pr)
		}
	}
	return nil
}

// TestDedupNeedsNoRetry: without faults two nodes that want each other open at most one stream each, and the
// smaller one's survives if the two crossed.
func TestDedupNeedsNoRetry(t *testing.T) {
	t.Parallel()
	for seed := range uint64(5000) {
		m := newModel(seed)
		m.faults = false
		m.want(0)
		m.want(1)
		for m.step() {
			if m.now > 15 {
				break // before the opener's deadline
			}
		}
		a, b := m.live(0), m.live(1)
		if len(m.all) > 2 || len(a) != 1 || len(b) != 1 || a[0] != b[0] {
			t.Fatalf("seed %d: %d streams opened, %d and %d run, want at most 2 and one that is the same", seed, len(m.all), len(a), len(b))
		}
		if len(m.all) == 2 && a[0].opener != 0 {
			t.Fatalf("seed %d: the streams crossed and the larger node's stayed", seed)
		}
	}
}
