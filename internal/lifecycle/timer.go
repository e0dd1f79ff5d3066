package lifecycle

import (
	"sync/atomic"
	"time"

	"github.com/p2pcore/p2pcore/internal/shrink"
)

// AfterFunc runs fn in a goroutine of g after d, unless stop is called or g
// begins to close before. stop returns true if it has prevented fn; false means
// that fn was started, was prevented by the group's end, or was stopped
// already. It does not wait for fn.
func AfterFunc(g *Group, d time.Duration, fn func()) (stop func() bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closing || g.context().Err() != nil {
		return func() bool { return false }
	}
	a := new(alarm)
	a.set.Store(&setting{group: g, fn: fn})
	// The callback takes mu first, so it finds the alarm registered.
	a.timer = time.AfterFunc(d, a.goOff)
	if g.alarms == nil {
		g.alarms = make(map[*alarm]struct{})
	}
	g.alarms[a] = struct{}{}
	return func() bool { return g.disarm(a) }
}

// An alarm is a pending timer of a group.
//
// The runtime keeps a timer that was stopped, until its time comes or a quarter of all timers are such. What the alarm leads to
// is therefore dropped when it is stopped: the group is often a part of all that it serves.
type alarm struct {
	timer *time.Timer             // under mu of the group
	set   atomic.Pointer[setting] // nil once it was stopped
}

// setting is what an alarm is for.
type setting struct {
	group *Group
	fn    func()
}

// goOff is called by the runtime.
func (a *alarm) goOff() {
	s := a.set.Load()
	if s != nil && s.group.fired(a) {
		defer s.group.end()
		s.fn()
	}
}

// stop stops the alarm's timer. mu of the group is held, and the alarm is taken out of the group.
func (a *alarm) stop() {
	a.timer.Stop()
	a.set.Store(nil)
}

// fired takes an alarm whose time has come out of the group and counts its
// goroutine. It returns false if the alarm was stopped meanwhile.
func (g *Group) fired(a *alarm) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, armed := g.alarms[a]; !armed {
		return false
	}
	shrink.Delete(&g.alarms, a, &g.gone)
	if g.closing || g.context().Err() != nil {
		return false
	}
	g.running++
	return true
}

// disarm takes an alarm out of the group and reports whether it was in it.
func (g *Group) disarm(a *alarm) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, armed := g.alarms[a]; !armed {
		return false
	}
	shrink.Delete(&g.alarms, a, &g.gone)
	a.stop()
	return true
}

// Alarms returns how many timers of AfterFunc are set.
func (g *Group) Alarms() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.alarms)
}
