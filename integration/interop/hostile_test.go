package interop

import (
	"encoding/hex"
	"encoding/json"
	"testing"

	"github.com/p2pcore/p2pcore/feed"
)

// raw is a peer in the Node process that says by hand what hypercore would not.
type raw struct {
	*jsParty
	number int
}

// message is one of the protocol, as the JavaScript codec has it.
type message struct {
	kind  string
	value any
}

func (m message) MarshalJSON() ([]byte, error) { return json.Marshal([]any{m.kind, m.value}) }

// raw connects to where somebody listens on TCP. wrong is to show the capability of another key.
func (p *jsParty) raw(address string, key feed.Key, wrong bool) raw {
	p.t.Helper()
	r := raw{jsParty: p}
	p.call("raw", args{"port": number(p.t, portOf(p.t, address)), "key": hex.EncodeToString(key[:]), "wrong": wrong}, &r.number)
	return r
}

func (r raw) send(messages ...message) {
	r.t.Helper()
	r.call("rawSend", args{"raw": r.number, "messages": messages}, nil)
}

// receive waits for count messages of a kind.
func (r raw) receive(kind string, count int) (got []map[string]any) {
	r.t.Helper()
	r.call("rawReceive", args{"raw": r.number, "type": kind, "count": count}, &got)
	return got
}

// reach waits for a state of the channel: open, closed, or ended with the connection.
func (r raw) reach(states ...string) {
	r.t.Helper()
	r.call("rawState", args{"raw": r.number, "states": states}, nil)
}

// attacked are the setups in which a Node process attacks the writer and reads.
func attacked() []setup {
	if *baseline {
		return []setup{{network: tcp, writer: js, reader: js}}
	}
	return []setup{{network: tcp, writer: ours, reader: js}}
}

type fields = map[string]any

// request is one for what is in rest, with all that the codec wants to know.
func request(id int, rest fields) message {
	all := fields{"id": id, "fork": 0, "block": nil, "hash": nil, "seek": nil, "upgrade": nil, "manifest": false, "priority": 0}
	for k, v := range rest {
		all[k] = v
	}
	return message{"request", all}
}

func blockRequest(id, index int) message {
	return request(id, fields{"block": fields{"index": index, "nodes": 0}})
}

// Whoever does not know the key gets the answer of somebody who does not know the feed.
func TestWrongCapability(t *testing.T) {
	play(t, attacked(), func(s *scene) {
		w := s.writer.open(opening{})
		w.append("a", "b")
		here := s.reader.(*jsParty)
		address := s.writer.listen(tcp)
		stranger := here.raw(address, w.key(), true)
		guess := here.raw(address, feed.Key{1, 2, 3}, false)
		if s.setup.writer == ours {
			stranger.reach("closed")
		} else {
			stranger.reach("ended")
		}
		guess.reach("closed")
		friend := here.raw(address, w.key(), false)
		friend.reach("open")
		s.writer.expect("capability", "stream")
	})
}

// Malformed requests are refused, and others on the same channel answered, until there are too many.
func TestMalformedRequests(t *testing.T) {
	const blocks = 10
	play(t, attacked(), func(s *scene) {
		s.writer.expect("invalid", "invalid-request", "stream")
		w := s.writer.open(opening{})
		w.fill("hostile", 0, blocks, 30)
		p := s.reader.(*jsParty).raw(s.writer.listen(tcp), w.key(), false)
		p.reach("open")
		p.send(message{"sync", fields{"fork": 0, "length": 0, "remoteLength": 0, "canUpgrade": false, "uploading": false, "downloading": true, "hasManifest": false, "allowPush": false}},
			request(1, fields{"upgrade": fields{"start": 0, "length": 0}}),
			request(2, fields{"upgrade": fields{"start": 0, "length": blocks + 1}}),
			request(3, fields{"block": fields{"index": 0, "nodes": 40}}),
			request(4, fields{"upgrade": fields{"start": 0, "length": blocks}, "block": fields{"index": 3, "nodes": 0}, "seek": fields{"bytes": 5, "padding": 0}}),
			blockRequest(5, 3), blockRequest(6, blocks+5), request(7, fields{"fork": 4, "block": fields{"index": 1, "nodes": 0}}))
		refused := make(map[float64]any)
		for _, m := range p.receive("noData", 6) {
			refused[m["request"].(float64)] = m["reason"]
		}
		for id := 1.0; id <= 7; id++ {
			switch {
			case id <= 4:
				equal(s.T, "reason for malformed", refused[id], any(2.0))
			case id >= 6:
				equal(s.T, "reason for not there", refused[id], any(1.0))
			}
		}
		data := p.receive("data", 1)
		equal(s.T, "answered", data[0]["request"], any(5.0))

		// One channel ends, and whoever is honest goes on.
		var many []message
		for i := range 64 {
			many = append(many, request(100+i, fields{"upgrade": fields{"start": 0, "length": 0}}))
		}
		p.send(many...)
		p.reach("closed", "ended")
		r := s.reader.open(keyed(w.key()))
		s.join()
		r.download(0, blocks)
		r.check("hostile", 0, blocks, 30)
	})
}

// Messages that mean nothing, or lie, do no harm.
func TestSenselessMessages(t *testing.T) {
	if *baseline {
		t.Skip("hypercore gives up the connection")
	}
	const huge = 1<<53 - 1
	play(t, attacked(), func(s *scene) {
		s.writer.expect("invalid", "invalid-request", "stream")
		w := s.writer.open(opening{})
		w.fill("hostile", 0, 10, 30)
		p := s.reader.(*jsParty).raw(s.writer.listen(tcp), w.key(), false)
		p.reach("open")
		p.send(
			message{"range", fields{"drop": false, "start": huge - 1, "length": 1}},
			message{"range", fields{"drop": true, "start": 0, "length": huge}},
			message{"want", fields{"start": huge - 31, "length": 32, "any": false}},
			message{"want", fields{"start": 7, "length": 33, "any": false}},
			message{"unwant", fields{"start": 64, "length": 64}},
			message{"cancel", fields{"request": 77}},
			message{"noData", fields{"request": 78, "reason": 9}},
			message{"sync", fields{"fork": 0, "length": huge, "remoteLength": huge, "canUpgrade": true, "uploading": false, "downloading": true, "hasManifest": true, "allowPush": true}},
			blockRequest(1, 4))
		equal(s.T, "answered", p.receive("data", 1)[0]["request"], any(1.0))
		r := s.reader.open(keyed(w.key()))
		s.join()
		r.download(0, 10)
		r.check("hostile", 0, 10, 30)
	})
}
