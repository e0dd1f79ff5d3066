package protocol

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/internal/compact"
	"github.com/p2pcore/p2pcore/internal/vectors"
	"github.com/p2pcore/p2pcore/internal/wire"
)

type transcript struct {
	Name                               string
	Key, Seed, Manifest, HandshakeHash vectors.Hex
	Compat                             bool
	Writer                             string
	Blocks                             []vectors.Hex
	Result                             struct {
		Writer, Reader struct {
			Length, Fork uint64
			TreeHash     vectors.Hex
			Blocks       []uint64
		}
	}
	Log []transcriptEntry
}

type transcriptEntry struct {
	Role   string
	Frame  vectors.Hex
	Event  string
	Value  json.RawMessage
	Block  vectors.Hex
	Blocks []vectors.Hex
}

func TestVectorsTranscriptsAsReader(t *testing.T) {
	t.Parallel()
	var file struct{ Transcripts []transcript }
	vectors.Load(t, "transcripts.json", &file)
	if len(file.Transcripts) == 0 {
		t.Fatal("file without transcripts")
	}
	for _, v := range file.Transcripts {
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { playWriter(t, v) })
		})
	}
}

// playWriter replays the writer's frames to a reader of ours.
func playWriter(t *testing.T, v transcript) {
	key := feed.Key(v.Key)
	r := createFeed(t, feed.Options{Key: &key})
	x := exchange(t, r, true)
	ours, theirs := newPipe(1 << 20)
	c := NewConn(ours, Config{Initiator: v.Writer == "b", Binding: v.HandshakeHash})
	if err := c.Attach(x); err != nil {
		t.Fatal(err)
	}
	newRunner(t).run(c)
	p := &player{t: t, stream: theirs, prove: func(q feed.Request) *feed.Proof {
		proved, err := writerOf(t, v).Prove(context.Background(), []feed.Request{q})
		if err != nil || proved[0].Err != nil {
			t.Fatal(err, proved[0].Err)
		}
		return proved[0].Proof
	}}
	p.settle()
	s := session(t, r)
	defer s.Close()

	values := map[string]chan []byte{}
	get := func(index uint64) {
		ctx, cancel := context.WithCancel(context.Background())
		t.Cleanup(cancel)
		done := make(chan []byte, 1)
		values[fmt.Sprint(index)] = done
		go func() {
			if b, err := s.Get(ctx, index); err == nil {
				done <- b
			}
		}()
		p.settle()
	}
	var got []uint64
	var held []vectors.Hex
	if strings.HasPrefix(v.Name, "truncate") { // the log does not say that the reader downloads
		go func() { _ = x.Fetch(context.Background(), feed.Want{Range: feed.Range{End: uint64(len(v.Blocks))}}) }()
	}
	for _, e := range v.Log {
		var index uint64
		switch {
		case e.Role == "writer" && p.hold:
			held = append(held, e.Frame)
		case e.Role == "writer":
			p.play(e.Frame)
		case e.Role == "reader":
			for _, r := range records(t, e.Frame) {
				if r.channel == 0 && r.typ == 1 && !bytes.Equal(p.opens[0].payload, r.payload) {
					t.Errorf("our open is %x, recorded is %x", p.opens[0].payload, r.payload)
				}
			}
		case e.Event == "frames from the writer are held back":
			p.hold = true
		case e.Event == "held frames are delivered":
			p.hold = false
			for _, f := range held {
				p.play(f)
			}
		case e.Event == "reader: download 0..10 linear":
			go func() { _ = x.Fetch(context.Background(), feed.Want{Range: feed.Range{End: 10}, Linear: true}) }()
			p.settle()
		case e.Event == "reader: seek 91":
			go func() { _ = x.Seek(context.Background(), 91, 0) }() // a session would have the block, too
			p.settle()
			defer func() {
				if at, err := r.Locate(context.Background(), 91, 0); err != nil || !at.Found || at.Block != 9 || at.Offset != 2 {
					t.Errorf("seek ended at %+v, %v", at, err)
				}
			}()
		case scan(e.Event, "reader: get %d", &index) && !strings.Contains(e.Event, "failed"):
			get(index)
		case scan(e.Event, "reader: got %d", &index):
			var want vectors.Hex
			if err := json.Unmarshal(e.Value, &want); err != nil {
				t.Fatal(err)
			}
			p.settle()
			select {
			case b := <-values[fmt.Sprint(index)]:
				if !bytes.Equal(b, want) {
					t.Errorf("block %d is %x, want %s", index, b, want)
				}
				got = append(got, index)
			default:
				t.Errorf("block %d did not come", index)
			}
		}
	}
	p.settle()
	if n := c.Stats(); n.Violations != 0 || n.Channels != 1 {
		t.Errorf("at the end: %+v", n)
	}
	if st := x.Stats(); st.InvalidProofs != 0 {
		t.Errorf("recorded proofs were refused: %+v", st)
	}
	for _, i := range got {
		if !r.Has(feed.Range{Start: i, End: i + 1}) {
			t.Errorf("block %d is not stored", i)
		}
	}
	want := v.Result.Reader
	if info := r.Info(); info.Length != want.Length || info.Fork != want.Fork || !bytes.Equal(info.Hash[:], want.TreeHash) {
		t.Errorf("head is %+v, want %+v", info.Head, want)
	}
}

func scan(text, format string, v *uint64) bool {
	_, err := fmt.Sscanf(text, format, v)
	return err == nil
}

func TestVectorsTranscriptsAsWriter(t *testing.T) {
	t.Parallel()
	var file struct{ Transcripts []transcript }
	vectors.Load(t, "transcripts.json", &file)
	if len(file.Transcripts) == 0 {
		t.Fatal("file without transcripts")
	}
	for _, v := range file.Transcripts {
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { playReader(t, v) })
		})
	}
}

// writerOf makes the feed that the recorded writer had at the start, without the blocks in holes.
func writerOf(t *testing.T, v transcript, holes ...uint64) *feed.Feed {
	t.Helper()
	key := feed.Key(v.Key)
	pair := feed.KeyPairFromSeed([32]byte(v.Seed))
	w := createFeed(t, feed.Options{Key: &key, KeyPair: &pair})
	for _, b := range v.Blocks {
		appendBlocks(t, w, b)
	}
	if len(holes) == 0 {
		return w
	}
	sparse := createFeed(t, feed.Options{Key: &key})
	reqs := []feed.Request{{Manifest: true, Upgrade: &feed.UpgradeRequest{Length: w.Info().Length}}}
	for i := range w.Info().Length {
		if !slices.Contains(holes, i) {
			reqs = append(reqs, feed.Request{Block: &feed.BlockRequest{Index: i, Nodes: 4}})
		}
	}
	for _, q := range reqs {
		if q.Block != nil {
			nodes, err := sparse.Plan(context.Background(), []uint64{q.Block.Index})
			if err != nil {
				t.Fatal(err)
			}
			q.Block.Nodes = nodes[0]
		}
		proved, err := w.Prove(context.Background(), []feed.Request{q})
		if err != nil || proved[0].Err != nil {
			t.Fatal(err, proved[0].Err)
		}
		applied, err := sparse.Apply(context.Background(), []*feed.Proof{proved[0].Proof})
		if err != nil || applied[0].Err != nil {
			t.Fatal(err, applied[0].Err)
		}
	}
	return sparse
}

// playReader replays the reader's frames, byte for byte, to a writer of ours, and compares the
// answers with the recorded ones.
func playReader(t *testing.T, v transcript) {
	// Blocks that the recorded writer clears are missing here from the start.
	var holes []uint64
	for _, e := range v.Log {
		var index uint64
		if scan(e.Event, "writer: clear %d", &index) {
			holes = append(holes, index)
		}
	}
	if v.Name == "holes: want and bitfield" {
		holes = []uint64{4, 8}
	}
	w := writerOf(t, v, holes...)
	x := exchange(t, w, true)
	ours, theirs := newPipe(1 << 20)
	c := NewConn(ours, Config{Initiator: v.Writer == "a", Binding: v.HandshakeHash})
	if err := c.Attach(x); err != nil {
		t.Fatal(err)
	}
	newRunner(t).run(c)
	p := &player{t: t, stream: theirs}
	p.settle()

	want := map[uint64][][]byte{}
	cancelled := map[uint64]bool{}
	hold := false
	var held []vectors.Hex
	var length uint64
	for _, e := range v.Log {
		switch {
		case scan(e.Event, "writer: truncate to %d", &length):
			truncate(t, w, length)
			p.settle()
		case e.Role == "reader" && hold:
			held = append(held, e.Frame)
		case e.Role == "reader":
			p.write(e.Frame)
			p.settle()
		case e.Role == "writer":
			for _, r := range records(t, e.Frame) {
				if r.channel == 0 && r.typ == 1 && !bytes.Equal(p.opens[0].payload, r.payload) {
					t.Errorf("our open is %x, recorded is %x", p.opens[0].payload, r.payload)
				}
				if r.channel == 0 || r.typ != wire.TypeData && r.typ != wire.TypeNoData {
					continue
				}
				if id := answerID(t, r); id != 0 {
					want[id] = append(want[id], r.payload)
				}
			}
		case e.Event == "frames from the reader are held back":
			hold = true
		case e.Event == "held frames are delivered" && hold:
			hold = false
			for _, f := range held {
				p.write(f)
				for _, r := range records(t, f) {
					if r.channel != 0 && r.typ == wire.TypeCancel {
						d := compact.NewDecoder(r.payload)
						cancelled[d.Uint()] = true
					}
				}
			}
			p.settle()
		case strings.HasPrefix(e.Event, "writer: append"):
			blocks := [][]byte{e.Block}
			if e.Blocks != nil {
				blocks = nil
				for _, b := range e.Blocks {
					blocks = append(blocks, b)
				}
			}
			appendBlocks(t, w, blocks...)
			p.settle()
		}
	}
	time.Sleep(3 * time.Second) // refusals of bad requests are held back a little
	p.settle()

	got := map[uint64][][]byte{}
	for _, m := range p.answers {
		id := answerID(t, record{typ: m.Type(), payload: m.Append(nil)})
		got[id] = append(got[id], m.Append(nil))
	}
	for id, answers := range want {
		ours := got[id]
		if cancelled[id] && len(ours) > len(answers) {
			ours = ours[:len(answers)] // the answer may have crossed the cancel
		}
		if !slices.EqualFunc(ours, answers, bytes.Equal) {
			t.Errorf("answers to id %d are\n%x, recorded are\n%x", id, ours, answers)
		}
	}
	for id := range got {
		if len(want[id]) == 0 && !cancelled[id] {
			t.Errorf("answered id %d, which the recorded writer did not", id)
		}
	}
	if info := w.Info(); info.Length != v.Result.Writer.Length || info.Fork != v.Result.Writer.Fork || !bytes.Equal(info.Hash[:], v.Result.Writer.TreeHash) {
		t.Errorf("head is %+v, want %+v", info.Head, v.Result.Writer)
	}
	if n := c.Stats(); n.Violations != 0 || n.Channels != 1 {
		t.Errorf("at the end: %+v", n)
	}
}

func answerID(t *testing.T, r record) uint64 {
	t.Helper()
	m, err := wire.Parse(r.typ, r.payload)
	if err != nil {
		t.Fatal(err)
	}
	if d, ok := m.(*wire.Data); ok {
		return d.ID
	}
	return m.(*wire.NoData).ID
}
