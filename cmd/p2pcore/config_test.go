package main

import (
	"io"
	"strings"
	"testing"
)

// TestEveryFlagHasAKeyAndAVariable sets each flag through the file, and then through the environment.
func TestEveryFlagHasAKeyAndAVariable(t *testing.T) {
	t.Parallel()
	sample := map[string]string{"bool": "true", "string": "x", "duration": "7s", "uint64": "7", "stringArray": "y"}
	names := make(map[string]bool)
	a := newApp(strings.NewReader(""), io.Discard, io.Discard)
	for _, s := range settings(a.root) {
		if names[s.key] {
			t.Errorf("two flags have the key %s", s.key)
		}
		names[s.key] = true
		value, ok := sample[s.flag.Value.Type()]
		if !ok {
			t.Errorf("%s: no sample of a %s", s.key, s.flag.Value.Type())
			continue
		}
		for _, kind := range []string{originFile, originEnv} {
			b := newApp(strings.NewReader(""), io.Discard, io.Discard)
			lookup := func(string) (string, bool) { return "", false }
			if kind == originFile {
				b.config = config{path: "f", values: map[string][]string{s.key: {value}}}
			} else {
				lookup = func(name string) (string, bool) { return value, name == s.env }
			}
			for _, other := range settings(b.root) {
				origin, err := b.settle(other, lookup)
				if err != nil {
					t.Fatalf("%s from %s: %v", s.key, kind, err)
				}
				if other.key == s.key && (origin != kind || strings.Trim(other.flag.Value.String(), "[]") != value) {
					t.Errorf("%s from %s: it is %q, from %s", s.key, kind, other.flag.Value, origin)
				}
			}
		}
	}
	for _, want := range []string{"store", "network", "daemon.api", "daemon.metrics", "share.chunk", "bootstrap-node.addrs-file"} {
		if !names[want] {
			t.Errorf("there is no key %s", want)
		}
	}
}

func TestDistance(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"abc", "abc", 0}, {"", "abc", 3}, {"kitten", "sitting", 3}, {"flaw", "lawn", 2}, {"netwrk", "network", 1}} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("distance(%q, %q) = %d, want %d", c.a, c.b, got, c.want)
		}
		if got := distance(c.b, c.a); got != c.want {
			t.Errorf("distance(%q, %q) = %d, want %d", c.b, c.a, got, c.want)
		}
	}
}
