package api

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// Ready is what a daemon says when it serves.
type Ready struct {
	Event   string   `json:"event"` // "ready"
	PeerID  string   `json:"peerID"`
	Addrs   []string `json:"addrs"`
	API     string   `json:"api"` // URL
	Metrics string   `json:"metrics"`
	TCP     string   `json:"tcp"` // HOST:PORT
	Gateway string   `json:"gateway"`
}

func (s *Server) getHealth(w http.ResponseWriter, r *http.Request) error {
	return writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
}

func (s *Server) getReady(w http.ResponseWriter, r *http.Request) error {
	if !s.ready.Load() {
		return Errorf(CodeError, "not ready yet").status(http.StatusServiceUnavailable)
	}
	return writeJSON(w, http.StatusOK, map[string]string{"status": "ready"})
}

// open are the paths that need no token: they tell how things are, and nothing about what is stored.
var open = map[string]bool{"/healthz": true, "/readyz": true, "/metrics": true}

// Watched is the handler for a TCP listener at addr that is for monitoring alone: it serves what needs no token. The
// Host must name a loopback listener; who listens for other machines is scraped by a name that we cannot know.
func (s *Server) Watched(addr net.Addr) http.Handler {
	at, err := netip.ParseAddrPort(addr.String())
	loopback := err != nil || at.Addr().IsLoopback()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hurry(w, headerTimeout)
		switch {
		case loopback && !hostAllowed(r.Host, addr):
			writeProblem(w, Errorf(CodeDenied, "metrics are not served as %q, but at %s and as localhost", abbreviate(r.Host), addr))
		case foreign(r):
			writeProblem(w, Errorf(CodeDenied, "metrics are not served to pages"))
		case !open[r.URL.Path]:
			writeProblem(w, Errorf(CodeError, "this listener serves /metrics, /healthz and /readyz alone").status(http.StatusNotFound))
		default:
			s.ServeHTTP(w, r)
		}
	})
}

// hurry bounds how long the body of a request may take from now on: the answer waits for it even where nobody reads it.
func hurry(w http.ResponseWriter, limit time.Duration) {
	// Without a connection there is no body that could stop coming.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(limit))
}

// Guarded is the handler for a TCP listener at addr, where file modes protect nothing. Requests need the token, as
// Authorization: Bearer. The Host must be the address or localhost, or a page of a name that is made to point here
// could call; and a browser must not call for the page of another origin.
func (s *Server) Guarded(token string, addr net.Addr) http.Handler {
	want := sha256.Sum256([]byte(token))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		permitted := bears(r, want)
		if !permitted {
			hurry(w, headerTimeout)
		}
		switch {
		case !hostAllowed(r.Host, addr):
			writeProblem(w, Errorf(CodeDenied, "the API is not served as %q, but at %s and as localhost", abbreviate(r.Host), addr))
		case foreign(r):
			writeProblem(w, Errorf(CodeDenied, "the API serves no pages of other origins"))
		case !open[r.URL.Path] && !permitted:
			w.Header().Set("WWW-Authenticate", "Bearer")
			writeProblem(w, Errorf(CodeDenied, "the API needs the token in the file api-token of the store, as Authorization: Bearer TOKEN").status(http.StatusUnauthorized))
		default:
			s.ServeHTTP(w, r)
		}
	})
}

// bears tells whether r has the token of this hash. Comparing hashes tells nothing about its length. The case of the scheme's
// name is nothing (RFC 9110 section 11.1).
func bears(r *http.Request, want [sha256.Size]byte) bool {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	got := sha256.Sum256([]byte(token))
	return strings.EqualFold(scheme, "Bearer") && subtle.ConstantTimeCompare(got[:], want[:]) == 1
}

// hostAllowed tells whether a Host header names the listener at addr: its address and port, any address if it listens on
// all of them, or localhost.
func hostAllowed(host string, addr net.Addr) bool {
	name, port, err := net.SplitHostPort(host)
	if err != nil {
		name, port = strings.Trim(host, "[]"), "80"
	}
	listening, err := netip.ParseAddrPort(addr.String())
	if err != nil || port != portOf(addr) {
		return false
	}
	if strings.EqualFold(name, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(name)
	return err == nil && (ip.Unmap() == listening.Addr().Unmap() || listening.Addr().IsUnspecified())
}

func portOf(a net.Addr) string {
	_, port, _ := net.SplitHostPort(a.String())
	return port
}

// foreign tells whether a browser made the request for a page that is not ours.
func foreign(r *http.Request) bool {
	if site := r.Header.Get("Sec-Fetch-Site"); site == "cross-site" || site == "same-site" {
		return true
	}
	origin := r.Header.Get("Origin")
	return origin != "" && origin != "http://"+r.Host
}
