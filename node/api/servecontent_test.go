package api

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	datastore "github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"

	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/internal/flattree"
)

// whole is a Source that has everything from another feed, and counts blocks.
type whole struct {
	from, to *feed.Feed
	blocks   int
}

func (s *whole) pass(ctx context.Context, req feed.Request) error {
	proved, err := s.from.Prove(ctx, []feed.Request{req})
	if err != nil {
		return err
	}
	if proved[0].Err != nil {
		return proved[0].Err
	}
	_, err = s.to.Apply(ctx, []*feed.Proof{proved[0].Proof})
	return err
}

func (s *whole) Fetch(ctx context.Context, w feed.Want) error {
	for i := w.Range.Start; i < w.Range.End; i++ {
		nodes, err := s.to.Plan(ctx, []uint64{i})
		if err != nil {
			return err
		}
		s.blocks++
		if err := s.pass(ctx, feed.Request{Block: &feed.BlockRequest{Index: i, Nodes: nodes[0]}}); err != nil {
			return err
		}
	}
	return nil
}

func (s *whole) Seek(ctx context.Context, offset, padding uint64) error {
	place, err := s.to.Locate(ctx, offset, padding)
	if err != nil || place.Found {
		return err
	}
	return s.pass(ctx, feed.Request{
		Hash: &feed.HashRequest{Index: flattree.Leaf(place.Window.Start), Nodes: place.Nodes},
		Seek: &feed.SeekRequest{Bytes: offset, Padding: padding},
	})
}

func (s *whole) Upgrade(ctx context.Context) (bool, error) {
	have, want := s.to.Info(), s.from.Info()
	err := s.pass(ctx, feed.Request{Upgrade: &feed.UpgradeRequest{Start: have.Length, Length: want.Length - have.Length}, Manifest: true})
	return err == nil, err
}

// http.ServeContent answers a range request of a sparse feed with the blocks of the range alone.
func TestServeContentOfASparseFeed(t *testing.T) {
	ctx := t.Context()
	pair := feed.KeyPairFromSeed([32]byte{1})
	store := func() datastore.Batching { return dssync.MutexWrap(datastore.NewMapDatastore()) }
	w, err := feed.Create(ctx, store(), feed.Options{Prefix: "/w", KeyPair: &pair})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	ws, err := w.Session(feed.SessionOptions{})
	if err != nil {
		t.Fatal(err)
	}
	const blocks, size = 200, 1000
	for i := range blocks {
		if _, err := ws.Append(ctx, bytes.Repeat([]byte{byte(i)}, size)); err != nil {
			t.Fatal(err)
		}
	}
	key := w.Key()
	f, err := feed.Create(ctx, store(), feed.Options{Prefix: "/r", Key: &key})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	source := &whole{from: w, to: f}
	f.SetSource(source)
	s, err := f.Session(feed.SessionOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.NewReader(ctx, feed.ReaderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	req := httptest.NewRequest(http.MethodGet, "/content", nil)
	req.Header.Set("Range", "bytes=100500-101499")
	answer := httptest.NewRecorder()
	http.ServeContent(answer, req, "content.bin", time.Time{}, r)
	want := append(bytes.Repeat([]byte{100}, 500), bytes.Repeat([]byte{101}, 500)...)
	if answer.Code != http.StatusPartialContent || !bytes.Equal(answer.Body.Bytes(), want) {
		t.Errorf("status %d, %d bytes", answer.Code, answer.Body.Len())
	}
	if got := answer.Header().Get("Content-Range"); got != "bytes 100500-101499/200000" {
		t.Errorf("Content-Range %q", got)
	}
	if source.blocks != 2 {
		t.Errorf("%d blocks were fetched for a range of two", source.blocks)
	}
}
