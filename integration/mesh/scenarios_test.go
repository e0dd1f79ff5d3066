package mesh

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"
)

// scenarios are run on one mesh, in this order. docker: also on containers in every run.
var scenarios = []struct {
	name   string
	docker bool
	run    func(*trial)
}{
	{"Converge", false, converge},
	{"KillWriter", true, killWriter},
	{"KillMirror", true, killMirror},
	{"Partition", true, partition},
	{"NoBootstrap", false, noBootstrap},
	{"RollingRestart", false, rollingRestart},
	{"Pause", false, pause},
	{"Purge", false, purge},
}

// converge is the mesh as it should be: mirrors and readers get what was there before them, and what comes.
func converge(t *trial) {
	for _, w := range t.mesh.Writers {
		t.write(w, 1000)
	}
	t.seed(t.mesh.Mirrors...)
	t.follow(t.mesh.Readers...)
	t.arrived(t.mesh.Nodes()...)
	for _, l := range t.logs {
		t.append(l, 500)
	}
}

// killWriter kills a writer in the middle of appends, twice: what it had acknowledged is there when it is back.
func killWriter(t *trial) {
	for _, w := range t.mesh.Writers {
		t.write(w, batch)
	}
	t.seed(t.mesh.Mirrors...)
	t.follow(t.mesh.Readers...)
	stop := t.load()
	defer stop()
	victim := t.logs[0]
	for range 2 {
		t.grown(victim, 500)
		t.ok(t.mesh.Kill(t.limit(), victim.writer.Name))
		t.ok(t.mesh.Restart(t.limit(), victim.writer.Name))
	}
	t.grown(victim, 500)
}

// killMirror kills a mirror while it downloads, and starts it again: it goes on by itself.
func killMirror(t *trial) {
	for _, w := range t.mesh.Writers {
		t.write(w, 15_000)
	}
	t.follow(t.mesh.Readers...)
	t.seed(t.mesh.Mirrors...)
	victim, l := t.mesh.Mirrors[0], t.logs[0]
	var got uint64
	t.ok(Poll(t.limit(), func(ctx context.Context) error {
		info, err := victim.Core(ctx, l.id)
		if got = info.LocalBlocks; err == nil && got == 0 {
			err = fmt.Errorf("%s has no block yet", victim.Name)
		}
		return err
	}))
	t.ok(t.mesh.Kill(t.limit(), victim.Name))
	if want := l.acked.Load(); got >= want {
		t.Errorf("%s had all of %d blocks when it was killed: make more", victim.Name, want)
	}
	t.ok(t.mesh.Restart(t.limit(), victim.Name))
}

// partition cuts the network in two, a writer on each side, and takes a reader off altogether; each side goes on with its
// own writer, and all have everything once the network is whole.
func partition(t *trial) {
	for _, w := range t.mesh.Writers {
		t.write(w, batch)
	}
	t.seed(t.mesh.Mirrors...)
	t.follow(t.mesh.Readers...)
	t.arrived(t.mesh.Nodes()...)
	here, there := t.logs[0], t.logs[1]
	alone := t.mesh.Readers[3]
	t.ok(t.mesh.Disconnect(t.limit(), alone.Name))
	t.ok(t.mesh.Cut(t.limit(), "writer2", "mirror2", "mirror3", "reader2"))
	before := here.acked.Load()
	west := []*Node{t.mesh.Writers[0], t.mesh.Mirrors[0], t.mesh.Readers[0], t.mesh.Readers[2]}
	east := []*Node{t.mesh.Writers[1], t.mesh.Mirrors[1], t.mesh.Mirrors[2], t.mesh.Readers[1]}
	t.append(here, 500)
	t.append(there, 500)
	for _, side := range []struct {
		l     *log
		nodes []*Node
	}{
		{here, west[1:]},
		{there, east[1:]},
	} {
		for _, n := range side.nodes {
			t.ok(Poll(t.limit(), func(ctx context.Context) error { return t.has(ctx, n, side.l, side.l.acked.Load()) }))
		}
	}
	// Streams over a cut that is short go on as if nothing had been: this one lasts until all are given up.
	t.apart(west, east)
	t.apart([]*Node{alone}, append(west, east...))
	// The cut has to have been one.
	for n, l := range map[*Node]*log{t.mesh.Mirrors[1]: here, t.mesh.Mirrors[0]: there, alone: here} {
		info, err := n.Core(t.limit(), l.id)
		t.ok(err)
		if info.Length > before {
			t.Errorf("%s has %d blocks of %s across the cut, want %d", n.Name, info.Length, l.name, before)
		}
	}
	t.ok(t.mesh.Heal(t.limit()))
	t.ok(t.mesh.Reconnect(t.limit(), alone.Name))
}

// noBootstrap is a network that lives without the node that it began with.
func noBootstrap(t *trial) {
	t.ok(t.mesh.Stop(t.limit(), Bootstrap))
	for _, w := range t.mesh.Writers {
		t.write(w, 500)
	}
	t.seed(t.mesh.Mirrors...)
	t.follow(t.mesh.Readers...)
	t.arrived(t.mesh.Nodes()...)
}

// rollingRestart restarts all nodes but the bootstrap node, one after the other, while writers append.
func rollingRestart(t *trial) {
	for _, w := range t.mesh.Writers {
		t.write(w, batch)
	}
	t.seed(t.mesh.Mirrors...)
	t.follow(t.mesh.Readers...)
	stop := t.load()
	defer stop()
	for _, n := range t.mesh.Nodes() {
		t.grown(t.logs[0], batch)
		t.ok(t.mesh.Stop(t.limit(), n.Name))
		t.ok(t.mesh.Restart(t.limit(), n.Name))
	}
}

// pause freezes a mirror and a reader for 30 seconds, in the middle of downloads.
func pause(t *trial) {
	for _, w := range t.mesh.Writers {
		t.write(w, 2000)
	}
	t.seed(t.mesh.Mirrors...)
	t.follow(t.mesh.Readers...)
	t.ok(t.mesh.Pause(t.limit(), "mirror1", "reader1"))
	frozen := time.NewTimer(30 * time.Second)
	for _, l := range t.logs {
		t.append(l, 500)
	}
	// The others must not wait for those that are frozen.
	t.arrived(t.mesh.Mirrors[1], t.mesh.Mirrors[2], t.mesh.Readers[1], t.mesh.Readers[2], t.mesh.Readers[3])
	<-frozen.C // is what the scenario is about
	for _, l := range t.logs {
		t.append(l, 500)
	}
	t.ok(t.mesh.Resume(t.limit(), "mirror1", "reader1"))
}

// purge deletes everything at a mirror while the others download, from it too: the writers append all the time.
func purge(t *trial) {
	for _, w := range t.mesh.Writers {
		t.write(w, 5000)
	}
	victim := t.mesh.Mirrors[0]
	t.seed(victim)
	for _, l := range t.logs {
		t.ok(Poll(t.limit(), func(ctx context.Context) error { return t.has(ctx, victim, l, batch) }))
	}
	t.seed(t.mesh.Mirrors[1:]...)
	t.follow(t.mesh.Readers...)
	stop := t.load()
	defer stop()
	for _, l := range t.logs {
		t.ok(Poll(t.limit(), func(ctx context.Context) error { return t.has(ctx, t.mesh.Mirrors[1], l, batch) }))
		began := time.Now()
		t.ok(victim.Purge(t.limit(), l.id))
		t.Logf("purged after %v", time.Since(began).Round(time.Millisecond))
	}
	stop()
	t.purged[victim.Name] = true
	t.arrived(t.mesh.Nodes()...)
	cores, err := victim.Cores(t.limit())
	t.ok(err)
	for _, c := range cores {
		if slices.ContainsFunc(t.logs, func(l *log) bool { return l.id == c.ID }) {
			t.Errorf("%s still has %s", victim.Name, c.ID)
		}
	}
}

// play runs scenarios on a mesh, and sets it back after each.
func play(t *testing.T, m *Mesh, all bool) {
	var before map[string]Usage
	for _, s := range scenarios {
		if !all && !s.docker {
			continue
		}
		began := time.Now()
		ok := t.Run(s.name, func(t *testing.T) {
			tr := &trial{T: t, mesh: m, ctx: t.Context(), purged: make(map[string]bool)}
			defer func() {
				if t.Failed() {
					tr.explain()
				}
			}()
			s.run(tr)
			tr.ok(m.Restore(tr.limit()))
			tr.check()
			tr.forget()
			before = tr.back(before)
		})
		t.Logf("%s: %v", s.name, time.Since(began).Round(100*time.Millisecond))
		if !ok {
			return // the mesh is in an unknown state
		}
	}
}
