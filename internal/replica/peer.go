package replica

import (
	"time"

	"github.com/p2pcore/p2pcore/internal/bitfield"
	"github.com/p2pcore/p2pcore/internal/merkle"
	"github.com/p2pcore/p2pcore/internal/wire"
)

// peer is one open channel.
type peer struct {
	id    PeerID
	seeks bool
	limit int  // greatest window, in requests
	queue int  // greatest number of its requests that wait
	gone  bool // removed; results of asks may still come
	dirty bool // in Machine.dirty

	// The remote's last sync. Before the first one Hypercore lets assume what newPeer sets.
	synced      bool
	fork        uint64
	length      uint64
	acked       uint64 // our length as the remote last saw it, 0 when the forks differ
	canUpgrade  bool   // the remote can prove from acked to length
	uploading   bool
	downloading bool
	hasManifest bool
	allowsPush  bool

	// Our verdict on the remote: can we prove an upgrade from its length to ours? While an ask is
	// out (verdict not 0) no sync is sent, so that the verdict and the acknowledgement in it fit.
	can     bool
	verdict Token
	asks    int         // that are out, those included that have been overtaken
	rejudge bool        // one more is needed, when one of these has come back
	proven  merkle.Head // Fork and Length for which can was last true

	// What goes out when there is credit; see outbox.go.
	credit          int
	greeted         bool
	syncDue         bool
	toldDownloading bool
	toldPush        bool
	contigDue       bool
	told            uint64 // the contiguous length that we last announced
	toldAll         uint64 // the length at which we last announced to be complete
	adds, drops     []merkle.Range
	resend          bool // announcements were merged away; send the state
	cancels         []uint64
	extensions      []*wire.Extension
	extensionBytes  int

	// What the remote holds, and the pages that we want to hear of; see page.go.
	known     known
	pages     map[uint64]*page
	pageOrder []uint64
	pagesFull bool              // a page was needed and none could be given up
	givenUp   bitfield.Bitfield // numbers of answered pages that made room for others
	recycle   time.Time         // when to ask for those again; zero: there are none

	// What the remote wants to hear of; see remotewant.go.
	remoteWants wantMemory

	// Our requests.
	requests    []*request // by id; nil: free
	freeIDs     []uint64   // last freed last
	cancelled   []*request // waiting for the remote to pass the cancel, oldest first
	sequence    uint64     // counts the requests sent
	inflight    int        // sent or being applied
	sent        int        // sent
	planning    int
	ready       []*request // planned, not yet sent
	progress    time.Time  // of the last answer, or of the first request after none
	stalled     time.Time  // no requests before this time
	filling     bool
	pace        pace
	swapFrom    time.Time // before it p is not asked for what others owe
	missed      bool      // it was late with something that has come from another peer, and has answered nothing since
	scans       map[*want]*scan
	urgent      scan
	refusals    map[uint64]refusal // by block
	noData      int
	unsolicited int
	noUpgrade   bool // until the next sync, or for StallTimeout
	upgradeAt   time.Time
	noManifest  bool // until the next sync
	upgradeFail int
	nowhere     int // answers that ended at a node which we do not hold, and should not have
	disorder    int // shortened requests that came to nothing
	meanSize    int // of its blocks, in bytes; 0: none came
	rebased     int // upgrades that started at another length than asked for, and came to nothing

	// Blocks that travel unasked; see push.go and pushed.go.
	push      pushing
	taking    int // pushes of it that are being verified
	badPushes int

	// Conflict checks; see conflict.go.
	check      *check // it is asked nothing else before it has proven its head
	checks     int    // on this channel
	examining  Token  // a proof of its head is being verified
	proofs     int    // of its head that came unasked and were verified
	warned     bool   // of our frozen feed
	probing    bool   // we have to prove ours
	turnedDown int    // refusals that we have sent, with a reason
	unaware    int    // requests that it may send before it hears of our new fork

	// Its requests; see serve.go.
	served    map[uint64]*serving
	waiting   [2][]*serving // priority above 0, and the rest
	delayed   []*serving    // malformed, to be refused later
	answers   []answer      // waiting for credit
	heldBytes int           // of these answers
	reserved  int           // credit promised to proofs that are being built
	inRing    bool
	invalid   int
	extension string // name of the last extension message

	blocksReceived, bytesReceived uint64
	blocksSent, bytesSent         uint64
}

// refusal counts how often a peer has not delivered a block. It is blocked until the peer announces
// it again.
type refusal struct {
	n       int
	blocked bool
}

func (p *peer) refuses(b uint64) bool { return p.refusals[b].blocked }

func (p *peer) refuse(b uint64) {
	p.refusals[b] = refusal{n: p.refusals[b].n + 1, blocked: true}
}

func (m *Machine) onOpened(e Opened) {
	if m.peers[e.Peer] != nil {
		return
	}
	p := &peer{
		id: e.Peer, seeks: e.Seeks, limit: min(orDefault(e.Window, m.limits.Window), MaxWindow),
		queue:     min(orDefault(e.Queue, m.limits.QueuedRequests), MaxQueue),
		pace:      pace{window: startWindow},
		uploading: true, downloading: true,
		can:     m.info.Fork == 0, // the remote's fork and length are 0 until it says otherwise
		credit:  e.Room,
		syncDue: true,
		pages:   map[uint64]*page{}, scans: map[*want]*scan{}, refusals: map[uint64]refusal{},
		served:   map[uint64]*serving{},
		requests: make([]*request, 1), // 0 is reserved
	}
	m.peers[p.id], m.order, m.met = p, append(m.order, p), true
	m.touch(p)
}

func (m *Machine) onRoom(e Room) {
	p := m.peers[e.Peer]
	if p == nil || e.Bytes <= 0 {
		return
	}
	p.credit += e.Bytes
	m.touch(p)
}

// send takes the credit for a message and sends it. Whether there is credit is the caller's
// question: small messages may overdraw it.
func (m *Machine) send(p *peer, msg wire.Message) {
	p.credit -= msg.Size()
	m.emit(Send{Peer: p.id, Message: msg})
}

// drop ends the channel for a violation.
func (m *Machine) drop(p *peer, reason string, err error) {
	if !p.gone {
		m.remove(p)
	}
	m.emit(Drop{Peer: p.id, Reason: reason, Err: err})
}

func (m *Machine) closeChannel(p *peer, reopen bool) {
	m.remove(p)
	m.emit(CloseChannel{Peer: p.id, Reopen: reopen})
}

// remove forgets a peer. What was asked of it goes back to the queue, except answers that are being
// applied: they may still turn out well.
func (m *Machine) remove(p *peer) {
	p.gone = true
	delete(m.peers, p.id)
	m.order = without(m.order, p)
	m.takeBack(p)
	m.recount()
	m.removeServing(p)
	m.endCheck(p)
	delete(m.verdicts, p.verdict)
	p.letGo()
}

// letGo gives back what p costs most. Answers of it that are being applied keep p in memory for as long as the store
// takes, and others come and go meanwhile.
func (p *peer) letGo() {
	p.known, p.givenUp, p.remoteWants = known{}, bitfield.Bitfield{}, wantMemory{}
	p.pages, p.pageOrder = map[uint64]*page{}, nil
	p.adds, p.drops, p.extensions, p.extensionBytes = nil, nil, nil, 0
}

func without[T comparable](s []T, v T) []T {
	for i, x := range s {
		if x == v {
			return append(s[:i], s[i+1:]...)
		}
	}
	return s
}
