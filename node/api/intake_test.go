package api

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	datastore "github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"

	"github.com/p2pcore/p2pcore/corestore"
	"github.com/p2pcore/p2pcore/feed"
)

// TestCloseCarriesOutWhatItTakesIn: who appends while the server closes gets an answer that says what has been stored.
func TestCloseCarriesOutWhatItTakesIn(t *testing.T) {
	s := newServer(t)
	changes := named(t, s, "log").Feed().Subscribe()
	defer changes.Close()
	h := httptest.NewServer(s)
	defer h.Close()
	body, pipe := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.URL+"/v1/cores/log/blocks?lines=1", body)
	if err != nil {
		t.Fatal(err)
	}
	closed := make(chan error)
	go func() {
		io.WriteString(pipe, strings.Repeat("a line\n", maxBatchBlocks+1))
		if _, err := changes.Next(t.Context()); err != nil { // the first batch
			t.Error(err)
		}
		go func() { closed <- s.Close() }()
		<-s.group.Context().Done()
		io.WriteString(pipe, "the last\n")
		pipe.Close()
	}()
	resp, err := h.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var got Appended
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
		t.Fatal(err)
	}
	if want := uint64(maxBatchBlocks + 2); resp.StatusCode != http.StatusOK || got.Length != want {
		t.Errorf("status %d, %d blocks, want 200 and %d", resp.StatusCode, got.Length, want)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

// TestFullDiskIsTold: who cannot write because the store was opened read-only hears why, and not that a secret or a feed is
// missing.
func TestFullDiskIsTold(t *testing.T) {
	ctx, ds := t.Context(), dssync.MutexWrap(datastore.NewMapDatastore())
	store, err := corestore.Open(ctx, ds, corestore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	named(t, New(Config{Store: store}), "log", "block").Close()
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	store, err = corestore.Open(ctx, fullDisk{ds}, corestore.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	s := New(Config{Store: store, ReadOnly: feed.ErrNoSpace})
	for _, r := range []struct{ method, path, body string }{
		{"POST", "/v1/cores/log/blocks", "more"},
		{"POST", "/v1/cores/log/truncate", `{"length":0}`},
		{"POST", "/v1/cores/log/clear", `{"start":0,"end":1}`},
		{"POST", "/v1/cores", `{"name":"new"}`},
		{"POST", "/v1/cores", `{"key":"` + feed.Key{1}.String() + `"}`},
		{"POST", "/v1/cores/log/seed", ""},
		{"DELETE", "/v1/cores/log", ""},
		{"DELETE", "/v1/cores/log?purge=1", ""},
	} {
		if status, body := call(t, s.Transport(), r.method, r.path, r.body); status != http.StatusInsufficientStorage {
			t.Errorf("%s %s: status %d, want %d: %s", r.method, r.path, status, http.StatusInsufficientStorage, body)
		}
	}
	if status, body := call(t, s.Transport(), "GET", "/v1/cores/log", ""); status != http.StatusOK {
		t.Errorf("reading: status %d: %s", status, body)
	}
	if err := errors.Join(s.Close(), store.Close()); err != nil {
		t.Error(err)
	}
}

// fullDisk is a datastore that was opened read-only because the disk is full.
type fullDisk struct{ datastore.Batching }

func (fullDisk) ReadOnly() error { return feed.ErrNoSpace }
