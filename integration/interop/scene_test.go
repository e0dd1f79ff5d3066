package interop

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/p2pcore/p2pcore/corestore"
)

// kind is an implementation.
type kind string

const (
	js   kind = "JavaScript"
	ours kind = "Go"
)

// setup says which implementation plays which part.
type setup struct {
	network        network
	writer, reader kind
	writerDials    bool
	middle         kind // of the machines between them; Go if empty
}

// setups are all in which every scenario runs.
func setups() (all []setup) {
	pairs := [][2]kind{{js, ours}, {ours, js}, {ours, ours}}
	if *baseline {
		pairs = [][2]kind{{js, js}}
	}
	for _, pair := range pairs {
		for _, n := range []network{tcp, libp2p} {
			for _, writerDials := range []bool{false, true} {
				all = append(all, setup{n, pair[0], pair[1], writerDials, ""})
			}
		}
	}
	return all
}

// across are setups for a scenario in which it matters little who dials: each pair and each network once.
func across() (some []setup) {
	for i, s := range setups() {
		if i%4 == 0 || i%4 == 3 {
			some = append(some, s)
		}
	}
	return some
}

// chains are setups for a scenario with machines between writer and reader.
func chains() (all []setup) {
	kinds := [][2]kind{{js, ours}, {ours, js}, {ours, ours}}
	if *baseline {
		kinds = [][2]kind{{js, js}}
	}
	for _, k := range kinds {
		for _, n := range []network{tcp, libp2p} {
			for _, writerDials := range []bool{false, true} {
				all = append(all, setup{n, k[0], k[0], writerDials, k[1]})
			}
		}
	}
	return all
}

// applications are those of chains with JavaScript at both ends.
func applications() []setup { return chains()[:4] }

func (s setup) String() string {
	dials := "reader dials"
	if s.writerDials {
		dials = "writer dials"
	}
	way := fmt.Sprintf("%s to %s", s.writer, s.reader)
	if s.middle != "" {
		way = fmt.Sprintf("%s to %s to %s", s.writer, s.middle, s.reader)
	}
	return strings.ReplaceAll(fmt.Sprintf("%s, %s, %s", way, s.network, dials), " ", "_")
}

// scene is one run of a scenario.
type scene struct {
	*testing.T
	setup
	ctx            context.Context
	writer, reader party
	parties        []party // these and all others
}

// play runs a scenario in each of the setups, with a writer and a reader.
func play(t *testing.T, in []setup, scenario func(s *scene)) {
	t.Helper()
	stage(t, in, func(s *scene) {
		s.writer, s.reader = s.party(s.setup.writer), s.party(s.setup.reader)
		scenario(s)
	})
}

// stage is play without parties.
func stage(t *testing.T, in []setup, scenario func(s *scene)) {
	t.Helper()
	t.Parallel()
	for _, x := range in {
		t.Run(x.String(), func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			s := &scene{T: t, setup: x, ctx: ctx}
			scenario(s)
			for _, p := range s.parties {
				p.stop()
			}
		})
	}
}

// party makes one more machine.
func (s *scene) party(k kind) party {
	s.Helper()
	return s.partyOf(k, nil)
}

// partyOf makes one more machine, of a primary key unless that is nil.
func (s *scene) partyOf(k kind, primary *[32]byte) (p party) {
	s.Helper()
	if k == js {
		p = newJSWith(s.T, s.ctx, primary)
	} else {
		p = newGoWith(s.T, s.ctx, corestore.Options{PrimaryKey: primary})
	}
	s.parties = append(s.parties, p)
	return p
}

// relay makes a machine between writer and reader.
func (s *scene) relay() party {
	s.Helper()
	switch {
	case *baseline:
		return s.party(js)
	case s.middle != "":
		return s.party(s.middle)
	}
	return s.party(ours)
}

// join connects writer and reader.
func (s *scene) join() {
	s.Helper()
	s.chain(s.writer, s.reader)
}

// chain connects each party with the next one. The writer's end is the first.
func (s *scene) chain(parties ...party) {
	s.Helper()
	for i := range parties[1:] {
		if s.writerDials {
			s.connect(parties[i], parties[i+1])
		} else {
			s.connect(parties[i+1], parties[i])
		}
	}
}

// connect connects two parties; the first one dials.
func (s *scene) connect(a, b party) {
	s.Helper()
	a.dial(s.network, b.listen(s.network))
}

// meanwhile runs f beside the scenario; wait returns what it did.
func meanwhile[T any](t *testing.T, f func() T) (wait func() T) {
	type outcome struct {
		value T
		ok    bool
	}
	done := make(chan outcome, 1)
	go func() {
		var o outcome
		defer func() { done <- o }() // also when f has failed the test
		o.value, o.ok = f(), true
	}()
	return func() T {
		t.Helper()
		o := <-done
		if !o.ok {
			runtime.Goexit()
		}
		return o.value
	}
}

// equal fails the scenario if got is not want.
func equal[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		text, wanted := fmt.Sprint(got), fmt.Sprint(want)
		t.Fatalf("%s: got %.200s, want %.200s", what, text, wanted)
	}
}
