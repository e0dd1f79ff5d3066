package holder

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/p2pcore/p2pcore/node/api"
)

// Daemon is what a daemon serves beside its store's socket. Empty addresses serve nothing.
type Daemon struct {
	API         string // HOST:PORT of the HTTP API
	Metrics     string // HOST:PORT of metrics and health alone
	TCP         string // HOST:PORT for JavaScript peers without libp2p
	TCPIdentity bool   // by which these may recognize the node
	Announce    string // which feeds are announced, as node.ParseAnnouncePolicy reads it
	CacheBytes  int64  // of the store's cache

	Peers []string // addresses of peers to keep in touch with
}

const (
	tokenName  = "api-token"
	tokenBytes = 32
)

// Serve starts the node and the listeners, calls ready, and serves until ctx ends, whose cause is the error. What the
// store is told to seed is opened meanwhile.
func (h *Holder) Serve(ctx context.Context, ready func(api.Ready) error) error {
	n, err := h.server.Online(ctx)
	if err != nil {
		return err
	}
	r := api.Ready{Event: "ready", PeerID: n.Host().ID().String(), Addrs: []string{}}
	for _, a := range n.Addrs() {
		r.Addrs = append(r.Addrs, a.String())
	}
	if a := n.TCPAddr(); a != nil {
		r.TCP = a.String()
	}
	peers, err := api.ParsePeers(h.opts.Daemon.Peers)
	if err != nil {
		return err
	}
	for _, p := range others(peers, n.Host().ID()) {
		n.AddPeer(p) // for as long as the node lives
	}
	if addr := h.opts.Daemon.API; addr != "" {
		token, err := loadToken(h.opts.Dir)
		if err != nil {
			return err
		}
		a, err := h.serveTCP(addr, func(a net.Addr) http.Handler { return h.server.Guarded(token, a) })
		if err != nil {
			return fmt.Errorf("cannot serve the API at %s: %w; end the process that uses it, or choose another --api", addr, err)
		}
		r.API = "http://" + a.String()
	}
	if addr := h.opts.Daemon.Metrics; addr != "" {
		a, err := h.serveTCP(addr, h.server.Watched)
		if err != nil {
			return fmt.Errorf("cannot serve metrics at %s: %w; end the process that uses it, or choose another --metrics", addr, err)
		}
		r.Metrics = "http://" + a.String() + "/metrics"
	}
	if err := h.server.Serve(ctx); err != nil {
		return err
	}
	if err := ready(r); err != nil {
		return err
	}
	h.notify("READY=1")
	<-ctx.Done()
	h.notify("STOPPING=1")
	return context.Cause(ctx)
}

// notify is told to the service manager; that it cannot hear is no reason to fail.
func (h *Holder) notify(state string) {
	if err := notify(state); err != nil {
		h.opts.Logger.Warn("the service manager is not notified", "state", state, "err", err)
	}
}

// serveTCP serves a handler at addr.
func (h *Holder) serveTCP(addr string, handler func(net.Addr) http.Handler) (net.Addr, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	web := h.server.HTTPServer()
	web.Handler = handler(l.Addr())
	h.web = append(h.web, web)
	h.group.Go(func(context.Context) {
		if err := web.Serve(newBounded(l, maxConns)); !errors.Is(err, http.ErrServerClosed) {
			h.opts.Logger.Error("a listener failed", "addr", l.Addr(), "err", err)
		}
	})
	return l.Addr(), nil
}

// loadToken reads the API's token from the store, or makes one. The store's lock is held.
func loadToken(dir string) (string, error) {
	path := filepath.Join(dir, tokenName)
	b, err := os.ReadFile(path)
	if err == nil {
		token := strings.TrimSpace(string(b))
		if len(token) < 2*tokenBytes {
			return "", fmt.Errorf("the API's token %s is too short; remove the file to get a new one", path)
		}
		return token, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read the API's token: %w", err)
	}
	random := make([]byte, tokenBytes)
	rand.Read(random) // never fails
	token := hex.EncodeToString(random)
	if err := writeAtomic(path, []byte(token+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("write the API's token: %w", err)
	}
	return token, nil
}
