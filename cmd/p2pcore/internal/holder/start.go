package holder

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/p2pcore/p2pcore/node"
	"github.com/p2pcore/p2pcore/node/api"
)

const (
	filePoll     = 200 * time.Millisecond
	maxFileBytes = 1 << 20
)

// start makes the node of this process.
func (h *Holder) start(ctx context.Context) (*node.Node, error) {
	opts, missing, err := h.nodeOptions()
	if err != nil {
		return nil, err
	}
	n, err := node.New(h.store, opts...)
	if err != nil {
		return nil, err
	}
	for _, path := range missing {
		h.files.add(path)
		h.group.Go(func(ctx context.Context) {
			if peers, err := awaitFile(ctx, path, h.files.fail); err == nil {
				n.AddBootstrap(others(peers, n.Host().ID())...)
				h.files.found(path)
			}
		})
	}
	return n, nil
}

// nodeOptions turns the shape into options. Bootstrap files that do not exist yet are returned.
func (h *Holder) nodeOptions() (opts []node.Option, missing []string, err error) {
	shape := h.opts.Shape
	key, err := loadIdentity(h.opts.Dir)
	if err != nil {
		return nil, nil, err
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	opts = []node.Option{
		node.WithIdentity(key),
		node.WithNetwork(shape.Network),
		node.WithMDNS(shape.MDNS),
		node.WithRelay(shape.Relay),
		node.WithUserAgent("p2pcore/" + h.opts.Version),
		node.WithLogger(h.opts.Logger),
	}
	if h.opts.Daemon != nil {
		policy, err := node.ParseAnnouncePolicy(h.opts.Daemon.Announce)
		if err != nil {
			return nil, nil, err
		}
		opts = append(opts, node.WithRegisterer(h.server.Registerer()), node.WithAnnounce(policy))
	}
	if d := h.opts.Daemon; d != nil && d.TCP != "" {
		opts = append(opts, node.WithTCP(d.TCP))
		if d.TCPIdentity {
			opts = append(opts, node.WithTCPIdentity())
		}
	}
	if len(shape.Listen) > 0 {
		listen, err := listenAddrs(shape.Listen)
		if err != nil {
			return nil, nil, err
		}
		opts = append(opts, node.WithListenAddrs(listen...))
	}
	if len(shape.Bootstrap) == 0 {
		return opts, nil, nil
	}
	var texts []string
	for _, b := range shape.Bootstrap {
		path, isFile := strings.CutPrefix(b, "@")
		if !isFile {
			texts = append(texts, b)
			continue
		}
		lines, err := readAddrs(path)
		switch {
		case errors.Is(err, errNoAddrs):
			missing = append(missing, path)
		case err != nil:
			return nil, nil, err
		}
		texts = append(texts, lines...)
	}
	peers, err := api.ParsePeers(texts)
	if err != nil {
		return nil, nil, err
	}
	return append(opts, node.WithBootstrap(others(peers, id)...)), missing, nil
}

// others leaves out the node itself: a store may be named in its own network's bootstrap file.
func others(peers []peer.AddrInfo, self peer.ID) []peer.AddrInfo {
	var out []peer.AddrInfo
	for _, p := range peers {
		if p.ID != self {
			out = append(out, p)
		}
	}
	return out
}

// errNoAddrs: the file does not exist, or is empty, yet.
var errNoAddrs = errors.New("no addresses yet")

// readAddrs reads one address per line; empty lines and lines that begin with # are ignored.
func readAddrs(path string) ([]string, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errNoAddrs
	}
	if err != nil {
		return nil, fmt.Errorf("bootstrap file: %w", err)
	}
	if len(b) > maxFileBytes {
		return nil, fmt.Errorf("bootstrap file %s has %d bytes", path, len(b))
	}
	var out []string
	for line := range strings.Lines(string(b)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			out = append(out, line)
		}
	}
	if len(out) == 0 {
		return nil, errNoAddrs
	}
	if _, err := api.ParsePeers(out); err != nil {
		return nil, fmt.Errorf("bootstrap file %s: %w", path, err)
	}
	return out, nil
}

// awaitFile reads a bootstrap file again and again until it names peers.
func awaitFile(ctx context.Context, path string, failed func(path string, err error)) ([]peer.AddrInfo, error) {
	tick := time.NewTicker(filePoll)
	defer tick.Stop()
	for {
		lines, err := readAddrs(path)
		if err == nil {
			return api.ParsePeers(lines)
		}
		failed(path, err)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// files remembers which bootstrap files have not been found.
type files struct {
	mu      sync.Mutex
	pending map[string]error
}

func (f *files) add(path string) { f.fail(path, errNoAddrs) }

func (f *files) fail(path string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.pending == nil {
		f.pending = make(map[string]error)
	}
	f.pending[path] = err
}

func (f *files) found(path string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.pending, path)
}

// waiting says which file is being waited for, or "".
func (f *files) waiting() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	for path, err := range f.pending {
		if errors.Is(err, errNoAddrs) {
			return fmt.Sprintf("waiting for the bootstrap file %s to appear", path)
		}
		return err.Error()
	}
	return ""
}
