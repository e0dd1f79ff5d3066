package replica

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/p2pcore/p2pcore/internal/flattree"
	"github.com/p2pcore/p2pcore/internal/merkle"
	"github.com/p2pcore/p2pcore/internal/wire"
)

// event reads one line.
func (s *scenario) event(a *args) Event {
	if n, err := strconv.ParseUint(a.words[0], 10, 64); err == nil {
		a.words = a.words[1:]
		return s.peerEvent(PeerID(n), a)
	}
	verb := a.words[0]
	a.words = a.words[1:]
	switch verb {
	case "time":
		d, err := time.ParseDuration(a.word())
		a.fail(err)
		s.now = s.now.Add(d)
		return Tick{}
	case "want":
		w := Want{Ticket: Ticket(a.integer()), Priority: int(a.number("priority", 0)),
			Linear: a.has("linear"), Follow: a.has("follow"), Force: a.has("force")}
		if rs := a.ranges("list"); len(rs) > 0 {
			for _, r := range rs {
				w.Blocks = append(w.Blocks, r.Start)
			}
		} else {
			w.Range = a.span()
		}
		return w
	case "update":
		return WantUpgrade{Ticket: Ticket(a.integer())}
	case "seek":
		w := WantSeek{Ticket: Ticket(a.integer()), Bytes: a.number("bytes", 0)}
		if rs := a.ranges("span"); len(rs) > 0 {
			w.Span = rs[0]
		}
		return w
	case "forget":
		return Forget{Ticket: Ticket(a.integer())}
	case "downloading":
		return SetDownloading{On: a.word() == "on"}
	case "set-push":
		return SetPush{Allow: a.has("allow"), Only: a.has("only")}
	case "lazy":
		return SetLazy{On: a.word() == "on"}
	case "push":
		return Push{Range: a.span()}
	case "prospects":
		return Prospects{Opening: int(a.number("opening", 0)), Finding: a.has("finding")}
	case "ahead": // the feed changes, and the machine does not know yet
		s.setFeed(a)
		return Tick{}
	case "change": // the feed changes, as after an append
		s.setFeed(a)
		return s.feed.changed()
	case "changed": // what the applied proofs have changed
		return s.feed.changed()
	}
	return s.workEvent(verb, a)
}

// workEvent answers the oldest ask of a kind.
func (s *scenario) workEvent(verb string, a *args) Event {
	switch {
	case verb == "planned" && len(s.plans) > 0:
		p := s.plans[0]
		s.plans = s.plans[1:]
		e := Planned{Token: p.Token, Nodes: make([]uint64, len(p.Blocks))}
		for i := range e.Nodes {
			e.Nodes[i] = a.number("nodes", 0)
		}
		return e
	case verb == "verdict" && len(s.verdicts) > 0:
		v := s.verdicts[0]
		s.verdicts = s.verdicts[1:]
		return Verdict{Token: v.Token, OK: a.word() == "yes"}
	case verb == "proved" && len(s.proofs) > 0:
		p := s.proofs[0]
		s.proofs = s.proofs[1:]
		if f, _ := a.fault(); f != FaultNone {
			return Proved{Token: p.Token, Fault: f}
		}
		return s.feed.prove(p.Token, p.Request, int(a.number("size", 10)))
	case verb == "applied" && len(s.applies) > 0:
		p := s.applies[0]
		s.applies = s.applies[1:]
		switch {
		case a.has("invalid"):
			return Applied{Token: p.Token, Fault: FaultInvalid, Err: errors.New("bad hash")}
		case a.has("contradicts"):
			return Applied{Token: p.Token, Fault: FaultContradicts, Err: errors.New("bad signature")}
		case a.has("stale"):
			return Applied{Token: p.Token, Fault: FaultStale}
		case a.has("failed"):
			return Applied{Token: p.Token, Fault: FaultFailed, Err: errors.New("disk full")}
		}
		return s.feed.apply(p.Token, p.Proof)
	case verb == "reorged" && len(s.reorgs) > 0:
		return s.reorged(a)
	case verb == "examined" && len(s.examines) > 0:
		x := s.examines[0]
		s.examines = s.examines[1:]
		e := Examined{Token: x.Token, Conflict: a.has("conflict")}
		e.Fault, e.Err = a.fault()
		return e
	}
	a.fail(fmt.Errorf("nothing to answer, or unknown word %q", verb))
	return nil
}

// reorged answers the oldest ask about a fork: with a fault, or with what the search wants next; or the fork
// is applied, and the feed becomes what the words say.
func (s *scenario) reorged(a *args) Event {
	e := Reorged{Search: "search"}
	switch ask := s.reorgs[0].(type) {
	case StartReorg:
		e.Token, e.Length = ask.Token, ask.Proof.Upgrade.Start+ask.Proof.Upgrade.Length
	case StepReorg:
		e.Token, e.Length = ask.Token, a.number("length", 0)
	case ApplyReorg:
		e.Token = ask.Token
		s.setFeed(a)
	}
	s.reorgs = s.reorgs[1:]
	if rs := a.ranges("want"); len(rs) > 0 {
		e.More = true
		e.Want = merkle.Want{Range: rs[0], Nodes: a.number("nodes", 0)}
	}
	e.Fault, e.Err = a.fault()
	return e
}

func (s *scenario) peerEvent(p PeerID, a *args) Event {
	verb := a.words[0]
	a.words = a.words[1:]
	switch verb {
	case "opened":
		return Opened{Peer: p, Seeks: true, Room: int(a.number("room", 1<<20)), Window: int(a.number("window", 0))}
	case "closed":
		return Closed{Peer: p}
	case "room":
		return Room{Peer: p, Bytes: int(a.integer())}
	case "push":
		return Push{Peer: p, Range: a.span()}
	case "extend":
		return Extend{Peer: p, Name: a.word(), Message: []byte(a.word())}
	}
	return Received{Peer: p, Message: s.message(verb, a)}
}

func (s *scenario) message(verb string, a *args) wire.Message {
	span := func() (start, length uint64) {
		r := a.span()
		return r.Start, r.Len()
	}
	switch verb {
	case "sync":
		return &wire.Sync{Fork: a.number("fork", 0), Length: a.number("length", 0),
			RemoteLength: a.number("remote", 0), CanUpgrade: a.has("can"), Uploading: !a.has("not-up"),
			Downloading: !a.has("not-down"), HasManifest: a.has("manifest"), AllowPush: a.has("push")}
	case "range":
		m := &wire.Range{Drop: a.has("drop")}
		m.Start, m.Length = span()
		return m
	case "bitfield":
		m := &wire.Bitfield{Start: a.integer()}
		for len(a.words) > 0 {
			w, err := strconv.ParseUint(a.word(), 16, 32)
			a.fail(err)
			m.Words = append(m.Words, uint32(w))
		}
		return m
	case "want":
		m := &wire.Want{Any: a.has("any")}
		m.Start, m.Length = span()
		return m
	case "unwant":
		m := &wire.Unwant{Any: a.has("any")}
		m.Start, m.Length = span()
		return m
	case "cancel":
		return &wire.Cancel{ID: a.integer()}
	case "nodata":
		return &wire.NoData{ID: a.integer(), Reason: a.number("reason", 1)}
	case "extension":
		return &wire.Extension{Name: strings.Trim(a.word(), `"`), Message: []byte(a.word())}
	case "request":
		m := &wire.Request{ID: a.integer(), Priority: a.number("priority", 0)}
		m.Fork, m.Manifest = a.number("fork", 0), a.has("manifest")
		if x, y, ok := a.pair("block", "/"); ok {
			m.Block = &merkle.BlockRequest{Index: x, Nodes: y}
		}
		if x, y, ok := a.pair("upgrade", "+"); ok {
			m.Upgrade = &merkle.UpgradeRequest{Start: x, Length: y}
		}
		return m
	case "data":
		m := &wire.Data{ID: a.integer()}
		m.Proof.Fork = a.number("fork", 0)
		if a.has("manifest") {
			m.Proof.Manifest = []byte{1}
		}
		if x, _, ok := a.pair("block", "/"); ok {
			m.Proof.Block = &merkle.BlockProof{Index: x, Value: []byte("block")}
		}
		if x, _, ok := a.pair("hash", "/"); ok {
			m.Proof.Hash = &merkle.HashProof{Index: flattree.Index(x)}
		}
		if x, _, ok := a.pair("seek", "/"); ok {
			m.Proof.Seek = &merkle.SeekProof{Bytes: x}
		}
		if x, y, ok := a.pair("upgrade", "+"); ok {
			m.Proof.Upgrade = &merkle.UpgradeProof{Start: x, Length: y, Signature: []byte{1}}
			if n := a.number("additional", 0); n > 0 {
				m.Proof.Upgrade.Additional = []merkle.Node{{Size: x + y + n}}
			}
		}
		return m
	}
	a.fail(fmt.Errorf("unknown message %q", verb))
	return nil
}
