package api

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestGuarded(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	at := func(addr string) http.Handler {
		a, err := net.ResolveTCPAddr("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		return s.Guarded("secret", a)
	}
	const token = "Authorization: Bearer secret"
	for _, tc := range []struct {
		name, listen, host, path string
		header                   string
		want                     int
	}{
		{"with the token", "127.0.0.1:4180", "127.0.0.1:4180", "/v1/status", token, 200},
		{"as localhost", "127.0.0.1:4180", "localhost:4180", "/v1/status", token, 200},
		{"IPv6", "[::1]:4180", "[::1]:4180", "/v1/status", token, 200},
		{"on all addresses", "[::]:4180", "192.0.2.1:4180", "/v1/status", token, 200},
		{"without the token", "127.0.0.1:4180", "127.0.0.1:4180", "/v1/status", "", 401},
		{"another token", "127.0.0.1:4180", "127.0.0.1:4180", "/v1/status", token + "s", 401},
		{"the scheme in other letters", "127.0.0.1:4180", "127.0.0.1:4180", "/v1/status", "Authorization: bearer secret", 200},
		{"another scheme", "127.0.0.1:4180", "127.0.0.1:4180", "/v1/status", "Authorization: Basic secret", 401},
		{"health needs none", "127.0.0.1:4180", "127.0.0.1:4180", "/healthz", "", 200},
		{"not ready", "127.0.0.1:4180", "127.0.0.1:4180", "/readyz", "", 503},
		{"another name", "127.0.0.1:4180", "evil.example:4180", "/v1/status", token, 403},
		{"another name for health", "127.0.0.1:4180", "evil.example:4180", "/healthz", "", 403},
		{"a name with all addresses", "[::]:4180", "evil.example:4180", "/v1/status", token, 403},
		{"another address", "127.0.0.1:4180", "127.0.0.2:4180", "/v1/status", token, 403},
		{"another port", "127.0.0.1:4180", "127.0.0.1:80", "/v1/status", token, 403},
		{"without a port", "127.0.0.1:4180", "127.0.0.1", "/v1/status", token, 403},
		{"another origin", "127.0.0.1:4180", "127.0.0.1:4180", "/v1/status", token + "\nOrigin: http://evil.example", 403},
		{"origin null", "127.0.0.1:4180", "127.0.0.1:4180", "/healthz", "Origin: null", 403},
		{"its own origin", "127.0.0.1:4180", "127.0.0.1:4180", "/v1/status", token + "\nOrigin: http://127.0.0.1:4180", 200},
		{"another site", "127.0.0.1:4180", "127.0.0.1:4180", "/healthz", "Sec-Fetch-Site: cross-site", 403},
		{"another port of this machine", "127.0.0.1:4180", "127.0.0.1:4180", "/healthz", "Sec-Fetch-Site: same-site", 403},
		{"its own site", "127.0.0.1:4180", "127.0.0.1:4180", "/healthz", "Sec-Fetch-Site: same-origin", 200},
	} {
		r := httptest.NewRequest(http.MethodGet, "http://"+tc.host+tc.path, nil)
		for line := range strings.Lines(tc.header) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
			r.Header.Set(name, value)
		}
		w := httptest.NewRecorder()
		at(tc.listen).ServeHTTP(w, r)
		if w.Code != tc.want {
			t.Errorf("%s: status %d, want %d: %s", tc.name, w.Code, tc.want, w.Body)
		}
	}
}
