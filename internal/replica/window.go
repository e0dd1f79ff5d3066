package replica

import "time"

// pace decides how many bytes of blocks are in flight from one peer: as many as it can send in one and a half
// times the time that an answer takes without a queue, and queueTime more. That keeps a long link full, and asks a
// slow peer for no more than it brings soon.
//
// The answers themselves are the measure. With a window of w bytes that is used up, an answer takes
// w ÷ the peer's speed, or the time of the way there and back if that is longer. So the window that makes an
// answer take the time that is aimed at is found by proportion, in one step once a queue has formed, and by
// doubling before. One step is a round: from one request to the answer of the next.
//
//	      delay of an answer
//	aim ┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄╱┄┄   window ← window × aim ÷ delay, between half and double
//	                        ╱
//	best ─────────────────╱          best: what is seen while there is no queue
//	                   window
//
// Best goes up by measuring alone: when no answer has been about as fast for bestAge, the window is made the
// smallest for one round, so that queues run empty.
type pace struct {
	window int // bytes

	usual  time.Duration // mean time of an answer, from the sending of its request
	best   time.Duration // the shortest
	bestAt time.Time     // when an answer was last about as fast

	answered uint64        // sequence of the last request that was answered
	busy     time.Duration // it took for the last answers, without the way there and back
	answers  int           // their number

	// Of this round.
	count  int           // its answers
	start  uint64        // sequence of the last request sent before it
	least  time.Duration // of its answers
	full   bool          // the window was used up
	resume int           // the window from before the probe; 0: this round is none
}

// answerCost is counted for each answer on top of the bytes of its block.
const answerCost = 64

// window is the number of requests that may be in flight to p.
func (m *Machine) window(p *peer) int {
	size := m.usualSize(p)
	share := max(m.limits.TotalInflightBytes/max(1, len(m.order)), startWindow)
	n := min(p.pace.window, share, m.limits.InflightBytes) / (size + answerCost)
	return min(max(n, smallestWindow(size)), p.limit)
}

// usualSize estimates the bytes of a block that p will send.
func (m *Machine) usualSize(p *peer) int {
	if p.meanSize > 0 {
		return p.meanSize
	}
	if m.info.Length > 0 {
		return int(m.info.ByteLength / m.info.Length)
	}
	return 0
}

// smallestWindow is the least number of requests, for blocks of that many bytes.
func smallestWindow(size int) int {
	return max(minWindow, min(minRequests, startWindow/(size+answerCost)))
}

// measure notes how long the answer to r has taken, and ends the round if r was sent in it.
func (m *Machine) measure(p *peer, r *request) {
	c := &p.pace
	d := m.now.Sub(r.sentAt)
	if c.bestAt.IsZero() {
		c.usual = d
	}
	c.usual += (d - c.usual) / 8
	if c.count == 0 || d < c.least {
		c.least = d
	}
	c.count++
	c.answered = max(c.answered, r.sequence)
	if r.sentAt.Before(p.progress) {
		c.busy += m.now.Sub(p.progress)
	} else {
		c.busy += d - min(c.best, maxWay)
	}
	if c.answers++; c.answers >= 2*fewAnswers {
		c.busy, c.answers = c.busy/2, c.answers/2
	}
	if c.bestAt.IsZero() || d < c.best {
		c.best = d
	}
	if d <= c.unqueued() || c.bestAt.IsZero() {
		c.bestAt = m.now
	}
	if r.sequence <= c.start {
		return
	}
	m.endRound(p)
	c.start, c.count, c.full = p.sequence, 0, false
}

// unqueued is how long an answer may take that has met no queue, if the best has met none.
func (c *pace) unqueued() time.Duration { return c.best + c.best/8 + time.Millisecond }

// queued reports whether the answers of this round show where the window has to go: a queue has formed, or may
// have been there from the beginning.
func (c *pace) queued(aim time.Duration) bool {
	return c.least > aim || c.full && c.least > aim/2 && (c.least > c.unqueued() || c.least > longestWay)
}

// each is the time that p works for an answer when it has much to do; 0 if that is not known.
func (c *pace) each() time.Duration {
	if c.answers < fewAnswers/8 {
		return 0
	}
	return c.busy / time.Duration(c.answers)
}

func (m *Machine) endRound(p *peer) {
	c := &p.pace
	if c.resume > 0 {
		c.best, c.bestAt = c.least, m.now
		c.window, c.resume = c.resume, 0
		return
	}
	aim := c.best + c.best/2 + queueTime
	switch {
	case m.now.Sub(c.bestAt) >= bestAge:
		c.resume, c.window = c.window, 0
	case c.least > 2*aim:
		c.window /= 2
	case c.queued(aim):
		c.window = int(float64(c.window) * float64(aim) / float64(c.least))
	case c.full:
		c.window *= 2
	}
	if c.resume == 0 {
		size := m.usualSize(p) + answerCost
		c.window = min(max(c.window, smallestWindow(size-answerCost)*size), m.limits.InflightBytes)
	}
}
