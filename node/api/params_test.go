package api

import (
	"strings"
	"testing"
)

// What is misspelt is refused, and not answered as if it were missing.
func TestParametersAreReadStrictly(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	tr := s.Transport()
	named(t, s, "log", "zero")
	for _, tc := range []struct{ method, path, body string }{
		{"POST", "/v1/cores/log/blocks?lines=yes", "a\nb\n"},
		{"POST", "/v1/cores/log/blocks?lines=1&chunk=1", "a\nb\n"},
		{"POST", "/v1/cores/log/blocks?whole=1&chunk=1", "a\nb\n"},
		{"POST", "/v1/cores/log/blocks?whole=0", "a\nb\n"},
		{"DELETE", "/v1/cores/log?purge=true", ""},
		{"GET", "/v1/cores/log/blocks?follow=true", ""},
		{"GET", "/v1/cores/log/blocks?start=2&end=1", ""},
		{"POST", "/v1/cores", `{"name":"a"}{"name":"b"}`},
		{"POST", "/v1/cores", `{"name":"a"} b`},
	} {
		if status, body := call(t, tr, tc.method, tc.path, tc.body); status != 400 || !strings.Contains(body, `"usage"`) {
			t.Errorf("%s %s %q: %d %s, want 400", tc.method, tc.path, tc.body, status, body)
		}
	}
	if status, body := call(t, tr, "GET", "/v1/cores/log/blocks", "", "Accept", contentSSE, "Last-Event-ID", "7"); status != 400 {
		t.Errorf("Last-Event-ID 7: %d %s, want 400", status, body)
	}
	if status, body := call(t, tr, "GET", "/v1/cores", ""); status != 200 || strings.Count(body, `"key"`) != 1 || !strings.Contains(body, `"length":1,`) {
		t.Errorf("something was done: %s", body)
	}
}
