package protocol

import (
	"sync/atomic"

	"github.com/p2pcore/p2pcore/internal/wire"
)

// load is what a message that is not worked off costs the link that it came on.
type load struct {
	bytes int
	frame *sharedFrame // that the message keeps in memory; nil if it is copied, or keeps nothing
}

// sharedFrame is a frame of which messages of one link keep parts, and so the whole. The link is charged with its size
// as long as one of them does: a small message may lie in a frame of junk.
type sharedFrame struct {
	bytes int          // set when made
	users atomic.Int64 // messages
}

// incoming is the frame that the reader takes apart.
type incoming struct {
	bytes int

	// The last link that it has brought something for.
	link   *link
	shared *sharedFrame
}

// sharedBy is the frame as messages of l share it.
func (f *incoming) sharedBy(l *link) *sharedFrame {
	if f.link != l {
		f.link, f.shared = l, &sharedFrame{bytes: f.bytes}
	}
	return f.shared
}

// inbox is what one remote has unprocessed in one exchange. It belongs to the link and not to the channel, or a remote
// that closes its channel and opens it again would begin anew.
type inbox struct {
	queued  atomic.Int64  // bytes
	drained chan struct{} // capacity 1: queued has fallen
}

// charge counts a message with a payload of so many bytes. Frame is what the payload lies in, nil if that is its own.
func (in *inbox) charge(typ uint64, payload int, frame *sharedFrame) load {
	l := load{bytes: payload + messageCost}
	if frame != nil && (typ == wire.TypeData || typ == wire.TypeExtension) { // parsed, others do not refer to it
		l = load{messageCost, frame}
		if frame.users.Add(1) == 1 {
			in.queued.Add(int64(frame.bytes))
		}
	}
	in.queued.Add(int64(l.bytes))
	return l
}

// release takes back what a message has cost. That of none is nothing.
func (in *inbox) release(l load) {
	n := l.bytes
	if l.frame != nil && l.frame.users.Add(-1) == 0 {
		n += l.frame.bytes
	}
	if n > 0 {
		in.queued.Add(-int64(n))
		signal(in.drained)
	}
}
