package protocol

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/p2pcore/p2pcore/feed"
)

// TestALiarAboutAForkIsFoundOut has a reader follow a fork by the proofs of a liar, and then of an honest peer.
func TestALiarAboutAForkIsFoundOut(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(p *feed.Proof) bool{
		"root": func(p *feed.Proof) bool {
			if p.Upgrade != nil {
				p.Upgrade.Nodes[0].Hash[3] ^= 1
			}
			return p.Upgrade != nil
		},
		"signature": func(p *feed.Proof) bool {
			if p.Upgrade != nil {
				p.Upgrade.Signature[20] ^= 1
			}
			return p.Upgrade != nil
		},
		"fork": func(p *feed.Proof) bool {
			p.Fork++
			return true
		},
		"no signature": func(p *feed.Proof) bool {
			if p.Upgrade != nil {
				p.Upgrade.Signature = nil
			}
			return p.Upgrade != nil
		},
		"node of a hash": func(p *feed.Proof) bool {
			if p.Hash != nil {
				p.Hash.Nodes[len(p.Hash.Nodes)-1].Hash[3] ^= 1
			}
			return p.Hash != nil
		},
		"half of a hash": func(p *feed.Proof) bool {
			if p.Hash != nil {
				p.Hash.Nodes = p.Hash.Nodes[:len(p.Hash.Nodes)/2]
			}
			return p.Hash != nil
		},
		"another hash": func(p *feed.Proof) bool {
			if p.Hash != nil {
				p.Hash.Index ^= 2
			}
			return p.Hash != nil
		},
		"nothing": func(p *feed.Proof) bool {
			p.Hash, p.Upgrade = nil, nil
			return true
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := writer(t, 1, numbered(40, 10)...)
				r := reader(t, w)
				fill(t, w, r, feed.Range{End: 40})
				truncate(t, w, 21)
				appendBlocks(t, w, renamed(25, "new ")...)
				l, to := &liar{Feed: w, spoil: spoil}, exchange(t, r, true)
				run := newRunner(t)
				run.connect([]*Exchange{exchange(t, l, false)}, []*Exchange{to})
				time.Sleep(time.Second)
				if st := to.Stats(); l.lies.Load() == 0 || st.InvalidProofs+st.Refused == 0 || st.Reorgs != 0 {
					t.Errorf("%d lies were told; %+v", l.lies.Load(), st)
				}
				sameBlocks(t, r, numbered(40, 10))
				run.connect([]*Exchange{exchange(t, w, false)}, []*Exchange{to})
				follow(t, to)
				synctest.Wait()
				sameBlocks(t, r, append(numbered(40, 10)[:21], renamed(25, "new ")...))
			})
		})
	}
}
