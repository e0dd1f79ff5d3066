package protocol

import (
	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/internal/replica"
)

// SetAllowPush changes ExchangeOptions.AllowPush. Peers are told; what is on its way from them when it is turned off is
// passed over.
func (x *Exchange) SetAllowPush(on bool) { x.push(item{kind: setPush, on: on}) }

// SetPushOnly changes ExchangeOptions.PushOnly. Requests that have been sent are not taken back. Upgrade does not wait
// while it is set.
func (x *Exchange) SetPushOnly(on bool) { x.push(item{kind: setPush, on: on, only: true}) }

// Push sends the stored blocks of r to all peers, unasked: to those that allow it, want the feed, and are not known to hold
// them, each with what proves it. It does not wait: what is pushed to a peer goes out as fast as the peer reads, and of
// more than 64 ranges that wait for one peer only the newest are pushed. What is appended before the call is pushed too.
func (x *Exchange) Push(r feed.Range) {
	x.push(item{kind: machineEvent, ev: replica.Push{Range: r}})
}

// Push is Exchange.Push to one peer. It does nothing if the channel has closed.
func (p Peer) Push(r feed.Range) {
	p.ch.link.x.push(item{kind: machineEvent, ev: replica.Push{Peer: p.ch.peer, Range: r}})
}
