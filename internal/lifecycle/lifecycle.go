// Package lifecycle owns goroutines. Whoever needs one has a [Group] and starts
// it there; its Close cancels the group's context and waits until everything in
// the group has ended. Product code starts goroutines and timers with callbacks
// nowhere else.
package lifecycle

import (
	"context"
	"sync"
)

// A Group is a set of goroutines with a common end. The zero value is an open
// group. It must not be copied. All methods are safe for concurrent use.
//
// A goroutine of a group must not close the group, nor a group above it: it
// would wait for itself.
type Group struct {
	// Set in Child.
	parent *Group

	// Under mu. Locks of a parent and its child are never held together.
	mu       sync.Mutex
	ctx      context.Context // made on first use
	cancel   context.CancelFunc
	running  int // goroutines started here or entered
	closing  bool
	idle     chan struct{} // made by the first Close; closed when closing and nothing runs
	children map[*Group]struct{}
	alarms   map[*alarm]struct{}
	gone     int // alarms taken out, for shrink.Delete
}

// NewGroup returns an open group.
func NewGroup() *Group { return new(Group) }

// Go runs fn in a new goroutine of the group and returns true, or returns false
// without running it once the group is closing. fn must return soon after its
// context ends.
func (g *Group) Go(fn func(ctx context.Context)) bool {
	ctx, ok := g.begin()
	if !ok {
		return false
	}
	go func() {
		defer g.end()
		fn(ctx)
	}()
	return true
}

// Enter counts the calling goroutine, which somebody else has started, as part
// of the group until it calls leave. ok is false once the group is closing; the
// caller must then do nothing on the group's behalf. leave may be called more
// than once and is never nil. ctx is the group's, already cancelled if not ok.
func (g *Group) Enter() (ctx context.Context, leave func(), ok bool) {
	ctx, ok = g.begin()
	if !ok {
		return ctx, func() {}, false
	}
	return ctx, sync.OnceFunc(g.end), true
}

// Context returns the context of the group. It ends when the group or one above
// it begins to close.
func (g *Group) Context() context.Context {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.context()
}

// Child returns a new group that closes with g: g.Close waits for it. It may be
// closed before, alone. The child of a closing group refuses all work.
func (g *Group) Child() *Group {
	g.mu.Lock()
	defer g.mu.Unlock()
	c := &Group{parent: g}
	c.ctx, c.cancel = context.WithCancel(g.context())
	if g.closing {
		c.closing = true
		c.cancel()
		return c
	}
	if g.children == nil {
		g.children = make(map[*Group]struct{})
	}
	g.children[c] = struct{}{}
	return c
}

// Close ends the group: it refuses new work, stops its timers, cancels its
// context, and waits until all goroutines of the group and of its children have
// ended. It may be called again and by several goroutines; every call waits.
func (g *Group) Close() {
	g.mu.Lock()
	g.closing = true
	if g.idle == nil {
		g.idle = make(chan struct{})
		if g.running == 0 {
			close(g.idle)
		}
	}
	g.context()
	g.cancel()
	for a := range g.alarms {
		a.stop()
	}
	clear(g.alarms)
	children := make([]*Group, 0, len(g.children))
	for c := range g.children {
		children = append(children, c)
	}
	idle := g.idle
	g.mu.Unlock()

	for _, c := range children {
		c.Close()
	}
	<-idle
	if g.parent != nil {
		g.parent.forget(g)
	}
}

// context returns the group's context. mu is held.
func (g *Group) context() context.Context {
	if g.ctx == nil {
		g.ctx, g.cancel = context.WithCancel(context.Background())
	}
	return g.ctx
}

// begin counts one more goroutine unless the group is closing.
func (g *Group) begin() (context.Context, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	ctx := g.context()
	// A parent that closes cancels its children before it comes to close
	// them; they refuse work from that moment.
	if g.closing || ctx.Err() != nil {
		return ctx, false
	}
	g.running++
	return ctx, true
}

func (g *Group) end() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.running--
	if g.running == 0 && g.idle != nil {
		close(g.idle)
	}
}

// forget drops a child that has ended.
func (g *Group) forget(c *Group) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.children, c)
}
