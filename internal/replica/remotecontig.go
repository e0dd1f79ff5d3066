package replica

import "github.com/p2pcore/p2pcore/internal/wire"

// hearContig takes a range that p holds for what some remote holds without a gap from 0, if it begins there and is of our fork,
// as in Hypercore (its remoteContiguousLength): nothing else raises that, and neither a drop, a bitfield nor the end of the
// channel takes it back.
func (m *Machine) hearContig(p *peer, r *wire.Range) {
	if r.Start == 0 && p.fork == m.info.Fork {
		m.remoteContig = max(m.remoteContig, r.Length)
	}
}

// RemoteContiguous returns how many blocks without a gap from 0 some remote has said to hold, on the feed's present fork,
// whether it is still there or not; no more than the feed's length. It falls with a truncation alone: to what is left of
// before, where Hypercore leaves it at the new length if that is longer, which nobody has said to hold.
func (m *Machine) RemoteContiguous() uint64 { return min(m.remoteContig, m.info.Length) }
