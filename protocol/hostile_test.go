package protocol

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/internal/compact"
	"github.com/p2pcore/p2pcore/internal/merkle"
	"github.com/p2pcore/p2pcore/internal/wire"
)

// liar is a feed that spoils the proofs that it serves.
type liar struct {
	*feed.Feed
	spoil func(p *feed.Proof) bool // works on a copy; says whether it has changed it
	lies  atomic.Int64
}

func (l *liar) Prove(ctx context.Context, reqs []feed.Request) ([]feed.Proved, error) {
	out, err := l.Feed.Prove(ctx, reqs)
	for i := range out {
		if out[i].Proof == nil {
			continue
		}
		p := cloneProof(out[i].Proof)
		if l.spoil(p) {
			l.lies.Add(1)
			out[i].Proof = p
		}
	}
	return out, err
}

func cloneProof(p *feed.Proof) *feed.Proof {
	d := wire.Data{Proof: *p}
	m, err := wire.Parse(wire.TypeData, d.Append(nil))
	if err != nil {
		panic(err)
	}
	return &m.(*wire.Data).Proof
}

func TestALyingPeerIsDroppedAndAnHonestOneCompletes(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(p *feed.Proof) bool{
		"byte of a block": func(p *feed.Proof) bool {
			if p.Block == nil || len(p.Block.Value) == 0 {
				return false
			}
			p.Block.Value[len(p.Block.Value)/2] ^= 1
			return true
		},
		"node of a block": func(p *feed.Proof) bool {
			if p.Block == nil || len(p.Block.Nodes) == 0 {
				return false
			}
			p.Block.Nodes[0].Hash[7] ^= 1
			return true
		},
		"size of a node": func(p *feed.Proof) bool {
			if p.Block == nil || len(p.Block.Nodes) == 0 {
				return false
			}
			p.Block.Nodes[0].Size++
			return true
		},
		"node of an upgrade": func(p *feed.Proof) bool {
			if p.Upgrade == nil {
				return false
			}
			p.Upgrade.Nodes[0].Hash[0] ^= 1
			return true
		},
		"signature": func(p *feed.Proof) bool {
			if p.Upgrade == nil {
				return false
			}
			p.Upgrade.Signature[10] ^= 1
			return true
		},
		"manifest": func(p *feed.Proof) bool {
			if p.Manifest == nil {
				return false
			}
			p.Manifest[len(p.Manifest)-1] ^= 1
			return true
		},
		"another block": func(p *feed.Proof) bool {
			if p.Block == nil {
				return false
			}
			p.Block.Index ^= 1
			return true
		},
		"no nodes": func(p *feed.Proof) bool {
			if p.Upgrade == nil {
				return false
			}
			p.Upgrade.Nodes = nil
			return true
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				blocks := append(numbered(100, 30), numbered(100, prehashBytes)...)
				w := writer(t, 1, blocks...)
				r := reader(t, w)
				rx := exchange(t, r, true)
				run := newRunner(t)
				l := &liar{Feed: w, spoil: spoil}
				run.connect([]*Exchange{exchange(t, l, false)}, []*Exchange{rx})
				done := make(chan error, 1)
				ctx := timed(t)
				s := session(t, r)
				defer s.Close()
				go func() { done <- s.Download(ctx, feed.Range{End: uint64(len(blocks))}) }()
				time.Sleep(time.Second)
				if l.lies.Load() == 0 {
					t.Fatal("the liar was not asked")
				}
				run.connect([]*Exchange{exchange(t, w, false)}, []*Exchange{rx})
				if err := <-done; err != nil {
					t.Fatal(err)
				}
				sameBlocks(t, r, blocks)
				if st := rx.Stats(); st.InvalidProofs+st.Refused == 0 {
					t.Errorf("%d lies were told, none was found: %+v", l.lies.Load(), st)
				}
			})
		})
	}
}

// raw is a peer by hand.
type raw struct {
	t      testing.TB
	stream io.ReadWriteCloser
}

func (r raw) frame(b []byte) error { return WriteFrame(r.stream, b) }

func (r raw) open(id uint64, dk feed.DiscoveryKey, capability [32]byte) error {
	b := compact.AppendUint([]byte{0, 1}, id)
	b = compact.AppendString(b, channelProtocol)
	b = compact.AppendBytes(b, dk[:])
	return r.frame(wire.Handshake{Seeks: true, Capability: capability}.Append(b))
}

func (r raw) send(channel uint64, m wire.Message) error {
	return r.frame(m.Append(compact.AppendUint(compact.AppendUint(nil, channel), m.Type())))
}

// read returns what the side under test has sent and nobody has read.
func (r raw) read() []record {
	r.t.Helper()
	synctest.Wait()
	r.stream.(*end).in.mu.Lock()
	b := bytes.Clone(r.stream.(*end).in.buf)
	r.stream.(*end).in.buf = r.stream.(*end).in.buf[:0]
	r.stream.(*end).in.moved.Broadcast()
	r.stream.(*end).in.mu.Unlock()
	var out []record
	for len(b) > 0 {
		n := frameLength([frameHeader]byte(b)) + frameHeader
		if t, ok := r.t.(*testing.T); ok && n > frameHeader {
			out = append(out, records(t, b[frameHeader:n])...)
		}
		b = b[n:]
	}
	return out
}

// victim is a connection over which a raw peer, the initiator, can be as bad as it likes.
func victim(t testing.TB, cfg Config, attached ...*Exchange) (*Conn, raw, <-chan error) {
	t.Helper()
	ours, theirs := newPipe(64 << 10)
	cfg.Binding = testBinding
	c := NewConn(ours, cfg)
	for _, x := range attached {
		if err := c.Attach(x); err != nil {
			t.Fatal(err)
		}
	}
	done := newRunner(t).run(c)
	return c, raw{t, theirs}, done
}

func TestWrongCapabilityLooksLikeAnUnknownFeed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, stranger := writer(t, 1), writer(t, 2)
		x := exchange(t, w, false)
		c, r, done := victim(t, Config{OnOpen: func(_ context.Context, dk feed.DiscoveryKey) (*Exchange, error) {
			if dk == w.DiscoveryKey() {
				return x, nil
			}
			return nil, nil
		}})
		answer := func(f *feed.Feed, capability [32]byte) []record {
			if err := r.open(1, f.DiscoveryKey(), capability); err != nil {
				t.Fatal(err)
			}
			return r.read()
		}
		wrong := answer(w, Capability(w.Key(), testBinding, false)) // that of the other role
		unknown := answer(stranger, Capability(stranger.Key(), testBinding, true))
		if fmt.Sprint(wrong) != fmt.Sprint(unknown) || len(wrong) != 1 || wrong[0].typ != 2 {
			t.Errorf("answered %v, an unknown feed %v", wrong, unknown)
		}
		if n := c.Stats().Violations; n != 1 {
			t.Errorf("%d violations, want 1", n)
		}
		if right := answer(w, Capability(w.Key(), testBinding, true)); len(right) == 0 || right[0].typ != 1 {
			t.Errorf("the right capability is answered with %v", right)
		}
		// However often it is tried: a connection that ended would tell the feeds apart.
		_ = r.frame([]byte{0, 3, 1})
		for range 2 * maxViolations {
			if again := answer(w, [32]byte{}); fmt.Sprint(again) != fmt.Sprint(unknown) {
				t.Fatalf("answered %v later, an unknown feed %v", again, unknown)
			}
		}
		if right := answer(w, Capability(w.Key(), testBinding, true)); len(right) == 0 || right[0].typ != 1 {
			t.Errorf("the right capability is answered with %v", right)
		}
		select {
		case err := <-done:
			t.Errorf("ended with %v", err)
		default:
		}
	})
}

func TestManyFaultsEndTheConnection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := writer(t, 1)
		_, r, done := victim(t, Config{}, exchange(t, w, false))
		for i := range maxViolations + 1 {
			select {
			case err := <-done:
				t.Fatalf("ended after %d faults: %v", i, err)
			default:
			}
			_ = r.open(1, w.DiscoveryKey(), Capability(w.Key(), testBinding, true))
			_ = r.frame([]byte{1, 0, 1}) // sync that ends after its flags
			r.read()
		}
		var v *ViolationError
		if err := <-done; !errors.As(err, &v) {
			t.Errorf("ended with %v, want a violation", err)
		}
	})
}

func TestWrongCapabilityInAnAnswerClosesTheChannel(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, other := writer(t, 1), writer(t, 2)
		wx, ox := exchange(t, w, false), exchange(t, other, false)
		c, r, _ := victim(t, Config{}, wx, ox)
		_ = r.open(1, w.DiscoveryKey(), [32]byte{1})
		_ = r.open(2, other.DiscoveryKey(), Capability(other.Key(), testBinding, true))
		var closed, served bool
		for _, rec := range r.read() {
			closed = closed || rec.channel == 0 && rec.typ == 3 && rec.payload[0] == 1
			if rec.channel == 1 {
				t.Errorf("message %v to a peer that does not know the key", rec)
			}
			served = served || rec.channel == 2
		}
		if !closed || !served || c.Stats().Violations != 1 || len(wx.Peers()) != 0 || len(ox.Peers()) != 1 {
			t.Errorf("closed %v, other channel served %v, %+v", closed, served, c.Stats())
		}
	})
}

func TestMalformedMessageClosesItsChannelOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		one, two := writer(t, 1), writer(t, 2)
		c, r, _ := victim(t, Config{}, exchange(t, one, false), exchange(t, two, false))
		_ = r.open(1, one.DiscoveryKey(), Capability(one.Key(), testBinding, true))
		_ = r.open(2, two.DiscoveryKey(), Capability(two.Key(), testBinding, true))
		_ = r.frame([]byte{1, 0, 1}) // sync that ends after its flags
		r.read()
		if st := c.Stats(); st.Channels != 1 || st.Violations != 1 {
			t.Errorf("%+v", st)
		}
		_ = r.frame([]byte{2, 42, 1}) // an unknown type is nothing
		r.read()
		if st := c.Stats(); st.Channels != 1 || st.Violations != 1 {
			t.Errorf("%+v", st)
		}
	})
}

func TestUnsolicitedAnswersEndTheirChannelOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		one, two := writer(t, 1, numbered(3, 10)...), writer(t, 2)
		empty := reader(t, one)
		x := exchange(t, empty, true)
		c, r, done := victim(t, Config{}, x, exchange(t, two, false))
		_ = r.open(1, one.DiscoveryKey(), Capability(one.Key(), testBinding, true))
		_ = r.open(2, two.DiscoveryKey(), Capability(two.Key(), testBinding, true))
		proofs, err := one.Prove(t.Context(), []feed.Request{{Upgrade: &feed.UpgradeRequest{Length: 3}, Manifest: true}})
		if err != nil || proofs[0].Err != nil {
			t.Fatal(err, proofs[0].Err)
		}
		closed := 0
		for closed == 0 { // good proofs, to be sure, under ids of no request
			if err := r.send(1, &wire.Data{ID: 99, Proof: *proofs[0].Proof}); err != nil {
				t.Fatal(err)
			}
			for _, rec := range r.read() {
				if rec.channel == 0 && rec.typ == 3 {
					closed++
				}
			}
			if n := x.Stats().Unsolicited; n > 100 {
				t.Fatalf("%d answers that nobody asked for, and the channel is open", n)
			}
		}
		if st := c.Stats(); st.Channels != 1 || st.Violations != 1 || x.Stats().Unsolicited != 65 || empty.Info().Length != 0 {
			t.Errorf("%+v, %+v, length %d", st, x.Stats(), empty.Info().Length)
		}
		select {
		case err := <-done:
			t.Errorf("the connection has ended with %v", err)
		default:
		}
	})
}

func TestMalformedStreamEndsTheConnection(t *testing.T) {
	t.Parallel()
	for name, frame := range map[string][]byte{
		"open of a used id": {0, 1, 5, 1, 'p', 0}, "reject of nothing": {0, 2, 1}, "truncated": {0xff},
	} {
		synctest.Test(t, func(t *testing.T) {
			_, r, done := victim(t, Config{})
			_ = r.frame(frame)
			var v *ViolationError
			if err := <-done; !errors.As(err, &v) {
				t.Errorf("%s: ended with %v, want a violation", name, err)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		_, r, done := victim(t, Config{})
		_, _ = r.stream.Write([]byte{9, 0, 0, 1})
		r.stream.(*end).out.end(nil)
		if err := <-done; !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("ended within a frame: %v", err)
		}
	})
}

// counting counts the bytes of the blocks that were read to be served.
type counting struct {
	*feed.Feed
	served atomic.Int64
}

func (c *counting) Prove(ctx context.Context, reqs []feed.Request) ([]feed.Proved, error) {
	out, err := c.Feed.Prove(ctx, reqs)
	for _, p := range out {
		if p.Proof != nil && p.Proof.Block != nil {
			c.served.Add(int64(len(p.Proof.Block.Value)))
		}
	}
	return out, err
}

func TestAPeerThatNeverReadsCostsBoundedMemory(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const size, credit = 64 << 10, 256 << 10
		core := &counting{Feed: writer(t, 1, numbered(400, size)...)}
		x := exchange(t, core, false)
		_, r, done := victim(t, Config{Limits: Limits{Credit: credit}}, x)
		_ = r.open(1, core.DiscoveryKey(), Capability(core.Key(), testBinding, true))
		_ = r.send(1, &wire.Sync{Uploading: true, Downloading: true})
		for i := range uint64(400) {
			q := &wire.Request{ID: i + 1, Request: merkle.Request{Block: &merkle.BlockRequest{Index: i}}}
			if err := r.send(1, q); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		// The pipe takes 64 KiB, a frame being written and the credit come on top.
		if n := core.served.Load(); n == 0 || n > 2*credit+8*size {
			t.Errorf("%d bytes of blocks were read for a peer that reads nothing", n)
		}
		keepAlives := time.NewTicker(keepAlive)
		defer keepAlives.Stop()
		start := time.Now()
		for {
			select {
			case err := <-done:
				if !errors.Is(err, ErrTimeout) || time.Since(start) > 2*writeTimeout {
					t.Errorf("after %v: %v, want ErrTimeout", time.Since(start), err)
				}
				return
			case <-keepAlives.C:
				_ = r.frame(nil)
			}
		}
	})
}

func TestAFloodBlocksItsOwnReaderOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		blocks := numbered(300, 100)
		w := writer(t, 1, blocks...)
		r := reader(t, w)
		x := exchange(t, r, true)
		c, flood, _ := victim(t, Config{Limits: Limits{Inbox: 64 << 10}}, x)
		_ = flood.open(1, w.DiscoveryKey(), Capability(w.Key(), testBinding, true))
		stop := make(chan struct{})
		var most atomic.Int64
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for i := uint64(0); ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				for _, m := range []wire.Message{
					&wire.Sync{Fork: 0, Length: i % 7, Uploading: true}, &wire.Want{Start: i * 4096, Length: 4096},
					&wire.Range{Start: i * 3, Length: 2}, &wire.Bitfield{Start: i * 32, Words: []uint32{1, 2, 3}},
				} {
					if flood.send(1, m) != nil {
						return
					}
				}
				c.mu.Lock()
				for _, l := range c.links {
					if l.ch != nil {
						most.Store(max(most.Load(), l.inbox.queued.Load()))
					}
				}
				c.mu.Unlock()
			}
		}()
		newRunner(t).connect([]*Exchange{exchange(t, w, false)}, []*Exchange{x})
		s := session(t, r)
		defer s.Close()
		if err := s.Download(timed(t), feed.Range{End: uint64(len(blocks))}); err != nil {
			t.Fatal(err)
		}
		close(stop)
		_ = c.Close()
		<-ended
		sameBlocks(t, r, blocks)
		// One run of messages of a frame may come on top.
		if n := most.Load(); n > 64<<10+readEvents*1024 {
			t.Errorf("%d bytes of a flood were kept", n)
		}
	})
}
