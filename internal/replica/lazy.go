package replica

import "github.com/p2pcore/p2pcore/internal/merkle"

func (m *Machine) onSetLazy(on bool) {
	m.lazy = on
	m.touchAll()
}

// waitsForHead reports whether somebody waits for what a head of the given length brings.
func (m *Machine) waitsForHead(length uint64) bool {
	if len(m.updates) > 0 {
		return true
	}
	for _, w := range m.seeks {
		if w.span.Len() == 0 {
			return true
		}
	}
	news := merkle.Range{Start: m.info.Length, End: length}
	if b, ok := m.urgent.FirstSet(news.Start); ok && b < news.End {
		return true
	}
	for _, w := range m.wants {
		if w.touches(news) {
			return true
		}
	}
	return false
}

// touches reports whether w, which is not urgent, lacks a block of r, of which none is stored.
func (w *want) touches(r merkle.Range) bool {
	if w.blocks == nil {
		return max(w.low, r.Start) < min(w.end, r.End)
	}
	return w.index.count(r) > 0
}

// mayFork reports whether a fork that is verified and searched may become ours now. Who is lazy decides that by an update:
// until then the blocks of the old fork stay readable.
func (m *Machine) mayFork() bool { return !m.lazy || len(m.updates) > 0 }
