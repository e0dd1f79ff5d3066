package feed

import "context"

// DiskUsage is how many bytes of keys and values are stored of a feed, before the datastore compresses
// them or keeps old versions.
type DiskUsage struct {
	Blocks uint64 // of the feed, its branches, and what snapshots keep
	Tree   uint64 // nodes
	State  uint64 // identity, heads, bits, branches, marks
	User   uint64 // user data
}

// Total returns the sum.
func (u DiskUsage) Total() uint64 { return u.Blocks + u.Tree + u.State + u.User }

// DiskUsage sums up what is stored of the feed, by kind. It reads every key.
func (f *Feed) DiskUsage(ctx context.Context) (DiskUsage, error) {
	_, leave, ok := f.ops.Enter()
	defer leave()
	if !ok {
		return DiskUsage{}, ErrClosed
	}
	var u DiskUsage
	err := f.storage.query(ctx, true, func(key string, _ []byte, size int) error {
		n := uint64(len(key) + size)
		switch f.storage.kindOf(key) {
		case 'b':
			u.Blocks += n
		case 'n':
			u.Tree += n
		case 'u':
			u.User += n
		default:
			u.State += n
		}
		return nil
	})
	return u, err
}

// DiskBytes is the total of DiskUsage.
func (f *Feed) DiskBytes(ctx context.Context) (uint64, error) {
	u, err := f.DiskUsage(ctx)
	return u.Total(), err
}
