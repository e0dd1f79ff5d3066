package api

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// What is no route is refused like everything else.
func TestRefusalsAreProblems(t *testing.T) {
	t.Parallel()
	tr := newServer(t).Transport()
	for _, tc := range []struct {
		method, path string
		status       int
		allow        string
	}{
		{"GET", "/nothing", 404, ""},
		{"GET", "/v1/cores/", 404, ""},
		{"PUT", "/v1/cores/log/bytes", 405, "GET, HEAD"},
		{"POST", "/healthz", 405, "GET, HEAD"},
	} {
		req, err := http.NewRequestWithContext(t.Context(), tc.method, "http://store"+tc.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		if got := resp.Header.Get("Content-Type"); resp.StatusCode != tc.status || got != "application/problem+json" || !strings.Contains(string(body), `"title":"usage"`) {
			t.Errorf("%s %s: %d, %s, %s", tc.method, tc.path, resp.StatusCode, got, body)
		}
		if got := resp.Header.Get("Allow"); got != tc.allow {
			t.Errorf("%s %s: Allow %q, want %q", tc.method, tc.path, got, tc.allow)
		}
	}
}

// A connection whose request has a body that does not come is not held, whoever is at its other end.
func TestBodiesThatDoNotCome(t *testing.T) {
	for _, tc := range []struct {
		name, request, want string
		within              time.Duration
	}{
		{"without the token", "POST /v1/cores HTTP/1.1\r\nHost: localhost:4180\r\n", "HTTP/1.1 401", headerTimeout},
		{"what needs none", "GET /healthz HTTP/1.1\r\nHost: localhost:4180\r\n", "HTTP/1.1 200", headerTimeout},
		{"for another host", "GET /healthz HTTP/1.1\r\nHost: evil.example\r\n", "HTTP/1.1 403", headerTimeout},
		{"with the token", "POST /v1/cores HTTP/1.1\r\nHost: localhost:4180\r\nAuthorization: Bearer secret\r\n", "HTTP/1.1 400", answerTimeout},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t)
				web := s.HTTPServer()
				web.Handler = s.Guarded("secret", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 4180})
				here, there := net.Pipe()
				l := &oneConn{conns: make(chan net.Conn, 1), done: make(chan struct{})}
				l.conns <- there
				served := make(chan error, 1)
				go func() { served <- web.Serve(l) }()
				began := time.Now()
				go io.WriteString(here, tc.request+"Content-Length: 100000\r\n\r\n")
				answer, err := io.ReadAll(here)
				if err != nil || !strings.HasPrefix(string(answer), tc.want) {
					t.Errorf("answer %q, error %v; want %s", answer, err, tc.want)
				}
				if took := time.Since(began); took > tc.within+time.Second {
					t.Errorf("the connection was held for %v", took)
				}
				web.Close()
				if err := <-served; !errors.Is(err, http.ErrServerClosed) {
					t.Error(err)
				}
			})
		})
	}
}

// oneConn is a listener in memory.
type oneConn struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (l *oneConn) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *oneConn) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *oneConn) Addr() net.Addr { return &net.TCPAddr{} }
