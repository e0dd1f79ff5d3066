package interop

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/p2pcore/p2pcore/feed"
)

// jsParty is a corestore in a Node process.
type jsParty struct {
	t        *testing.T
	ctx      context.Context
	process  *nodejs
	store    int
	port     string // of TCP, when it listens
	address  string // of libp2p, when it listens
	expected []string
	dir      string
	stopped  bool
	counters map[string]counters // of each feed, once it has stopped
}

// counters are hypercore's, by discovery key.
type counters map[string]any

func newJS(t *testing.T, ctx context.Context) *jsParty {
	t.Helper()
	return newJSWith(t, ctx, nil)
}

// newJSWith has a primary key of its own if that is nil.
func newJSWith(t *testing.T, ctx context.Context, primary *[32]byte) *jsParty {
	t.Helper()
	process, err := processes.take()
	if err != nil {
		t.Fatal(err)
	}
	p := &jsParty{t: t, ctx: ctx, process: process, dir: t.TempDir()}
	t.Cleanup(p.stop)
	a := args{"dir": p.dir}
	if primary != nil {
		a["primaryKey"] = hex.EncodeToString(primary[:])
	}
	p.call("open", a, &p.store)
	return p
}

func (p *jsParty) call(name string, a args, result any) {
	p.t.Helper()
	if err := p.process.call(p.ctx, name, a, result); err != nil {
		p.t.Fatal("JavaScript: ", err)
	}
}

func (p *jsParty) expect(what ...string) { p.expected = append(p.expected, what...) }

// lost are the ways in which JavaScript's streams end with a connection that the other side has ended.
var lost = []string{"ECONNRESET", "EPIPE", "ERR_STREAM_PREMATURE_CLOSE", "StreamResetError", "StreamClosedError", "PREMATURE_CLOSE", "STREAM_DESTROYED"}

func (p *jsParty) stop() {
	if p.stopped {
		return
	}
	p.stopped = true
	var end struct {
		Problems []jsError
		Counters []counters
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(p.ctx), patience)
	defer cancel()
	err := p.process.call(ctx, "end", nil, &end)
	if err != nil {
		p.t.Errorf("JavaScript: %v", err)
		p.process.kill()
		return
	}
	clean := true
	for _, problem := range end.Problems {
		if problem.What == "stream" && (slices.Contains(lost, problem.Code) || slices.Contains(lost, problem.Name)) {
			continue
		}
		if !slices.ContainsFunc(p.expected, func(what string) bool { return problem.What == what || problem.Code == what }) {
			p.t.Errorf("JavaScript had a problem, %s: %s\n%s", problem.What, problem.Code, problem.Error())
			clean = false
		}
	}
	p.counters = make(map[string]counters)
	for _, c := range end.Counters {
		p.counters[c["discoveryKey"].(string)] = c
	}
	if clean && !p.t.Failed() {
		processes.give(p.process)
	} else {
		p.process.kill()
	}
}

// restart kills the process, as a machine that breaks down, and opens its directory in another one.
func (p *jsParty) restart() {
	p.t.Helper()
	p.process.kill()
	p.port, p.address = "", ""
	process, err := processes.take()
	if err != nil {
		p.t.Fatal(err)
	}
	p.process = process
	p.call("open", args{"dir": p.dir}, &p.store)
}

func (p *jsParty) listen(n network) string {
	p.t.Helper()
	switch {
	case n == tcp && p.port == "":
		var port int
		p.call("listen", args{"store": p.store}, &port)
		p.port = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	case n == libp2p && p.address == "":
		var addresses []string
		p.call("listenLibp2p", args{"store": p.store}, &addresses)
		p.address = addresses[0]
	}
	if n == tcp {
		return p.port
	}
	return p.address
}

func (p *jsParty) dial(n network, address string) {
	p.t.Helper()
	if n == libp2p {
		p.call("dial", args{"store": p.store, "address": address}, nil)
		return
	}
	p.call("connect", args{"store": p.store, "port": number(p.t, portOf(p.t, address))}, nil)
}

func portOf(t *testing.T, address string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func number(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func (p *jsParty) offline() {
	p.t.Helper()
	p.port, p.address = "", ""
	p.call("offline", args{"store": p.store}, nil)
}

// jsLog is a session of hypercore.
type jsLog struct {
	*jsParty
	core int
	name feed.Key
}

func (p *jsParty) open(o opening) log {
	p.t.Helper()
	return p.get(o, nil)
}

// get opens a feed with options of hypercore's own.
func (p *jsParty) get(o opening, options args) *jsLog {
	p.t.Helper()
	a := args{"store": p.store}
	switch {
	case o.name != "":
		a["name"], a["namespaces"] = o.name, o.namespaces
	case o.key != nil:
		a["key"] = hex.EncodeToString(o.key[:])
	case o.pair != nil:
		seed := o.pair.Seed()
		a["seed"] = hex.EncodeToString(seed[:])
	case o.manifest == nil:
		a["name"] = fmt.Sprintf("of %p", p)
	}
	if o.manifest != nil {
		a["manifest"] = hex.EncodeToString(o.manifest.Append(nil))
	}
	if o.encryptionKey != nil {
		a["encryptionKey"] = hex.EncodeToString(o.encryptionKey[:])
	}
	for k, v := range options {
		a[k] = v
	}
	return p.opened("get", a)
}

// opened is the core that a command has opened.
func (p *jsParty) opened(command string, a args) *jsLog {
	p.t.Helper()
	var got struct {
		Core int
		Key  string
	}
	p.call(command, a, &got)
	key, err := feed.ParseKey(got.Key)
	if err != nil {
		p.t.Fatal(err)
	}
	return &jsLog{p, got.Core, key}
}

func (l *jsLog) do(name string, a args, result any) {
	l.t.Helper()
	request := args{"core": l.core}
	for k, v := range a {
		request[k] = v
	}
	if err := l.process.call(l.ctx, name, request, result); err != nil {
		l.t.Fatalf("JavaScript: %v\nthe feed: %s", err, l.state())
	}
}

// state is what hypercore tells of the feed when something has failed, perhaps because the scenario's time is over.
func (l *jsLog) state() string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(l.ctx), 5*time.Second)
	defer cancel()
	var all []string
	for _, what := range []string{"info", "stats"} {
		var told json.RawMessage
		if err := l.process.call(ctx, what, args{"core": l.core}, &told); err != nil {
			return err.Error()
		}
		all = append(all, string(told))
	}
	return strings.Join(all, " ")
}

func (l *jsLog) key() feed.Key { return l.name }

func (l *jsLog) info() (i info) {
	l.t.Helper()
	l.do("info", nil, &i)
	return i
}

func (l *jsLog) reach(s state) (i info) {
	l.t.Helper()
	l.do("reach", args{"length": s.length, "contiguousLength": s.contiguous, "fork": s.fork, "synced": s.synced, "remoteContiguousLength": s.remoteContiguous, "remoteLength": s.remoteLength}, &i)
	return i
}

func (l *jsLog) append(blocks ...string) info {
	l.t.Helper()
	return l.appendSigned(nil, blocks...)
}

func (l *jsLog) appendSigned(signature []byte, blocks ...string) (i info) {
	l.t.Helper()
	var encoded []string
	for _, b := range blocks {
		encoded = append(encoded, base64.StdEncoding.EncodeToString([]byte(b)))
	}
	l.do("append", args{"blocks": encoded, "signature": hex.EncodeToString(signature)}, &i)
	return i
}

func (l *jsLog) prologue(blocks ...string) {
	l.t.Helper()
	from := l.open(opening{name: "prologue"}).(*jsLog)
	from.append(blocks...)
	l.do("copyPrologue", args{"from": from.core}, nil)
}

func (l *jsLog) manifest() (bytes string) {
	l.t.Helper()
	var encoded []byte
	l.do("manifest", nil, &encoded)
	return string(encoded)
}

func (l *jsLog) fill(label string, start, end, size int) (i info) {
	l.t.Helper()
	l.do("fill", args{"label": label, "start": start, "end": end, "size": size}, &i)
	return i
}

func (l *jsLog) check(label string, start, end, size int) {
	l.t.Helper()
	var wrong int
	if l.do("check", args{"label": label, "start": start, "end": end, "size": size}, &wrong); wrong != -1 {
		l.t.Fatalf("JavaScript: block %d is missing or wrong", wrong)
	}
}

func (l *jsLog) truncate(length int) (i info) {
	l.t.Helper()
	l.do("truncate", args{"length": length}, &i)
	return i
}

func (l *jsLog) clear(start, end int) {
	l.t.Helper()
	l.do("clear", args{"start": start, "end": end}, nil)
}

func (l *jsLog) block(index int, options args) []byte {
	l.t.Helper()
	a := args{"index": index}
	for k, v := range options {
		a[k] = v
	}
	var block []byte
	l.do("block", a, &block)
	return block
}

func (l *jsLog) get(index int) string {
	l.t.Helper()
	return string(l.block(index, nil))
}

func (l *jsLog) raw(index int) []byte {
	l.t.Helper()
	return l.block(index, args{"raw": true, "decrypt": false})
}

func (l *jsLog) has(start, end int) (yes bool) {
	l.t.Helper()
	l.do("has", args{"start": start, "end": end}, &yes)
	return yes
}

func (l *jsLog) update() (grown bool) {
	l.t.Helper()
	l.do("update", nil, &grown)
	return grown
}

func (l *jsLog) download(start, end int) {
	l.t.Helper()
	l.do("download", args{"start": start, "end": end}, nil)
}

func (l *jsLog) follow() {
	l.t.Helper()
	l.do("follow", nil, nil)
}

func (l *jsLog) seek(offset int) (index, rest int) {
	l.t.Helper()
	var found [2]int
	l.do("seek", args{"bytes": offset}, &found)
	return found[0], found[1]
}

func (l *jsLog) bytes(offset, length int) (b []byte) {
	l.t.Helper()
	l.do("bytes", args{"offset": offset, "length": length}, &b)
	return b
}

func (l *jsLog) tail(start, count int) (blocks []string) {
	l.t.Helper()
	var encoded [][]byte
	l.do("tail", args{"start": start, "count": count}, &encoded)
	for _, b := range encoded {
		blocks = append(blocks, string(b))
	}
	return blocks
}

func (l *jsLog) treeHash(length int) (h feed.Hash) {
	l.t.Helper()
	var text string
	l.do("treeHash", args{"length": length}, &text)
	b, err := hex.DecodeString(text)
	if err != nil {
		l.t.Fatal(err)
	}
	return feed.Hash(b)
}

func (l *jsLog) extension(name string) {
	l.t.Helper()
	l.do("extension", args{"name": name}, nil)
}

func (l *jsLog) extend(name, message string) {
	l.t.Helper()
	l.do("extend", args{"name": name, "message": hex.EncodeToString([]byte(message))}, nil)
}

func (l *jsLog) extended(name string, count int) (messages []string) {
	l.t.Helper()
	var encoded []string
	l.do("extended", args{"name": name, "count": count}, &encoded)
	for _, text := range encoded {
		message, err := hex.DecodeString(text)
		if err != nil {
			l.t.Fatal(err)
		}
		messages = append(messages, string(message))
	}
	return messages
}

func (l *jsLog) conflict() {
	l.t.Helper()
	l.do("reach", args{"conflict": true}, nil)
}

func (l *jsLog) close() {
	l.t.Helper()
	l.do("closeCore", nil, nil)
}

// stats are hypercore's counters of the feed.
func (l *jsLog) stats() map[string]int {
	l.t.Helper()
	var out map[string]int
	l.do("stats", nil, &out)
	return out
}
