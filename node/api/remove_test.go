package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"

	datastore "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	dssync "github.com/ipfs/go-datastore/sync"

	"github.com/p2pcore/p2pcore/corestore"
)

func TestLookingAtARemovedFeedLeavesItRemoved(t *testing.T) {
	s := newServer(t)
	transport := s.Transport()
	var info CoreInfo
	if _, body := call(t, transport, "POST", "/v1/cores", `{"name":"x"}`); json.Unmarshal([]byte(body), &info) != nil {
		t.Fatal(body)
	}
	path := "/v1/cores/" + info.Key
	want := func(method, at string, status int, text string, header ...string) {
		t.Helper()
		if got, body := call(t, transport, method, at, "", header...); got != status || !strings.Contains(body, text) {
			t.Errorf("%s %s: %d %s, want %d and %s", method, at, got, body, status, text)
		}
	}
	if status, body := call(t, transport, "POST", path+"/blocks", "one"); status != 200 {
		t.Fatal(status, body)
	}
	want("DELETE", path+"?forget=1", http.StatusBadRequest, "forget=1 goes with purge=1")
	want("DELETE", path, http.StatusPreconditionFailed, "nothing was changed", "If-Match", `"0.0"`)
	want("DELETE", path, http.StatusOK, `"purged":false`, "If-Match", `"0.1"`)
	for range 2 {
		want("GET", path, http.StatusOK, `"removed":true`)
		want("GET", "/v1/cores", http.StatusOK, "[]")
		want("GET", "/v1/cores?removed=1", http.StatusOK, `"name":"x"`)
		want("GET", "/v1/verify?core=x", http.StatusOK, `"ok":true`)
	}
	want("POST", path+"/seed", http.StatusOK, `"seeding":true`)
	want("GET", path, http.StatusOK, `"seeding":true`)
	want("DELETE", path+"?purge=1", http.StatusOK, `"purged":true,"forgotten":false,"blocks":1`)
	want("DELETE", path+"?purge=1", http.StatusNotFound, "no feed")
	if n := len(s.seeds.keys()); n != 0 {
		t.Errorf("%d feeds are seeded", n)
	}
}

// TestPurgeOfADamagedFeed: one whose head cannot be read is deleted if its last fork is forgotten.
func TestPurgeOfADamagedFeed(t *testing.T) {
	ds := dssync.MutexWrap(datastore.NewMapDatastore())
	store, err := corestore.Open(t.Context(), ds, corestore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	f, err := store.Named(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Append(t.Context(), []byte("one")); err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	damageHeads(t, ds)
	if store, err = corestore.Open(t.Context(), ds, corestore.Options{}); err != nil {
		t.Fatal(err)
	}
	s := New(Config{Store: store})
	defer func() {
		if err := errors.Join(s.Close(), store.Close()); err != nil {
			t.Error(err)
		}
	}()
	status, body := call(t, s.Transport(), "DELETE", "/v1/cores/x?purge=1", "")
	if status != http.StatusInternalServerError || !strings.Contains(body, "verification-failed") || !strings.Contains(body, "--forget deletes it all the same") {
		t.Errorf("purge: %d %s", status, body)
	}
	status, body = call(t, s.Transport(), "DELETE", "/v1/cores/x?purge=1&forget=1", "")
	if status != http.StatusOK || !strings.Contains(body, `"forgotten":true,"blocks":0,"bytes":0`) {
		t.Errorf("purge and forget: %d %s", status, body)
	}
	if _, found, err := store.LookupName(t.Context(), "x"); found || err != nil {
		t.Errorf("the name leads somewhere: %v, %v", found, err)
	}
}

// damageHeads makes the head records of all feeds unreadable.
func damageHeads(t *testing.T, ds datastore.Batching) {
	t.Helper()
	results, err := ds.Query(t.Context(), query.Query{})
	if err != nil {
		t.Fatal(err)
	}
	entries, err := results.Rest()
	if err != nil {
		t.Fatal(err)
	}
	damaged := 0
	for _, e := range entries {
		if !strings.HasSuffix(e.Key, "/h000000000000") || bytes.Equal(e.Value, []byte("noise")) {
			continue
		}
		damaged++
		if err := ds.Put(t.Context(), datastore.RawKey(e.Key), []byte("noise")); err != nil {
			t.Fatal(err)
		}
	}
	if damaged == 0 {
		t.Fatal("no head found")
	}
}
