package replica

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/p2pcore/p2pcore/internal/merkle"
	"github.com/p2pcore/p2pcore/internal/wire"
)

// TestAnswersThatLeadNowhereEndTheChannel: a proof that ends at a node which we do not hold is nobody's
// fault once in a while. A peer that gives no others would have us ask for ever.
func TestAnswersThatLeadNowhereEndTheChannel(t *testing.T) {
	const length = 100
	w := &fakeFeed{info: Info{Length: length}}
	w.bits.SetRange(0, length, true)
	for name, fault := range map[string]func(f *fakeFeed) Fault{
		"on our fork": func(*fakeFeed) Fault { return FaultStale },
		"the fork has changed": func(f *fakeFeed) Fault {
			f.info.Fork++
			return FaultStale
		},
	} {
		f := &fakeFeed{info: Info{Length: length}}
		m := New(f, Limits{}, rand.New(rand.NewPCG(1, 1)))
		now := time.Unix(1000, 0)
		events := []Event{
			Opened{Peer: 1, Room: 1 << 20},
			Received{Peer: 1, Message: &wire.Sync{Length: length, RemoteLength: length, Uploading: true, Downloading: true}},
			Received{Peer: 1, Message: &wire.Range{Length: length}},
			Want{Ticket: 1, Range: merkle.Range{End: length}},
		}
		answers, dropped := 0, false
		for len(events) > 0 && answers < 1000 {
			ev := events[0]
			events = events[1:]
			for _, a := range m.Step(now, ev) {
				switch a := a.(type) {
				case Send:
					events = append(events, Room{Peer: 1, Bytes: a.Message.Size()})
					if r, ok := a.Message.(*wire.Request); ok {
						proved := w.prove(1, r.Request, 10)
						events = append(events, Received{Peer: 1, Message: &wire.Data{ID: r.ID, Proof: *proved.Proof}})
					}
				case Plan:
					events = append(events, Planned{Token: a.Token, Nodes: make([]uint64, len(a.Blocks))})
				case Apply:
					answers++
					events = append(events, Applied{Token: a.Token, Fault: fault(f)}, f.changed())
				case Drop:
					dropped = true
				}
			}
		}
		if want := name == "on our fork"; dropped != want || answers == 1000 {
			t.Errorf("%s: dropped %v after %d answers", name, dropped, answers)
		}
	}
}

// TestBlockThatIsGoneWhenItsApplyReturns: a block is stored and dropped again before the machine hears that its proof was
// applied. It is missing, and is fetched for whoever wants it then.
func TestBlockThatIsGoneWhenItsApplyReturns(t *testing.T) {
	const length, block = 10, 4
	for name, drop := range map[string]func(f *fakeFeed){
		"cleared": func(f *fakeFeed) { f.drop(merkle.Range{Start: block, End: block + 1}) },
		"rewritten": func(f *fakeFeed) {
			f.bits.SetRange(block, length, false)
			f.info.Fork, f.ancestors = 1, block
		},
	} {
		w := &fakeFeed{info: Info{Length: length}}
		w.bits.SetRange(0, length, true)
		f := &fakeFeed{info: Info{Length: length}}
		m := New(f, Limits{}, rand.New(rand.NewPCG(1, 1)))
		now := time.Unix(1000, 0)
		events := []Event{
			Opened{Peer: 1, Room: 1 << 20},
			Received{Peer: 1, Message: &wire.Sync{Length: length, RemoteLength: length, Uploading: true, Downloading: true}},
			Received{Peer: 1, Message: &wire.Range{Length: length}},
			Want{Ticket: 1, Range: merkle.Range{Start: block, End: block + 1}},
		}
		asked := 0
		var late Event
		var resolved []Ticket
		for len(events) > 0 {
			ev := events[0]
			events = events[1:]
			for _, a := range m.Step(now, ev) {
				switch a := a.(type) {
				case Send:
					if r, ok := a.Message.(*wire.Request); ok {
						asked++
						proved := w.prove(1, r.Request, 10)
						events = append(events, Received{Peer: 1, Message: &wire.Data{ID: r.ID, Proof: *proved.Proof}})
					}
				case Plan:
					events = append(events, Planned{Token: a.Token, Nodes: make([]uint64, len(a.Blocks))})
				case Apply:
					late = f.apply(a.Token, a.Proof)
					events = append(events, f.changed())
				case Resolve:
					if resolved = append(resolved, a.Ticket); a.Ticket == 2 {
						events = append(events, late)
						break
					}
					drop(f)
					w.info.Fork = f.info.Fork
					events = append(events, f.changed(), late,
						Received{Peer: 1, Message: &wire.Sync{Fork: f.info.Fork, Length: length, RemoteLength: length, Uploading: true, Downloading: true}},
						Received{Peer: 1, Message: &wire.Range{Length: length}},
						Want{Ticket: 2, Range: merkle.Range{Start: block, End: block + 1}})
				}
			}
		}
		if asked != 2 || !slices.Equal(resolved, []Ticket{1, 2}) || !f.bits.Has(block) {
			t.Errorf("%s: asked %d times, resolved %v, stored %v", name, asked, resolved, f.bits.Has(block))
		}
	}
}
