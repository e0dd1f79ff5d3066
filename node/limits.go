package node

import "time"

const (
	// serviceName is the resource manager's name for what replication uses.
	serviceName = "p2pcore"

	// openTimeout bounds the opening of a stream, to the answer. One round trip is needed.
	openTimeout = 5 * time.Second
	// handshakeTimeout bounds the Noise handshake of a stream that is not libp2p's (command line's contract). Two
	// round trips are needed.
	handshakeTimeout = 10 * time.Second
	// maxOpening bounds the opening frame's body (house rule: 33 to 1024 bytes).
	maxOpening = 1024

	// maxTCPConns and maxTCPConnsPerAddr bound the inbound connections of raw TCP, loopback not counted (command line's
	// contract). One machine needs one.
	maxTCPConns        = 64
	maxTCPConnsPerAddr = 8
	// acceptPause is how long no connection is accepted after the system has refused one.
	acceptPause = 100 * time.Millisecond

	// maxDials bounds how many peers are dialled at once: each dial may try 8 addresses.
	maxDials = 8
	// maxWanted bounds the peers that we try to stay in touch with. Each costs a goroutine and, connected,
	// about 70 kB.
	maxWanted = 256
	// maxWantedPerTopic bounds how many of them one topic may name: a lookup's answers are not to be trusted
	// with all of them.
	maxWantedPerTopic = 64
	// maxAddrs bounds the addresses of one peer that we remember.
	maxAddrs = 32

	// doorPatience is how long a peer with whom nothing has been said may still end the connection because of its group's
	// door, which gives strangers 10 s.
	doorPatience = 12 * time.Second

	// dialTimeout bounds one attempt to connect, hole punching included.
	dialTimeout = 20 * time.Second
	// redialMin and redialMax bound the pause after a failed attempt, which doubles.
	redialMin = 250 * time.Millisecond
	redialMax = time.Minute
	// returnMax bounds the pause instead while a peer was there less than returnTime ago: most who go away are restarted, and
	// a machine's restart takes minutes. An attempt in vain costs a few packets.
	returnMax  = 4 * time.Second
	returnTime = 10 * time.Minute
	// forgetAfter is how many attempts may fail, or streams end early, in a row before a peer is forgotten that a look-up or
	// the local network named; it is wanted again when named again.
	forgetAfter = 8
	// resetMin and resetMax bound the random pause after the end of a stream. A reset may arrive without its
	// code, so that "supplanted" and "failed" look alike: the pause lets the other stream come first.
	resetMin = 50 * time.Millisecond
	resetMax = 250 * time.Millisecond
	// settled is how long a stream must have been up for its end not to count as early.
	settled = 10 * time.Second

	// connLow and connHigh bound the connections that are kept: above connHigh the least useful are closed down to
	// connLow. Peers with which feeds are shared are exempt.
	connLow, connHigh = 160, 192

	// peerTag is the worth of a peer that we replicate with, beside kad-dht's 5 for those in its table.
	peerTag = 50

	// bootstrapCheck is how often the routing table is looked at while it has peers, bootstrapSettle how long a new
	// connection may take to fill it, bootstrapMaxWait the longest pause between rounds of failures.
	bootstrapCheck   = 2 * time.Second
	bootstrapSettle  = 500 * time.Millisecond
	bootstrapMaxWait = 10 * time.Second

	// maxProvides bounds the direct announcements under way: each asks about 30 peers and tells 20.
	maxProvides = 16
	// provideTimeout bounds one of them; the public network takes 10 to 20 s.
	provideTimeout = time.Minute
	// connectivityCheck is how soon after a failure the sweep asks again whether it is online.
	connectivityCheck = 5 * time.Second

	// announceSettle is how long a change is left to settle before announcements are made anew because of it,
	// announceQuiet the least time between two such rounds.
	announceSettle = 300 * time.Millisecond
	announceQuiet  = 5 * time.Second

	// maxConnecting bounds the connect functions of HandlePeer that run at once, maxKeysPerPeer the discovery keys that
	// one peer is remembered for. What finds peers may be wrong about any number of them.
	maxConnecting  = 256
	maxKeysPerPeer = 1024

	// reapAfter is how long the replicator keeps a stored feed at hand that no remote has a channel for.
	reapAfter = 3 * time.Second

	// finishTimeout is how long a peer may take to hear, when the replicator closes, what has arrived here.
	finishTimeout = time.Second

	// maxStreamsPerPeer bounds the streams of our protocol with one peer, each way. One is live; a few more
	// overlap while the one-stream rule decides.
	maxStreamsPerPeer = 16
	// maxStreams bounds them over all peers, each way.
	maxStreams = 1024
)
