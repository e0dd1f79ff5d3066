package replica

import (
	"slices"
	"testing"

	"github.com/p2pcore/p2pcore/internal/merkle"
	"github.com/p2pcore/p2pcore/internal/wire"
)

// TestAnUpgradeThatIsReportedLateIsNoFailure: the feed tells of its new head before the verdict on the proof that has
// brought it arrives, and the writer, having heard of it, may be a step ahead by then. The next upgrade must be asked for
// at once; there may be no other news for long.
func TestAnUpgradeThatIsReportedLateIsNoFailure(t *testing.T) {
	for name, verdict := range map[string]func(Applied) Applied{
		"verified": func(a Applied) Applied { return a },
		// another peer has brought the same head first
		"nothing new": func(a Applied) Applied { a.Grown = false; return a },
		"stale":       func(a Applied) Applied { return Applied{Token: a.Token, Fault: FaultStale} },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 5)
			r.open(1)
			longer := func(length, acked uint64) {
				r.receive(1, &wire.Sync{Length: length, RemoteLength: acked, CanUpgrade: true, Uploading: true, Downloading: true})
			}
			asked := func() (u *merkle.UpgradeRequest, id uint64) {
				for _, msg := range r.sent[1] {
					if q, ok := msg.(*wire.Request); ok && q.Upgrade != nil {
						u, id = q.Upgrade, q.ID
					}
				}
				r.sent[1] = nil
				return u, id
			}
			longer(6, 5)
			u, id := asked()
			if u == nil || *u != (merkle.UpgradeRequest{Start: 5, Length: 1}) {
				t.Fatalf("asked for %v", u)
			}
			r.hold = true
			answer := &wire.Data{ID: id}
			answer.Proof.Upgrade = &merkle.UpgradeProof{Start: 5, Length: 1, Signature: []byte{1}}
			r.receive(1, answer)
			applied := r.feed.apply(r.held[0].Token, r.held[0].Proof)
			r.step(r.feed.changed())
			longer(8, 6)
			r.step(verdict(applied))
			if u, _ := asked(); u == nil || *u != (merkle.UpgradeRequest{Start: 6, Length: 2}) {
				t.Errorf("asked for %v, want two blocks from 6 on", u)
			}
		})
	}
}

// Who asks for a longer head has seen the one that is stored, whether or not the feed has told the machine of it.
func TestAnUpdateCountsWhatTheFeedHasGrownSince(t *testing.T) {
	r := newRig(t, 5)
	r.open(1)
	r.receive(1, &wire.Sync{Length: 6, RemoteLength: 5, CanUpgrade: true, Uploading: true, Downloading: true})
	request := r.sent[1][len(r.sent[1])-1].(*wire.Request)
	r.hold = true
	answer := &wire.Data{ID: request.ID}
	answer.Proof.Upgrade = &merkle.UpgradeProof{Start: 5, Length: 1, Signature: []byte{1}}
	r.receive(1, answer)
	applied := r.feed.apply(r.held[0].Token, r.held[0].Proof)
	r.step(WantUpgrade{Ticket: 9})
	r.step(r.feed.changed())
	r.step(applied)
	r.receive(1, &wire.Sync{Length: 6, RemoteLength: 6, CanUpgrade: true, Uploading: true, Downloading: true})
	if want := []Resolve{{Ticket: 9}}; !slices.Equal(r.ended, want) {
		t.Errorf("ended: %+v, want %+v", r.ended, want)
	}
}
