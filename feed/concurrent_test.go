package feed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	datastore "github.com/ipfs/go-datastore"

	"github.com/p2pcore/p2pcore/internal/lifecycle"
)

// history tells what every head that a feed ever has says: block i of fork f is the one that was appended
// at the last fork up to f which did not begin past i. A truncation is told before it is done.
type history struct {
	mu    sync.Mutex
	bases []uint64 // by fork: the length that it began with
}

func (h *history) begin(length uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.bases = append(h.bases, length)
}

func (h *history) block(fork, i uint64) []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	for fork > 0 && i < h.bases[fork] {
		fork--
	}
	return forkBlock(fork, i)
}

func forkBlock(fork, i uint64) []byte {
	return bytes.Repeat(fmt.Appendf(nil, "%d of %d;", i, fork), 1+int(i+fork)%4)
}

// crowd is many goroutines on one feed.
type crowd struct {
	history
	t       *testing.T
	feed    *Feed
	session *Session
	group   lifecycle.Group
	done    sync.WaitGroup
}

// run repeats something at the same time as everything else.
func (c *crowd) run(times int, fn func(ctx context.Context, random *rand.Rand) error) {
	c.done.Add(1)
	c.group.Go(func(ctx context.Context) {
		defer c.done.Done()
		random := rand.New(rand.NewPCG(rand.Uint64(), 1))
		for range times {
			if err := fn(ctx, random); err != nil {
				c.t.Error(err)
				return
			}
		}
	})
}

// TestCrowdSeesWhatItsHeadsSay has goroutines append, truncate, clear, branch, take snapshots, read, seek,
// prove and check at the same time. Each holds what it reads against what its head says.
func TestCrowdSeesWhatItsHeadsSay(t *testing.T) {
	onStores(t, func(t *testing.T, ds datastore.Batching) {
		times := 50
		if testing.Short() {
			times = 20
		}
		f, s := writer(t, ds, 0)
		c := &crowd{t: t, feed: f, session: s}
		c.begin(0)
		c.run(4*times, c.append)
		c.run(times, c.truncate)
		c.run(times, c.clear)
		c.run(times, c.branch)
		for range 2 {
			c.run(2*times, c.snapshot)
			c.run(8*times, c.read)
			c.run(2*times, c.prove)
		}
		c.run(times/5, func(ctx context.Context, _ *rand.Rand) error { return f.Check(ctx) })
		c.done.Wait()
		c.group.Close()
		if t.Failed() {
			return
		}
		for _, name := range f.Branches() {
			if err := f.DeleteBranch(t.Context(), name); err != nil {
				t.Fatal(err)
			}
		}
		// What was left for the next time is gone the next time.
		appendBlocks(t, s, []byte("last"))
		f = reopen(t, f, ds, Options{})
		assertNoGarbage(t, f)
	})
}

func (c *crowd) append(ctx context.Context, random *rand.Rand) error {
	head := c.session.Info().Head
	blocks := make([][]byte, 1+random.IntN(8))
	for i := range blocks {
		blocks[i] = forkBlock(head.Fork, head.Length+uint64(i))
	}
	_, err := c.session.AppendWith(ctx, blocks, AppendOptions{If: &head})
	if errors.Is(err, ErrDiverged) {
		return nil // truncated meanwhile
	}
	return err
}

func (c *crowd) truncate(ctx context.Context, random *rand.Rand) error {
	// Nobody else makes the feed shorter.
	length := c.session.Info().Length
	length -= min(length, uint64(random.IntN(24)))
	c.begin(length)
	_, err := c.session.Truncate(ctx, length, TruncateOptions{})
	return err
}

func (c *crowd) clear(ctx context.Context, random *rand.Rand) error {
	at := random.Uint64N(c.session.Info().Length + 1)
	_, err := c.session.Clear(ctx, Range{Start: at, End: at + random.Uint64N(8)})
	return err
}

func (c *crowd) snapshot(ctx context.Context, random *rand.Rand) error {
	s, err := c.session.Snapshot()
	if err != nil {
		return err
	}
	defer s.Close()
	head := s.Info().Head
	var held []uint64
	for i := head.Length - min(head.Length, 64); i < head.Length; i++ {
		if s.Has(i) {
			held = append(held, i)
		}
	}
	for range 1 + random.IntN(4) {
		for _, i := range held {
			if err := c.expect(ctx, s, head.Fork, i); err != nil {
				return fmt.Errorf("snapshot of %d: %w", head.Length, err)
			}
		}
	}
	if s.Info().Head != head {
		return fmt.Errorf("snapshot %+v has become %+v", head, s.Info().Head)
	}
	return c.seek(ctx, s, head)
}

func (c *crowd) expect(ctx context.Context, s *Session, fork, i uint64) error {
	b, err := s.GetLocal(ctx, i)
	if want := c.block(fork, i); err != nil || !bytes.Equal(b, want) {
		return fmt.Errorf("block %d of fork %d: %q, %w, want %q", i, fork, b, err, want)
	}
	return nil
}

func (c *crowd) seek(ctx context.Context, s *Session, head Head) error {
	if head.Length == 0 {
		return nil
	}
	// The last byte is in the last block.
	index, offset, err := s.Seek(ctx, head.ByteLength-1)
	want := uint64(len(c.block(head.Fork, head.Length-1)) - 1)
	if err != nil || index != head.Length-1 || offset != want {
		return fmt.Errorf("seek to the end of %d: %d, %d, %w", head.Length, index, offset, err)
	}
	return nil
}

func (c *crowd) read(ctx context.Context, random *rand.Rand) error {
	before := c.session.Info()
	i := random.Uint64N(before.Length + 1)
	b, err := c.session.GetLocal(ctx, i)
	after := c.session.Info()
	if errors.Is(err, ErrOutOfRange) || errors.Is(err, ErrNotAvailable) {
		return nil // truncated or cleared
	}
	for fork := before.Fork; err == nil && fork <= after.Fork; fork++ {
		if bytes.Equal(b, c.block(fork, i)) {
			return nil
		}
	}
	return fmt.Errorf("block %d of fork %d to %d: %q, %w", i, before.Fork, after.Fork, b, err)
}

func (c *crowd) prove(ctx context.Context, random *rand.Rand) error {
	head := c.session.Info().Head
	if head.Length == 0 {
		return nil
	}
	i := random.Uint64N(head.Length)
	proved, err := c.feed.Prove(ctx, []Request{
		{Fork: head.Fork, Block: &BlockRequest{Index: i}, Upgrade: &UpgradeRequest{Length: head.Length}, Manifest: true},
	})
	if err != nil {
		return err
	}
	if p := proved[0].Proof; p == nil || p.Block == nil { // truncated or cleared
		if c.session.Info().Head == head && c.session.Has(i) {
			return fmt.Errorf("prove block %d of %+v: %w", i, head, proved[0].Err)
		}
		return nil
	}
	p := proved[0].Proof
	if want := c.block(head.Fork, i); p.Fork != head.Fork || !bytes.Equal(p.Block.Value, want) {
		return fmt.Errorf("proof of block %d of fork %d: fork %d, %q, want %q", i, head.Fork, p.Fork, p.Block.Value, want)
	}
	return nil
}

// branch leaves the feed, grows, and reads what it shares with the feed and what it does not.
func (c *crowd) branch(ctx context.Context, random *rand.Rand) error {
	b, err := c.session.Branch(ctx, "b", BranchOptions{Overwrite: true})
	if err != nil {
		return err
	}
	defer b.Close()
	begun := b.Info().Head
	var held []uint64
	for i := begun.Length - min(begun.Length, 16); i < begun.Length; i++ {
		held = append(held, i)
	}
	if _, err := b.Append(ctx, []byte("own"), []byte("too many")); err != nil {
		return err
	}
	if _, err := b.Truncate(ctx, begun.Length+1, TruncateOptions{}); err != nil {
		return err
	}
	for _, i := range held {
		err := c.expect(ctx, b, begun.Fork, i)
		if errors.Is(err, ErrNotAvailable) || errors.Is(err, ErrSnapshotNotAvailable) {
			continue // cleared, and perhaps truncated as well
		}
		if err != nil {
			return fmt.Errorf("branch at %d: %w", begun.Length, err)
		}
	}
	if own, err := b.GetLocal(ctx, begun.Length); err != nil || string(own) != "own" {
		return fmt.Errorf("block %d of the branch: %q, %w", begun.Length, own, err)
	}
	if random.IntN(2) == 0 {
		return c.feed.DeleteBranch(ctx, "b")
	}
	return nil
}

// TestSnapshotSeeksInWhatWasCleared clears under a snapshot of a reader, which drops nodes that its feed needs no more.
func TestSnapshotSeeksInWhatWasCleared(t *testing.T) {
	onStores(t, func(t *testing.T, ds datastore.Batching) {
		w, ws := writer(t, memoryStore(), 130)
		r := reader(t, ds, w)
		upgrade(t, w, r)
		for i := range uint64(130) {
			fetch(t, w, r, i)
		}
		s := session(t, r)
		snapshot, err := s.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Clear(t.Context(), Range{Start: 0, End: 64}); err != nil {
			t.Fatal(err)
		}
		index, offset, err := snapshot.Seek(t.Context(), 100)
		if want, wantOffset, _ := ws.Seek(t.Context(), 100); err != nil || index != want || offset != wantOffset {
			t.Errorf("seek in the snapshot: %d, %d, %v; want %d, %d", index, offset, err, want, wantOffset)
		}
		if err := snapshot.Close(); err != nil {
			t.Fatal(err)
		}
		// Then the nodes go as well.
		if p, err := r.storage.loadPage(t.Context(), 0, 0); err != nil || p.recordSize() > presentSize+nodeRecord {
			t.Errorf("page 0 has %d bytes, %v", p.recordSize(), err)
		}
		assertNoGarbage(t, r)
	})
}
