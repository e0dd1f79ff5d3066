package mesh

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Names of the nodes of a whole mesh.
const Bootstrap = "bootstrap"

var (
	writerNames = []string{"writer1", "writer2"}
	mirrorNames = []string{"mirror1", "mirror2", "mirror3"}
	readerNames = []string{"reader1", "reader2", "reader3", "reader4"}
)

const (
	// pollInterval is how often a condition is looked at that nobody tells of.
	pollInterval = 50 * time.Millisecond
	// requestTimeout bounds a request that is answered at once by a node that lives.
	requestTimeout = 10 * time.Second
	// stopTimeout is how long a node may take to end when asked to. It has to do with 5 s on an idle machine.
	stopTimeout = 20 * time.Second
	// closeTimeout bounds the end of a mesh: ten nodes that are killed, and their networks. An engine under load takes two
	// seconds for each.
	closeTimeout = 2 * time.Minute
)

// A Backend runs nodes, each under a name, and connects them. Its methods are called by one goroutine at a time. A node's
// store outlives its process.
type Backend interface {
	// Start starts a node that does not run, and returns when its process exists.
	Start(ctx context.Context, name string) error
	// Stop asks a node to end and waits. That it has to be killed, or fails, is an error.
	Stop(ctx context.Context, name string) error
	// Kill ends a node without a warning.
	Kill(ctx context.Context, name string) error
	// Pause freezes a node; Resume lets it go on.
	Pause(ctx context.Context, name string) error
	Resume(ctx context.Context, name string) error
	// Disconnect takes a node off the network; Reconnect puts it back, perhaps with another address.
	Disconnect(ctx context.Context, name string) error
	Reconnect(ctx context.Context, name string) error
	// Cut moves nodes to a network of their own, with their addresses; Heal moves all of them back.
	Cut(ctx context.Context, names ...string) error
	Heal(ctx context.Context) error
	// Store returns the directory of a node's store, as this process sees it.
	Store(name string) string
	// Log returns what a node has said.
	Log(ctx context.Context, name string) string
	// Close ends all nodes and removes what was made for them, stores included, also when ctx has ended. It does not take
	// longer than two minutes.
	Close(ctx context.Context) error
}

// Mesh is a network of nodes with one bootstrap node. It is used by one goroutine; its nodes' APIs by any number.
type Mesh struct {
	backend Backend
	stopped map[string]bool
	paused  map[string]bool
	off     map[string]bool
	cut     bool

	Writers, Mirrors, Readers []*Node
}

// Start starts a mesh of ten and waits until all are ready. If that fails the backend is closed.
func Start(ctx context.Context, b Backend) (*Mesh, error) {
	m := &Mesh{backend: b, stopped: make(map[string]bool), paused: make(map[string]bool), off: make(map[string]bool)}
	for _, n := range writerNames {
		m.Writers = append(m.Writers, newNode(n, b.Store(n)))
	}
	for _, n := range mirrorNames {
		m.Mirrors = append(m.Mirrors, newNode(n, b.Store(n)))
	}
	for _, n := range readerNames {
		m.Readers = append(m.Readers, newNode(n, b.Store(n)))
	}
	err := b.Start(ctx, Bootstrap)
	for _, n := range m.Nodes() {
		if err == nil {
			err = b.Start(ctx, n.Name)
		}
	}
	for _, n := range m.Nodes() {
		if err == nil {
			err = n.WaitReady(ctx)
		}
	}
	if err != nil {
		return nil, errors.Join(err, b.Close(ctx))
	}
	return m, nil
}

// Nodes are all nodes but the bootstrap node.
func (m *Mesh) Nodes() []*Node { return slices.Concat(m.Writers, m.Mirrors, m.Readers) }

// Close ends the mesh.
func (m *Mesh) Close(ctx context.Context) error { return m.backend.Close(ctx) }

// Log returns what a node has said.
func (m *Mesh) Log(ctx context.Context, name string) string { return m.backend.Log(ctx, name) }

// Stop asks nodes to end, one after the other. That one has to be killed is an error.
func (m *Mesh) Stop(ctx context.Context, names ...string) error {
	for _, n := range names {
		m.stopped[n] = true
		if err := m.backend.Stop(ctx, n); err != nil {
			return fmt.Errorf("stop %s: %w", n, err)
		}
	}
	return nil
}

// Kill ends a node without a warning.
func (m *Mesh) Kill(ctx context.Context, name string) error {
	m.stopped[name] = true
	return m.backend.Kill(ctx, name)
}

// Restart starts a node that was stopped or killed, and waits until it is ready.
func (m *Mesh) Restart(ctx context.Context, name string) error {
	if err := m.backend.Start(ctx, name); err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	delete(m.stopped, name)
	return newNode(name, m.backend.Store(name)).WaitReady(ctx)
}

// Pause freezes nodes.
func (m *Mesh) Pause(ctx context.Context, names ...string) error {
	for _, n := range names {
		if err := m.backend.Pause(ctx, n); err != nil {
			return err
		}
		m.paused[n] = true
	}
	return nil
}

// Resume lets nodes go on.
func (m *Mesh) Resume(ctx context.Context, names ...string) error {
	for _, n := range names {
		if err := m.backend.Resume(ctx, n); err != nil {
			return err
		}
		delete(m.paused, n)
	}
	return nil
}

// Disconnect takes a node off the network.
func (m *Mesh) Disconnect(ctx context.Context, name string) error {
	m.off[name] = true
	return m.backend.Disconnect(ctx, name)
}

// Reconnect puts a node back on the network.
func (m *Mesh) Reconnect(ctx context.Context, name string) error {
	if err := m.backend.Reconnect(ctx, name); err != nil {
		return err
	}
	delete(m.off, name)
	return nil
}

// Cut moves nodes to a network of their own.
func (m *Mesh) Cut(ctx context.Context, names ...string) error {
	m.cut = true
	return m.backend.Cut(ctx, names...)
}

// Heal makes one network of two.
func (m *Mesh) Heal(ctx context.Context) error {
	m.cut = false
	return m.backend.Heal(ctx)
}

// Restore undoes what was done to the nodes and the network, and waits until all are ready.
func (m *Mesh) Restore(ctx context.Context) error {
	var errs []error
	if m.cut {
		errs = append(errs, m.Heal(ctx))
	}
	for n := range m.off {
		errs = append(errs, m.Reconnect(ctx, n))
	}
	for n := range m.paused {
		errs = append(errs, m.Resume(ctx, n))
	}
	for n := range m.stopped {
		errs = append(errs, m.Restart(ctx, n))
	}
	for _, n := range m.Nodes() {
		errs = append(errs, n.WaitReady(ctx))
	}
	return errors.Join(errs...)
}

// Poll calls check until it returns nil, or ctx ends: then the error tells what was the matter last.
func Poll(ctx context.Context, check func(context.Context) error) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	var last error
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil || last == nil { // else the check was broken off
			last = err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%w; last: %w", context.Cause(ctx), last)
		}
	}
}

// tail is the end of a log.
func tail(s string, lines int) string {
	all := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
