package protocol

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/internal/replica"
	"github.com/p2pcore/p2pcore/internal/simnet"
	"github.com/p2pcore/p2pcore/internal/wire"
)

// pressed is an exchange that serves honest readers while others attack it.
type pressed struct {
	t         *testing.T
	feed      *feed.Feed
	x         *Exchange
	run       *runner
	attackers []*Conn

	waiting, queued int // the most that was seen
}

// attack connects somebody who behaves like attack: with 400 kbit/s of small messages, some 4,000 a second.
func (p *pressed) attack(attack func(r raw)) {
	p.t.Helper()
	l := simnet.New(home, simnet.Path{Bandwidth: 400_000 / 8})
	c := NewConn(l.A, Config{Binding: testBinding, Flags: SupportedFlags})
	if err := c.Attach(p.x); err != nil {
		p.t.Fatal(err)
	}
	p.run.run(c)
	p.attackers = append(p.attackers, c)
	r := raw{p.t, l.B}
	go func() {
		_ = r.open(1, p.feed.DiscoveryKey(), Capability(p.feed.Key(), testBinding, true))
		_ = r.send(1, &wire.Sync{Uploading: true, Downloading: true})
		attack(r)
	}()
}

// check looks at everything that waits for a peer, or for its turn, in bytes.
func (p *pressed) check() {
	p.t.Helper()
	const slack = 64 << 10 // the last message of each kind may go beyond
	for i, c := range p.attackers {
		n := c.Stats().BytesWaiting
		p.waiting = max(p.waiting, n)
		if n > defaultCredit+slack {
			p.t.Errorf("attacker %d: %d bytes wait to be written", i, n)
		}
		c.mu.Lock()
		if l := c.links[p.feed.DiscoveryKey()]; l != nil {
			if n := l.inbox.queued.Load(); n > defaultInbox+slack {
				p.t.Errorf("attacker %d: %d bytes were received and not worked off", i, n)
			}
		}
		c.mu.Unlock()
	}
	p.x.turn.Lock()
	for _, peer := range p.x.machine.Peers(nil) {
		p.queued = max(p.queued, peer.Queued)
		if peer.Queued > replica.MaxQueue || peer.Held > defaultCredit+slack {
			p.t.Errorf("%d requests and %d bytes of answers wait for peer %d", peer.Queued, peer.Held, peer.Peer)
		}
	}
	p.x.turn.Unlock()
	p.x.mu.Lock()
	if n := len(p.x.inbox); n > len(p.attackers)*defaultInbox/messageCost {
		p.t.Errorf("%d items wait for the loop", n)
	}
	p.x.mu.Unlock()
}

// Whatever peers do that do not read what they are sent, they cost bounded memory, and an honest reader gets
// the feed as fast as without them.
func TestPeersThatDoNotReadPressNobody(t *testing.T) {
	t.Parallel()
	blocks := numbered(2000, 1<<10)
	for name, attack := range map[string]func(r raw){
		// as many requests as may wait, and a new one for each that is taken back
		"asks for everything": func(r raw) {
			for i := uint64(0); ; i++ {
				id := i%replica.MaxQueue + 1
				if i >= replica.MaxQueue && r.send(1, &wire.Cancel{ID: id}) != nil {
					return
				}
				if r.send(1, blockRequest(id, i%2000)) != nil {
					return
				}
			}
		},
		// everything that is answered, or noted
		"sends everything": func(r raw) {
			for i := uint64(0); ; i++ {
				for _, m := range []wire.Message{
					&wire.Sync{Length: i % 2000, CanUpgrade: true, Uploading: true, Downloading: true},
					&wire.Want{Start: i % 600 * 32, Length: 32}, &wire.Want{Start: i % 600 * 32, Length: 32},
					&wire.Unwant{Start: (i + 300) % 600 * 32, Length: 32},
					&wire.Range{Start: i * 7919 % 100_000, Length: i % 50}, &wire.Range{Drop: true, Start: i % 2000, Length: 1},
					&wire.Bitfield{Start: i % 1000 * 32, Words: []uint32{1, 2, 3}},
					&wire.Extension{Name: "x", Message: make([]byte, 100)},
					blockRequest(i%100+1, i), &wire.Cancel{ID: (i+50)%100 + 1},
				} {
					if r.send(1, m) != nil {
						return
					}
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				feeds := holders(t, 1, blocks)
				p := &pressed{t: t, feed: feeds[0], x: exchange(t, feeds[0], false), run: newRunner(t)}
				download := func() time.Duration {
					r := reader(t, p.feed)
					p.run.connectOver(simnet.New(home, home), p.x, exchange(t, r, true))
					s := session(t, r)
					defer s.Close()
					start := time.Now()
					if _, err := s.Update(timed(t)); err != nil {
						t.Fatal(err)
					}
					if err := s.Download(timed(t), feed.Range{End: uint64(len(blocks))}); err != nil {
						t.Fatal(err)
					}
					return time.Since(start)
				}
				alone := download()
				for range 3 {
					p.attack(attack)
				}
				for i := range 8 {
					timer := time.AfterFunc(time.Duration(i)*500*time.Millisecond, p.check)
					defer timer.Stop()
				}
				with := download()
				if with > alone*11/10 {
					t.Errorf("an honest download took %v with them, %v without", with, alone)
				}
				p.check()
				if p.waiting < 100<<10 || name == "asks for everything" && p.queued < replica.MaxQueue/2 {
					t.Errorf("%d bytes and %d requests have waited: no attack", p.waiting, p.queued)
				}
				for _, c := range p.attackers {
					_ = c.Close()
				}
			})
		})
	}
}

func blockRequest(id, block uint64) *wire.Request {
	r := &wire.Request{ID: id}
	r.Block = &feed.BlockRequest{Index: block}
	return r
}
