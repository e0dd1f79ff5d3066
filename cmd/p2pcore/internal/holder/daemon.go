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
	TCP         string // HOST:PORT for JavaScript peers without libp2p
	TCPIdentity bool   // by which these may recognize the node
}

const (
	tokenName  = "api-token"
	tokenBytes = 32
)

// Serve starts the node and the API's listener, calls ready, and serves until ctx ends, whose cause is the error.
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
	if addr := h.opts.Daemon.API; addr != "" {
		a, err := h.serveTCP(addr)
		if err != nil {
			return fmt.Errorf("cannot serve the API at %s: %w; end the process that uses it, or choose another --api", addr, err)
		}
		r.API = "http://" + a.String()
	}
	if err := h.server.Serve(ctx); err != nil {
		return err
	}
	if err := ready(r); err != nil {
		return err
	}
	<-ctx.Done()
	return context.Cause(ctx)
}

// serveTCP serves the API at addr to whoever has the token.
func (h *Holder) serveTCP(addr string) (net.Addr, error) {
	token, err := loadToken(h.opts.Dir)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	h.web = h.server.HTTPServer()
	h.web.Handler = h.server.Guarded(token, l.Addr())
	h.group.Go(func(context.Context) {
		if err := h.web.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			h.opts.Logger.Error("the API's listener failed", "err", err)
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
