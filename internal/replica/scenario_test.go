package replica

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/p2pcore/p2pcore/internal/flattree"
	"github.com/p2pcore/p2pcore/internal/merkle"
	"github.com/p2pcore/p2pcore/internal/wire"
)

var update = flag.Bool("update", false, "write the traces of testdata anew")

// TestScenarios plays the conversations of testdata. A line at the margin is an event, the indented
// lines below it are the actions that it must lead to. The words are those of scenario.event.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := play(t, want)
			if *update {
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if !bytes.Equal(got, want) {
				t.Errorf("trace differs, first at:\n%s", firstDifference(string(got), string(want)))
			}
		})
	}
}

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	event := ""
	for i := 0; i < len(g) || i < len(w); i++ {
		a, b := "(end)", "(end)"
		if i < len(g) {
			a = g[i]
		}
		if i < len(w) {
			b = w[i]
		}
		if a != b {
			return fmt.Sprintf("line %d, after %q\n got %s\nwant %s", i+1, event, a, b)
		}
		if !strings.HasPrefix(a, " ") {
			event = a
		}
	}
	return "?"
}

// scenario is one machine and what it has asked for.
type scenario struct {
	feed     *fakeFeed
	machine  *Machine
	now      time.Time
	plans    []Plan
	verdicts []CanUpgrade
	proofs   []Prove
	applies  []Apply
	reorgs   []Action // StartReorg, StepReorg, ApplyReorg
	examines []Examine
}

// play runs the events of a scenario and returns it with the actions that they have led to.
func play(t *testing.T, script []byte) []byte {
	t.Helper()
	s := &scenario{feed: &fakeFeed{}, now: time.Unix(1000, 0)}
	var out bytes.Buffer
	lines := strings.Split(strings.TrimSuffix(string(script), "\n"), "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, " ") {
			continue
		}
		fmt.Fprintln(&out, line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		actions, err := s.step(line)
		if err != nil {
			t.Fatalf("line %d: %q: %v, after\n%s", i+1, line, err, out.Bytes())
		}
		for _, a := range actions {
			fmt.Fprintf(&out, "  %s\n", show(a))
		}
	}
	return out.Bytes()
}

func (s *scenario) step(line string) ([]Action, error) {
	words := strings.Fields(line)
	a := args{words: words}
	if words[0] == "feed" { // before the machine is made
		a.words = words[1:]
		s.setFeed(&a)
		s.machine = New(s.feed, Limits{}, rand.New(rand.NewPCG(1, 2)))
		if a.has("refuse-forks") {
			s.machine.RefuseForks()
		}
		return nil, a.err
	}
	ev := s.event(&a)
	if a.err != nil {
		return nil, a.err
	}
	// The slice is the machine's; the scenario keeps the actions only.
	actions := append([]Action(nil), s.machine.Step(s.now, ev)...)
	for _, act := range actions {
		switch act := act.(type) {
		case Plan:
			s.plans = append(s.plans, act)
		case CanUpgrade:
			s.verdicts = append(s.verdicts, act)
		case Prove:
			s.proofs = append(s.proofs, act)
		case Apply:
			s.applies = append(s.applies, act)
		case StartReorg, StepReorg, ApplyReorg:
			s.reorgs = append(s.reorgs, act)
		case Examine:
			s.examines = append(s.examines, act)
		}
	}
	return actions, nil
}

// setFeed reads "fork=0 length=5 have=0..5 manifest".
func (s *scenario) setFeed(a *args) {
	f := s.feed
	fork, length := a.number("fork", f.info.Fork), a.number("length", f.info.Length)
	if fork != f.info.Fork {
		f.forkFrom(a.number("ancestors", min(length, f.info.Length)))
	}
	f.info.Fork, f.info.Length = fork, length
	f.info.Frozen = (f.info.Frozen || a.has("frozen")) && !a.has("thawed")
	f.info.HasManifest = f.info.HasManifest || a.has("manifest")
	for _, r := range a.ranges("have") {
		for b := r.Start; b < r.End; b++ {
			f.store(b)
		}
	}
	for _, r := range a.ranges("drop") {
		f.drop(r)
	}
	if s.machine == nil {
		f.changed()
	}
}

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

// fault takes the name of a fault.
func (a *args) fault() (Fault, error) {
	for name, f := range map[string]Fault{"stale": FaultStale, "unavailable": FaultNotAvailable, "invalid": FaultInvalid,
		"contradicts": FaultContradicts, "failed": FaultFailed} {
		if a.has(name) {
			return f, errors.New(name)
		}
	}
	return FaultNone, nil
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

// args reads the words of a line.
type args struct {
	words []string
	err   error
}

func (a *args) fail(err error) {
	if a.err == nil {
		a.err = err
	}
}

// word takes the first word that is left.
func (a *args) word() string {
	if len(a.words) == 0 {
		a.fail(errors.New("a word is missing"))
		return ""
	}
	w := a.words[0]
	a.words = a.words[1:]
	return w
}

func (a *args) integer() uint64 {
	n, err := strconv.ParseUint(a.word(), 10, 64)
	a.fail(err)
	return n
}

// span takes a word like 3..7.
func (a *args) span() merkle.Range {
	rs := parseRanges(a.word(), a)
	if len(rs) != 1 {
		a.fail(errors.New("a range is missing"))
		return merkle.Range{}
	}
	return rs[0]
}

func parseRanges(s string, a *args) (rs []merkle.Range) {
	for _, part := range strings.Split(s, ",") {
		from, to, ok := strings.Cut(part, "..")
		start, err := strconv.ParseUint(from, 10, 64)
		a.fail(err)
		end := start + 1
		if ok {
			end, err = strconv.ParseUint(to, 10, 64)
			a.fail(err)
		}
		rs = append(rs, merkle.Range{Start: start, End: end})
	}
	return rs
}

// value takes the word key=value.
func (a *args) value(key string) (string, bool) {
	for i, w := range a.words {
		if v, ok := strings.CutPrefix(w, key+"="); ok {
			a.words = append(a.words[:i:i], a.words[i+1:]...)
			return v, true
		}
	}
	return "", false
}

func (a *args) number(key string, def uint64) uint64 {
	v, ok := a.value(key)
	if !ok {
		return def
	}
	n, err := strconv.ParseUint(v, 10, 64)
	a.fail(err)
	return n
}

func (a *args) ranges(key string) []merkle.Range {
	v, ok := a.value(key)
	if !ok {
		return nil
	}
	return parseRanges(v, a)
}

func (a *args) pair(key, sep string) (x, y uint64, ok bool) {
	v, ok := a.value(key)
	if !ok {
		return 0, 0, false
	}
	first, second, found := strings.Cut(v, sep)
	x, err := strconv.ParseUint(first, 10, 64)
	a.fail(err)
	if found {
		y, err = strconv.ParseUint(second, 10, 64)
		a.fail(err)
	}
	return x, y, true
}

// has takes a flag word.
func (a *args) has(flag string) bool {
	for i, w := range a.words {
		if w == flag {
			a.words = append(a.words[:i:i], a.words[i+1:]...)
			return true
		}
	}
	return false
}
