package muxer

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/p2pcore/p2pcore/internal/compact"
	"github.com/p2pcore/p2pcore/internal/vectors"
)

// The scenarios were recorded with channels that have these messages.
const (
	vectorBuffer uint64 = iota // buffer
	vectorUint                 // uint
	vectorRaw                  // raw bytes
)

type muxVector struct {
	Name     string
	Log      []logEntry
	Survives *bool `json:"stream_survives"`
}

type logEntry struct {
	From  string
	Frame vectors.Hex
	Event string
	Value json.RawMessage
}

func TestVectorsProtomux(t *testing.T) {
	t.Parallel()
	var file struct{ Scenarios []muxVector }
	vectors.Load(t, "protomux.json", &file)
	if len(file.Scenarios) == 0 {
		t.Fatal("file without scenarios")
	}
	for _, v := range file.Scenarios {
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			s := &scenario{t: t, v: v, sides: map[string]*side{}}
			for _, n := range []string{"a", "b"} {
				s.sides[n] = &side{name: n, mux: New(0)}
			}
			s.run()
		})
	}
}

// scenario replays a log: what a side sent is done again on its Mux, and the bytes have to be the
// same; what a side was told has to come out of its Mux in the same order.
type scenario struct {
	t     *testing.T
	v     muxVector
	sides map[string]*side
}

type side struct {
	name      string
	mux       *Mux
	channels  []*Channel
	inbox     [][]byte // frames on the way
	sent      [][]byte // frames made ahead of the log
	got, want []string
	err       error
}

func (s *scenario) run() {
	raw := strings.HasPrefix(s.v.Name, "raw:")
	for i, e := range s.v.Log {
		if e.From == "" {
			s.event(i, e)
			continue
		}
		if s.v.Name == "unique" {
			continue // it goes on with a channel that is not unique, which this package does not have
		}
		from, to := s.sides[e.From], s.sides[other(e.From)]
		s.deliver(from)
		if !raw || e.From == "b" {
			s.send(from, e.Frame)
		}
		if raw && e.From == "b" {
			continue // nobody real is at side a
		}
		to.inbox = append(to.inbox, e.Frame)
	}
	for _, n := range s.sides {
		s.deliver(n)
		if !slices.Equal(n.got, n.want) {
			s.t.Errorf("side %s (%v) was told\n%s\nwant\n%s", n.name, n.err, strings.Join(n.got, "\n"), strings.Join(n.want, "\n"))
		}
	}
	if s.v.Survives != nil && *s.v.Survives != (s.sides["b"].err == nil) {
		s.t.Errorf("side b ended with %v, want survival %v", s.sides["b"].err, *s.v.Survives)
	}
}

func (s *scenario) event(i int, e logEntry) {
	n := s.sides[e.Event[:1]]
	what := e.Event[2:]
	switch {
	case what == "onopen":
		// A side that tells of the open before its own open is in the log had opened already.
		if len(n.channels) == 0 {
			for _, later := range s.v.Log[i:] {
				if later.From == n.name {
					s.perform(n, later.Frame)
				} else if later.From != "" && len(n.sent) > 0 {
					break
				}
			}
		}
		n.want = append(n.want, "open "+value(s.t, e.Value))
		s.deliver(n)
	case strings.HasPrefix(what, "message "):
		n.want = append(n.want, what+" "+value(s.t, e.Value))
	case what == "onclose":
		var isRemote struct{ IsRemote bool }
		s.logged(i, &isRemote)
		if isRemote.IsRemote && !s.ended(n) && s.v.Name != "unique" {
			n.want = append(n.want, "closed")
		}
	case strings.HasPrefix(what, "stream error"):
		s.deliver(n)
		// The bad payload of one vector is a matter of the layer above.
		if n.err == nil && s.v.Name != "raw: bad payload closes the stream" {
			s.t.Errorf("side %s accepted what ends the stream", n.name)
		}
		if n.err == nil {
			n.err = ErrMalformed
			n.got = n.got[:max(len(n.got)-1, 0)]
		}
	case what == "second createChannel (unique)":
		if _, err := n.mux.Open("test/proto", "", nil); err != nil {
			s.t.Fatal(err)
		}
		if _, err := n.mux.Open("test/proto", "", nil); err != ErrDuplicate {
			s.t.Errorf("second open: %v, want ErrDuplicate", err)
		}
	}
}

// ended says whether the closes of a side come from the end of its stream.
func (s *scenario) ended(n *side) bool {
	return n.err != nil || slices.ContainsFunc(s.v.Log, func(e logEntry) bool {
		return e.Event == n.name+" stream closed"
	})
}

func (s *scenario) logged(i int, v any) {
	s.t.Helper()
	var file struct {
		Scenarios []struct {
			Name string
			Log  []json.RawMessage
		}
	}
	vectors.Load(s.t, "protomux.json", &file)
	for _, f := range file.Scenarios {
		if f.Name == s.v.Name {
			if err := json.Unmarshal(f.Log[i], v); err != nil {
				s.t.Fatal(err)
			}
		}
	}
}

// send does what a recorded frame says and compares the bytes.
func (s *scenario) send(n *side, frame []byte) {
	s.t.Helper()
	if len(n.sent) == 0 {
		s.perform(n, frame)
	}
	if len(n.sent) == 0 {
		s.t.Fatalf("side %s sent nothing, want %x", n.name, frame)
	}
	if !bytes.Equal(n.sent[0], frame) {
		s.t.Errorf("side %s sent %x, want %x", n.name, n.sent[0], frame)
	}
	n.sent = n.sent[1:]
}

func (s *scenario) perform(n *side, frame []byte) {
	d := compact.NewDecoder(frame)
	id, typ := d.Uint(), d.Uint()
	if id == 0 && typ == controlBatch {
		n.mux.Cork()
		channel := d.Uint()
		for d.Remaining() > 0 {
			if l := d.Bytes(d.Remaining()); len(l) > 0 {
				b := compact.NewDecoder(l)
				s.message(n, channel, b.Uint(), b.Rest())
			} else {
				channel = d.Uint()
			}
		}
		n.mux.Uncork()
	} else {
		s.message(n, id, typ, d.Rest())
	}
	for {
		f, ok := n.mux.Take()
		if !ok {
			return
		}
		n.sent = append(n.sent, f.Bytes)
	}
}

func (s *scenario) message(n *side, id, typ uint64, payload []byte) {
	s.t.Helper()
	d := compact.NewDecoder(payload)
	switch {
	case id != 0:
		if err := n.mux.Send(n.mux.local[id-1], typ, raw(payload)); err != nil {
			s.t.Fatal(err)
		}
	case typ == controlOpen:
		d.Uint()
		protocol, key := d.String(100), string(d.Bytes(100))
		var aliases []string
		// "each side names the other side as alias"; in the other scenario only side a knows.
		if protocol == "new/name" && strings.HasPrefix(s.v.Name, "alias") {
			aliases = []string{"old-name"}
		}
		if protocol == "old-name" && s.v.Name == "alias: each side names the other side as alias" {
			aliases = []string{"new/name"}
		}
		c, err := n.mux.Open(protocol, key, d.Rest(), aliases...)
		if err != nil {
			s.t.Fatal(err)
		}
		n.channels = append(n.channels, c)
	case typ == controlReject:
		n.mux.Reject(n.mux.remote[d.Uint()-1])
	case typ == controlClose:
		n.mux.Close(n.mux.local[d.Uint()-1])
	}
}

// deliver gives a side the frames that are on the way to it.
func (s *scenario) deliver(n *side) {
	for ; len(n.inbox) > 0 && n.err == nil; n.inbox = n.inbox[1:] {
		n.mux.Receive(n.inbox[0])
		for {
			ev, err := n.mux.Next()
			if err != nil {
				n.err = err
				break
			}
			if ev.Kind == None {
				break
			}
			n.tell(ev)
		}
	}
	for {
		ev, ok := n.mux.Queued()
		if !ok {
			return
		}
		n.tell(ev)
	}
}

func (n *side) tell(ev Event) {
	switch ev.Kind {
	case Opened:
		d := compact.NewDecoder(ev.Handshake)
		n.got = append(n.got, "open "+hex.EncodeToString(d.Bytes(100)))
	case Closed:
		n.got = append(n.got, "closed")
	case Message:
		d := compact.NewDecoder(ev.Payload)
		switch ev.Type {
		case vectorBuffer:
			n.got = append(n.got, fmt.Sprintf("message 0 %x", d.Bytes(100)))
		case vectorUint:
			n.got = append(n.got, fmt.Sprintf("message 1 %x", fmt.Sprint(d.Uint())))
		case vectorRaw:
			n.got = append(n.got, fmt.Sprintf("message 2 %x", d.Rest()))
		}
	}
}

func other(side string) string {
	if side == "a" {
		return "b"
	}
	return "a"
}

// value is a recorded value as the hex of its text; hex text, which the recording made of raw
// bytes, stays as it is.
func value(t *testing.T, raw json.RawMessage) string {
	t.Helper()
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		if b, err := hex.DecodeString(v); err == nil && len(b) > 4 {
			return v
		}
		return hex.EncodeToString([]byte(v))
	}
	return hex.EncodeToString(raw)
}
