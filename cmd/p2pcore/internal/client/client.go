// Package client sends requests to whoever holds a store: to this process, which takes the store's lock if it
// is free, or to the process that has it, over its socket. When that process goes away, the lock is
// taken over and the request goes on here.
package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/p2pcore/p2pcore/cmd/p2pcore/internal/holder"
	"github.com/p2pcore/p2pcore/corestore/disk"
	"github.com/p2pcore/p2pcore/node/api"
)

const (
	// holderPatience is how long the lock may be held by a process that does not answer.
	holderPatience = 5 * time.Second
	statusTimeout  = 2 * time.Second
	retryInterval  = 50 * time.Millisecond
	// maxLosses bounds how often in a row a request is sent again, because its answer broke off.
	maxLosses       = 5
	daemonCommand   = "daemon"
	maxProblemBytes = 64 << 10
)

// Options of New.
type Options struct {
	Holder   holder.Options
	Given    map[string]bool // which of the flags that shape the node were given: "network", …
	ReadOnly bool            // the command only reads: the store must exist
	Note     func(string)    // told when the store is taken over
}

// Client reaches the API of a store. It is safe for concurrent use.
type Client struct {
	opts Options

	mu     sync.Mutex
	conn   http.RoundTripper // nil: to be acquired
	remote *http.Transport   // conn, if it leads to another process
	held   *holder.Holder    // not nil once this process holds the store
	by     string            // the command of the process that conn leads to
}

// New returns a client; the store is reached with the first request.
func New(opts Options) *Client { return &Client{opts: opts} }

// Close lets the store go, if this process holds it.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.remote != nil {
		c.remote.CloseIdleConnections()
	}
	c.conn, c.remote = nil, nil
	if c.held == nil {
		return nil
	}
	held := c.held
	c.held = nil
	return held.Close()
}

// Request is one call of the API.
type Request struct {
	Method string
	Path   string // below /v1, escaped
	Query  url.Values
	Header http.Header
	Body   func() io.Reader // nil: none; called for each attempt
	Length int64            // of Body, if it is known; else 0
	Once   bool             // must not be sent again once the holder may have begun to read its body, or without one once it was sent
}

// ErrLost says that the process which holds the store went away before its answer was complete.
var ErrLost = errors.New("the process that held the store went away")

// Do sends a request. The response has a status below 300: everything else is returned as an error, an
// *api.Problem if the API says so. If the body of the response breaks off, Lost tells whether the request
// should be sent again.
func (c *Client) Do(ctx context.Context, r Request) (*http.Response, error) {
	var deadline time.Time
	for losses := 0; ; losses++ {
		conn, err := c.acquire(ctx)
		if err != nil {
			return nil, err
		}
		resp, begun, err := c.send(ctx, conn, r)
		switch {
		case err == nil && !isEnding(resp):
			return answer(resp)
		case err == nil: // refused, not carried out
			resp.Body.Close()
			if deadline.IsZero() {
				deadline = time.Now().Add(holderPatience)
			}
			if time.Now().After(deadline) {
				return nil, api.Errorf(api.CodeLocked, "the process that holds the store %s is ending and does not end", c.opts.Holder.Dir)
			}
			losses--
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case !c.isRemote(conn):
			return nil, err
		case r.Once && begun:
			c.drop(conn)
			return nil, fmt.Errorf("%w: %w", ErrLost, err)
		case losses >= maxLosses:
			return nil, fmt.Errorf("%w, %d times: %w", ErrLost, losses, err)
		}
		c.drop(conn)
		if err := sleep(ctx, retryInterval); err != nil {
			return nil, err
		}
	}
}

// Lost tells whether err, met while reading a response's body, means that the holder went away; the next
// request then finds another one, or this process.
func (c *Client) Lost(ctx context.Context, err error) bool {
	if err == nil || ctx.Err() != nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.remote == nil {
		return c.held == nil
	}
	c.conn, c.remote = nil, nil
	return true
}

// send sends a request. begun is false if the holder cannot have begun to carry it out.
func (c *Client) send(ctx context.Context, conn http.RoundTripper, r Request) (resp *http.Response, begun bool, err error) {
	u := url.URL{Scheme: "http", Host: "p2pcore", RawQuery: r.Query.Encode()}
	full, err := url.Parse("http://p2pcore/v1" + r.Path)
	if err != nil {
		return nil, false, err
	}
	u.Path, u.RawPath = full.Path, full.RawPath
	var body *watchedBody
	var reader io.Reader
	if r.Body != nil {
		body = &watchedBody{Reader: r.Body()}
		reader = body
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, u.String(), reader)
	if err != nil {
		return nil, false, err
	}
	for name, values := range r.Header {
		req.Header[name] = values
	}
	if r.Length > 0 {
		req.ContentLength = r.Length
	}
	held := r.Once && r.Length > 0 // the body waits until the holder reads it
	if held {
		req.Header.Set("Expect", "100-continue")
	}
	resp, err = conn.RoundTrip(req)
	begun = !held || body.begun.Load()
	if err != nil && neverSent(err) {
		begun = false
	}
	return resp, begun, err
}

// watchedBody knows whether it has been read.
type watchedBody struct {
	io.Reader
	begun atomic.Bool
}

func (b *watchedBody) Read(p []byte) (int, error) {
	b.begun.Store(true)
	return b.Reader.Read(p)
}

// isEnding tells the answer of a process that refuses requests because it ends.
func isEnding(resp *http.Response) bool { return resp.StatusCode == http.StatusServiceUnavailable }

// neverSent tells that nobody listened.
func neverSent(err error) bool {
	return strings.Contains(err.Error(), "connect: ")
}

func answer(resp *http.Response) (*http.Response, error) {
	if resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	p := new(api.Problem)
	err := json.NewDecoder(io.LimitReader(resp.Body, maxProblemBytes)).Decode(p)
	if err != nil || p.Detail == "" {
		return nil, api.Errorf(api.CodeError, "the process that holds the store answers %q", resp.Status)
	}
	return nil, p
}

// JSON sends a request and decodes the answer.
func (c *Client) JSON(ctx context.Context, r Request, into any) error {
	resp, err := c.Do(ctx, r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		if c.Lost(ctx, err) {
			return ErrLost
		}
		return fmt.Errorf("read the answer of the store: %w", err)
	}
	return nil
}

func (c *Client) isRemote(conn http.RoundTripper) bool {
	_, ok := conn.(*http.Transport)
	return ok
}

// drop forgets a connection to another process.
func (c *Client) drop(conn http.RoundTripper) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.remote != nil && c.conn == conn {
		c.remote.CloseIdleConnections()
		c.conn, c.remote = nil, nil
	}
}

// Acquire finds the way to the store, which may mean to open it, before the first request does.
func (c *Client) Acquire(ctx context.Context) error {
	_, err := c.acquire(ctx)
	return err
}

// Daemon tells whether a daemon holds the store. What it is told to do goes on when this process has ended.
func (c *Client) Daemon(ctx context.Context) (bool, error) {
	if _, err := c.acquire(ctx); err != nil {
		return false, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.by == daemonCommand, nil
}

// acquire returns the way to the store.
func (c *Client) acquire(ctx context.Context) (http.RoundTripper, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != nil {
		return c.conn, nil
	}
	dir := c.opts.Holder.Dir
	if c.opts.ReadOnly && absent(dir) {
		return nil, api.Errorf(api.CodeNoStore, "there is no store in %s; p2pcore share, get or create makes one, --store names another", dir)
	}
	for deadline := time.Now().Add(holderPatience); ; {
		held, err := holder.Open(ctx, c.opts.Holder)
		if err == nil {
			c.held = held
			c.conn = held.Transport()
			c.by = c.opts.Holder.Command
			return c.conn, nil
		}
		var locked *disk.LockedError
		switch {
		case errors.Is(err, disk.ErrForeign), errors.Is(err, os.ErrPermission):
			return nil, fmt.Errorf("%w; choose another directory with --store", err)
		case !errors.As(err, &locked):
			return nil, err
		}
		if locked.Socket != "" {
			remote := holder.DialTransport(locked.Socket)
			status, err := askStatus(ctx, remote)
			if err == nil {
				if err := c.compare(status); err != nil {
					return nil, err
				}
				c.conn, c.remote, c.by = remote, remote, status.Command
				return remote, nil
			}
			remote.CloseIdleConnections()
		}
		if time.Now().After(deadline) {
			return nil, api.Errorf(api.CodeLocked, "the store %s is held by process %d, which does not answer; end it, or choose another store with --store", dir, locked.PID)
		}
		if err := sleep(ctx, retryInterval); err != nil {
			return nil, err
		}
	}
}

// Take takes the lock of the store for this process, which serves it. The error says which process holds it, unless that
// one ends within some seconds. Another daemon does not.
func Take(ctx context.Context, opts Options) (*holder.Holder, error) {
	for deadline := time.Now().Add(holderPatience); ; {
		held, err := holder.Open(ctx, opts.Holder)
		var locked *disk.LockedError
		switch {
		case err == nil:
			return held, nil
		case errors.Is(err, disk.ErrForeign), errors.Is(err, os.ErrPermission):
			return nil, fmt.Errorf("%w; choose another directory with --store", err)
		case !errors.As(err, &locked):
			return nil, err
		}
		command := ""
		if locked.Socket != "" {
			remote := holder.DialTransport(locked.Socket)
			if status, err := askStatus(ctx, remote); err == nil {
				command = status.Command
			}
			remote.CloseIdleConnections()
		}
		if command == opts.Holder.Command || time.Now().After(deadline) {
			what := "process"
			if command != "" {
				what = "p2pcore " + command + ", process"
			}
			return nil, api.Errorf(api.CodeLocked, "the store %s is held by %s %d; end it, or choose another store with --store", opts.Holder.Dir, what, locked.PID)
		}
		if err := sleep(ctx, retryInterval); err != nil {
			return nil, err
		}
	}
}

// absent tells that there is nothing in dir. Whatever else there is, opening it says what is wrong.
func absent(dir string) bool {
	if disk.Exists(dir) {
		return false
	}
	entries, err := os.ReadDir(dir)
	return errors.Is(err, os.ErrNotExist) || err == nil && len(entries) == 0
}

func askStatus(ctx context.Context, t *http.Transport) (api.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	var st api.Status
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://p2pcore/v1/status?brief=1", nil)
	if err != nil {
		return st, err
	}
	resp, err := t.RoundTrip(req)
	if err != nil {
		return st, err
	}
	if resp, err = answer(resp); err != nil {
		return st, err
	}
	defer resp.Body.Close()
	err = json.NewDecoder(resp.Body).Decode(&st)
	return st, err
}

// compare refuses flags that shape the node in another way than the holder's.
func (c *Client) compare(st api.Status) error {
	ours, theirs := c.opts.Holder.Shape, st.Shape
	list := func(s []string) string {
		s = slices.Clone(s)
		slices.Sort(s)
		return strings.Join(s, ",")
	}
	for _, f := range []struct{ name, ours, theirs string }{
		{"network", ours.Network, theirs.Network},
		{"bootstrap", list(ours.Bootstrap), list(theirs.Bootstrap)},
		{"listen", list(ours.Listen), list(theirs.Listen)},
		{"mdns", fmt.Sprint(ours.MDNS), fmt.Sprint(theirs.MDNS)},
		{"relay", fmt.Sprint(ours.Relay), fmt.Sprint(theirs.Relay)},
	} {
		if c.opts.Given[f.name] && f.ours != f.theirs {
			return api.Errorf(api.CodeUsage, "--%s is %q here, but %q in process %d (p2pcore %s), which holds the store; leave the flag out, end that process, or use another --store",
				f.name, f.ours, f.theirs, st.PID, st.Command)
		}
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
