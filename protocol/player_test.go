package protocol

import (
	"bytes"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/internal/compact"
	"github.com/p2pcore/p2pcore/internal/wire"
)

// record is one message of a recorded frame.
type record struct {
	channel, typ uint64
	payload      []byte
}

// records takes a frame apart, without any state.
func records(t testing.TB, frame []byte) []record {
	t.Helper()
	if len(frame) == 0 {
		return nil
	}
	d := compact.NewDecoder(frame)
	channel, typ := d.Uint(), d.Uint()
	if channel != 0 || typ != 0 {
		return []record{{channel, typ, d.Rest()}}
	}
	var out []record
	for channel = d.Uint(); d.Remaining() > 0; {
		body := d.Bytes(d.Remaining())
		if len(body) == 0 {
			channel = d.Uint()
			continue
		}
		b := compact.NewDecoder(body)
		out = append(out, record{channel, b.Uint(), b.Rest()})
	}
	if d.Err() != nil {
		t.Fatalf("frame %x: %v", frame, d.Err())
	}
	return out
}

// player plays the recorded peer at the other end of the stream of a Conn under test.
type player struct {
	t        *testing.T
	stream   *end
	unparsed []byte
	requests []*wire.Request // ours that were not answered, oldest first
	answers  []wire.Message  // our Data and NoData, in order
	opens    []record
	rejects  []uint64
	hold     bool
	prove    func(feed.Request) *feed.Proof // as the recorded writer would
}

// settle lets the side under test come to rest and reads what it has sent.
func (p *player) settle() {
	p.t.Helper()
	synctest.Wait()
	p.stream.in.mu.Lock()
	p.unparsed = append(p.unparsed, p.stream.in.buf...)
	p.stream.in.buf = p.stream.in.buf[:0]
	p.stream.in.moved.Broadcast()
	p.stream.in.mu.Unlock()
	for len(p.unparsed) >= frameHeader {
		n := frameLength([frameHeader]byte(p.unparsed)) + frameHeader
		if len(p.unparsed) < n {
			return
		}
		for _, r := range records(p.t, p.unparsed[frameHeader:n]) {
			p.sent(r)
		}
		p.unparsed = p.unparsed[n:]
	}
}

// sent notes what the side under test has sent.
func (p *player) sent(r record) {
	if r.channel == 0 {
		switch r.typ {
		case 1:
			p.opens = append(p.opens, r)
		case 2:
			d := compact.NewDecoder(r.payload)
			p.rejects = append(p.rejects, d.Uint())
		}
		return
	}
	m, err := wire.Parse(r.typ, bytes.Clone(r.payload))
	if err != nil {
		p.t.Errorf("sent a message of type %d that does not parse: %v", r.typ, err)
		return
	}
	switch m := m.(type) {
	case *wire.Request:
		p.requests = append(p.requests, m)
	case *wire.Cancel:
		p.requests = slices.DeleteFunc(p.requests, func(q *wire.Request) bool { return q.ID == m.ID })
	case *wire.Data, *wire.NoData:
		p.answers = append(p.answers, m)
	}
}

func (p *player) write(frame []byte) {
	p.t.Helper()
	if err := WriteFrame(p.stream, frame); err != nil {
		p.t.Fatal(err)
	}
}

// play sends a recorded frame. Answers in it get the id of our request for the same thing; all else
// goes out byte for byte.
func (p *player) play(frame []byte) {
	p.t.Helper()
	rs := records(p.t, frame)
	if !slices.ContainsFunc(rs, func(r record) bool {
		return r.channel != 0 && (r.typ == wire.TypeData || r.typ == wire.TypeNoData)
	}) {
		p.write(frame)
		p.settle()
		return
	}
	for _, r := range rs {
		m, err := wire.Parse(r.typ, r.payload)
		if err != nil {
			p.t.Fatal(err)
		}
		switch m := m.(type) {
		case *wire.Data:
			m.ID = p.requestFor(m)
		case *wire.NoData:
			if len(p.requests) > 0 {
				m.ID, p.requests = p.requests[0].ID, p.requests[1:]
			}
		}
		b := compact.AppendUint(compact.AppendUint(nil, r.channel), r.typ)
		p.write(m.Append(b))
		p.settle()
	}
}

// requestFor finds the request that a recorded answer fits, and its id.
func (p *player) requestFor(m *wire.Data) uint64 {
	p.t.Helper()
	if m.ID == 0 {
		return 0 // a push
	}
	for i, q := range p.requests {
		same := (q.Block == nil) == (m.Proof.Block == nil) && (q.Upgrade == nil) == (m.Proof.Upgrade == nil) &&
			(q.Hash == nil) == (m.Proof.Hash == nil)
		if same && q.Hash != nil && q.Hash.Index != m.Proof.Hash.Index {
			// Any leaf in the window of a seek will do, and the recorded reader drew another one.
			m.Proof = *p.prove(q.Request)
		}
		if same && q.Block != nil {
			same = q.Block.Index == m.Proof.Block.Index
		}
		if same && q.Upgrade != nil {
			same = q.Upgrade.Start == m.Proof.Upgrade.Start
		}
		if same {
			p.requests = slices.Delete(p.requests, i, i+1)
			return q.ID
		}
	}
	p.t.Errorf("no request for the recorded answer %+v; open are %d", m.Proof, len(p.requests))
	return m.ID
}
