package api

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	datastore "github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/p2pcore/p2pcore/corestore"
	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/node"
)

// A content is never made of parts of two versions, nor waited for when its blocks are gone.
func TestBytesAreOfOneVersion(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, header string
		keep         uint64
		after        []string
		want         string // what may have come of it
		ok           bool
	}{
		{"other blocks in their place", "", 1, []string{"xxxx", "yyyy", "zzzz"}, "aaaabbbb", false},
		{"no blocks in their place", "", 1, nil, "aaaabbbb", false},
		{"behind the range", "bytes=0-7", 2, []string{"yyyy"}, "aaaabbbb", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newServer(t)
			log := named(t, s, "log", "aaaa", "bbbb", "cccc")
			req, err := http.NewRequestWithContext(t.Context(), "GET", "http://store/v1/cores/log/bytes", nil)
			if err != nil {
				t.Fatal(err)
			}
			if tc.header != "" {
				req.Header.Set("Range", tc.header)
			}
			resp, err := s.Transport().RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			first := make([]byte, 4)
			if _, err := io.ReadFull(resp.Body, first); err != nil {
				t.Fatal(err)
			}
			if _, err := log.Truncate(t.Context(), tc.keep, feed.TruncateOptions{}); err != nil {
				t.Fatal(err)
			}
			if tc.after != nil {
				appendTo(t, log, tc.after...)
			}
			rest, err := io.ReadAll(resp.Body)
			got := string(first) + string(rest)
			if (err == nil) != tc.ok || !strings.HasPrefix(tc.want, got) || tc.ok && got != tc.want {
				t.Errorf("%q, error %v; want %q, error %v", got, err, tc.want, !tc.ok)
			}
		})
	}
}

// The first head of a feed that its writer has truncated is nothing that was read and rewritten.
func TestBlocksOfAFeedThatWasRewrittenBefore(t *testing.T) {
	t.Parallel()
	writer, reader := online(t), online(t)
	log := named(t, writer, "log", "zero", "one", "two")
	if _, err := log.Truncate(t.Context(), 1, feed.TruncateOptions{}); err != nil {
		t.Fatal(err)
	}
	appendTo(t, log, "uno", "due")
	n, err := writer.Online(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	path := fmt.Sprintf("/v1/cores/%s/blocks?peer=%s", log.Key(), n.Addrs()[0])
	for _, tc := range []struct{ name, query, want string }{
		{"the last", "&last=2", `"uno" "due"`},
		{"all", "", `"zero" "uno" "due"`},
		{"followed", "&follow=1&end=3", `"zero" "uno" "due"`},
	} {
		status, body := call(t, reader.Transport(), "GET", path+tc.query, "")
		var texts []string
		for line := range strings.Lines(body) {
			if _, text, ok := strings.Cut(line, `"text":`); ok {
				texts = append(texts, strings.TrimSuffix(text, "}\n"))
			}
		}
		if got := strings.Join(texts, " "); status != 200 || got != tc.want || strings.Contains(body, "error") || strings.Contains(body, "forked") {
			t.Errorf("%s: %d %s", tc.name, status, body)
		}
		if err := reader.cfg.Store.Delete(t.Context(), log.Key(), corestore.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

// online serves an empty store with a node on the loopback interface.
func online(t *testing.T) *Server {
	t.Helper()
	store, err := corestore.Open(t.Context(), dssync.MutexWrap(datastore.NewMapDatastore()), corestore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := New(Config{Store: store, Start: func(context.Context) (*node.Node, error) {
		return node.New(store, node.WithNetwork(node.NetworkNone), node.WithMDNS(false), node.WithListenAddrs(ma.StringCast("/ip4/127.0.0.1/tcp/0")))
	}})
	t.Cleanup(func() { store.Close() })
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestVersionsThatRequestsName(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	tr := s.Transport()
	named(t, s, "log", "zero", "one")
	for _, tc := range []struct {
		name, value string
		read        int // of GET …/bytes
		append      int // of POST …/blocks?lines=1 without a body
	}{
		{"If-Match", `"0.2"`, 200, 200},
		{"If-Match", `"0.1", "0.2"`, 200, 200},
		{"If-Match", `*`, 200, 200},
		{"If-Match", `"0.1"`, 412, 412},
		{"If-Match", `W/"0.2"`, 412, 412},
		{"If-Match", `0.2`, 412, 412},
		{"If-Match", ``, 400, 400},
		{"If-Match", ` , `, 400, 400},
		{"If-None-Match", `"0.2"`, 304, 200},
		{"If-None-Match", `"0.1", W/"0.2"`, 304, 200},
		{"If-None-Match", `*`, 304, 200},
		{"If-None-Match", `"0.1"`, 200, 200},
	} {
		if status, body := call(t, tr, "GET", "/v1/cores/log/bytes", "", tc.name, tc.value); status != tc.read {
			t.Errorf("read with %s: %s: %d %s, want %d", tc.name, tc.value, status, body, tc.read)
		}
		if status, body := call(t, tr, "POST", "/v1/cores/log/blocks?lines=1", "", tc.name, tc.value); status != tc.append {
			t.Errorf("append with %s: %s: %d %s, want %d", tc.name, tc.value, status, body, tc.append)
		}
	}
}
