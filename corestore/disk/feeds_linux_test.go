package disk_test

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/p2pcore/p2pcore/corestore"
	"github.com/p2pcore/p2pcore/corestore/disk"
	"github.com/p2pcore/p2pcore/feed"
)

func TestFeedsOnAFullDisk(t *testing.T) { disk.OnTmpfs(t, 64<<20, feedsOnAFullDisk) }

func feedsOnAFullDisk(t *testing.T, root string) {
	ctx := t.Context()
	opts, blocks := fewMegabytes()

	d, s, session := openFeed(t, root, opts)
	taken := appendUntilFull(t, session, blocks)
	if taken == 0 {
		t.Fatal("nothing could be appended")
	}
	if info := session.Info(); info.Length != taken {
		t.Errorf("length %d, %d blocks were acknowledged", info.Length, taken)
	}
	checkFeed(t, session, taken, blocks)
	closeAll(t, d, s)

	// Again, on the full disk. Closing has given back the log, so that a little more may fit.
	d, s, session = openFeed(t, root, opts)
	checkFeed(t, session, taken, blocks)
	taken += appendUntilFull(t, session, blocks)
	checkFeed(t, session, taken, blocks)
	closeAll(t, d, s)

	disk.GrowTmpfs(t, root, 96<<20)
	d, s, session = openFeed(t, root, opts)
	if _, err := session.Append(ctx, blocks...); err != nil {
		t.Errorf("append when there is space again: %v", err)
	}
	checkFeed(t, session, taken+uint64(len(blocks)), blocks)

	// And within one process: the answer is new after a moment.
	taken = session.Info().Length + appendUntilFull(t, session, blocks)
	disk.GrowTmpfs(t, root, 128<<20)
	for deadline := time.Now().Add(10 * time.Second); ; {
		_, err := session.Append(ctx, blocks...)
		if err == nil {
			break
		}
		if !errors.Is(err, feed.ErrNoSpace) || time.Now().After(deadline) {
			t.Fatalf("append when there is space again: %v", err)
		}
	}
	checkFeed(t, session, taken+uint64(len(blocks)), blocks)
	closeAll(t, d, s)
}

// fewMegabytes returns options for a small disk, and a mebibyte of blocks that do not compress.
func fewMegabytes() (opts disk.Options, blocks [][]byte) {
	opts = disk.Options{MemTableBytes: 1 << 20, CacheBytes: 1 << 20, Reserve: 8 << 20}
	opts.OnFatal = func(err error) { panic(err) }
	blocks = make([][]byte, 64)
	for i := range blocks {
		blocks[i] = make([]byte, 16<<10)
		rand.Read(blocks[i])
	}
	return opts, blocks
}

func openFeed(t *testing.T, root string, opts disk.Options) (*disk.Disk, *corestore.Store, *feed.Session) {
	t.Helper()
	d, err := disk.Open(root+"/store", opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	s, err := corestore.Open(context.Background(), d.Datastore(), corestore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	session, err := s.Named(context.Background(), "a")
	if err != nil {
		t.Fatal(err)
	}
	return d, s, session
}

func closeAll(t *testing.T, d *disk.Disk, s *corestore.Store) {
	t.Helper()
	if err := errors.Join(s.Close(), d.Close()); err != nil {
		t.Fatal(err)
	}
}

// appendUntilFull returns how many blocks were acknowledged.
func appendUntilFull(t *testing.T, session *feed.Session, blocks [][]byte) (n uint64) {
	t.Helper()
	for range 1000 {
		_, err := session.Append(t.Context(), blocks...)
		if errors.Is(err, feed.ErrNoSpace) {
			return n
		}
		if err != nil {
			t.Fatal(err)
		}
		n += uint64(len(blocks))
	}
	t.Fatal("the disk never gets full")
	return 0
}

func checkFeed(t *testing.T, session *feed.Session, length uint64, blocks [][]byte) {
	t.Helper()
	for i := range length {
		got, err := session.GetLocal(t.Context(), i)
		if err != nil || string(got) != string(blocks[i%uint64(len(blocks))]) {
			t.Fatalf("block %d: %v", i, err)
		}
	}
	if err := session.Feed().Check(t.Context()); err != nil {
		t.Errorf("check: %v", err)
	}
}

// Another program has eaten into the reserve. What gives space back works.
func TestFeedsGiveSpaceBack(t *testing.T) { disk.OnTmpfs(t, 64<<20, feedsGiveSpaceBack) }

func feedsGiveSpaceBack(t *testing.T, root string) {
	ctx := t.Context()
	opts, blocks := fewMegabytes()
	for name, give := range map[string]func(s *corestore.Store, f *feed.Session) error{
		"clear": func(_ *corestore.Store, f *feed.Session) error {
			_, err := f.Clear(ctx, feed.Range{End: f.Info().Length - 1})
			return err
		},
		"truncate": func(_ *corestore.Store, f *feed.Session) error {
			_, err := f.Truncate(ctx, 1, feed.TruncateOptions{})
			return err
		},
		"delete": func(s *corestore.Store, f *feed.Session) error {
			return s.Delete(ctx, f.Feed().Key(), corestore.DeleteOptions{})
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(root, name)
			d, s, session := openFeed(t, dir, opts)
			for range 12 {
				if _, err := session.Append(ctx, blocks...); err != nil {
					t.Fatal(err)
				}
			}
			other := filepath.Join(root, "other")
			disk.Eat(t, other, opts.Reserve/4)
			disk.AskAgain(d)
			if err := give(s, session); err != nil {
				t.Error(err)
			}
			disk.WaitForSpace(t, d)
			closeAll(t, d, s)
			if err := errors.Join(os.Remove(other), os.RemoveAll(dir)); err != nil {
				t.Fatal(err)
			}
		})
	}
}
