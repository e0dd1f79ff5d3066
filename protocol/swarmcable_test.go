package protocol

import (
	"slices"
	"time"

	"github.com/p2pcore/p2pcore/internal/muxer"
	"github.com/p2pcore/p2pcore/internal/replica"
	"github.com/p2pcore/p2pcore/internal/wire"
)

// cable joins two nodes, by a connection at a time.
type cable struct {
	s     *swarm
	ends  [2]*plug
	delay time.Duration
	speed int // bytes per second
	epoch int // number of the connection
	up    bool
}

// plug is one end of a cable.
type plug struct {
	node    *swarmNode
	cable   *cable
	other   *plug
	mux     *muxer.Mux
	channel *muxer.Channel // nil: none is open here
	writing bool
	last    time.Duration // when the last frame arrives
	reopens int
}

func (s *swarm) join(a, b *swarmNode) *cable {
	c := &cable{s: s, delay: time.Millisecond + s.soon(100*time.Millisecond), speed: 20_000 << s.rng.IntN(10)}
	c.ends = [2]*plug{{node: a, cable: c}, {node: b, cable: c}}
	c.ends[0].other, c.ends[1].other = c.ends[1], c.ends[0]
	for _, p := range c.ends {
		p.node.sockets = append(p.node.sockets, p)
	}
	s.cables = append(s.cables, c)
	return c
}

// connect begins a connection; both ends open the feed's channel.
func (c *cable) connect() {
	if c.up {
		return
	}
	c.up = true
	for _, p := range c.ends {
		p.mux, p.writing, p.last, p.reopens = muxer.New(0), false, 0, 0
		p.mux.Cork()
	}
	for _, p := range c.ends {
		p.during(c.s.soon(c.delay), p.open)
	}
}

// cut ends the connection: what travels is lost.
func (c *cable) cut() {
	if !c.up {
		return
	}
	c.up = false
	c.epoch++
	for _, p := range c.ends {
		p.channel = nil
		p.gone()
	}
}

// during has something happen later, unless the connection ends before.
func (p *plug) during(d time.Duration, do func()) {
	epoch := p.cable.epoch
	p.cable.s.after(d, func() {
		if p.cable.epoch == epoch {
			do()
		}
	})
}

func (p *plug) open() {
	if p.channel != nil {
		return
	}
	p.node.lastID++
	ch, err := p.mux.Open(channelProtocol, "feed", nil)
	if err != nil {
		p.cable.s.fail("open: %v", err)
		return
	}
	ch.User = p.node.lastID
	p.channel = ch
	for ev, ok := p.mux.Queued(); ok; ev, ok = p.mux.Queued() {
		p.hear(ev)
	}
	p.pump()
}

// gone tells the machine that the channel is, if it was open.
func (p *plug) gone() {
	for id, q := range p.node.plugs {
		if q == p {
			delete(p.node.plugs, id)
			p.node.step(replica.Closed{Peer: id})
		}
	}
}

// shut closes the channel from this side.
func (p *plug) shut() {
	delete(p.node.plugs, p.channel.User.(replica.PeerID))
	p.mux.Close(p.channel)
	p.channel = nil
	p.pump()
}

// reopenLater opens the channel again, later each time, as an exchange does.
func (p *plug) reopenLater() {
	d := time.Duration(1)
	if p.reopens > 0 {
		d = min(reopenDelay<<min(p.reopens-1, 10), maxReopenDelay)
	}
	p.reopens++
	p.during(d, p.open)
}

// pump writes what waits, a frame at a time.
func (p *plug) pump() {
	if p.writing {
		return
	}
	f, ok := p.mux.Take()
	if !ok {
		return
	}
	p.writing = true
	c := p.cable
	takes := time.Duration(len(f.Bytes)+1) * time.Second / time.Duration(c.speed)
	p.last = max(p.last+1, c.s.now+takes+c.delay+c.s.soon(c.delay))
	bytes := slices.Clone(f.Bytes)
	p.during(p.last-c.s.now, func() { p.other.receive(bytes) })
	p.during(takes, func() {
		p.writing = false
		for _, credit := range f.Credits {
			p.node.step(replica.Room{Peer: credit.Channel.User.(replica.PeerID), Bytes: credit.Bytes})
		}
		p.mux.Recycle(f)
		p.pump()
	})
}

func (p *plug) receive(frame []byte) {
	p.mux.Receive(frame)
	for {
		ev, err := p.mux.Next()
		if err != nil {
			p.cable.s.fail("node %d: %v", p.node.name, err)
			return
		}
		if ev.Kind == muxer.None {
			return
		}
		p.hear(ev)
	}
}

func (p *plug) hear(ev muxer.Event) {
	switch ev.Kind {
	case muxer.Pending:
		p.open()
	case muxer.Opened:
		if ev.Channel.Closed() {
			return
		}
		id := ev.Channel.User.(replica.PeerID)
		p.node.plugs[id] = p
		p.node.step(replica.Opened{Peer: id, Seeks: true, Room: minCredit, Window: replica.MaxWindow, Queue: replica.MaxQueue})
	case muxer.Message:
		id := ev.Channel.User.(replica.PeerID)
		msg, err := wire.Parse(ev.Type, ev.Payload)
		if err != nil || msg == nil {
			p.cable.s.fail("node %d cannot read message %d: %v", p.node.name, ev.Type, err)
			return
		}
		if p.cable.s.tracing {
			p.cable.s.note("%d < %d: %s", p.node.name, p.other.node.name, describe(msg))
		}
		p.node.step(replica.Received{Peer: id, Message: msg})
	case muxer.Closed:
		if p.channel == ev.Channel {
			p.channel = nil
		}
		id := ev.Channel.User.(replica.PeerID)
		if p.node.plugs[id] == p {
			delete(p.node.plugs, id)
			p.node.step(replica.Closed{Peer: id})
			p.reopenLater()
		}
	}
}
