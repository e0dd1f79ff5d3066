package mesh

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/p2pcore/p2pcore/node/api"
)

// maxLine bounds a line of a stream: a block of the scenarios, as JSON.
const maxLine = 4 << 20

// Node is one node's API, over the socket in its store. It is safe for concurrent use.
type Node struct {
	Name string
	http *http.Client
}

func newNode(name, store string) *Node {
	socket := filepath.Join(store, "api.sock")
	return &Node{Name: name, http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
		// A connection from before a restart is of no use.
		DisableKeepAlives: true,
	}}}
}

// WaitReady waits until the node serves.
func (n *Node) WaitReady(ctx context.Context) error {
	if err := Poll(ctx, func(ctx context.Context) error { return n.call(ctx, http.MethodGet, "/readyz", nil, nil) }); err != nil {
		return fmt.Errorf("%s is not ready: %w", n.Name, err)
	}
	return nil
}

// do sends a request; an answer that tells of an error is a *api.Problem.
func (n *Node) do(ctx context.Context, method, path string, header http.Header, body []byte) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, "http://localhost"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for name, values := range header {
		r.Header[name] = values
	}
	resp, err := n.http.Do(r)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", n.Name, err)
	}
	if resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	p := new(api.Problem)
	if err := json.NewDecoder(resp.Body).Decode(p); err != nil {
		return nil, fmt.Errorf("%s: %s %s: %s", n.Name, method, path, resp.Status)
	}
	return nil, fmt.Errorf("%s: %w", n.Name, p)
}

// call sends a request that is answered at once, and reads the answer's JSON into out unless it is nil.
func (n *Node) call(ctx context.Context, method, path string, body []byte, out any) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	resp, err := n.do(ctx, method, path, nil, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil {
		_, err = io.Copy(io.Discard, resp.Body)
	} else {
		err = json.NewDecoder(resp.Body).Decode(out)
	}
	if err != nil {
		return fmt.Errorf("%s: answer of %s: %w", n.Name, path, err)
	}
	return nil
}

// Status describes the node.
func (n *Node) Status(ctx context.Context) (st api.Status, err error) {
	return st, n.call(ctx, http.MethodGet, "/v1/status", nil, &st)
}

// Peers lists the peers that are connected.
func (n *Node) Peers(ctx context.Context) (peers []api.PeerEntry, err error) {
	return peers, n.call(ctx, http.MethodGet, "/v1/peers", nil, &peers)
}

// Cores lists the feeds of the store.
func (n *Node) Cores(ctx context.Context) (cores []api.CoreInfo, err error) {
	return cores, n.call(ctx, http.MethodGet, "/v1/cores", nil, &cores)
}

// Core describes one feed.
func (n *Node) Core(ctx context.Context, core string) (info api.CoreInfo, err error) {
	return info, n.call(ctx, http.MethodGet, "/v1/cores/"+core, nil, &info)
}

// Create makes a writable feed.
func (n *Node) Create(ctx context.Context, name string) (info api.CoreInfo, err error) {
	body, err := json.Marshal(map[string]string{"name": name})
	if err != nil {
		return info, err
	}
	return info, n.call(ctx, http.MethodPost, "/v1/cores", body, &info)
}

// Seed makes the node mirror, announce and serve a feed; Unseed ends that.
func (n *Node) Seed(ctx context.Context, core string) error {
	return n.call(ctx, http.MethodPost, "/v1/cores/"+core+"/seed", nil, nil)
}

// Unseed ends what Seed began.
func (n *Node) Unseed(ctx context.Context, core string) error {
	return n.call(ctx, http.MethodDelete, "/v1/cores/"+core+"/seed", nil, nil)
}

// Purge deletes what the node has of a feed, which takes as long as the disk does.
func (n *Node) Purge(ctx context.Context, core string) error {
	resp, err := n.do(ctx, http.MethodDelete, "/v1/cores/"+core+"?purge=1", nil, nil)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// Append appends blocks, each of which ends with its only line end, to a feed of fork 0 that has the given length.
// It returns when they are on stable storage.
func (n *Node) Append(ctx context.Context, core string, length uint64, blocks ...[]byte) error {
	header := http.Header{"If-Match": {fmt.Sprintf(`"0.%d"`, length)}}
	resp, err := n.do(ctx, http.MethodPost, "/v1/cores/"+core+"/blocks?lines=1", header, bytes.Join(blocks, nil))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var done api.Appended
	if err := json.NewDecoder(resp.Body).Decode(&done); err != nil {
		return fmt.Errorf("%s: answer of an append: %w", n.Name, err)
	}
	if want := length + uint64(len(blocks)); done.Length != want {
		return fmt.Errorf("%s: the feed has %d blocks after the append, want %d", n.Name, done.Length, want)
	}
	return nil
}

// Follow calls block with the blocks of a feed in order, from start on and as they are appended, until ctx or the node
// ends or block fails.
func (n *Node) Follow(ctx context.Context, core string, start uint64, block func(index uint64, b []byte) error) error {
	q := url.Values{"start": {strconv.FormatUint(start, 10)}, "follow": {"1"}}
	resp, err := n.do(ctx, http.MethodGet, "/v1/cores/"+core+"/blocks?"+q.Encode(), nil, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		var line struct {
			Event   string       `json:"event"`
			Problem *api.Problem `json:"problem"`
			Index   uint64       `json:"index"`
			Text    *string      `json:"text"`
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return fmt.Errorf("%s: line %q of a stream: %w", n.Name, lines.Text(), err)
		}
		switch {
		case line.Event == "error":
			return fmt.Errorf("%s: %w", n.Name, line.Problem)
		case line.Event != "":
		case line.Text == nil:
			return fmt.Errorf("%s: block %d is no text", n.Name, line.Index)
		default:
			if err := block(line.Index, []byte(*line.Text)); err != nil {
				return err
			}
		}
	}
	return errors.Join(lines.Err(), fmt.Errorf("%s: the stream has ended", n.Name))
}

// Verify audits all feeds of the store. The error lists the damage.
func (n *Node) Verify(ctx context.Context) error {
	resp, err := n.do(ctx, http.MethodGet, "/v1/verify", nil, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	ended := false
	var errs []error
	for d := json.NewDecoder(resp.Body); ; {
		var line struct {
			Event string
			api.Audit
		}
		err := d.Decode(&line)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("%s: verify: %w", n.Name, err)
		}
		switch {
		case line.Event == "end":
			ended = true
		case line.Event != "":
			errs = append(errs, fmt.Errorf("%s: verify ended with the event %s", n.Name, line.Event))
		case !line.OK:
			errs = append(errs, fmt.Errorf("%s: feed %s is damaged: %s", n.Name, line.ID, strings.Join(line.Damage, "; ")))
		}
	}
	if !ended {
		errs = append(errs, fmt.Errorf("%s: verify did not come to its end", n.Name))
	}
	return errors.Join(errs...)
}

// Usage is what a node takes.
type Usage struct {
	Goroutines int
	Resident   int64 // bytes of memory
	// Live is how many bytes were in use when the collector last ran, but for those of the store's cache and write buffers
	// now. It can be less than nothing by what these took in between.
	Live int64
}

// Usage reads what the node takes from its metrics.
func (n *Node) Usage(ctx context.Context) (u Usage, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	resp, err := n.do(ctx, http.MethodGet, "/metrics", nil, nil)
	if err != nil {
		return u, err
	}
	defer resp.Body.Close()
	found := 0
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		name, text, _ := strings.Cut(lines.Text(), " ")
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			continue // a comment, or a histogram
		}
		found++
		switch name, _, _ = strings.Cut(name, "{"); name {
		case "go_goroutines":
			u.Goroutines = int(value)
		case "process_resident_memory_bytes":
			u.Resident = int64(value)
		case "go_gc_heap_live_bytes":
			u.Live += int64(value)
		case "p2pcore_store_memory_bytes":
			u.Live -= int64(value)
		default:
			found--
		}
	}
	if found != 5 { // one line for each case above, but two for the store's memory
		return u, fmt.Errorf("%s: /metrics lacks what the runtime takes", n.Name)
	}
	return u, nil
}
