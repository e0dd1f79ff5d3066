package protocol

import (
	"context"
	"time"

	"github.com/p2pcore/p2pcore/internal/lifecycle"
	"github.com/p2pcore/p2pcore/internal/replica"
	"github.com/p2pcore/p2pcore/internal/wire"
)

// itemKind says what an item is.
type itemKind uint8

const (
	remoteMessage  itemKind = iota // msg on ch, with cost
	machineEvent                   // ev
	channelOpening                 // ch was opened here
	openingOver                    // the remote did not answer on ch for openingTimeout
	channelOpened                  // ch is open on both sides; seeks, room
	channelClosed                  // ch has closed; local, rejected
	alarm                          // the alarm has gone off
	setDownloading                 // on
	setFinding                     // on
	setPush                        // on: of allowPush, else of pushOnly, by only
	setLazy                        // on
	reopenLink                     // ch.link wants a channel again
	linkEnded                      // link has ended, and what came on it was handed out
	barrier                        // done is closed when all before has been handed to the connections
)

// item is one thing that the loop is told.
type item struct {
	kind     itemKind
	seeks    bool
	on       bool
	only     bool
	local    bool // we have closed the channel, or its connection has ended
	rejected bool // the remote does not know the feed
	cost     load
	room     int
	ch       *channel
	link     *link
	msg      wire.Message
	ev       replica.Event
	done     chan struct{}
}

// openedState is what the loop knows of a channel.
type openedState struct {
	open bool
	at   time.Time
}

// outgoing is a message that the machine has handed out.
type outgoing struct {
	ch  *channel
	msg wire.Message
}

// loop works off the inbox and ends when it is empty.
func (x *Exchange) loop(ctx context.Context) {
	for {
		x.mu.Lock()
		if x.closed || ctx.Err() != nil || len(x.inbox) == 0 && !x.changed {
			x.running = false
			x.mu.Unlock()
			return
		}
		batch, changed := x.inbox, x.changed
		x.inbox, x.changed, x.spare = x.spare[:0], false, nil
		x.mu.Unlock()

		x.turn.Lock()
		now := time.Now()
		if changed {
			x.takeChange(now)
		}
		for i := range batch {
			x.handle(now, &batch[i])
		}
		x.flush()
		for _, done := range x.barriers {
			close(done)
		}
		x.barriers = nil
		x.setAlarm(now)
		idle, moved, peers := x.idle, x.moved, len(x.channels)
		x.idle, x.moved = false, false
		remote := x.machine.RemoteContiguous()
		risen := remote > x.remote
		x.remote = remote
		clear(batch)
		x.turn.Unlock()

		x.mu.Lock()
		if cap(batch) <= maxSpare {
			x.spare = batch
		}
		x.mu.Unlock()
		x.work.start()
		if moved && x.opts.OnPeer != nil {
			x.opts.OnPeer(peers)
		}
		if risen && x.opts.OnRemoteContiguous != nil {
			x.opts.OnRemoteContiguous(remote)
		}
		if idle && peers == 0 && x.opts.OnIdle != nil {
			x.opts.OnIdle()
		}
	}
}

// handle takes one item. turn is held.
func (x *Exchange) handle(now time.Time, it *item) {
	switch it.kind {
	case remoteMessage:
		x.received(now, it)
	case machineEvent:
		x.step(now, it.ev)
	case channelOpening:
		ch := it.ch
		x.opening[ch] = lifecycle.AfterFunc(&x.group, openingTimeout, func() { x.push(item{kind: openingOver, ch: ch}) })
		x.prospects(now)
	case openingOver:
		if _, ok := x.opening[it.ch]; ok {
			delete(x.opening, it.ch)
			x.prospects(now)
		}
	case channelOpened:
		x.channelOpened(now, it)
	case channelClosed:
		x.channelClosed(now, it)
	case alarm:
		x.alarmAt = time.Time{}
		x.step(now, replica.Tick{})
	case setDownloading:
		x.step(now, replica.SetDownloading{On: it.on})
		if it.on != x.downloading {
			x.downloading = it.on
			x.reopenAll()
		}
	case setPush:
		if it.only {
			x.pushOnly = it.on
		} else {
			x.allowPush = it.on
		}
		x.step(now, replica.SetPush{Allow: x.allowPush, Only: x.pushOnly})
	case setLazy:
		x.step(now, replica.SetLazy{On: it.on})
	case setFinding:
		x.finding = it.on
		x.prospects(now)
	case reopenLink:
		it.ch.link.reopening = false
		if x.downloading {
			it.ch.link.reopen()
		}
	case linkEnded:
		x.work.linkEnded(it.link)
	case barrier:
		x.barriers = append(x.barriers, it.done)
	}
}

// settle waits until what the exchange was told, and what has changed in the feed, by now has been handed to the
// connections.
func (x *Exchange) settle(ctx context.Context) {
	done := make(chan struct{})
	if !x.push(item{kind: barrier, done: done}) {
		return
	}
	select {
	case <-done:
	case <-x.closing:
	case <-ctx.Done():
	}
}

// received hands a message of an open channel to the machine. What it costs is given back at once,
// or after the proof that it carries has been applied.
func (x *Exchange) received(now time.Time, it *item) {
	if !it.ch.opened.open {
		it.ch.link.inbox.release(it.cost)
		return
	}
	data, _ := it.msg.(*wire.Data)
	held := false
	for _, a := range x.machine.Step(now, replica.Received{Peer: it.ch.peer, Message: it.msg}) {
		if d, ok := a.(replica.Deliver); ok && x.deliver(it.ch, d.Name, d.Message, it.cost) {
			held = true
		} else if proof := proofOf(a); proof == nil || data == nil || proof != &data.Proof {
			x.carryOut(a)
		} else if apply, ok := a.(replica.Apply); ok {
			x.work.apply(applyJob{apply, it.ch, it.cost})
			held = true
		} else {
			x.work.head(headJob{a, it.ch, it.cost})
			held = true
		}
	}
	if !held {
		it.ch.link.inbox.release(it.cost)
	}
}

func (x *Exchange) step(now time.Time, ev replica.Event) {
	for _, a := range x.machine.Step(now, ev) {
		x.carryOut(a)
	}
}

// carryOut does what the machine has decided. turn is held.
func (x *Exchange) carryOut(a replica.Action) {
	switch a := a.(type) {
	case replica.Send:
		if ch := x.channels[a.Peer]; ch != nil {
			x.outbox = append(x.outbox, outgoing{ch, a.Message})
		}
	case replica.Plan, replica.CanUpgrade:
		x.work.ask(a)
	case replica.Prove:
		x.work.prove(a)
	case replica.Apply:
		x.work.apply(applyJob{Apply: a})
	case replica.StartReorg, replica.StepReorg, replica.ApplyReorg, replica.Examine:
		x.work.head(headJob{Action: a})
	case replica.Resolve:
		x.mu.Lock()
		done := x.waiting[a.Ticket]
		delete(x.waiting, a.Ticket)
		x.mu.Unlock()
		if done != nil {
			done <- a
		}
	case replica.CloseChannel:
		if ch := x.forget(a.Peer); ch != nil {
			x.flush()
			ch.link.conn.closeIf(ch, nil)
			if a.Reopen {
				x.reopenLater(ch)
			}
		}
	case replica.Drop:
		v := &ViolationError{Reason: a.Reason, Err: a.Err}
		if ch := x.forget(a.Peer); ch != nil {
			x.flush()
			ch.link.conn.closeIf(ch, v)
		}
	case replica.Deliver: // received takes those that somebody knows
		x.log.Debug("extension message without a handler", "name", a.Name)
	}
}

// flush gives what the machine has handed out to the connections. turn is held.
func (x *Exchange) flush() {
	for rest := x.outbox; len(rest) > 0; {
		conn, n := rest[0].ch.link.conn, 1
		for n < len(rest) && rest[n].ch.link.conn == conn {
			n++
		}
		conn.send(rest[:n])
		rest = rest[n:]
	}
	clear(x.outbox)
	x.outbox = x.outbox[:0]
}

// send queues messages. One for a channel that has closed meanwhile is lost with it.
func (c *Conn) send(out []outgoing) {
	c.mu.Lock()
	for _, o := range out {
		if err := c.mux.Send(o.ch.mux, o.msg.Type(), o.msg); err != nil {
			continue
		}
	}
	c.mu.Unlock()
	signal(c.wake)
}

// closeIf closes a channel that the machine has given up, and blames the remote with v if there is one.
func (c *Conn) closeIf(ch *channel, v *ViolationError) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ch.link.ch == ch {
		ch.link.ch = nil
		c.mux.Close(ch.mux)
		signal(c.wake)
	}
	if v != nil {
		c.violate(v)
	}
}

func (x *Exchange) channelOpened(now time.Time, it *item) {
	ch := it.ch
	ch.link.heard()
	x.answered(ch)
	x.channels[ch.peer] = ch
	ch.opened = openedState{true, now}
	x.moved = true
	x.peerMoved(ch, true)
	opened := replica.Opened{Peer: ch.peer, Seeks: it.seeks, Room: it.room, Window: ch.link.conn.limits.Window}
	if ch.link.conn.cfg.Flags&FlagLongQueue != 0 {
		opened.Queue = replica.MaxQueue
	}
	x.step(now, opened)
	x.prospects(now)
}

func (x *Exchange) channelClosed(now time.Time, it *item) {
	ch := it.ch
	x.answered(ch)
	if ch.opened.open {
		again := !it.local && !it.rejected && x.downloading
		if again {
			x.reopenLater(ch)
		}
		x.forget(ch.peer)
		x.step(now, replica.Closed{Peer: ch.peer})
	}
	x.prospects(now)
}

// answered ends the wait for the remote's open of a channel.
func (x *Exchange) answered(ch *channel) {
	if stop := x.opening[ch]; stop != nil {
		stop()
		delete(x.opening, ch)
	}
}

// forget takes a channel off the open ones.
func (x *Exchange) forget(p replica.PeerID) *channel {
	ch := x.channels[p]
	if ch == nil {
		return nil
	}
	x.remember(ch)
	delete(x.channels, p)
	ch.opened.open = false
	x.peerMoved(ch, false)
	x.work.peerClosed(p)
	x.moved, x.idle = true, len(x.channels) == 0
	return ch
}

// prospects tells the machine of peers that may still appear.
func (x *Exchange) prospects(now time.Time) {
	x.step(now, replica.Prospects{Opening: len(x.opening), Finding: x.finding})
}

// reopenAll opens a channel on every connection without one, after the exchange began to download.
func (x *Exchange) reopenAll() {
	if !x.downloading {
		return
	}
	x.mu.Lock()
	links := make([]*link, 0, len(x.links))
	for l := range x.links {
		links = append(links, l)
	}
	x.mu.Unlock()
	for _, l := range links {
		l.reopen()
	}
}

// reopenLater opens the channel again, at once when it had lived for a while and else after a delay
// that doubles. A remote that closes in the belief that we have finished sees the first kind.
func (x *Exchange) reopenLater(ch *channel) {
	l := ch.link
	if l.reopening {
		return
	}
	if time.Since(ch.opened.at) >= steadyAfter {
		l.reopens = 0
	}
	var delay time.Duration
	if l.reopens > 0 {
		delay = min(reopenDelay<<min(l.reopens-1, 10), maxReopenDelay)
	}
	l.reopens++
	l.reopening = true
	lifecycle.AfterFunc(&x.group, delay, func() { x.push(item{kind: reopenLink, ch: ch}) })
}

// takeChange tells the machine what has changed in the feed.
func (x *Exchange) takeChange(now time.Time) {
	if change, ok := x.sub.Take(); ok {
		x.step(now, replica.Changed{
			Added: change.Added, Dropped: change.Dropped, Forked: change.Forked, Ancestors: change.Ancestors,
		})
	}
	if frozen := x.core.Info().Frozen; frozen != x.frozen {
		x.frozen = frozen
		if !frozen {
			x.reopenAll() // the machine had closed all channels
		}
	}
}

// setAlarm sees to it that the loop runs when the machine wants it to. One that goes off too early
// does no harm. turn is held.
func (x *Exchange) setAlarm(now time.Time) {
	at, ok := x.machine.Deadline()
	if !ok || !x.alarmAt.IsZero() && !x.alarmAt.After(at) {
		return
	}
	if x.unalarm != nil {
		x.unalarm()
	}
	x.alarmAt = at
	x.unalarm = lifecycle.AfterFunc(&x.group, max(0, at.Sub(now)), func() { x.push(item{kind: alarm}) })
}

// credit gives credit back for what was written.
func (ch *channel) credit(bytes int) {
	ch.link.x.push(item{kind: machineEvent, ev: replica.Room{Peer: ch.peer, Bytes: bytes}})
}
