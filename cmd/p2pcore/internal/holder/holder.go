// Package holder is the process that holds a store: it has the lock, the open store, the API on the store's
// socket, and the node once a request needs one.
package holder

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/p2pcore/p2pcore/corestore"
	"github.com/p2pcore/p2pcore/corestore/disk"
	"github.com/p2pcore/p2pcore/internal/lifecycle"
	"github.com/p2pcore/p2pcore/node/api"
)

// The memory that the store's database takes. The program is built without C, so that all of it is on Go's heap: the
// database's own defaults are for programs that have the machine to themselves.
const (
	// MemTableBytes is the size of one write buffer. There are up to four: one in use, two being flushed or waiting for it,
	// one kept for later.
	MemTableBytes = 32 << 20
	// DefaultCacheBytes holds the indexes and node pages of some hundred feeds in use.
	DefaultCacheBytes = 32 << 20
)

// lastWords is how long connections of other processes may live once their requests have ended, which takes a second at
// most: the last answers leave meanwhile, and who comes late hears that the process is ending. Then those are cut off
// that read nothing or have sent no whole request.
const lastWords = 500 * time.Millisecond

// Options of Open.
type Options struct {
	Dir       string
	Shape     api.NodeShape // Bootstrap may hold @FILE
	Version   string
	Command   string // for others to read who holds the store
	Bootstrap bool   // the process serves a private network and nothing else
	Daemon    *Daemon
	Logger    *slog.Logger
	OnFatal   func(error) // see disk.Options
}

// Holder is an open store that this process holds.
type Holder struct {
	opts   Options
	disk   *disk.Disk
	store  *corestore.Store
	server *api.Server
	http   *http.Server
	web    []*http.Server // of a daemon: the API and metrics over TCP
	socket string
	group  *lifecycle.Group // of the socket's server and of the search for bootstrap files
	files  files
}

// Open takes the lock of the store, makes the store if there is none, and serves it on its socket. The error is
// a *disk.LockedError if another process holds it.
func Open(ctx context.Context, opts Options) (*Holder, error) {
	cache := int64(DefaultCacheBytes)
	if opts.Daemon != nil {
		cache = opts.Daemon.CacheBytes
	}
	d, err := disk.Open(opts.Dir, disk.Options{
		MemTableBytes: MemTableBytes, CacheBytes: cache, Logger: opts.Logger, OnFatal: opts.OnFatal,
	})
	if err != nil {
		return nil, err
	}
	store, err := corestore.Open(ctx, d.Datastore(), corestore.Options{Logger: opts.Logger, ReadOnly: d.ReadOnly()})
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	h := &Holder{opts: opts, disk: d, store: store, group: lifecycle.NewGroup()}
	cfg := api.Config{
		Store:    store,
		Start:    h.start,
		Identity: h.identity,
		Waiting:  h.files.waiting,
		ReadOnly: d.Datastore().ReadOnly(),
		Space: func() (used, free uint64, err error) {
			free, err = d.FreeSpace()
			return d.UsedSpace(), free, err
		},
		Memory: d.Memory,
		Logger: opts.Logger,
		Status: api.Status{
			Version: opts.Version, PID: os.Getpid(), Store: opts.Dir, Command: opts.Command, Shape: opts.Shape,
		},
	}
	if opts.Bootstrap {
		cfg.Start = nil
		cfg.Bootstrap = h.bootstrap
	}
	h.server = api.New(cfg)
	if err := h.listen(); err != nil {
		return nil, errors.Join(fmt.Errorf("open the store's socket: %w", err), h.Close())
	}
	return h, nil
}

// listen serves the API on the socket. That it cannot is an error: others could not reach the store.
func (h *Holder) listen() error {
	path, err := SocketPath(h.opts.Dir)
	if err != nil {
		return err
	}
	// We hold the lock, so a socket that lies there is a dead process's.
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	h.socket = path
	h.http = h.server.HTTPServer()
	if err := os.Chmod(path, 0o600); err != nil {
		return errors.Join(err, l.Close())
	}
	h.group.Go(func(context.Context) {
		if err := h.http.Serve(newBounded(l, maxConns)); !errors.Is(err, http.ErrServerClosed) {
			h.opts.Logger.Error("the store's socket failed", "err", err)
		}
	})
	return h.disk.SetSocket(path)
}

// Transport calls the API in memory.
func (h *Holder) Transport() http.RoundTripper { return h.server.Transport() }

// Close ends what other processes do through this one, so that one of them can take the store over, and then
// everything else.
func (h *Holder) Close() error {
	ctx, cutOff := context.WithCancel(h.group.Context())
	defer cutOff()
	servers, patience := lifecycle.NewGroup(), lifecycle.NewGroup()
	for _, server := range append(h.web, h.http) {
		if server == nil {
			continue
		}
		servers.Go(func(context.Context) {
			// At once it accepts nothing more and lets idle connections go.
			if server.Shutdown(ctx) != nil {
				server.Close()
			}
		})
	}
	patience.Go(func(enough context.Context) {
		defer cutOff()
		<-h.server.Ended()
		timer := time.NewTimer(lastWords)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-enough.Done():
		}
	})
	errs := []error{h.server.Close()}
	servers.Close()
	patience.Close()
	h.group.Close()
	return errors.Join(append(errs, h.store.Close(), h.disk.Close())...)
}
