package shrink

import (
	"maps"
	"math/rand/v2"
	"runtime"
	"testing"
)

// TestDeleteAgreesWithAMap compares random insertions and deletions with those of a map that is not made anew.
func TestDeleteAgreesWithAMap(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var m map[int]int
	gone, made := 0, 0
	Delete(&m, 1, &gone)
	if m != nil || gone != 0 {
		t.Error("deleting from no map made one")
	}
	m = make(map[int]int)
	model := make(map[int]int)
	for i := range 100_000 {
		key := r.IntN(1 + 5000*(i/10_000%2)) // grows and shrinks in turns
		if r.IntN(3) > i/10_000%2 {
			before := gone
			Delete(&m, key, &gone)
			delete(model, key)
			if gone < before {
				made++
			}
		} else {
			m[key], model[key] = i, i
		}
		if i%1000 == 0 && !maps.Equal(m, model) {
			t.Fatalf("after %d steps the maps differ", i)
		}
	}
	for key := range 5000 {
		Delete(&m, key, &gone)
		delete(model, key)
	}
	if !maps.Equal(m, model) || made == 0 {
		t.Errorf("%d and %d keys are left; made anew %d times", len(m), len(model), made)
	}
}

// TestDeleteGivesMemoryBack holds the room of a map that was large once against one that was not.
func TestDeleteGivesMemoryBack(t *testing.T) {
	const n = 100_000
	heap := func() int64 {
		var s runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&s)
		return int64(s.HeapAlloc)
	}
	before := heap()
	m := make(map[[32]byte]int)
	for i := range n {
		m[[32]byte{byte(i), byte(i >> 8), byte(i >> 16)}] = i
	}
	if full := heap() - before; full < n*32 {
		t.Fatalf("%d entries take %d bytes: the test measures nothing", n, full)
	}
	gone := 0
	for i := range n {
		Delete(&m, [32]byte{byte(i), byte(i >> 8), byte(i >> 16)}, &gone)
	}
	if left := heap() - before; left > 64<<10 {
		t.Errorf("an empty map keeps %d bytes", left)
	}
	runtime.KeepAlive(m)
}
