package lifecycle

import (
	"runtime"
	"testing"
	"time"
	"weak"
)

// TestStoppedAlarmKeepsNothing: the runtime keeps a few timers that were stopped among many that were not.
func TestStoppedAlarmKeepsNothing(t *testing.T) {
	const others = 100 // of which the one that was stopped is less than a quarter
	var g Group
	defer g.Close()
	for range others {
		AfterFunc(&g, time.Hour, func() {})
	}
	for name, end := range map[string]func(g *Group, stop func() bool){
		"stopped": func(_ *Group, stop func() bool) { stop() },
		"closed":  func(g *Group, _ func() bool) { g.Close() },
	} {
		type owner struct {
			group  Group
			memory [1 << 10]byte
		}
		o := new(owner)
		held := weak.Make(o)
		end(&o.group, AfterFunc(&o.group, time.Hour, func() { o.memory[0]++ }))
		o = nil
		runtime.GC()
		if held.Value() != nil {
			t.Errorf("%s: what the alarm would have used is still held", name)
		}
	}
}
