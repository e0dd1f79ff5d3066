package feed

import (
	"context"
	"errors"

	"github.com/p2pcore/p2pcore/internal/merkle"
)

// errForked says that the feed has another fork than when the reading of a block began.
var errForked = errors.New("feed: forked")

// fork returns that of a feed that is followed; what is not followed is of one fork only.
func (r *Reader) fork() uint64 {
	if !r.follow {
		return 0
	}
	return r.s.Info().Fork
}

// find is Session.Seek for a byte that is inside the feed. Of a feed that is followed it waits for growth also when
// nobody is asked.
func (r *Reader) find(offset uint64) (index, inside uint64, err error) {
	for {
		if offset == 0 {
			return 0, 0, nil
		}
		index, inside, err = r.s.Seek(r.ctx, offset)
		if !r.mayGrow(err) || offset > merkle.MaxSize {
			return index, inside, err
		}
		if err := r.await(func(i Info) bool { return i.ByteLength >= offset }); err != nil {
			return 0, 0, err
		}
	}
}

// get is Session.Get. Of a feed that is followed it waits for growth also when nobody is asked, and it is
// errForked when the feed has another fork than the given one, at once: the block may never come, and need not.
func (r *Reader) get(index, fork uint64) ([]byte, error) {
	if !r.follow {
		return r.s.Get(r.ctx, index)
	}
	b, err := r.s.GetLocal(r.ctx, index)
	for missing(err) && r.fork() == fork {
		b, err = r.getInFork(index, fork)
		if !r.mayGrow(err) {
			break
		}
		if err := r.await(func(i Info) bool { return i.Length > index || i.Fork != fork }); err != nil {
			return nil, err
		}
	}
	if r.fork() != fork {
		return nil, errForked
	}
	return b, err
}

// getInFork is Session.Get that ends when the feed forks.
func (r *Reader) getInFork(index, fork uint64) ([]byte, error) {
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	sub := r.s.feed.Subscribe()
	defer sub.Close()
	if r.fork() != fork {
		return nil, errForked
	}
	r.s.feed.ops.Go(func(context.Context) {
		for {
			c, err := sub.Next(ctx)
			if err != nil {
				return
			}
			if c.Forked {
				cancel()
			}
		}
	})
	return r.s.Get(ctx, index)
}

// mayGrow reports whether err is the end of a feed that is followed, where nobody but this process lets it grow.
func (r *Reader) mayGrow(err error) bool {
	return r.follow && errors.Is(err, ErrOutOfRange)
}

// await waits until the feed is as ready says, as long as the session waits for a Source.
func (r *Reader) await(ready func(Info) bool) error {
	ctx, done, err := r.s.enter(r.ctx)
	if err != nil {
		return err
	}
	defer done()
	sub := r.s.feed.Subscribe()
	defer sub.Close()
	for !ready(r.s.Info()) {
		if _, err := sub.Next(ctx); err != nil {
			return because(ctx, err)
		}
	}
	return nil
}
