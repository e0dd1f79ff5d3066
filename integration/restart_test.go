package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	datastore "github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/integration/mesh"
	"github.com/p2pcore/p2pcore/node"
	"github.com/p2pcore/p2pcore/node/api"
)

const (
	restartPeers     = 20
	restartFeeds     = 200 // half of them written by the daemon, half by its peers
	restarts         = 20
	readyWithin      = 3 * time.Second
	restartWriters   = 4 // of the daemon's feeds, at once
	restartBlockSize = 200
)

// killedDaemon is a daemon that is killed and restarted, and what it has been told and has acknowledged.
type killedDaemon struct {
	t      *testing.T
	m      *machine
	addr   ma.Multiaddr
	info   peer.AddrInfo
	client *http.Client
	proc   *process

	own []feed.Key // written by it
	up  sync.RWMutex

	mu    sync.Mutex
	acked map[feed.Key]uint64 // under mu: lengths that it has acknowledged
	total int                 // under mu: appends
	goal  int                 // under mu: there is closed when total is goal
	there chan struct{}       // under mu
}

// restartPeer is one of its peers: a node in this process.
type restartPeer struct {
	node   *node.Node
	writes []*feed.Session // its own, which the daemon mirrors
	reads  []*feed.Session // of the daemon's
}

// TestKilledDaemonComesBack kills a daemon 20 times while it appends to 100 feeds, mirrors 100 others and serves 20
// peers. Each time it is ready within 3 seconds, and has all that it has acknowledged. At the end everybody has the same.
func TestKilledDaemonComesBack(t *testing.T) {
	d := newKilledDaemon(t)
	took := []time.Duration{d.start()}
	peers := d.meet()
	ctx, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	for i := range restartWriters {
		load.Add(1)
		go func() { defer load.Done(); d.append(ctx, i) }()
	}
	for _, p := range peers {
		load.Add(1)
		go func() { defer load.Done(); p.append(ctx, t) }()
	}
	for range restarts {
		d.waitAppends(20 + rand.IntN(130))
		d.up.Lock()
		d.proc.kill()
		<-d.proc.ended
		took = append(took, d.start())
		d.up.Unlock()
		d.checkLengths()
	}
	stop()
	load.Wait()
	slices.Sort(took)
	t.Logf("%d appends; ready after %v to %v, half of the times within %v", d.appends(), took[0], took[len(took)-1], took[len(took)/2])
	if worst := took[len(took)-1]; worst > readyWithin {
		t.Errorf("the daemon was ready after %v, want %v at most", worst, readyWithin)
	}
	began := time.Now()
	d.converge(peers)
	t.Logf("all have the same %v later", time.Since(began))
	if code := d.proc.interrupt(); code != 0 {
		t.Errorf("the daemon ended with %d: %s", code, d.proc.said())
	}
	d.m.must(nil, "verify")
}

func newKilledDaemon(t *testing.T) *killedDaemon {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") // a port that is free, and stays the same
	if err != nil {
		t.Fatal(err)
	}
	addr := ma.StringCast(fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", l.Addr().(*net.TCPAddr).Port))
	l.Close()
	d := &killedDaemon{t: t, addr: addr, acked: make(map[feed.Key]uint64)}
	d.m = newMachine(t, "--network", "none", "--mdns=false", "--listen", addr.String())
	d.client = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(d.m.store, "api.sock"))
	}}}
	t.Cleanup(d.client.CloseIdleConnections)
	return d
}

// start starts the daemon and returns how long it took to be ready.
func (d *killedDaemon) start() time.Duration {
	d.t.Helper()
	began := time.Now()
	d.proc = d.m.start(nil, "daemon", "--api", "none", "--json")
	var ready api.Ready
	d.proc.object(&ready)
	took := time.Since(began)
	id, err := peer.Decode(ready.PeerID)
	if err != nil || ready.Event != "ready" {
		d.t.Fatalf("the daemon says %+v: %v", ready, err)
	}
	d.info = peer.AddrInfo{ID: id, Addrs: []ma.Multiaddr{d.addr}}
	return took
}

// call sends a request to the daemon.
func (d *killedDaemon) call(method, path string, body []byte, into any) error {
	req, err := http.NewRequest(method, "http://p2pcore/v1"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := d.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		text, _ := io.ReadAll(resp.Body)
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, text)
	}
	return json.NewDecoder(resp.Body).Decode(into)
}

// meet makes the feeds and the peers, and tells the daemon what to seed.
func (d *killedDaemon) meet() []*restartPeer {
	t := d.t
	t.Helper()
	for i := range restartFeeds / 2 {
		var info api.CoreInfo
		if err := d.call("POST", "/cores", fmt.Appendf(nil, `{"name":"own-%d"}`, i), &info); err != nil {
			t.Fatal(err)
		}
		key, err := feed.ParseKey(info.Key)
		if err != nil {
			t.Fatal(err)
		}
		d.own = append(d.own, key)
		if err := d.call("POST", "/cores/"+info.ID+"/seed", nil, &info); err != nil {
			t.Fatal(err)
		}
	}
	peers := make([]*restartPeer, restartPeers)
	for i := range peers {
		store := newStore(t, dssync.MutexWrap(datastore.NewMapDatastore()))
		p := &restartPeer{node: newLibraryNode(t, store)}
		p.node.AddPeer(d.info)
		for j := range restartFeeds / 2 / restartPeers {
			own, err := store.Named(t.Context(), fmt.Sprint("own-", j))
			if err != nil {
				t.Fatal(err)
			}
			p.writes = append(p.writes, own)
			var info api.CoreInfo
			// The store remembers where the feed is, so the daemon comes back by itself: the peers, who see one stream break
			// after the other, take their time.
			query := url.Values{"peer": {p.node.Addrs()[0].String()}}.Encode()
			if err := d.call("POST", "/cores/"+own.Key().String()+"/seed?"+query, nil, &info); err != nil {
				t.Fatal(err)
			}
			copied, err := store.Keyed(t.Context(), d.own[i*restartFeeds/2/restartPeers+j])
			if err != nil {
				t.Fatal(err)
			}
			p.reads = append(p.reads, copied)
		}
		peers[i] = p
	}
	return peers
}

// append appends to the daemon's feeds, one after the other, and notes what it acknowledges.
func (d *killedDaemon) append(ctx context.Context, seed int) {
	rng := rand.New(rand.NewPCG(uint64(seed), 1))
	for ctx.Err() == nil {
		key := d.own[rng.IntN(len(d.own))]
		d.up.RLock()
		//lint:ignore SA2001 this waits for a restart, during which there is nobody to append to
		d.up.RUnlock()
		var out api.Appended
		err := d.call("POST", "/cores/"+key.String()+"/blocks?chunk=100", bytes.Repeat([]byte("x"), restartBlockSize), &out)
		if err != nil {
			continue // it is being killed
		}
		d.mu.Lock()
		d.acked[key] = max(d.acked[key], out.Length)
		if d.total++; d.total == d.goal {
			close(d.there)
		}
		d.mu.Unlock()
	}
}

// waitAppends waits until the daemon has acknowledged n more appends.
func (d *killedDaemon) waitAppends(n int) {
	d.t.Helper()
	there := make(chan struct{})
	d.mu.Lock()
	d.goal, d.there = d.total+n, there
	d.mu.Unlock()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	select {
	case <-there:
	case <-limit.C:
		d.t.Fatalf("not %d appends within %v", n, patience)
	}
}

func (d *killedDaemon) appends() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.total
}

// append appends to the peer's own feeds.
func (p *restartPeer) append(ctx context.Context, t *testing.T) {
	tick := time.NewTicker(20 * time.Millisecond) // 50 appends per second and peer
	defer tick.Stop()
	for i := 0; ctx.Err() == nil; i++ {
		if _, err := p.writes[i%len(p.writes)].Append(ctx, bytes.Repeat([]byte("y"), restartBlockSize)); err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// checkLengths wants all that was acknowledged before the kill.
func (d *killedDaemon) checkLengths() {
	t := d.t
	t.Helper()
	d.mu.Lock()
	acked := make(map[string]uint64)
	for key, n := range d.acked {
		acked[key.Hex()] = n
	}
	d.mu.Unlock()
	var infos []api.CoreInfo
	if err := d.call("GET", "/cores", nil, &infos); err != nil {
		t.Fatal(err)
	}
	if len(infos) != restartFeeds {
		t.Errorf("%d feeds, want %d", len(infos), restartFeeds)
	}
	for _, info := range infos {
		if info.Length < acked[info.Key] || info.Fork != 0 || !info.Seeding || info.Writable && info.LocalBlocks != info.Length {
			t.Errorf("feed %s: length %d, %d blocks here, fork %d, seeding %v; %d were acknowledged",
				info.ID, info.Length, info.LocalBlocks, info.Fork, info.Seeding, acked[info.Key])
		}
	}
}

// converge waits until the daemon and its peers have the same of all feeds.
func (d *killedDaemon) converge(peers []*restartPeer) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), patience)
	defer cancel()
	if err := mesh.Poll(ctx, func(ctx context.Context) error { return d.same(ctx, peers) }); err != nil {
		d.t.Fatal(err)
	}
}

// same tells what the daemon and its peers have different.
func (d *killedDaemon) same(ctx context.Context, peers []*restartPeer) error {
	var infos []api.CoreInfo
	if err := d.call("GET", "/cores", nil, &infos); err != nil {
		return err
	}
	at := make(map[string]api.CoreInfo)
	for _, info := range infos {
		at[info.Key] = info
	}
	var lagging []error
	for i, p := range peers {
		for _, s := range p.writes {
			if got := at[s.Key().Hex()]; got.LocalBlocks != s.Info().Length {
				lagging = append(lagging, fmt.Errorf("the daemon has %d of %d blocks of peer %d", got.LocalBlocks, s.Info().Length, i))
			}
		}
		for _, s := range p.reads {
			want := at[s.Key().Hex()]
			s.Update(ctx)
			if err := s.Feed().Conflict(); err != nil {
				d.t.Fatalf("peer %d: %v", i, err)
			}
			if info := s.Info(); info.Length != want.Length {
				lagging = append(lagging, fmt.Errorf("peer %d has length %d of %d", i, info.Length, want.Length))
			}
		}
	}
	return errors.Join(lagging...)
}
