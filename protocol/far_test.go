package protocol

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/internal/simnet"
)

// far is 100 Mbit/s and 50 ms each way.
var far = simnet.Path{Delay: 50 * time.Millisecond, Bandwidth: 100_000_000 / 8}

// connectOver joins two exchanges over a link, the first being the initiator's, as nodes of ours do.
func (r *runner) connectOver(l *simnet.Link, initiator, responder *Exchange) {
	r.t.Helper()
	for i, x := range []*Exchange{initiator, responder} {
		c := NewConn([]*simnet.End{l.A, l.B}[i], Config{
			Initiator: i == 0, Binding: testBinding, Flags: SupportedFlags, Peer: []string{"responder", "initiator"}[i],
		})
		if err := c.Attach(x); err != nil {
			r.t.Fatal(err)
		}
		r.run(c)
	}
}

// A long link is filled: enough is asked for ahead, and enough is kept ready to be sent.
func TestFillsALongLink(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		size, blocks int
		linear       bool
		wire, useful float64 // least share of the link, in bytes on the wire and in bytes of blocks
	}{
		{1 << 10, 40_000, false, 0.8, 0},
		{1 << 10, 40_000, true, 0.8, 0.65},
		{64 << 10, 640, false, 0.8, 0},
	} {
		if testing.Short() && c.size == 1<<10 {
			continue
		}
		t.Run(fmt.Sprintf("block=%d,linear=%v", c.size, c.linear), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := writer(t, 1, numbered(c.blocks, c.size)...)
				r := reader(t, w)
				link := simnet.New(far, far)
				run := newRunner(t)
				run.connectOver(link, exchange(t, w, false), exchange(t, r, true))
				s := session(t, r)
				defer s.Close()
				if _, err := s.Update(timed(t)); err != nil {
					t.Fatal(err)
				}
				start, before := time.Now(), link.B.Received()
				d, err := s.NewDownload(timed(t), feed.DownloadOptions{Range: feed.Range{End: uint64(c.blocks)}, Linear: c.linear})
				if err != nil {
					t.Fatal(err)
				}
				if err := d.Wait(timed(t)); err != nil {
					t.Fatal(err)
				}
				took := time.Since(start).Seconds()
				full := float64(far.Bandwidth) * took
				wire := float64(link.B.Received()-before) / full
				useful := float64(r.Info().ByteLength) / full
				t.Logf("%.2f s: %.0f %% of the link on the wire, %.0f %% of blocks", took, 100*wire, 100*useful)
				if wire < c.wire || useful < c.useful {
					t.Errorf("%.0f %% of the link on the wire, want %.0f; %.0f %% of blocks, want %.0f", 100*wire, 100*c.wire, 100*useful, 100*c.useful)
				}
			})
		})
	}
}
