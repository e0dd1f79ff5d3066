package replica

import (
	"testing"
	"time"
)

// pacer is a machine with one peer behind a link of which only the figures are simulated.
type pacer struct {
	m   *Machine
	p   *peer
	now time.Time
}

func newPacer(size int) *pacer {
	m := &Machine{limits: Limits{}.withDefaults()}
	p := &peer{limit: MaxWindow, meanSize: size, pace: pace{window: startWindow}}
	m.order = []*peer{p}
	return &pacer{m, p, time.Unix(1, 0)}
}

// run answers requests for so long, over a link with a round-trip time and a speed in bytes per second. The
// window is used up all the time: an answer takes the round trip, or longer if a queue forms.
func (c *pacer) run(d, roundTrip time.Duration, speed int) {
	for end := c.now.Add(d); c.now.Before(end); {
		window := c.m.window(c.p)
		first := c.p.sequence
		c.p.sequence += uint64(window)
		delay := max(roundTrip, time.Duration(window*(c.p.meanSize+answerCost))*time.Second/time.Duration(speed))
		sent := c.now
		c.now = c.now.Add(delay)
		c.m.now = c.now
		c.p.pace.full = true
		c.m.measure(c.p, &request{sequence: first + 1, sentAt: sent})
	}
}

// bytes is the window, not that of a probe.
func (c *pacer) bytes() int {
	for c.p.pace.resume > 0 {
		c.run(1, time.Millisecond, 1<<30)
	}
	return c.m.window(c.p) * (c.p.meanSize + answerCost)
}

func TestWindowFollowsBandwidthAndDelay(t *testing.T) {
	for _, c := range []struct {
		name        string
		size        int
		roundTrip   time.Duration
		speed       int
		least, most int // bytes
	}{
		{"far", 1 << 10, 100 * time.Millisecond, 12_500_000, 1_250_000, 4 << 20},
		{"far, large blocks", 64 << 10, 100 * time.Millisecond, 12_500_000, 1_250_000, 4 << 20},
		{"near", 1 << 10, time.Millisecond, 12_500_000, 12_500, 400_000},
		{"near and fast", 1 << 10, 100 * time.Microsecond, 200_000_000, 1 << 20, 4 << 20},
		{"slow", 1 << 10, 50 * time.Millisecond, 50_000, 2_500, 85_000},
		{"slow, large blocks", 64 << 10, 50 * time.Millisecond, 50_000, 100_000, 200_000},
		{"farther than the window allows", 1 << 10, time.Second, 100_000_000, 4_000_000, 5 << 20},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newPacer(c.size)
			for range 5 { // and it stays there
				l.run(20*time.Second, c.roundTrip, c.speed)
				if got := l.bytes(); got < c.least || got > c.most {
					t.Errorf("window of %d bytes, want %d to %d", got, c.least, c.most)
				}
			}
		})
	}
}

// While no queue has formed, each round doubles the window: a far peer is kept busy after few of them.
func TestWindowDoublesUntilAQueueForms(t *testing.T) {
	const roundTrip, speed = 100 * time.Millisecond, 12_500_000
	for _, size := range []int{1 << 10, 64 << 10} {
		l := newPacer(size)
		l.run(4*roundTrip, roundTrip, speed) // 128 KiB, 256, 512, 1024
		if got := l.bytes(); got < speed/10 {
			t.Errorf("blocks of %d: window of %d bytes after four round trips, want %d", size, got, speed/10)
		}
	}
}

// A connection may move to a longer way, and back.
func TestWindowFollowsAChangeOfTheLink(t *testing.T) {
	const speed = 12_500_000
	l := newPacer(1 << 10)
	l.run(10*time.Second, time.Millisecond, speed)
	near := l.bytes()
	l.run(15*time.Second, 100*time.Millisecond, speed)
	if got := l.bytes(); got < speed/10 {
		t.Errorf("after the way became long the window has %d bytes, too few for the link", got)
	}
	l.run(15*time.Second, time.Millisecond, speed)
	if got := l.bytes(); got > 2*near {
		t.Errorf("after the way became short again the window has %d bytes, before it had %d", got, near)
	}
}

// Many peers share what is in flight.
func TestManyPeersShareWhatIsInFlight(t *testing.T) {
	l := newPacer(1 << 10)
	l.run(10*time.Second, 100*time.Millisecond, 100_000_000)
	for range 127 {
		l.m.order = append(l.m.order, &peer{})
	}
	if got, most := l.bytes(), l.m.limits.TotalInflightBytes/128; got > most {
		t.Errorf("window of %d bytes, of 128 peers', want at most %d", got, most)
	}
}
