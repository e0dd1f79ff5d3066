package feed

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
)

// lister is a pipe that brings discrete blocks as well, and waits for a block to come back.
type lister struct{ *pipe }

func (l lister) Fetch(ctx context.Context, w Want) error {
	if w.Blocks == nil {
		return l.pipe.Fetch(ctx, w)
	}
	for _, b := range w.Blocks {
		if err := l.pipe.Fetch(ctx, Want{Range: Range{Start: b, End: b + 1}}); err != nil {
			return err
		}
	}
	return nil
}

func subscriptions(f *Feed) int {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return len(f.subs)
}

func TestDownloadOfDiscreteBlocks(t *testing.T) {
	ctx := t.Context()
	w, _ := writer(t, memoryStore(), 100)
	f := reader(t, memoryStore(), w)
	f.SetSource(lister{&pipe{from: w, to: f}})
	s := session(t, f)
	blocks := []uint64{77, 3, 50}
	d, err := s.NewDownload(ctx, DownloadOptions{Blocks: blocks})
	if err != nil {
		t.Fatal(err)
	}
	clear(blocks) // it has its own
	if err := d.Wait(ctx); err != nil || f.Info().LocalBlocks != 3 || !s.Has(77) || !s.Has(3) || !s.Has(50) {
		t.Errorf("%v, %d blocks", err, f.Info().LocalBlocks)
	}
	if n := subscriptions(f); n != 0 {
		t.Errorf("%d subscriptions are left of a download that has ended and was not closed", n)
	}
	d, err = s.NewDownload(ctx, DownloadOptions{Blocks: []uint64{}})
	if err != nil || d.Wait(ctx) != nil || subscriptions(f) != 0 {
		t.Errorf("of nothing: %v", err)
	}
	if _, err := s.NewDownload(ctx, DownloadOptions{Blocks: []uint64{1, 1<<64 - 1}}); !errors.Is(err, ErrOutOfRange) {
		t.Errorf("of a block that cannot be: %v", err)
	}
	only, err := f.Session(SessionOptions{Local: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := only.NewDownload(ctx, DownloadOptions{}); !errors.Is(err, ErrNotAvailable) || subscriptions(f) != 0 {
		t.Errorf("of a local session: %v", err)
	}
}

// What a branch has of its own needs no download, and what it shares with the feed comes as the feed's.
func TestDownloadOfABranch(t *testing.T) {
	ctx := t.Context()
	w, ws := writer(t, memoryStore(), 20)
	f := reader(t, memoryStore(), w)
	p := &pipe{from: w, to: f}
	f.SetSource(lister{p})
	upgrade(t, w, f)
	branch, err := session(t, f).Branch(ctx, "draft", BranchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer branch.Close()
	appendBlocks(t, branch, testBlocks(100, 103)...)
	appendBlocks(t, ws, testBlocks(20, 40)...)
	d, err := branch.NewDownload(ctx, DownloadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Wait(ctx); err != nil || d.Progress() != (Progress{23, 23}) || p.fetched != 20 {
		t.Errorf("%v, %+v, %d blocks were fetched", err, d.Progress(), p.fetched)
	}
	d, err = branch.NewDownload(ctx, DownloadOptions{Blocks: []uint64{21, 7}})
	if err != nil || d.Wait(ctx) != nil {
		t.Errorf("of blocks: %v", err)
	}
	if _, err := branch.NewDownload(ctx, DownloadOptions{Range: Range{End: 24}}); !errors.Is(err, ErrSnapshotNotAvailable) {
		t.Errorf("past the end: %v", err)
	}
	if err := branch.Download(ctx, Range{End: 23}); err != nil {
		t.Errorf("the simple form: %v", err)
	}
}

// A truncation takes blocks away that a download has already; it wants those of the same numbers again.
func TestDownloadGoesOnAfterATruncation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		f, s := writer(t, memoryStore(), 10)
		f.SetSource(&patient{to: f})
		d, err := s.NewDownload(ctx, DownloadOptions{Range: Range{End: 12}})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if _, err := s.Truncate(ctx, 5, TruncateOptions{}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if p := d.Progress(); p != (Progress{5, 5}) {
			t.Errorf("%+v", p)
		}
		appendBlocks(t, s, testBlocks(50, 56)...)
		synctest.Wait()
		select {
		case <-d.Done():
			t.Error("ended before all was there")
		default:
		}
		appendBlocks(t, s, testBlocks(56, 57)...)
		if err := d.Wait(ctx); err != nil || d.Progress() != (Progress{12, 12}) {
			t.Errorf("%v, %+v", err, d.Progress())
		}
	})
}

func TestFollowHasNoMeaningOnASnapshot(t *testing.T) {
	_, s := writer(t, memoryStore(), 20)
	snapshot, err := s.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	defer snapshot.Close()
	appendBlocks(t, s, []byte("more"))
	n := 0
	for _, err := range snapshot.Entries(t.Context(), Range{End: 100}, ReadOptions{Follow: true}) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != 20 {
		t.Errorf("%d entries", n)
	}
	r := follower(t, snapshot)
	if b, err := io.ReadAll(r); err != nil || !bytes.Equal(b, bytes.Join(testBlocks(0, 20), nil)) {
		t.Errorf("%q, %v", b, err)
	}
	d, err := snapshot.NewDownload(t.Context(), DownloadOptions{Follow: true})
	if err != nil || d.Wait(t.Context()) != nil {
		t.Errorf("download: %v", err)
	}
}

func TestDownloadWaitersDoNotDisturbEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		f, s := writer(t, memoryStore(), 3)
		f.SetSource(&patient{to: f})
		d, err := s.NewDownload(ctx, DownloadOptions{Range: Range{End: 5}})
		if err != nil {
			t.Fatal(err)
		}
		if p, err := d.Next(ctx); p != (Progress{3, 3}) || err != nil {
			t.Fatalf("%+v, %v", p, err)
		}
		var group sync.WaitGroup
		group.Go(func() {
			for {
				if _, err := d.Next(ctx); err != nil {
					if err != io.EOF {
						t.Error(err)
					}
					return
				}
			}
		})
		synctest.Wait()
		short, cancel := context.WithCancel(ctx)
		cancel()
		if _, err := d.Next(short); !errors.Is(err, context.Canceled) {
			t.Errorf("behind another call: %v", err)
		}
		if err := d.Wait(short); !errors.Is(err, context.Canceled) {
			t.Errorf("wait: %v", err)
		}
		appendBlocks(t, s, testBlocks(3, 5)...)
		group.Wait()
		if err := errors.Join(d.Close(), d.Close(), d.Wait(ctx)); err != nil {
			t.Error(err)
		}
	})
}

// Downloads of random blocks and ranges from several goroutines bring all of them once, and leave nothing.
func TestDownloadsBesideEachOther(t *testing.T) {
	ctx := t.Context()
	w, _ := writer(t, memoryStore(), 300)
	f := reader(t, memoryStore(), w)
	p := &pipe{from: w, to: f}
	f.SetSource(lister{p})
	upgrade(t, w, f)
	s := session(t, f)
	wanted := make([]bool, 300)
	var downloads []*Download
	random := rand.New(rand.NewPCG(5, 5))
	for i := range 10 {
		var o DownloadOptions
		o.Range.Start = random.Uint64N(250)
		o.Range.End = o.Range.Start + 1 + random.Uint64N(40)
		if i%2 == 0 {
			for range 20 {
				o.Blocks = append(o.Blocks, random.Uint64N(300))
			}
			for _, b := range o.Blocks {
				wanted[b] = true
			}
		} else {
			for b := o.Range.Start; b < o.Range.End; b++ {
				wanted[b] = true
			}
		}
		d, err := s.NewDownload(ctx, o)
		if err != nil {
			t.Fatal(err)
		}
		downloads = append(downloads, d)
	}
	for _, d := range downloads {
		if err := d.Wait(ctx); err != nil {
			t.Error(err)
		}
		if p := d.Progress(); p.Done != p.Total {
			t.Errorf("%+v", p)
		}
	}
	got := make([]bool, 300)
	for b := range got {
		got[b] = s.Has(uint64(b))
	}
	if !slices.Equal(got, wanted) || subscriptions(f) != 0 {
		t.Errorf("the blocks are others, or %d subscriptions are left", subscriptions(f))
	}
}

func TestDownloadTellsItsProgress(t *testing.T) {
	ctx := t.Context()
	w, _ := writer(t, memoryStore(), 500)
	f := reader(t, memoryStore(), w)
	upgrade(t, w, f)
	s := session(t, f)
	if _, err := s.NewDownload(ctx, DownloadOptions{}); !errors.Is(err, ErrNotAvailable) {
		t.Errorf("without a source: %v", err)
	}
	f.SetSource(&pipe{from: w, to: f})
	d, err := s.NewDownload(ctx, DownloadOptions{Range: Range{Start: 100, End: 400}, Linear: true})
	if err != nil {
		t.Fatal(err)
	}
	last := Progress{}
	for {
		p, err := d.Next(ctx)
		if p.Total != 300 || p.Done < last.Done {
			t.Fatalf("progress %+v after %+v", p, last)
		}
		last = p
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Wait(ctx); err != nil || last.Done != 300 || f.Info().LocalBlocks != 300 {
		t.Errorf("at the end: %+v, %v", last, err)
	}
	// What is here already resolves at once, without anybody to ask.
	f.SetSource(nil)
	d, err = s.NewDownload(ctx, DownloadOptions{Blocks: []uint64{399, 100, 222}})
	if err != nil || d.Wait(ctx) != nil || d.Progress() != (Progress{3, 3}) {
		t.Errorf("of blocks that are here: %+v, %v", d.Progress(), err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}
