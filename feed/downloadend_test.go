package feed

import (
	"errors"
	"testing"
	"testing/synctest"
)

func TestDownloadEndsWithItsCloseAndItsSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		w, _ := writer(t, memoryStore(), 5)
		f := reader(t, memoryStore(), w)
		upgrade(t, w, f)
		f.SetSource(&deaf{})
		for name, end := range map[string]func(*Download, *Session){
			"its own":       func(d *Download, _ *Session) { d.Close() },
			"the session's": func(_ *Download, s *Session) { s.Close() },
		} {
			s := session(t, f)
			d, err := s.NewDownload(ctx, DownloadOptions{Follow: true})
			if err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			select {
			case <-d.Done():
				t.Error("ended by itself")
			default:
			}
			end(d, s)
			synctest.Wait()
			if err := d.Wait(ctx); !errors.Is(err, ErrClosed) {
				t.Errorf("closed by %s close: %v", name, err)
			}
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestDownloadOfASnapshotEndsWhenTheBlocksAreGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		f, s := writer(t, memoryStore(), 20)
		if _, err := s.Clear(ctx, Range{Start: 10, End: 12}); err != nil {
			t.Fatal(err)
		}
		f.SetSource(&patient{to: f})
		snapshot, err := s.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		defer snapshot.Close()
		all, err := snapshot.NewDownload(ctx, DownloadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		one, err := snapshot.NewDownload(ctx, DownloadOptions{Blocks: []uint64{19, 11}})
		if err != nil {
			t.Fatal(err)
		}
		simple := make(chan error, 1)
		go func() { simple <- snapshot.Download(ctx, Range{Start: 9, End: 20}) }()
		synctest.Wait()
		// Blocks 10 and 11 may still come.
		if _, err := s.Truncate(ctx, 15, TruncateOptions{}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		select {
		case <-all.Done():
			t.Errorf("ended: %v", all.Wait(ctx))
		case <-one.Done():
			t.Errorf("ended: %v", one.Wait(ctx))
		default:
		}
		// Now they may not; the feed gets others of the same numbers.
		if _, err := s.Truncate(ctx, 10, TruncateOptions{}); err != nil {
			t.Fatal(err)
		}
		appendBlocks(t, s, testBlocks(100, 120)...)
		for _, err := range []error{all.Wait(ctx), one.Wait(ctx), <-simple} {
			if !errors.Is(err, ErrSnapshotNotAvailable) {
				t.Errorf("%v, want ErrSnapshotNotAvailable", err)
			}
		}
		if n := subscriptions(f); n != 0 {
			t.Errorf("%d subscriptions are left", n)
		}
	})
}

func TestDownloadEndsWhenTheFeedFreezes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		a, b := twoWriters(t, 4, 9)
		f := reader(t, memoryStore(), a)
		upgrade(t, a, f)
		f.SetSource(&deaf{})
		s := session(t, f)
		d, err := s.NewDownload(ctx, DownloadOptions{Follow: true})
		if err != nil {
			t.Fatal(err)
		}
		c, err := f.Examine(ctx, prove(t, b, Request{Upgrade: &UpgradeRequest{Length: 9}}))
		if err != nil || c == nil {
			t.Fatal(c, err)
		}
		if err := f.Freeze(ctx, c); err != nil {
			t.Fatal(err)
		}
		if err := d.Wait(ctx); !errors.Is(err, ErrFrozen) {
			t.Errorf("the one that ran: %v", err)
		}
		if _, err := s.NewDownload(ctx, DownloadOptions{}); !errors.Is(err, ErrFrozen) {
			t.Errorf("one after it: %v", err)
		}
	})
}
