package api

import "time"

// meter tells how fast a feed arrives, and when nothing does.
type meter struct {
	reach *reach
	base  uint64 // bytes received before

	samples []sample // of the last rateWindow, oldest first

	done   uint64    // at the last progress
	since  time.Time // of the last progress
	early  bool      // the early notice is given since then
	reason string    // of the last notice
	told   time.Time // time of the last notice
}

type sample struct {
	at    time.Time
	bytes uint64
}

func newMeter(r *reach) *meter {
	m := &meter{reach: r, since: time.Now()}
	m.base = m.received()
	m.samples = []sample{{m.since, 0}}
	return m
}

// received is the bytes of blocks that peers have sent for this feed.
func (m *meter) received() uint64 { return m.reach.n.FeedStats(m.reach.key).BytesReceived }

// measure returns the bytes received since the meter was made, the rate per second, and how many peers share the
// feed.
func (m *meter) measure() (bytes uint64, rate float64, peers int) {
	now := time.Now()
	if r := m.received(); r >= m.base {
		bytes = r - m.base
	}
	m.samples = append(m.samples, sample{now, bytes})
	for len(m.samples) > 2 && now.Sub(m.samples[1].at) >= rateWindow {
		m.samples = m.samples[1:]
	}
	oldest := m.samples[0]
	if d := now.Sub(oldest.at).Seconds(); d > 0 && bytes > oldest.bytes {
		rate = float64(bytes-oldest.bytes) / d
	}
	return bytes, rate, len(m.reach.n.FeedPeers(m.reach.key))
}

// waiting returns a notice when there has been no progress for a while, and the last notice is old or named
// another reason.
func (m *meter) waiting(done uint64) (Event, bool) {
	now := time.Now()
	if done != m.done {
		m.done, m.since, m.reason, m.early = done, now, "", false
		return Event{}, false
	}
	quiet := now.Sub(m.since)
	if quiet < waitingEarly || quiet < waitingAfter && m.early {
		return Event{}, false
	}
	reason, message := m.reach.missing()
	if quiet < waitingAfter {
		m.early = true
		return Event{Event: "waiting", Reason: reason, Message: message, Early: true}, true
	}
	if reason == m.reason && now.Sub(m.told) < waitingInterval {
		return Event{}, false
	}
	m.reason, m.told = reason, now
	return Event{Event: "waiting", Reason: reason, Message: message}, true
}
