package protocol

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/internal/muxer"
)

// TestManyOpensAtOnceAreAllAnswered: JavaScript opens all its feeds in one batch, and never again one that was rejected,
// so the remote is made to wait while feeds are looked up that are not open here, however many they are.
func TestManyOpensAtOnceAreAllAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const opens = 5000
		var asked atomic.Int32
		all := make(chan struct{})               // closed with the last
		slow := time.NewTicker(time.Millisecond) // slower than they come
		defer slow.Stop()
		run := newRunner(t)
		x, y := newPipe(1 << 20)
		c := NewConn(y, Config{Binding: testBinding, OnOpen: func(context.Context, feed.DiscoveryKey) (*Exchange, error) {
			<-slow.C
			if asked.Add(1) == opens {
				close(all)
			}
			return nil, nil
		}})
		end := run.run(c)
		m := muxer.New(frameHeader)
		m.Cork()
		for i := range opens {
			dk := feed.DiscoveryKey{1, byte(i), byte(i >> 8)}
			if _, err := m.Open(channelProtocol, string(dk[:]), make([]byte, 33)); err != nil {
				t.Fatal(err)
			}
		}
		for f, ok := m.Take(); ok; f, ok = m.Take() {
			putFrameLength(f.Bytes, len(f.Bytes)-frameHeader)
			if _, err := x.Write(f.Bytes); err != nil {
				t.Fatal(err)
			}
		}
		select {
		case <-all:
		case <-time.After(opens * 2 * time.Millisecond): // in fake time
		}
		synctest.Wait()
		if n := asked.Load(); n != opens {
			t.Errorf("%d opens were looked up, want %d", n, opens)
		}
		if n := c.Stats().Undecided; n != 0 {
			t.Errorf("%d opens are undecided", n)
		}
		x.Close()
		<-end
	})
}
