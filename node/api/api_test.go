package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	datastore "github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"
	"gopkg.in/yaml.v3"

	"github.com/p2pcore/p2pcore/corestore"
	"github.com/p2pcore/p2pcore/feed"
)

// newServer serves an empty store in memory, without a node.
func newServer(t *testing.T) *Server {
	t.Helper()
	store, err := corestore.Open(t.Context(), dssync.MutexWrap(datastore.NewMapDatastore()), corestore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := New(Config{Store: store})
	t.Cleanup(func() {
		if err := errors.Join(s.Close(), store.Close()); err != nil {
			t.Error(err)
		}
	})
	return s
}

// call sends a request through transport and returns the status and the body.
func call(t *testing.T, transport http.RoundTripper, method, path, body string, header ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://store"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestEveryRouteIsDescribedAndNoOther(t *testing.T) {
	var doc struct {
		Paths map[string]map[string]any
	}
	if err := yaml.Unmarshal(openAPI, &doc); err != nil {
		t.Fatal(err)
	}
	var described, registered []string
	for path, operations := range doc.Paths {
		for method := range operations {
			if method != "parameters" {
				described = append(described, strings.ToUpper(method)+" "+path)
			}
		}
	}
	for _, r := range newServer(t).routes() {
		registered = append(registered, r.pattern)
	}
	slices.Sort(described)
	slices.Sort(registered)
	if !slices.Equal(described, registered) {
		t.Errorf("described:\n%s\nregistered:\n%s", strings.Join(described, "\n"), strings.Join(registered, "\n"))
	}
}

// transports are the two ways to a server.
func transports(t *testing.T, s *Server) map[string]http.RoundTripper {
	t.Helper()
	h := httptest.NewServer(s)
	t.Cleanup(h.Close)
	return map[string]http.RoundTripper{"memory": s.Transport(), "socket": rebase{h.URL, h.Client().Transport}}
}

// rebase sends requests to the test server's address.
type rebase struct {
	base string
	next http.RoundTripper
}

func (r rebase) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.URL.Host = strings.TrimPrefix(r.base, "http://")
	return r.next.RoundTrip(req)
}

func TestFeedThroughBothTransports(t *testing.T) {
	s := newServer(t)
	for way, transport := range transports(t, s) {
		t.Run(way, func(t *testing.T) {
			name := "feed-" + way
			status, body := call(t, transport, "POST", "/v1/cores", fmt.Sprintf(`{"name":%q}`, name))
			var info CoreInfo
			if err := json.Unmarshal([]byte(body), &info); err != nil || status != 201 || !info.Writable || info.Name != name {
				t.Fatalf("create: %d %s (%v)", status, body, err)
			}
			path := "/v1/cores/" + name
			if status, body := call(t, transport, "POST", path+"/blocks?lines=1", "a\nbc\nd"); status != 200 || !strings.Contains(body, `"start":0,"length":3,"byteLength":6}`) {
				t.Errorf("append lines: %d %s", status, body)
			}
			if status, body := call(t, transport, "POST", path+"/blocks?chunk=2", "12345"); status != 200 || !strings.Contains(body, `"start":3,"length":6,"byteLength":11}`) {
				t.Errorf("append chunks: %d %s", status, body)
			}
			if status, body := call(t, transport, "POST", path+"/blocks", "whole"); status != 200 || !strings.Contains(body, `"length":7`) {
				t.Errorf("append whole: %d %s", status, body)
			}
			if status, _ := call(t, transport, "POST", path+"/blocks", "x", "If-Match", `"0.6"`); status != http.StatusPreconditionFailed {
				t.Errorf("append to another version: status %d, want 412", status)
			}
			if status, _ := call(t, transport, "POST", path+"/blocks", "!", "If-Match", `"0.7"`); status != 200 {
				t.Errorf("append to this version: status %d, want 200", status)
			}
			if status, body := call(t, transport, "GET", path+"/bytes", ""); status != 200 || body != "a\nbc\nd12345whole!" {
				t.Errorf("bytes: %d %q", status, body)
			}
			if status, body := call(t, transport, "GET", path+"/bytes", "", "Range", "bytes=3-7"); status != 206 || body != "c\nd12" {
				t.Errorf("range: %d %q", status, body)
			}
			if status, body := call(t, transport, "GET", path+"/bytes", "", "If-None-Match", `"0.8"`); status != 304 || body != "" {
				t.Errorf("bytes that are known: %d %q", status, body)
			}
			if status, _ := call(t, transport, "GET", path+"/bytes", "", "Range", "bytes=3-7", "If-Range", `"0.8"`); status != 206 {
				t.Errorf("range of this version: status %d, want 206", status)
			}
			if status, _ := call(t, transport, "GET", path+"/bytes", "", "Range", "bytes=3-7", "If-Range", `"0.7"`); status != 200 {
				t.Errorf("range of another version: status %d, want 200", status)
			}
			if status, _ := call(t, transport, "GET", path+"/bytes", "", "Range", "bytes=99-"); status != 416 {
				t.Errorf("range past the end: status %d, want 416", status)
			}
			if status, body := call(t, transport, "GET", path+"/bytes?length=3&from=1&to=99", ""); status != 200 || body != "\nbc\nd" {
				t.Errorf("bytes of 3 blocks: %d %q", status, body)
			}
			if status, body := call(t, transport, "GET", path+"/blocks?start=2&end=3", ""); status != 200 || !strings.HasPrefix(body, `{"index":2,"length":1,"text":"d"}`+"\n"+`{"event":"end"`) {
				t.Errorf("blocks: %d %q", status, body)
			}
			if status, body := call(t, transport, "GET", path+"/blocks/1", ""); status != 200 || body != "bc\n" {
				t.Errorf("block: %d %q", status, body)
			}
			if status, body := call(t, transport, "GET", "/v1/verify?core="+name, ""); status != 200 || !strings.Contains(body, `"ok":true`) {
				t.Errorf("verify: %d %q", status, body)
			}
			status, body = call(t, transport, "GET", "/v1/cores/unknown", "")
			var p Problem
			if err := json.Unmarshal([]byte(body), &p); err != nil || status != 404 || p.Title != "unknown-key" || p.Code != CodeUnknownKey {
				t.Errorf("unknown feed: %d %s (%v)", status, body, err)
			}
		})
	}
}

func TestBatchesOfManyLines(t *testing.T) {
	s := newServer(t)
	call(t, s.Transport(), "POST", "/v1/cores", `{"name":"x"}`)
	var body bytes.Buffer
	for i := range 3 * maxBatchBlocks {
		fmt.Fprintf(&body, "line %d\n", i)
	}
	body.WriteString(strings.Repeat("long", lineBufferBytes)) // longer than the buffer, and without an end
	want := body.String()
	if status, answer := call(t, s.Transport(), "POST", "/v1/cores/x/blocks?lines=1", want); status != 200 || !strings.Contains(answer, `"length":3001,`) {
		t.Fatalf("append: %d %s", status, answer)
	}
	if _, got := call(t, s.Transport(), "GET", "/v1/cores/x/bytes", ""); got != want {
		t.Errorf("got %d bytes back, want the %d that were appended", len(got), len(want))
	}
}

func TestResolveCore(t *testing.T) {
	s := newServer(t)
	session, err := s.cfg.Store.Named(t.Context(), "notes")
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	key := session.Key()
	for text, want := range map[string]bool{
		key.String(): true, key.Hex(): true, strings.ToUpper(key.Hex()): true,
		"hyper://" + key.String() + "?length=3": true, "pear://" + key.Hex(): true,
		"notes": true, key.String()[:6]: true, key.Hex()[:6]: true, strings.ToUpper(key.Hex()[:8]): true,
		"note": false, "Notes": false, key.String()[:5]: false, key.Hex()[:5]: false, "": false, "hyper://notes": false,
		key.String() + "x": false,
	} {
		got, err := s.known(t.Context(), text)
		if want && (err != nil || got != key) || !want && err == nil {
			t.Errorf("%q resolves to %v, %v; want success: %v", text, got, err, want)
		}
		if !want && ProblemOf(err).Code != CodeUnknownKey {
			t.Errorf("%q: %v has code %v, want %v", text, err, ProblemOf(err).Code, CodeUnknownKey)
		}
	}
}

func TestCheckName(t *testing.T) {
	for name, ok := range map[string]bool{
		"a": true, "A.b_c-9": true, strings.Repeat("x", 64): false, strings.Repeat("z", 63): true,
		"": false, ".x": false, "-x": false, "a b": false, "ä": false, "a/b": false,
		strings.Repeat("y", 52): false, strings.Repeat("0", 64): false, strings.Repeat("x", 65): false,
	} {
		// 64 times x is no hexadecimal, so it is a name.
		if name == strings.Repeat("x", 64) {
			ok = true
		}
		if err := CheckName(name); (err == nil) != ok {
			t.Errorf("CheckName(%q) = %v, want success: %v", name, err, ok)
		}
	}
}

func FuzzLink(f *testing.F) {
	key := feed.Key{1, 2, 3}
	f.Add("hyper://" + key.String() + "?length=12&name=a%20b%26c&peer=%2Fip4%2F1.2.3.4%2Ftcp%2F1&peer=x")
	f.Add("pear://" + key.Hex() + "/path#fragment")
	f.Add("hyper://?length=")
	f.Fuzz(func(t *testing.T, text string) {
		l, err := ParseLink(text)
		if err != nil {
			if !errors.Is(err, feed.ErrMalformedKey) {
				t.Fatalf("%q: %v is not ErrMalformedKey", text, err)
			}
			return
		}
		again, err := ParseLink(l.String())
		if err != nil && len(l.String()) <= maxLinkBytes {
			t.Fatalf("%q became %q: %v", text, l.String(), err)
		}
		if err == nil && again.String() != l.String() {
			t.Fatalf("%q became %q and then %q", text, l.String(), again.String())
		}
	})
}

func TestLinkEncodesWhatNamesHold(t *testing.T) {
	n := uint64(0)
	l := Link{Key: feed.Key{9}, Length: &n, Name: "a b&c=ü+%?.txt", Peers: []string{"/ip4/127.0.0.1/udp/1/quic-v1/p2p/X"}}
	got, err := ParseLink(l.String())
	if err != nil {
		t.Fatal(err)
	}
	if got.Key != l.Key || *got.Length != 0 || got.Name != l.Name || !slices.Equal(got.Peers, l.Peers) {
		t.Errorf("%s reads as %+v", l, got)
	}
	if strings.ContainsAny(l.String(), " +ü") {
		t.Errorf("%s has characters that are not encoded", l)
	}
}

func TestParseRangeHeader(t *testing.T) {
	for header, want := range map[string]string{
		"": "0-10 false", "bytes=2-4": "2-5 true", "bytes=2-": "2-10 true", "bytes=-3": "7-10 true", "bytes=-30": "0-10 true",
		"bytes=9-99": "9-10 true", "bytes=10-": "error", "bytes=-0": "error", "bytes=4-2": "0-10 false", "bytes=1-2,4-5": "0-10 false",
		"lines=1-2": "0-10 false", "bytes=x-2": "0-10 false", "bytes=3": "0-10 false",
		"bytes=18446744073709551616-": "error", "bytes=2-18446744073709551616": "2-10 true", "bytes=-18446744073709551616": "0-10 true",
	} {
		part, partial, err := parseRangeHeader(header, 10)
		got := fmt.Sprintf("%d-%d %v", part.start, part.end, partial)
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("%q: got %s, want %s", header, got, want)
		}
	}
}

func TestParseRange(t *testing.T) {
	for text, want := range map[string]feed.Range{
		"1:2": {Start: 1, End: 2}, ":5": {End: 5}, "5:": {Start: 5, End: endless}, ":": {End: endless}, "3:3": {Start: 3, End: 3},
	} {
		if got, err := ParseRange(text); err != nil || got != want {
			t.Errorf("%q: got %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "5", "2:1", "a:b", "-1:2", "1:2:3", "1: 2"} {
		if got, err := ParseRange(text); err == nil {
			t.Errorf("%q: got %v, want an error", text, got)
		}
	}
}

func TestCloseCutsStreams(t *testing.T) {
	s := newServer(t)
	call(t, s.Transport(), "POST", "/v1/cores", `{"name":"x"}`)
	for way, transport := range transports(t, s) {
		req, err := http.NewRequestWithContext(context.Background(), "GET", "http://store/v1/cores/x/blocks?follow=1", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		defer func() {
			if _, err := io.ReadAll(resp.Body); err == nil {
				t.Errorf("%s: the stream of a server that closed ended properly", way)
			}
		}()
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	resp, err := s.Transport().RoundTrip(httptest.NewRequest("GET", "http://store/v1/status", nil))
	if err == nil {
		resp.Body.Close()
		t.Error("a closed server answers")
	}
}

func TestFrameRoundTrip(t *testing.T) {
	var b bytes.Buffer
	s := &eventStream{w: discardWriter{&b}, flush: func() error { return nil }, frames: true}
	for _, block := range [][]byte{nil, {1}, bytes.Repeat([]byte{2}, 70_000)} {
		if err := s.frame(FrameBlock, block); err != nil {
			t.Fatal(err)
		}
		kind, got, err := ReadFrame(&b, nil)
		if err != nil || kind != FrameBlock || !bytes.Equal(got, block) {
			t.Errorf("a block of %d bytes came back as %q of %d: %v", len(block), kind, len(got), err)
		}
	}
	if _, _, err := ReadFrame(&b, nil); err != io.EOF {
		t.Errorf("at the end: %v, want io.EOF", err)
	}
	b.Write([]byte{FrameBlock, 0xff, 0xff, 0xff, 0xff})
	if _, _, err := ReadFrame(&b, nil); err == nil {
		t.Error("a frame of 4 GiB was accepted")
	}
}

// discardWriter is a ResponseWriter over a buffer.
type discardWriter struct{ io.Writer }

func (discardWriter) Header() http.Header { return http.Header{} }
func (discardWriter) WriteHeader(int)     {}
