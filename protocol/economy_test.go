package protocol

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/internal/simnet"
)

// Readers that are connected to each other and to the writer fetch each block from the writer about once in all,
// and the rest from each other.
func TestReadersServeEachOther(t *testing.T) {
	t.Parallel()
	sizes, readers := []int{1 << 10, 4 << 10}, []int{1, 2, 4, 8, 16}
	if testing.Short() {
		sizes, readers = sizes[:1], readers[:3]
	}
	for _, size := range sizes {
		for _, n := range readers {
			t.Run(fmt.Sprintf("block=%d/readers=%d", size, n), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					blocks := numbered(1000, size)
					w := writer(t, 1, blocks...)
					wx := exchange(t, w, false)
					run := newRunner(t)
					path := simnet.Path{Delay: 20 * time.Millisecond, Bandwidth: 5_000_000 / 8}
					var readers []*feed.Feed
					var xs []*Exchange
					for range n {
						r := reader(t, w)
						x := exchange(t, r, true)
						run.connectOver(simnet.New(path, path), x, wx)
						for _, other := range xs {
							run.connectOver(simnet.New(path, path), x, other)
						}
						readers, xs = append(readers, r), append(xs, x)
					}
					start := time.Now()
					var downloads []*feed.Download
					for _, r := range readers {
						d, err := session(t, r).NewDownload(timed(t), feed.DownloadOptions{Range: feed.Range{End: uint64(len(blocks))}})
						if err != nil {
							t.Fatal(err)
						}
						downloads = append(downloads, d)
					}
					for _, d := range downloads {
						if err := d.Wait(timed(t)); err != nil {
							t.Fatal(err)
						}
					}
					copies := float64(wx.Stats().BlocksSent) / float64(len(blocks))
					t.Logf("%.2f copies in %v", copies, time.Since(start))
					if copies > 1.5 {
						t.Errorf("the writer has sent %.2f copies, want at most 1.5", copies)
					}
				})
			})
		}
	}
}
