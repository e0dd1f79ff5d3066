package interop

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	datastore "github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/p2pcore/p2pcore/corestore"
	"github.com/p2pcore/p2pcore/feed"
	"github.com/p2pcore/p2pcore/node"
	"github.com/p2pcore/p2pcore/protocol"
)

// goParty is our store and node.
type goParty struct {
	t       *testing.T
	ctx     context.Context
	store   *corestore.Store
	door    *feed.Key  // of the group, or nil
	node    *node.Node // nil while it is offline
	dialled sync.WaitGroup
	logs    []*goLog
	stopped bool

	mu       sync.Mutex
	expected []string // under mu
	problems []string // under mu
}

func newGo(t *testing.T, ctx context.Context) *goParty {
	t.Helper()
	return newGoWith(t, ctx, corestore.Options{})
}

func newGoWith(t *testing.T, ctx context.Context, opts corestore.Options) *goParty {
	t.Helper()
	store, err := corestore.Open(ctx, dssync.MutexWrap(datastore.NewMapDatastore()), opts)
	if err != nil {
		t.Fatal(err)
	}
	p := &goParty{t: t, ctx: ctx, store: store}
	t.Cleanup(p.stop)
	return p
}

// Handle and the others make the party a logger: what our side finds worth a warning is a problem.
func (p *goParty) Handle(_ context.Context, r slog.Record) error {
	text := r.Message
	r.Attrs(func(a slog.Attr) bool {
		text += " " + a.String()
		return true
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	p.problems = append(p.problems, text)
	return nil
}

func (p *goParty) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }
func (p *goParty) WithAttrs([]slog.Attr) slog.Handler               { return p }
func (p *goParty) WithGroup(string) slog.Handler                    { return p }

func (p *goParty) expect(what ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.expected = append(p.expected, what...)
}

func (p *goParty) online() *node.Node {
	p.t.Helper()
	if p.node == nil {
		opts := []node.Option{
			node.WithListenAddrs(ma.StringCast("/ip4/127.0.0.1/tcp/0")), node.WithTCP("127.0.0.1:0"),
			node.WithNetwork(node.NetworkNone), node.WithMDNS(false), node.WithRelay(false), node.WithLogger(slog.New(p)),
		}
		if p.door != nil {
			opts = append(opts, node.WithHandshakeKey(*p.door))
		}
		n, err := node.New(p.store, opts...)
		if err != nil {
			p.t.Fatal(err)
		}
		p.node = n
	}
	return p.node
}

func (p *goParty) listen(n network) string {
	p.t.Helper()
	if n == tcp {
		return p.online().TCPAddr().String()
	}
	return p.online().Addrs()[0].String()
}

func (p *goParty) dial(n network, address string) {
	p.t.Helper()
	if n == libp2p {
		info, err := peer.AddrInfoFromString(address)
		if err != nil {
			p.t.Fatal(err)
		}
		if err := p.online().Connect(p.ctx, *info); err != nil {
			p.t.Fatal(err)
		}
		return
	}
	here := p.online()
	p.dialled.Go(func() { p.converse(here, address) })
}

// converse replicates over one TCP connection until it ends, which may be as abrupt as the other side likes.
func (p *goParty) converse(n *node.Node, address string) {
	err := n.ReplicateTCP(p.ctx, address, nil)
	if v := (*protocol.ViolationError)(nil); errors.As(err, &v) {
		p.Handle(p.ctx, slog.NewRecord(time.Time{}, slog.LevelWarn, err.Error(), 0))
	}
}

func (p *goParty) offline() {
	p.t.Helper()
	p.problem(p.shut())
}

func (p *goParty) shut() error {
	if p.node == nil {
		return nil
	}
	p.note()
	err := p.node.Close()
	p.node = nil
	p.dialled.Wait()
	return err
}

// note remembers what the exchanges, which end with the node, have counted against others or us.
func (p *goParty) note() {
	for _, l := range p.logs {
		x := p.node.Replicator().Exchange(l.key().DiscoveryKey())
		if x == nil {
			continue
		}
		if s := x.Stats(); s.InvalidProofs > 0 || s.InvalidRequests > 0 {
			p.Handle(p.ctx, slog.NewRecord(time.Time{}, slog.LevelWarn, "invalid: "+l.key().DiscoveryKey().Short(), 0))
		}
	}
}

func (p *goParty) problem(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Error(err)
	}
}

func (p *goParty) stop() {
	if p.stopped {
		return
	}
	p.stopped = true
	ctx, cancel := context.WithTimeout(context.WithoutCancel(p.ctx), patience)
	defer cancel()
	p.problem(p.shut())
	for _, l := range p.logs {
		if err := l.Feed().Check(ctx); err != nil && !errors.Is(err, feed.ErrClosed) {
			p.t.Errorf("Go: audit: %v", err)
		}
	}
	p.problem(p.store.Close())
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, text := range p.problems {
		if !slices.ContainsFunc(p.expected, func(what string) bool { return strings.Contains(text, what) }) {
			p.t.Errorf("Go had a problem: %s", text)
		}
	}
}

// goLog is a session of ours.
type goLog struct {
	*goParty
	*feed.Session
	received map[string][]string // messages of extensions by name; under mu
}

func (p *goParty) open(o opening) log {
	p.t.Helper()
	return p.session(o)
}

func (p *goParty) session(o opening) *goLog {
	p.t.Helper()
	s, err := p.opened(o)
	if err != nil {
		p.t.Fatal(err)
	}
	l := &goLog{p, s, make(map[string][]string)}
	p.logs = append(p.logs, l)
	return l
}

func (p *goParty) opened(o opening) (*feed.Session, error) {
	var s *feed.Session
	var err error
	switch {
	case o.name != "":
		store := p.store
		for _, name := range o.namespaces {
			store = store.Namespace(name)
		}
		s, err = store.Named(p.ctx, o.name)
	case o.pair != nil:
		s, err = p.store.Paired(p.ctx, *o.pair)
	case o.key != nil:
		s, err = p.store.Keyed(p.ctx, *o.key)
	case o.manifest != nil:
		if s, err = p.store.Keyed(p.ctx, o.manifest.Key()); err == nil {
			err = s.Feed().SetManifest(p.ctx, o.manifest)
		}
	default:
		s, err = p.store.Fresh(p.ctx)
	}
	if err != nil || o.encryptionKey == nil {
		return s, err
	}
	key := s.Key()
	if err := p.store.SetEncryptionKey(p.ctx, key, o.encryptionKey); err != nil {
		return nil, err
	}
	s.Close()
	return p.store.Keyed(p.ctx, key)
}

func (l *goLog) key() feed.Key { return l.Session.Key() }

func (l *goLog) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatalf("Go: %v", err)
	}
}

func (l *goLog) told(i feed.Info, err error) info {
	l.t.Helper()
	l.must(err)
	return l.info()
}

func (l *goLog) info() info {
	i := l.Session.Info()
	out := info{int(i.Length), int(i.ByteLength), int(i.ContiguousLength), int(i.Fork), i.Writable, 0, nil}
	if l.node == nil {
		return out
	}
	if x := l.node.Replicator().Exchange(l.key().DiscoveryKey()); x != nil {
		out.RemoteContiguousLength = int(x.RemoteContiguous())
	}
	for _, p := range l.node.FeedPeers(l.key()) {
		out.Peers = append(out.Peers, peerInfo{p.Synced, int(p.RemoteLength), int(p.RemoteFork), int(p.RemoteContiguous)})
	}
	return out
}

func (l *goLog) reach(s state) info {
	l.t.Helper()
	return l.until(func() bool { return s.holds(l.info()) })
}

// until looks again and again at a state of which no call tells.
func (l *goLog) until(holds func() bool) info {
	l.t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-l.ctx.Done():
			l.t.Fatalf("Go: waiting: %v; it is %+v", context.Cause(l.ctx), l.info())
		}
	}
	return l.info()
}

func (l *goLog) append(blocks ...string) info {
	l.t.Helper()
	return l.told(l.Append(l.ctx, encoded(blocks)...))
}

func encoded(blocks []string) (out [][]byte) {
	for _, b := range blocks {
		out = append(out, []byte(b))
	}
	return out
}

func (l *goLog) appendSigned(signature []byte, blocks ...string) info {
	l.t.Helper()
	return l.told(l.AppendWith(l.ctx, encoded(blocks), feed.AppendOptions{Signature: signature}))
}

func (l *goLog) prologue(blocks ...string) {
	l.t.Helper()
	l.append(blocks...)
}

func (l *goLog) manifest() (bytes string) {
	l.t.Helper()
	l.until(func() bool {
		bytes = string(l.Feed().ManifestBytes())
		return bytes != ""
	})
	return bytes
}

func (l *goLog) fill(label string, start, end, size int) info {
	l.t.Helper()
	batch := max(1, min(1000, 4<<20/max(size, 1)))
	for at := start; at < end; at += batch {
		var blocks []string
		for i := at; i < min(at+batch, end); i++ {
			blocks = append(blocks, content(label, i, size))
		}
		l.append(blocks...)
	}
	return l.info()
}

func (l *goLog) check(label string, start, end, size int) {
	l.t.Helper()
	for i := start; i < end; i++ {
		block, err := l.GetLocal(l.ctx, uint64(i))
		if err != nil || string(block) != content(label, i, size) {
			l.t.Fatalf("Go: block %d is missing or wrong: %v", i, err)
		}
	}
}

func (l *goLog) truncate(length int) info {
	l.t.Helper()
	return l.told(l.Truncate(l.ctx, uint64(length), feed.TruncateOptions{}))
}

func (l *goLog) clear(start, end int) {
	l.t.Helper()
	_, err := l.Clear(l.ctx, feed.Range{Start: uint64(start), End: uint64(end)})
	l.must(err)
}

func (l *goLog) get(index int) string {
	l.t.Helper()
	block, err := l.Get(l.ctx, uint64(index))
	l.must(err)
	return string(block)
}

func (l *goLog) raw(index int) []byte {
	l.t.Helper()
	s, err := l.Feed().Session(feed.SessionOptions{Encryption: feed.Plain})
	l.must(err)
	defer s.Close()
	block, err := s.Get(l.ctx, uint64(index))
	l.must(err)
	return block
}

func (l *goLog) has(start, end int) bool {
	return l.HasRange(feed.Range{Start: uint64(start), End: uint64(end)})
}

func (l *goLog) update() bool {
	l.t.Helper()
	grown, err := l.Update(l.ctx)
	l.must(err)
	return grown
}

func (l *goLog) download(start, end int) {
	l.t.Helper()
	l.must(l.Download(l.ctx, feed.Range{Start: uint64(start), End: uint64(end)}))
}

func (l *goLog) follow() {
	l.t.Helper()
	l.online() // a download needs somebody to ask
	d, err := l.NewDownload(l.ctx, feed.DownloadOptions{Follow: true})
	l.must(err)
	l.t.Cleanup(func() { d.Close() })
}

func (l *goLog) seek(offset int) (index, rest int) {
	l.t.Helper()
	i, r, err := l.Seek(l.ctx, uint64(offset))
	l.must(err)
	return int(i), int(r)
}

func (l *goLog) bytes(offset, length int) []byte {
	l.t.Helper()
	r, err := l.NewReader(l.ctx, feed.ReaderOptions{Offset: uint64(offset), Length: uint64(length)})
	l.must(err)
	defer r.Close()
	b, err := io.ReadAll(r)
	l.must(err)
	return b
}

func (l *goLog) tail(start, count int) (blocks []string) {
	l.t.Helper()
	for b, err := range l.Blocks(l.ctx, feed.Range{Start: uint64(start), End: uint64(start + count)}, feed.ReadOptions{Follow: true}) {
		l.must(err)
		blocks = append(blocks, string(b))
	}
	return blocks
}

func (l *goLog) treeHash(length int) feed.Hash {
	l.t.Helper()
	h, err := l.TreeHash(l.ctx, uint64(length))
	l.must(err)
	return h
}

// exchange is the feed's part in replication.
func (l *goLog) exchange() (x *protocol.Exchange) {
	l.t.Helper()
	l.online()
	l.until(func() bool {
		x = l.node.Replicator().Exchange(l.key().DiscoveryKey())
		return x != nil
	})
	return x
}

func (l *goLog) extension(name string) {
	l.t.Helper()
	_, err := l.exchange().OnExtension(name, func(_ context.Context, _ protocol.Peer, message []byte) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.received[name] = append(l.received[name], string(message))
	})
	l.must(err)
}

func (l *goLog) extend(name, message string) {
	l.t.Helper()
	l.must(l.exchange().Broadcast(name, []byte(message)))
}

func (l *goLog) extended(name string, count int) (messages []string) {
	l.t.Helper()
	l.until(func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		messages = slices.Clone(l.received[name])
		return len(messages) >= count
	})
	return messages
}

func (l *goLog) conflict() {
	l.t.Helper()
	l.until(func() bool { return l.Session.Info().Frozen })
	_, err := l.Get(l.ctx, 1<<20)
	evidence := (*feed.ConflictError)(nil)
	if !errors.As(err, &evidence) {
		l.t.Fatalf("Go: a frozen feed says %v", err)
	}
	l.must(feed.VerifyConflict(l.key(), evidence))
}

func (l *goLog) close() {
	l.t.Helper()
	l.must(l.Session.Close())
}
