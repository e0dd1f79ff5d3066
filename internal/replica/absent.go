package replica

import "github.com/p2pcore/p2pcore/internal/merkle"

// Absent returns the first run of blocks in r that neither we nor any peer is known to hold; an empty range if
// there is none, or if finding it takes more than maxAbsentSteps runs.
func (m *Machine) Absent(r merkle.Range) merkle.Range {
	start := r.Start
	for range maxAbsentSteps {
		next := m.heldUntil(start)
		if next == start {
			return merkle.Range{Start: start, End: m.firstHeld(start, r.End)}
		}
		if start = next; start >= r.End {
			break
		}
	}
	return merkle.Range{}
}

// heldUntil returns the end of a run of blocks from start on that one of us holds; start if nobody holds that.
func (m *Machine) heldUntil(start uint64) uint64 {
	end := max(start, m.contig, m.have.FirstUnset(start))
	for _, p := range m.order {
		end = max(end, p.known.end(start))
	}
	return end
}

// firstHeld returns the first block in [start, end) that one of us holds, or end.
func (m *Machine) firstHeld(start, end uint64) uint64 {
	if i, ok := m.have.FirstSet(start); ok {
		end = min(end, i)
	}
	for _, p := range m.order {
		if i, ok := p.known.first(start, end); ok {
			end = i
		}
	}
	return end
}
