package protocol

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	datastore "github.com/ipfs/go-datastore"

	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/internal/compact"
	"github.com/p2pcore/p2pcore/internal/merkle"
	"github.com/p2pcore/p2pcore/internal/wire"
)

// stalling is a datastore that stores nothing while gate is not nil and not closed.
type stalling struct {
	datastore.Batching
	gate chan struct{}
}

func (s *stalling) Batch(ctx context.Context) (datastore.Batch, error) {
	b, err := s.Batching.Batch(ctx)
	return stallingBatch{b, s}, err
}

type stallingBatch struct {
	datastore.Batch
	s *stalling
}

func (b stallingBatch) Commit(ctx context.Context) error {
	b.s.wait()
	return b.Batch.Commit(ctx)
}

func (s *stalling) wait() {
	if s.gate != nil {
		<-s.gate
	}
}

// stallingFeed is a feed whose heads cannot be read either.
type stallingFeed struct {
	*feed.Feed
	disk *stalling
}

func (f stallingFeed) Examine(ctx context.Context, p *feed.Proof) (*feed.ConflictError, error) {
	f.disk.wait()
	return f.Feed.Examine(ctx, p)
}

func (f stallingFeed) CanUpgrade(ctx context.Context, length uint64) (bool, error) {
	f.disk.wait()
	return f.Feed.CanUpgrade(ctx, length)
}

// stalled is a reader whose disk hangs, with the exchange that peers come to.
type stalled struct {
	t      *testing.T
	blocks [][]byte
	writer *feed.Feed
	reader *feed.Feed
	from   *Exchange
	x      *Exchange
	disk   *stalling
	goOn   func() // the disk does
	run    *runner
}

// newStalled returns a reader that has the head of a feed of 80 blocks of 256 KiB, and nothing else.
func newStalled(t *testing.T) *stalled {
	t.Helper()
	s := &stalled{t: t, blocks: numbered(80, 256<<10), disk: &stalling{Batching: memory()}, run: newRunner(t)}
	s.writer = writer(t, 1, s.blocks...)
	key := s.writer.Key()
	var err error
	if s.reader, err = feed.Create(t.Context(), s.disk, feed.Options{Key: &key, Prefix: "/00000001"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.reader.Check(context.Background()); err != nil {
			t.Errorf("audit: %v", err)
		}
		_ = s.reader.Close()
	})
	s.x, s.from = exchange(t, stallingFeed{s.reader, s.disk}, true), exchange(t, s.writer, true)
	s.x.SetAllowPush(true)
	s.visit(func() {
		if got := s.reader.Info(); got.Length != uint64(len(s.blocks)) || got.LocalBlocks != 0 {
			t.Fatalf("the reader begins with %+v", got)
		}
	})
	s.disk.gate = make(chan struct{})
	s.goOn = sync.OnceFunc(func() { close(s.disk.gate) })
	t.Cleanup(s.goOn) // before the exchange is closed
	return s
}

// visit connects the writer, has it do something and ends the connection.
func (s *stalled) visit(do func()) {
	s.t.Helper()
	c, _ := s.run.connect([]*Exchange{s.from}, []*Exchange{s.x})
	synctest.Wait()
	do()
	synctest.Wait()
	_ = c.Close()
	time.Sleep(2 * silence) // the reader's side may wait for its disk, and hears of it late
	if n := len(s.x.Peers()); n != 0 {
		s.t.Fatalf("%d peers are left", n)
	}
}

// waits is how many bytes wait for the disk: blocks, and whole frames where a proof is a part of one.
func (s *stalled) waits() (n int) {
	w := &s.x.work
	w.mu.Lock()
	defer w.mu.Unlock()
	frames := make(map[*sharedFrame]bool)
	held := func(p *feed.Proof, cost load) {
		if f := cost.frame; f != nil && !frames[f] {
			frames[f] = true
			n += f.bytes
		} else if f == nil && p.Block != nil {
			n += len(p.Block.Value)
		}
	}
	for _, j := range w.applies {
		held(j.Proof, j.cost)
	}
	for _, j := range w.heads {
		held(proofOf(j.Action), j.cost)
	}
	return n
}

// check lets many connections come and go, each of which brings 1 MiB or more, and looks at what they leave behind. What the
// last ones brought has then been dropped, and the feed becomes complete all the same when the disk goes on.
func (s *stalled) check(visit func()) {
	s.t.Helper()
	const visits, slack = 25, 1 << 20
	least := 0
	for i := range visits {
		visit()
		n := s.waits()
		if n > maxLateProofs+slack {
			s.t.Fatalf("%d bytes wait for the disk after %d connections that have all gone", n, i+1)
		}
		least = max(least, n)
	}
	if least < maxLateProofs/2 {
		s.t.Errorf("%d bytes wait, less than the half of what may", least)
	}
	s.goOn()
	synctest.Wait()
	if n := s.waits(); n != 0 {
		s.t.Errorf("%d bytes wait in the end", n)
	}
	s.run.connect([]*Exchange{s.from}, []*Exchange{s.x})
	all := session(s.t, s.reader)
	defer all.Close()
	if err := all.Download(timed(s.t), feed.Range{End: uint64(len(s.blocks))}); err != nil {
		s.t.Fatal(err)
	}
	sameBlocks(s.t, s.reader, s.blocks)
	if st := s.x.Stats(); st.Inflight != 0 || st.InvalidProofs != 0 || st.Peers != 1 {
		s.t.Errorf("in the end: %+v", st)
	}
}

// While the disk of a reader hangs, peers push to it and go, again and again.
func TestPushesOfGoneConnectionsThatWaitForTheDiskAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStalled(t)
		start := uint64(0)
		s.check(func() {
			s.visit(func() { s.from.Push(feed.Range{Start: start, End: start + 14}) })
			start = (start + 14) % 70 // others each time, until they come again
		})
		if n := s.x.Stats().PushesStored; n == 0 {
			t.Error("no push was stored: what came first was not kept")
		}
	})
}

// The same with a remote that proves heads in frames of junk, which nobody has asked for either.
func TestHeadsOfGoneConnectionsThatWaitForTheDiskAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStalled(t)
		s.check(func() {
			c, r, _ := victim(t, Config{}, s.x)
			go func() {
				_ = r.open(1, s.writer.DiscoveryKey(), Capability(s.writer.Key(), testBinding, true))
				_ = r.send(1, &wire.Sync{Uploading: true, Downloading: true})
				head := &wire.Data{}
				head.Proof.Upgrade = &merkle.UpgradeProof{Length: 1}
				body := head.Append([]byte{byte(wire.TypeData)})
				b := compact.AppendBytes([]byte{0, 0, 1}, body)
				_ = r.frame(compact.AppendBytes(b, append([]byte{77}, make([]byte, 1<<20-200)...)))
			}()
			synctest.Wait()
			_ = c.Close()
			synctest.Wait()
		})
	})
}

// What is to be found out of the tree for a peer is not found out any more when it has gone.
func TestVerdictsOnGoneConnectionsAreNotWaitedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStalled(t)
		for i := range 20 {
			c, r, _ := victim(t, Config{}, s.x)
			_ = r.open(1, s.writer.DiscoveryKey(), Capability(s.writer.Key(), testBinding, true))
			for length := range uint64(10) {
				_ = r.send(1, &wire.Sync{Length: length, Uploading: true, Downloading: true})
			}
			synctest.Wait()
			s.x.work.mu.Lock()
			asks := len(s.x.work.asks)
			s.x.work.mu.Unlock()
			if asks == 0 && i > 0 { // those of the first one are being found out
				t.Fatal("nothing is to be found out")
			}
			_ = c.Close()
			synctest.Wait()
			s.x.work.mu.Lock()
			asks = len(s.x.work.asks)
			s.x.work.mu.Unlock()
			if asks > 0 {
				t.Fatalf("%d answers are waited for, and nobody is there", asks)
			}
		}
	})
}
