package feed

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/p2pcore/p2pcore/internal/brittle"
	"github.com/p2pcore/p2pcore/internal/flattree"
	"github.com/p2pcore/p2pcore/internal/lifecycle"
)

// pipe is a Source that has everything from another feed.
type pipe struct {
	from, to *Feed
	mu       sync.Mutex // one request at a time
	fetched  int
}

var _ Source = (*pipe)(nil)

func (p *pipe) Fetch(ctx context.Context, w Want) error {
	sub := p.from.Subscribe()
	defer sub.Close()
	for i := w.Range.Start; i < w.Range.End; i++ {
		for p.from.Info().Length <= i {
			if _, err := sub.Next(ctx); err != nil {
				return err
			}
		}
		if _, err := p.Upgrade(ctx); err != nil {
			return err
		}
		if err := p.block(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

func (p *pipe) block(ctx context.Context, i uint64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.to.Has(Range{Start: i, End: i + 1}) {
		return nil
	}
	nodes, err := p.to.Plan(ctx, []uint64{i})
	if err != nil {
		return err
	}
	p.fetched++
	return p.pass(ctx, Request{Block: &BlockRequest{Index: i, Nodes: nodes[0]}})
}

func (p *pipe) pass(ctx context.Context, req Request) error {
	proved, err := p.from.Prove(ctx, []Request{req})
	if err != nil {
		return err
	}
	if proved[0].Err != nil {
		return proved[0].Err
	}
	applied, err := p.to.Apply(ctx, []*Proof{proved[0].Proof})
	if err != nil {
		return err
	}
	return applied[0].Err
}

func (p *pipe) Upgrade(ctx context.Context) (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.from.Info().Length <= p.to.Info().Length {
		return false, nil
	}
	return true, p.pass(ctx, upgradeRequest(p.from, p.to))
}

func (p *pipe) Seek(ctx context.Context, byteOffset, padding uint64) error {
	if _, err := p.Upgrade(ctx); err != nil {
		return err
	}
	place, err := p.to.Locate(ctx, byteOffset, padding)
	if err != nil || place.Found || place.Beyond {
		return err
	}
	req := Request{
		Hash: &HashRequest{Index: flattree.Leaf(place.Window.Start), Nodes: place.Nodes},
		Seek: &SeekRequest{Bytes: byteOffset, Padding: padding},
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pass(ctx, req)
}

func TestReadThroughSource(t *testing.T) {
	const length = 3000
	w, ws := writer(t, memoryStore(), length)
	r := reader(t, memoryStore(), w)
	s := session(t, r)
	if _, err := s.Get(t.Context(), 3); !errors.Is(err, ErrOutOfRange) {
		t.Errorf("without a source: %v", err)
	}
	p := &pipe{from: w, to: r}
	r.SetSource(p)
	if grown, err := s.Update(t.Context()); !grown || err != nil {
		t.Fatalf("update: %v, %v", grown, err)
	}
	if grown, err := s.Update(t.Context()); grown || err != nil {
		t.Errorf("second update: %v, %v", grown, err)
	}
	if b, err := s.Get(t.Context(), 2222); err != nil || !bytes.Equal(b, testBlock(2222)) {
		t.Errorf("get: %q, %v", b, err)
	}
	if _, err := s.GetLocal(t.Context(), 3); !errors.Is(err, ErrNotAvailable) {
		t.Errorf("get, local: %v", err)
	}
	for b, err := range s.Blocks(t.Context(), Range{Start: 2222, End: 2230}, ReadOptions{Local: true}) {
		if err == nil && !bytes.Equal(b, testBlock(2222)) || err != nil && !errors.Is(err, ErrNotAvailable) {
			t.Errorf("blocks, local: %q, %v", b, err)
		}
	}
	offset, seeks := uint64(0), 0
	for i := range uint64(length) {
		size := uint64(len(testBlock(int(i))))
		if i%371 == 5 && size > 1 {
			index, at, err := s.Seek(t.Context(), offset+1)
			if err != nil || index != i || at != 1 {
				t.Errorf("seek %d = %d, %d, %v, want %d, 1", offset+1, index, at, err, i)
			}
			seeks++
		}
		offset += size
	}
	if p.fetched != 1+seeks {
		t.Errorf("%d blocks were fetched, want one, and one to be sure of each of %d seeks", p.fetched, seeks)
	}
	i := 0
	for b, err := range s.Blocks(t.Context(), Range{End: length}, ReadOptions{}) {
		if err != nil || !bytes.Equal(b, testBlock(i)) {
			t.Fatalf("block %d: %q, %v", i, b, err)
		}
		i++
	}
	if i != length {
		t.Errorf("the iteration ended at %d", i)
	}
	for b, err := range s.Blocks(t.Context(), Range{Start: 7, End: length}, ReadOptions{}) {
		if err != nil || !bytes.Equal(b, testBlock(7)) {
			t.Fatalf("got %q, %v", b, err)
		}
		break
	}
	appendBlocks(t, ws, testBlocks(length, length+3)...)
	if err := s.Download(t.Context(), Range{Start: 10, End: length + 3}); err != nil || !r.Has(Range{End: length + 3}) {
		t.Errorf("download: %v", err)
	}
}

func TestFollowAndClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var group lifecycle.Group
		w, ws := writer(t, memoryStore(), 5)
		r := reader(t, memoryStore(), w)
		r.SetSource(&pipe{from: w, to: r})
		var local, remote [][]byte
		var localErr, remoteErr error
		follow := func(s *Session, got *[][]byte, end *error) {
			group.Go(func(ctx context.Context) {
				for b, err := range s.Blocks(ctx, Range{End: 1 << 30}, ReadOptions{Follow: true}) {
					if *end = err; err == nil {
						*got = append(*got, b)
					}
				}
			})
		}
		ls, rs := session(t, w), session(t, r)
		follow(ls, &local, &localErr)
		follow(rs, &remote, &remoteErr)
		synctest.Wait()
		for i := 5; i < 9; i++ {
			appendBlocks(t, ws, testBlock(i))
			synctest.Wait()
			if len(local) != i+1 || len(remote) != i+1 {
				t.Fatalf("after block %d: %d and %d blocks", i, len(local), len(remote))
			}
		}
		ls.Close()
		r.Close()
		synctest.Wait()
		if !errors.Is(localErr, ErrClosed) || !errors.Is(remoteErr, ErrClosed) {
			t.Errorf("after the close: %v and %v, want ErrClosed", localErr, remoteErr)
		}
		for i, b := range remote {
			if !bytes.Equal(b, testBlock(i)) {
				t.Errorf("block %d: %q", i, b)
			}
		}
		group.Close()
	})
}

func TestCloseEndsWaitingCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var group lifecycle.Group
		w, _ := writer(t, memoryStore(), 5)
		r := reader(t, memoryStore(), w)
		r.SetSource(&pipe{from: w, to: r})
		closed := 0
		s, err := r.Session(SessionOptions{OnClose: func() { closed++ }})
		if err != nil {
			t.Fatal(err)
		}
		var got error
		group.Go(func(ctx context.Context) { _, got = s.Get(ctx, 100) })
		synctest.Wait()
		s.Close()
		s.Close()
		synctest.Wait()
		if !errors.Is(got, ErrClosed) || closed != 1 {
			t.Errorf("get: %v, want ErrClosed; OnClose was called %d times", got, closed)
		}
		if _, err := s.Get(t.Context(), 1); !errors.Is(err, ErrClosed) {
			t.Errorf("after the close: %v", err)
		}
		group.Close()
	})
}

// TestConcurrentUse has writers, readers, provers and appliers at the same time, for the race detector
// and the audit.
func TestConcurrentUse(t *testing.T) {
	for _, store := range stores {
		t.Run(store.name, func(t *testing.T) {
			t.Parallel()
			w, ws := writer(t, store.open(t), 10)
			r := reader(t, store.open(t), w)
			r.SetSource(&pipe{from: w, to: r})
			var group lifecycle.Group
			var done sync.WaitGroup
			run := func(fn func(ctx context.Context, i int)) {
				done.Add(1)
				group.Go(func(ctx context.Context) {
					defer done.Done()
					for i := range 60 {
						fn(ctx, i)
					}
				})
			}
			for range 2 {
				run(func(ctx context.Context, i int) {
					if _, err := ws.Append(ctx, []byte("x"), []byte("yz")); err != nil {
						t.Error(err)
					}
				})
			}
			s := session(t, r)
			for range 2 {
				run(func(ctx context.Context, i int) {
					if _, err := s.Get(ctx, uint64(rand.IntN(i+10))); err != nil {
						t.Error(err)
					}
					if _, err := s.Update(ctx); err != nil {
						t.Error(err)
					}
				})
			}
			run(func(ctx context.Context, i int) {
				for rg := range r.Ranges(Range{End: 1000}) {
					if !r.Has(rg) {
						t.Errorf("%v is not all there", rg)
					}
				}
				r.FirstMissing(0)
				if i%20 == 0 {
					if err := r.Check(ctx); err != nil {
						t.Error(err)
					}
					if err := w.Check(ctx); err != nil {
						t.Error(err)
					}
				}
			})
			done.Wait()
			group.Close()
			if got := w.Info().Length; got != 10+2*60*2 {
				t.Errorf("length %d", got)
			}
		})
	}
}

// TestHeadAndManifestAppearInOneStep has somebody look at readers while their first proof is applied: a head
// that is seen comes with the manifest that it was verified by, else an audit finds it unsigned and a peer is
// proved a head that it cannot verify.
func TestHeadAndManifestAppearInOneStep(t *testing.T) {
	w, _ := writer(t, brittle.New(true, 1), 1)
	proved, err := w.Prove(t.Context(), []Request{{Upgrade: &UpgradeRequest{Length: 1}, Manifest: true}})
	if err != nil || proved[0].Err != nil {
		t.Fatal(err, proved)
	}
	for range 200 {
		r := reader(t, brittle.New(true, 1), w)
		var looking sync.WaitGroup
		for range 2 {
			looking.Go(func() {
				for info := r.Info(); t.Context().Err() == nil; info = r.Info() {
					if info.Length > 0 {
						if !info.HasManifest {
							t.Error("a head is seen before its manifest")
						}
						return
					}
				}
			})
		}
		applied, err := r.Apply(t.Context(), []*Proof{proved[0].Proof})
		if err != nil || applied[0].Err != nil {
			t.Fatal(err, applied)
		}
		looking.Wait()
	}
}

// TestNothingTouchesTheDatastoreAfterClose pins rule 7 of the house.
func TestNothingTouchesTheDatastoreAfterClose(t *testing.T) {
	s := brittle.New(true, 1)
	pair := NewKeyPair()
	f, err := Create(t.Context(), s, Options{Prefix: testPrefix, KeyPair: &pair})
	if err != nil {
		t.Fatal(err)
	}
	h := session(t, f)
	appendBlocks(t, h, testBlocks(0, 5)...)
	f.Close()
	before := s.Ops()
	ctx := t.Context()
	_, appendErr := h.Append(ctx, []byte("x"))
	_, getErr := h.Get(ctx, 1)
	_, proveErr := f.Prove(ctx, []Request{{}})
	_, applyErr := f.Apply(ctx, []*Proof{{}})
	_, planErr := f.Plan(ctx, []uint64{1})
	_, canErr := f.CanUpgrade(ctx, 1)
	_, sessionErr := f.Session(SessionOptions{})
	_, bytesErr := f.DiskBytes(ctx)
	for i, err := range []error{appendErr, getErr, proveErr, applyErr, planErr, canErr, sessionErr, bytesErr, f.Check(ctx)} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("call %d: %v, want ErrClosed", i, err)
		}
	}
	if err := f.Close(); err != nil || s.Ops() != before {
		t.Errorf("%d operations after the close, %v", s.Ops()-before, err)
	}
}
