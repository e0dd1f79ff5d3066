package node

import (
	"bytes"
	"cmp"

	"github.com/libp2p/go-libp2p/core/peer"
)

// This file is the rule by which two nodes that are told of each other end with exactly one replication
// stream, the same at both ends, whatever connections there are between them (two libp2p hosts that
// dial each other at once keep both connections). It is a machine: events in, decisions out, no
// clock, no socket. The reasons for the rule stand at each case.

// stamp orders the opening frames of one node: they only grow. Boot is the Unix time in milliseconds at
// which the node started, number counts its opening frames since then.
type stamp struct{ boot, number uint64 }

func (s stamp) less(o stamp) bool {
	return cmp.Or(cmp.Compare(s.boot, o.boot), cmp.Compare(s.number, o.number)) < 0
}

// streamID names a stream within this node.
type streamID uint64

// verb is what the driver is told to do with a stream.
type verb int

const (
	// doOpen: open a stream and send our opening frame; then report answered or ended.
	doOpen verb = iota + 1
	// doAttach: the stream is the one. Answer it if the remote opened it, and run it; then report ended.
	doAttach
	// doReset: the stream lost: reset it with StreamSupplanted; then report ended.
	doReset
)

// decision is one order to the driver, to be carried out in sequence.
type decision struct {
	do     verb
	stream streamID
}

// candidate is a stream that has not ended.
type candidate struct {
	id       streamID
	outbound bool
	// heard: the remote's opening frame on this stream has arrived, theirs is its stamp. Always so for an
	// inbound stream, which begins with that frame.
	heard    bool
	theirs   stamp
	noise    bool // the stream is of ProtocolNoise, whose peers have no stamps; known once heard
	attached bool
}

// pair is what we know of our streams with one remote.
type pair struct {
	// held is the stream that is live or expected to be; nil when there is none. One of ours whose answer is
	// awaited counts.
	held *candidate
	// reserve is an inbound stream that crossed our unanswered one and lost to it: it is kept unanswered and is
	// taken if ours fails. Not nil only while held is ours and not heard.
	reserve *candidate
	// losers have been reset and have not ended. Held is attached when there are none, so that two streams
	// never serve one peer at once.
	losers map[streamID]struct{}
}

// dedup holds the pairs of one node. It is not safe for concurrent use.
type dedup struct {
	self  peer.ID
	pairs map[peer.ID]*pair
	last  streamID
	out   []decision
}

func newDedup(self peer.ID) *dedup {
	return &dedup{self: self, pairs: make(map[peer.ID]*pair)}
}

// take returns the decisions since the last call.
func (d *dedup) take() []decision {
	out := d.out
	d.out = nil
	return out
}

// nextID returns a new name for a stream.
func (d *dedup) nextID() streamID {
	d.last++
	return d.last
}

// holds tells whether there is a stream with p that is live or awaited.
func (d *dedup) holds(p peer.ID) bool {
	pr := d.pairs[p]
	return pr != nil && pr.held != nil
}

// wanted: somebody here wants p. A stream is opened unless one is held, and at once: there is no grace
// period in which the remote might come first.
func (d *dedup) wanted(p peer.ID) {
	if d.holds(p) {
		return
	}
	pr := d.pair(p)
	pr.held = &candidate{id: d.nextID(), outbound: true}
	d.decide(doOpen, pr.held)
}

// incoming: the opening frame of a stream that p opened has arrived, or the first one of a handshake, which has no
// stamp. The result names the stream.
func (d *dedup) incoming(p peer.ID, theirs stamp, noise bool) streamID {
	s := &candidate{id: d.nextID(), heard: true, theirs: theirs, noise: noise}
	pr := d.pair(p)
	c := pr.held
	switch {
	case c == nil:
		pr.held = s
		d.attach(pr)
	case c.heard:
		// The remote has spoken on c and now opens another stream: it lost c or restarted, and then s has the
		// greater stamp; or s was delayed, and then c has it.
		d.keepBetter(p, pr, &pr.held, s)
	case d.smaller(p):
		// Ours is unanswered, the two crossed, and the remote is the smaller: its stream stays, and it decides the
		// same. What it may have in reserve is c, which ends here.
		d.lose(pr, c)
		pr.held = s
		d.attach(pr)
	case pr.reserve == nil:
		// Crossed, and we are the smaller: c stays, if it is ever answered.
		pr.reserve = s
	default:
		d.keepBetter(p, pr, &pr.reserve, s)
	}
	return s.id
}

// smaller tells whether p's ID is smaller than ours. Of streams that cross, the smaller peer's stays.
func (d *dedup) smaller(p peer.ID) bool { return bytes.Compare([]byte(p), []byte(d.self)) < 0 }

// beats tells whether s, which p has just opened, takes the place of c, which has been heard. JavaScript peers keep
// whatever streams they are given, so where they are concerned any rule does that we alone keep.
func (d *dedup) beats(p peer.ID, s, c *candidate) bool {
	switch {
	case s.noise != c.noise:
		return c.noise
	case !s.noise:
		return c.theirs.less(s.theirs)
	case c.outbound:
		return d.smaller(p)
	}
	return true // of two by the same opener the newer
}

// keepBetter leaves in *place the one of *place and s that stays.
func (d *dedup) keepBetter(p peer.ID, pr *pair, place **candidate, s *candidate) {
	if !d.beats(p, s, *place) {
		d.lose(pr, s)
		return
	}
	d.lose(pr, *place)
	*place = s
	d.attach(pr)
}

// answered: the remote's opening frame on a stream that we opened has arrived, or the handshake is done.
func (d *dedup) answered(p peer.ID, id streamID, theirs stamp, noise bool) {
	pr := d.pairs[p]
	if pr == nil || pr.held == nil || pr.held.id != id || pr.held.heard {
		return // lost meanwhile
	}
	pr.held.heard, pr.held.theirs, pr.held.noise = true, theirs, noise
	if r := pr.reserve; r != nil {
		if noise && !r.noise {
			pr.held, r = r, pr.held
		}
		d.lose(pr, r)
		pr.reserve = nil
	}
	d.attach(pr)
}

// ended: nothing of the stream runs any more, for whatever reason.
func (d *dedup) ended(p peer.ID, id streamID) {
	pr := d.pairs[p]
	if pr == nil {
		return
	}
	switch {
	case pr.held != nil && pr.held.id == id:
		pr.held, pr.reserve = pr.reserve, nil
	case pr.reserve != nil && pr.reserve.id == id:
		pr.reserve = nil
	default:
		delete(pr.losers, id)
	}
	d.attach(pr)
	if pr.held == nil && len(pr.losers) == 0 {
		delete(d.pairs, p)
	}
}

// attach lets the held stream run once it is decided for and no loser is left.
func (d *dedup) attach(pr *pair) {
	c := pr.held
	if c == nil || !c.heard || c.attached || len(pr.losers) > 0 {
		return
	}
	c.attached = true
	d.decide(doAttach, c)
}

func (d *dedup) lose(pr *pair, c *candidate) {
	pr.losers[c.id] = struct{}{}
	d.decide(doReset, c)
}

func (d *dedup) decide(v verb, c *candidate) {
	d.out = append(d.out, decision{do: v, stream: c.id})
}

func (d *dedup) pair(p peer.ID) *pair {
	pr := d.pairs[p]
	if pr == nil {
		pr = &pair{losers: make(map[streamID]struct{})}
		d.pairs[p] = pr
	}
	return pr
}
