package replica

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/p2pcore/p2pcore/internal/merkle"
	"github.com/p2pcore/p2pcore/internal/wire"
)

// BenchmarkDownload is one reader's machine in a bulk download: per block an answer, its storing and
// the credit for the next request; a plan and a change now and then.
func BenchmarkDownload(b *testing.B) {
	for _, c := range []struct {
		window, peers int
		linear        bool
	}{{48, 1, true}, {512, 1, true}, {512, 1, false}, {512, 8, false}} {
		b.Run(fmt.Sprintf("window=%d/peers=%d/linear=%v", c.window, c.peers, c.linear), func(b *testing.B) {
			const length = 1 << 40 // never done
			f := &fakeFeed{info: Info{Length: length, ByteLength: length * 1024, HasManifest: true}}
			m := New(f, Limits{InflightBytes: 1 << 30}, rand.New(rand.NewPCG(1, 1)))
			now := time.Unix(1, 0)
			var inbox []Received
			var asks []Event
			proof := &merkle.BlockProof{Value: make([]byte, 1024)}
			step := func(ev Event) {
				for _, a := range m.Step(now, ev) {
					switch a := a.(type) {
					case Send:
						if r, ok := a.Message.(*wire.Request); ok {
							d := &wire.Data{ID: r.ID}
							d.Proof.Block = &merkle.BlockProof{Index: r.Block.Index, Value: proof.Value}
							inbox = append(inbox, Received{Peer: a.Peer, Message: d})
						}
					case Plan:
						asks = append(asks, Planned{Token: a.Token, Nodes: make([]uint64, len(a.Blocks))})
					case Apply:
						asks = append(asks, Applied{Token: a.Token, Stored: true})
					}
				}
			}
			for p := range PeerID(c.peers) {
				step(Opened{Peer: p + 1, Room: 1 << 50, Window: c.window})
				step(Received{Peer: p + 1, Message: &wire.Range{Length: length}})
				step(Received{Peer: p + 1, Message: &wire.Sync{Length: length, RemoteLength: length,
					Uploading: true, Downloading: true, HasManifest: true}})
			}
			step(Want{Ticket: 1, Range: merkle.Range{End: length}, Linear: c.linear})
			b.ReportAllocs()
			received := uint64(0)
			for b.Loop() {
				for len(inbox) == 0 {
					ask := asks[0]
					asks = asks[1:]
					step(ask)
				}
				next := inbox[0]
				inbox = inbox[1:]
				step(next)
				received++
				for len(asks) > c.window/2 {
					ask := asks[0]
					asks = asks[1:]
					step(ask)
				}
			}
			b.ReportMetric(float64(received)/b.Elapsed().Seconds(), "blocks/s")
		})
	}
}

// BenchmarkServe is the other side: per block a request, its proof, and the credit.
func BenchmarkServe(b *testing.B) {
	f := &fakeFeed{info: Info{Length: 1 << 20, ByteLength: 1 << 30, HasManifest: true}}
	f.bits.SetRange(0, 1<<20, true)
	m := New(f, Limits{}, rand.New(rand.NewPCG(1, 1)))
	now := time.Unix(1, 0)
	m.Step(now, Opened{Peer: 1, Room: 1 << 20})
	pr := &merkle.Proof{Block: &merkle.BlockProof{Value: make([]byte, 1024)}}
	b.ReportAllocs()
	for id := uint64(1); b.Loop(); id++ {
		r := &wire.Request{ID: id%512 + 1}
		r.Block = &merkle.BlockRequest{Index: id % (1 << 20)}
		for _, a := range m.Step(now, Received{Peer: 1, Message: r}) {
			if a, ok := a.(Prove); ok {
				for _, a := range m.Step(now, Proved{Token: a.Token, Proof: pr}) {
					if a, ok := a.(Send); ok {
						m.Step(now, Room{Peer: 1, Bytes: a.Message.Size()})
					}
				}
			}
		}
	}
}
