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

// TestFullDiskIsTold: who cannot write because the store was opened read-only hears why, and not that a secret is missing.
func TestFullDiskIsTold(t *testing.T) {
	ctx, ds := t.Context(), dssync.MutexWrap(datastore.NewMapDatastore())
	for _, opts := range []corestore.Options{{}, {ReadOnly: true}} {
		store, err := corestore.Open(ctx, ds, opts)
		if err != nil {
			t.Fatal(err)
		}
		cfg := Config{Store: store}
		if opts.ReadOnly {
			cfg.ReadOnly = feed.ErrNoSpace
		}
		s := New(cfg)
		if !opts.ReadOnly {
			named(t, s, "log", "block").Close()
		}
		status, body := call(t, s.Transport(), "POST", "/v1/cores/log/blocks", "more")
		if want := map[bool]int{false: http.StatusOK, true: http.StatusInsufficientStorage}[opts.ReadOnly]; status != want {
			t.Errorf("status %d, want %d: %s", status, want, body)
		}
		if err := errors.Join(s.Close(), store.Close()); err != nil {
			t.Error(err)
		}
	}
}
