package api

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/p2pcore/p2pcore/feed"
)

// sseClient reads Server-Sent Events.
type sseClient struct {
	t      *testing.T
	in     *bufio.Scanner
	cancel context.CancelFunc
}

// message is one event as it travels.
type message struct{ id, event, data string }

// stream begins a request for events.
func stream(t *testing.T, h *httptest.Server, path string, header ...string) *sseClient {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := h.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if got := resp.Header.Get("Content-Type"); resp.StatusCode != 200 || got != "text/event-stream" {
		b, _ := io.ReadAll(resp.Body)
		t.Fatalf("%s: status %d, %s: %s", path, resp.StatusCode, got, b)
	}
	return &sseClient{t: t, in: bufio.NewScanner(resp.Body), cancel: cancel}
}

// next returns the next event that is not one of skip.
func (c *sseClient) next(skip ...string) message {
	c.t.Helper()
	var m message
	for c.in.Scan() {
		name, value, _ := strings.Cut(c.in.Text(), ": ")
		switch name {
		case "id":
			m.id = value
		case "event":
			m.event = value
		case "data":
			m.data = value
		case "":
			skipped := m == message{}
			for _, s := range skip {
				skipped = skipped || m.event == s
			}
			if !skipped {
				return m
			}
			m = message{}
		}
	}
	c.t.Fatalf("the stream has ended: %v", c.in.Err())
	return m
}

func TestBlocksAsServerSentEvents(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	h := httptest.NewServer(s)
	t.Cleanup(h.Close)
	log := named(t, s, "log", "zero", "one", "two")
	c := stream(t, h, "/v1/cores/log/blocks?follow=1&start=1")
	if got, want := c.next(), (message{"0.1", "block", `{"index":1,"length":3,"text":"one"}`}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := c.next(); got.id != "0.2" {
		t.Errorf("got %v, want block 2", got)
	}
	appendTo(t, log, "three")
	if got := c.next(); got.id != "0.3" || got.event != "block" {
		t.Errorf("got %v, want block 3", got)
	}
	c.cancel()

	// Resumed, it goes on behind the last.
	c = stream(t, h, "/v1/cores/log/blocks?follow=1", "Last-Event-ID", "0.2")
	if got := c.next(); got.id != "0.3" {
		t.Errorf("resumed: got %v, want block 3", got)
	}
	// A rewriting is told, and what is new comes again.
	if _, err := log.Truncate(t.Context(), 1, feed.TruncateOptions{}); err != nil {
		t.Fatal(err)
	}
	appendTo(t, log, "other")
	if got := c.next(); got.event != "forked" || !strings.Contains(got.data, `"length":1,"fork":1`) {
		t.Errorf("after a rewriting: got %v, want forked", got)
	}
	if got, want := c.next(), (message{"1.1", "block", `{"index":1,"length":5,"text":"other"}`}); got != want {
		t.Errorf("after a rewriting: got %v, want %v", got, want)
	}
	c.cancel()
	// Who comes back from the fork before has to begin anew.
	c = stream(t, h, "/v1/cores/log/blocks?follow=1", "Last-Event-ID", "0.3")
	if got := c.next(); got.event != "forked" || !strings.Contains(got.data, `"fork":1`) {
		t.Errorf("resumed on another fork: got %v, want forked", got)
	}
	if got := c.next(); got.id != "1.0" {
		t.Errorf("resumed on another fork: got %v, want block 0", got)
	}
	c.cancel()
	if status, body := call(t, s.Transport(), "GET", "/v1/cores/log/blocks?follow=1", "", "Last-Event-ID", "nonsense"); status != 400 || !strings.Contains(body, `"exit":2`) {
		t.Errorf("a Last-Event-ID that is none: %d %s", status, body)
	}
	if status, body := call(t, s.Transport(), "GET", "/v1/cores/log/blocks?last=1", ""); status != 200 || !strings.HasPrefix(body, `{"event":"start",`) || !strings.Contains(body, `"index":1`) {
		t.Errorf("the last block: %d %s", status, body)
	}
	if status, _ := call(t, s.Transport(), "GET", "/v1/cores/log/blocks?last=1&start=1", ""); status != 400 {
		t.Errorf("start and last: %d", status)
	}
}

func TestStoreEvents(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	h := httptest.NewServer(s)
	t.Cleanup(h.Close)
	log := named(t, s, "log", "zero")
	core := log.Key().String()
	c := stream(t, h, "/v1/events")
	appendTo(t, log, "one", "two")
	m := c.next("opened", "closed")
	if m.event != "head" || !strings.Contains(m.data, `"core":"`+core+`","length":3,"byteLength":10`) {
		t.Errorf("after an append: %v", m)
	}
	if m = c.next("opened", "closed", "head"); m.event != "blocks" || !strings.Contains(m.data, `"added":[[1,3]]`) {
		t.Errorf("after an append: %v", m)
	}
	if status, body := call(t, s.Transport(), "POST", "/v1/cores/log/clear", `{"start":1,"end":2}`); status != 200 {
		t.Fatalf("clear: %d %s", status, body)
	}
	if m = c.next("opened", "closed"); m.event != "blocks" || !strings.Contains(m.data, `"dropped":[[1,2]]`) {
		t.Errorf("after a clear: %v", m)
	}
	last := m.id
	c.cancel()

	// What happens while nobody listens is kept.
	for _, do := range []struct{ method, path, body string }{
		{"POST", "/v1/cores/log/truncate", `{"length":1}`}, {"POST", "/v1/cores/log/seed", ""}, {"DELETE", "/v1/cores/log/seed", ""},
	} {
		if status, body := call(t, s.Transport(), do.method, do.path, do.body); status != 200 {
			t.Fatalf("%s %s: %d %s", do.method, do.path, status, body)
		}
	}
	c = stream(t, h, "/v1/events", "Last-Event-ID", last)
	seen := make(map[string]string)
	for len(seen) < 3 {
		m := c.next("opened", "closed", "blocks")
		key := m.event
		if strings.Contains(m.data, `"on":false`) {
			key += " off"
		}
		seen[key] = m.data
	}
	if d := seen["forked"]; !strings.Contains(d, `"fork":1,"length":1,"byteLength":4,"ancestors":1`) {
		t.Errorf("after a truncation: %v", seen)
	}
	if !strings.Contains(seen["seeding"], `"on":true`) || seen["seeding off"] == "" {
		t.Errorf("of seeding: %v", seen)
	}
	c.cancel()
	// Another process's events are not known here.
	if m := stream(t, h, "/v1/events", "Last-Event-ID", "another.7").next(); m.event != "lost" {
		t.Errorf("after another process's event: %v", m)
	}
}

func TestHubKeepsTheLastEvents(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for i := range maxEvents + 10 {
		s.events.publish(StoreEvent{Event: "head", Length: uint64(i)})
	}
	events, next, lost, _ := s.events.after(0)
	if !lost || next != maxEvents+10 || len(events) > maxEvents || events[len(events)-1].Length != maxEvents+9 || events[0].Length != next-uint64(len(events)) {
		t.Errorf("%d events up to %d, lost %v, first %+v", len(events), next, lost, events[0])
	}
	if events, _, lost, _ := s.events.after(next - 2); lost || len(events) != 2 {
		t.Errorf("the last two are %d, lost %v", len(events), lost)
	}
}

func TestVersionsGuardChanges(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	tr := s.Transport()
	named(t, s, "log", "zero", "one", "two")
	if status, body := call(t, tr, "POST", "/v1/cores/log/truncate", `{"length":1}`, "If-Match", `"0.2"`); status != http.StatusPreconditionFailed {
		t.Errorf("truncate another version: %d %s", status, body)
	}
	if status, body := call(t, tr, "POST", "/v1/cores/log/truncate", `{}`); status != 400 {
		t.Errorf("truncate without a length: %d %s", status, body)
	}
	if status, body := call(t, tr, "POST", "/v1/cores/log/truncate", `{"length":1}`, "If-Match", `"0.3"`); status != 200 || !strings.Contains(body, `"fork":1,"blocks":2,`) {
		t.Errorf("truncate this version: %d %s", status, body)
	}
	status, body := call(t, tr, "GET", "/v1/cores/log/blocks/0", "", "Accept", ContentProof)
	if status != 200 {
		t.Fatalf("proof: %d %s", status, body)
	}
	if status, body := call(t, tr, "POST", "/v1/check", body); status != 200 || !strings.Contains(body, `"ok":true`) || !strings.Contains(body, `"text":"zero"`) {
		t.Errorf("check: %d %s", status, body)
	}
	if status, body := call(t, tr, "POST", "/v1/check?key=log", body); status != 404 {
		t.Errorf("check with a name for a key: %d %s", status, body)
	}
	if status, body := call(t, tr, "POST", "/v1/check", body[1:]); status != 500 || !strings.Contains(body, "verification-failed") {
		t.Errorf("check of a broken proof: %d %s", status, body)
	}
}

// named makes a feed with blocks, and returns a session on it.
func named(t *testing.T, s *Server, name string, blocks ...string) *feed.Session {
	t.Helper()
	session, err := s.cfg.Store.Named(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := session.Close(); err != nil && !errors.Is(err, feed.ErrClosed) {
			t.Error(err)
		}
	})
	appendTo(t, session, blocks...)
	return session
}

func appendTo(t *testing.T, session *feed.Session, blocks ...string) {
	t.Helper()
	var all [][]byte
	for _, b := range blocks {
		all = append(all, []byte(b))
	}
	if _, err := session.Append(t.Context(), all...); err != nil {
		t.Fatal(err)
	}
}
