package mesh

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/p2pcore/p2pcore/node/api"
)

const (
	// patience bounds each wait of a scenario. It is generous, for two busy cores; reaching it is a failure.
	patience = 2 * time.Minute
	// blockBytes is the size of a block, batch the number of blocks of an append.
	blockBytes = 1 << 10
	batch      = 100
)

// Bounds of what a node takes after a scenario.
const (
	// moreGoroutines is by how many they may be more than after the first scenario: peers connect over one transport or two,
	// anew after restarts, and each connection has some. What leaks adds up over the scenarios.
	moreGoroutines = 40

	// moreLive is by how many bytes more may live than after the first scenario, besides the store's own memory. The collector
	// may have run in the middle of a download, with requests of all peers under way (60 MiB were seen), and since then the
	// store may have let go of three write buffers of 32 MiB, which counted as live.
	moreLive = 160 << 20

	// mostResident is what a daemon may take in all: its --memory of 256 MiB, and beside what Go counts the program itself.
	mostResident = 320 << 20
)

// log is a feed of a scenario.
type log struct {
	name, id string
	writer   *Node
	acked    atomic.Uint64 // blocks whose append has returned
}

// block is block index of the log: whoever has the index knows what it must be.
func (l *log) block(index uint64) []byte {
	head := fmt.Sprintf("%s %d ", l.name, index)
	return []byte(head + strings.Repeat("-", blockBytes-len(head)-1) + "\n")
}

func (l *log) blocks(start uint64, n int) [][]byte {
	out := make([][]byte, n)
	for i := range out {
		out[i] = l.block(start + uint64(i))
	}
	return out
}

// follower reads a log at a node, from its first block on, and goes on after the node was away.
type follower struct {
	node *Node
	log  *log
	next atomic.Uint64
	end  context.CancelFunc
	over chan struct{} // closed once err is set
	err  error
}

func (f *follower) run(ctx context.Context) {
	defer close(f.over)
	for ctx.Err() == nil {
		var wrong error
		err := f.node.Follow(ctx, f.log.id, f.next.Load(), func(index uint64, b []byte) error {
			if want := f.next.Load(); index != want || string(b) != string(f.log.block(index)) {
				wrong = fmt.Errorf("%s: got block %d of %s, want %d; bytes are %.60q", f.node.Name, index, f.log.name, want, b)
				return wrong
			}
			f.next.Add(1)
			return nil
		})
		var told *api.Problem
		switch {
		case wrong != nil:
			f.err = wrong
			return
		case ctx.Err() != nil:
			return
		case errors.As(err, &told) && told.Code != api.CodeError:
			f.err = err
			return
		}
		f.node.WaitReady(ctx) // ends with ctx, or when the node is back
	}
}

// trial is one scenario on a mesh.
type trial struct {
	*testing.T
	mesh      *Mesh
	ctx       context.Context
	logs      []*log
	followers []*follower
	purged    map[string]bool // nodes that need not have the logs
}

func (t *trial) ok(err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// limit is a context for one wait.
func (t *trial) limit() context.Context {
	ctx, cancel := context.WithTimeout(t.ctx, patience)
	t.Cleanup(cancel)
	return ctx
}

// write makes a log at a writer, announces it, and appends so many blocks.
func (t *trial) write(w *Node, n int) *log {
	t.Helper()
	name := fmt.Sprintf("%s-%s-%d", strings.ToLower(t.Name()[strings.LastIndexByte(t.Name(), '/')+1:]), w.Name, time.Now().UnixNano())
	info, err := w.Create(t.limit(), name)
	t.ok(err)
	l := &log{name: name, id: info.ID, writer: w}
	t.logs = append(t.logs, l)
	t.ok(w.Seed(t.limit(), l.id))
	t.append(l, n)
	return l
}

// append appends n blocks.
func (t *trial) append(l *log, n int) {
	t.Helper()
	for n > 0 {
		start, m := l.acked.Load(), min(n, batch)
		t.ok(l.writer.Append(t.limit(), l.id, start, l.blocks(start, m)...))
		l.acked.Add(uint64(m))
		n -= m
	}
}

// seed has nodes mirror all logs.
func (t *trial) seed(nodes ...*Node) {
	t.Helper()
	for _, n := range nodes {
		for _, l := range t.logs {
			t.ok(n.Seed(t.limit(), l.id))
		}
	}
}

// follow has nodes read all logs.
func (t *trial) follow(nodes ...*Node) {
	for _, n := range nodes {
		for _, l := range t.logs {
			ctx, cancel := context.WithCancel(t.ctx)
			f := &follower{node: n, log: l, end: cancel, over: make(chan struct{})}
			t.followers = append(t.followers, f)
			go f.run(ctx)
		}
	}
}

// load appends to all logs until the function that it returns is called. A writer that is away is waited for.
func (t *trial) load() (stop func()) {
	ctx, cancel := context.WithCancel(t.ctx)
	var all sync.WaitGroup
	for _, l := range t.logs {
		all.Go(func() {
			for ctx.Err() == nil {
				start := l.acked.Load()
				// The context is not the load's: a request that is broken off may or may not count.
				if err := l.writer.Append(t.ctx, l.id, start, l.blocks(start, batch)...); err == nil {
					l.acked.Add(batch)
				} else if err := t.recover(l, err); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	return func() {
		cancel()
		all.Wait()
	}
}

// recover finds out how far a log has come after an append has failed.
func (t *trial) recover(l *log, cause error) error {
	ctx, cancel := context.WithTimeout(t.ctx, patience)
	defer cancel()
	if err := l.writer.WaitReady(ctx); err != nil {
		return errors.Join(cause, err)
	}
	info, err := l.writer.Core(ctx, l.id)
	if err != nil {
		return errors.Join(cause, err)
	}
	acked := l.acked.Load()
	if info.Length < acked {
		return fmt.Errorf("%s has %d blocks of %s after a restart, %d were acknowledged", l.writer.Name, info.Length, l.name, acked)
	}
	l.acked.Store(info.Length)
	return nil
}

// grown waits until a log has so many blocks more than now.
func (t *trial) grown(l *log, n uint64) {
	t.Helper()
	want := l.acked.Load() + n
	t.ok(Poll(t.limit(), func(context.Context) error {
		if got := l.acked.Load(); got < want {
			return fmt.Errorf("%s has %d blocks, want %d", l.name, got, want)
		}
		return nil
	}))
}

// arrived waits until the nodes have all that was acknowledged when it was called: by their mirroring, or by
// reading.
func (t *trial) arrived(nodes ...*Node) {
	t.Helper()
	began := time.Now()
	for _, l := range t.logs {
		want := l.acked.Load()
		for _, n := range nodes {
			if t.purged[n.Name] || l.writer != n && slices.Contains(t.mesh.Writers, n) {
				continue // it has deleted the log, or reads nobody's
			}
			t.ok(Poll(t.limit(), func(ctx context.Context) error { return t.has(ctx, n, l, want) }))
		}
	}
	t.Logf("all there after %v", time.Since(began).Round(time.Millisecond))
}

// has tells how a node lacks blocks of a log.
func (t *trial) has(ctx context.Context, n *Node, l *log, want uint64) error {
	for _, f := range t.followers {
		if f.node != n || f.log != l {
			continue
		}
		select {
		case <-f.over:
			return fmt.Errorf("%s has ended at block %d of %s: %w", n.Name, f.next.Load(), l.name, f.err)
		default:
		}
		if got := f.next.Load(); got < want {
			return fmt.Errorf("%s has read %d blocks of %s, want %d", n.Name, got, l.name, want)
		}
	}
	info, err := n.Core(ctx, l.id)
	if err != nil {
		return err
	}
	if info.ContiguousLength < want {
		return fmt.Errorf("%s has %d of %d blocks of %s, and %d peers for it", n.Name, info.ContiguousLength, want, l.name, info.Peers)
	}
	return nil
}

// check is what has to hold when a scenario is over and the mesh is whole.
func (t *trial) check() {
	t.Helper()
	for _, l := range t.logs {
		info, err := l.writer.Core(t.limit(), l.id)
		t.ok(err)
		if acked := l.acked.Load(); info.Length != acked || info.Fork != 0 {
			t.Errorf("%s has %d blocks of %s in fork %d, want %d in fork 0", l.writer.Name, info.Length, l.name, info.Fork, acked)
		}
	}
	t.arrived(t.mesh.Nodes()...)
	for _, n := range t.mesh.Nodes() {
		t.ok(n.Verify(t.limit()))
	}
	t.ok(Poll(t.limit(), t.mesh.Paired))
}

// apart waits until no node of one group has a replication stream with one of the other.
func (t *trial) apart(one, other []*Node) {
	t.Helper()
	ids := make(map[string]*Node)
	for _, n := range other {
		st, err := n.Status(t.limit())
		t.ok(err)
		ids[st.PeerID] = n
	}
	for _, n := range one {
		t.ok(Poll(t.limit(), func(ctx context.Context) error {
			peers, err := n.Peers(ctx)
			for _, p := range peers {
				if far := ids[p.PeerID]; p.Replicating && far != nil {
					return fmt.Errorf("%s has a stream with %s across the cut", n.Name, far.Name)
				}
			}
			return err
		}))
	}
}

// back waits until all nodes take no more than before, or what they always may, and returns what is the measure for the next scenario. before is
// nil for the first, which leaves the mesh with its connections.
func (t *trial) back(before map[string]Usage) map[string]Usage {
	t.Helper()
	var now map[string]Usage
	t.ok(Poll(t.limit(), func(ctx context.Context) (err error) {
		if now, err = t.mesh.Usage(ctx); err != nil || before == nil {
			return err
		}
		for name, u := range now {
			if u.Goroutines > before[name].Goroutines+moreGoroutines || u.Live > before[name].Live+moreLive || u.Resident > mostResident {
				return fmt.Errorf("%s takes %+v, before %+v", name, u, before[name])
			}
		}
		return nil
	}))
	for _, n := range t.mesh.Nodes() {
		u := now[n.Name]
		t.Logf("%s: %d goroutines, %d MiB, %d of them live beside the store's", n.Name, u.Goroutines, u.Resident>>20, u.Live>>20)
	}
	if before == nil {
		return now
	}
	return before
}

// forget removes what the scenario has made.
func (t *trial) forget() {
	for _, f := range t.followers {
		f.end()
		<-f.over
		if f.err != nil {
			t.Error(f.err)
		}
	}
	for _, n := range t.mesh.Nodes() {
		for _, l := range t.logs {
			if !t.purged[n.Name] && (l.writer == n || !slices.Contains(t.mesh.Writers, n)) {
				t.ok(n.Unseed(t.limit(), l.id))
			}
		}
	}
}

// explain logs what the nodes have said.
func (t *trial) explain() {
	t.Logf("%s said:\n%s", Bootstrap, tail(t.mesh.Log(t.limit(), Bootstrap), 10))
	for _, n := range t.mesh.Nodes() {
		t.Logf("%s said:\n%s", n.Name, tail(t.mesh.Log(t.limit(), n.Name), 15))
	}
}
