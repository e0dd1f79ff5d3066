package feed_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"strings"

	datastore "github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"

	"github.com/p2pcore/p2pcore/feed"
)

// open returns a session of a new feed in memory.
func open() (s *feed.Session, closeFeed func() error) {
	pair := feed.KeyPairFromSeed([32]byte{1})
	ds := dssync.MutexWrap(datastore.NewMapDatastore())
	f, err := feed.Create(context.Background(), ds, feed.Options{Prefix: "/00000001", KeyPair: &pair})
	if err != nil {
		log.Fatal(err)
	}
	if s, err = f.Session(feed.SessionOptions{}); err != nil {
		log.Fatal(err)
	}
	return s, f.Close
}

// A file goes into a feed, in blocks of 4 bytes, and a part of it out again.
func ExampleSession_NewReader() {
	ctx := context.Background()
	s, closeFeed := open()
	defer closeFeed()
	w, err := s.NewWriter(ctx, feed.WriterOptions{ChunkSize: 4})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := io.Copy(w, strings.NewReader("a log that only grows")); err != nil {
		log.Fatal(err)
	}
	if err := w.Close(); err != nil { // now it is durable
		log.Fatal(err)
	}
	r, err := s.NewReader(ctx, feed.ReaderOptions{Offset: 6, Length: 9})
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%q of %d blocks\n", text, s.Info().Length)
	// Output:
	// "that only" of 6 blocks
}

// Each Write is a block of its own.
func ExampleSession_NewWriter() {
	ctx := context.Background()
	s, closeFeed := open()
	defer closeFeed()
	w, err := s.NewWriter(ctx, feed.WriterOptions{Records: true})
	if err != nil {
		log.Fatal(err)
	}
	for _, name := range []string{"ada", "grace"} {
		fmt.Fprintf(w, "hello %s", name) // an error would come back from Close
	}
	if err := w.Close(); err != nil {
		log.Fatal(err)
	}
	for e, err := range s.Entries(ctx, feed.Range{End: s.Info().Length}, feed.ReadOptions{Reverse: true}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%d %s\n", e.Index, e.Data)
	}
	// Output:
	// 1 hello grace
	// 0 hello ada
}

// With Follow the iteration has no end but that of ctx.
func ExampleSession_Entries() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s, closeFeed := open()
	defer closeFeed()
	if _, err := s.Append(ctx, []byte("3"), []byte("2")); err != nil {
		log.Fatal(err)
	}
	for e, err := range s.Entries(ctx, feed.Range{End: 1 << 62}, feed.ReadOptions{Follow: true}) {
		if errors.Is(err, context.Canceled) {
			break
		}
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s\n", e.Data)
		switch e.Index {
		case 1:
			if _, err := s.Append(ctx, []byte("1")); err != nil {
				log.Fatal(err)
			}
		case 2:
			cancel()
		}
	}
	// Output:
	// 3
	// 2
	// 1
}

// The blocks are here already in this example. With a Source, such as a node gives to its feeds, Next tells of each step.
func ExampleSession_NewDownload() {
	ctx := context.Background()
	s, closeFeed := open()
	defer closeFeed()
	if _, err := s.Append(ctx, []byte("one"), []byte("two"), []byte("three")); err != nil {
		log.Fatal(err)
	}
	d, err := s.NewDownload(ctx, feed.DownloadOptions{Blocks: []uint64{2, 0}})
	if err != nil {
		log.Fatal(err)
	}
	defer d.Close()
	for {
		p, err := d.Next(ctx)
		if err == io.EOF {
			break
		}
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%d of %d blocks\n", p.Done, p.Total)
	}
	// Output:
	// 2 of 2 blocks
}

func ExampleTyped() {
	type entry struct {
		Name  string `json:"name"`
		Score int    `json:"score"`
	}
	ctx := context.Background()
	s, closeFeed := open()
	defer closeFeed()
	scores := feed.NewTyped(s, feed.JSON[entry]{})
	info, err := scores.Append(ctx, entry{"ada", 3}, entry{"grace", 5})
	if err != nil {
		log.Fatal(err)
	}
	for e, err := range scores.Values(ctx, feed.Range{End: info.Length}, feed.ReadOptions{}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(e.Name, e.Score)
	}
	// Output:
	// ada 3
	// grace 5
}
