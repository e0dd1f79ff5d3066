package replica

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/p2pcore/p2pcore/internal/wire"
)

// TestRisingForksEndTheChannel: a peer that tells another fork with every sync, and answers nothing, has a request taken
// back each time. It cannot go on for ever.
func TestRisingForksEndTheChannel(t *testing.T) {
	f := &fakeFeed{info: Info{Length: 10}}
	m := New(f, Limits{}, rand.New(rand.NewPCG(1, 1)))
	now := time.Unix(1000, 0)
	m.Step(now, Opened{Peer: 1, Room: 1 << 20})
	for fork := uint64(1); fork < 2*maxCancelled; fork++ {
		for _, a := range m.Step(now, Received{Peer: 1, Message: &wire.Sync{Fork: fork, Length: 5, Uploading: true, Downloading: true}}) {
			switch a := a.(type) {
			case Send:
				m.Step(now, Room{Peer: 1, Bytes: a.Message.Size()})
			case CloseChannel:
				return
			}
		}
		checkBounds(t, m)
	}
	t.Error("the channel is still open")
}
