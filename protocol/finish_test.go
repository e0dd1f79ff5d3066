package protocol

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/p2pcore/p2pcore/feed"
)

func TestAfterFinishTheRemoteKnowsWhatHasArrived(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 300} {
		synctest.Test(t, func(t *testing.T) {
			blocks := numbered(n, 2000)
			source := writer(t, 1, blocks...)
			copied := reader(t, source)
			served, fetched := exchange(t, source, true), exchange(t, copied, true)
			x, y := newPipe(4 << 10)
			a := NewConn(halfPipe{x}, Config{Initiator: true, Binding: testBinding, Peer: "source"})
			b := NewConn(halfPipe{y}, Config{Binding: testBinding, Peer: "reader"})
			for c, e := range map[*Conn]*Exchange{a: fetched, b: served} {
				if err := c.Attach(e); err != nil {
					t.Fatal(err)
				}
			}
			run := newRunner(t)
			ended := run.run(a)
			run.run(b)
			if err := fetched.Fetch(context.Background(), feed.Want{Range: feed.Range{End: uint64(n)}}); err != nil {
				t.Fatal(err)
			}
			if err := a.Finish(context.Background()); err != nil {
				t.Fatalf("Finish of %d blocks: %v", n, err)
			}
			if err := <-ended; err != nil {
				t.Errorf("Run after Finish: %v", err)
			}
			synctest.Wait()
			gone := served.Departed()
			if len(gone) != 1 || gone[0].Name != "reader" || !gone[0].Synced || gone[0].RemoteContiguous != uint64(n) {
				t.Errorf("the source remembers %+v, want one reader with %d blocks", gone, n)
			}
			if peers := served.Peers(); len(peers) != 0 {
				t.Errorf("the source has %d peers after the only one has gone", len(peers))
			}
			sameBlocks(t, copied, blocks)
		})
	}
}

func TestFinishGivesUpOnARemoteThatDoesNotEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x, _ := newPipe(1 << 10)
		c := NewConn(halfPipe{x}, Config{Initiator: true, Binding: testBinding})
		ended := newRunner(t).run(c)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := c.Finish(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Finish: got %v, want %v", err, context.DeadlineExceeded)
		}
		<-ended
	})
}

func TestFinishOfAStreamWithoutCloseWriteCloses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x, _ := newPipe(1 << 10)
		c := NewConn(x, Config{Initiator: true, Binding: testBinding})
		ended := newRunner(t).run(c)
		synctest.Wait()
		if err := c.Finish(context.Background()); err != nil {
			t.Errorf("Finish: %v", err)
		}
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}
