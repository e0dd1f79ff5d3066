package feed

// Snapshot opens a read-only session of the feed, or branch, as it is now. Whatever happens to the feed,
// the snapshot keeps its head, and all blocks that are stored now stay readable in it; blocks that come
// into the feed later are too, as long as the feed has not been truncated below them. Its Update is
// always false, its Append ErrNotWritable.
//
// Reading a block that is not stored and cannot come any more, since the feed was truncated below it,
// or past the snapshot's length, is ErrSnapshotNotAvailable. While a snapshot is open nothing that it
// reads is deleted, so what is truncated or cleared meanwhile takes space until it is closed. Taking it
// reads and writes nothing.
//
// The session has the encryption, timeout and locality of s. The error is ErrClosed. A snapshot of an
// atom's session is not possible: ErrNotWritable.
func (s *Session) Snapshot() (*Session, error) {
	if s.Closed() {
		return nil, ErrClosed
	}
	f := s.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, ErrClosed
	}
	l := &line{frozen: true, tree: f.tree, head: f.head, shared: f.head.length}
	if from := s.line; from != nil {
		if from.mem != nil {
			return nil, ErrNotWritable
		}
		l.tree, l.head, l.shared, l.bits = from.tree, from.head, from.shared, *from.bits.Clone()
	}
	options := s.options
	options.OnClose = nil // which tells the end of s, once
	return f.sessionLocked(l, options), nil
}
