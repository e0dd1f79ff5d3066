package replica

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
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
