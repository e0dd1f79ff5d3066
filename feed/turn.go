package feed

import (
	"context"
	"fmt"
)

// takeTurn waits for the turn. The caller gives it back with the function returned.
func (f *Feed) takeTurn(ctx context.Context) (giveBack func(), err error) {
	select {
	case f.turn <- struct{}{}:
		return func() { <-f.turn }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// begin enters a call that writes and waits for the turn. The caller gives the turn back, and then leaves. The
// error is ErrClosed, ctx's, or that of a feed which was opened to be read.
func (f *Feed) begin(ctx context.Context) (giveBack, leave func(), err error) {
	if err := f.storage.readOnly; err != nil {
		return nil, nil, err
	}
	return f.enterTurn(ctx)
}

// enterTurn enters a call and waits for the turn.
func (f *Feed) enterTurn(ctx context.Context) (giveBack, leave func(), err error) {
	_, leave, ok := f.ops.Enter()
	if !ok {
		return nil, nil, ErrClosed
	}
	if giveBack, err = f.takeTurn(ctx); err != nil {
		leave()
		return nil, nil, err
	}
	return giveBack, leave, nil
}

// checkSpace refuses to store n more bytes if there is no room for them.
func (f *Feed) checkSpace(n uint64) error {
	if f.space != nil {
		return f.space()
	}
	d, ok := f.storage.ds.(FreeSpacer)
	if !ok {
		return nil
	}
	free, err := d.FreeSpace()
	if err != nil {
		return fmt.Errorf("feed: free space: %w", err)
	}
	if free <= n { // nothing is free when the reserve is touched
		return fmt.Errorf("%w: %d bytes are free beside the reserve", ErrNoSpace, free)
	}
	return nil
}
