package archtest

import (
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// source is a module in memory: file name to text after the package clause.
type source map[string]string

func (s source) load(t *testing.T) *module {
	t.Helper()
	fsys := fstest.MapFS{}
	for name, text := range s {
		if strings.HasSuffix(name, ".go") {
			text = "package p\n" + strings.ReplaceAll(text, "OUR/", modulePath+"/")
		}
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	m, err := loadModule(fsys)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func checkAll(m *module) []string {
	return slices.Concat(checkImports(m, table), checkGoroutines(m), checkState(m), checkPure(m))
}

// TestRules holds small modules against all rules. want is a part of each fault
// that must be found, in order; nothing else may be found.
func TestRules(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name string
		in   source
		want []string
	}{
		{"arrows to the right", source{
			"internal/wire/a.go":          `import ("fmt"; "OUR/internal/compact"; "golang.org/x/crypto/blake2b")`,
			"internal/compact/a.go":       `import "errors"`,
			"feed/a.go":                   `import ("net/netip"; "net/url"; "github.com/ipfs/go-datastore"; "OUR/internal/wire"; "filippo.io/edwards25519")`,
			"corestore/a.go":              `import ("OUR/feed"; "github.com/ipfs/go-datastore/query")`,
			"corestore/disk/a.go":         `import ("OUR/corestore"; "github.com/ipfs/go-ds-pebble"; "github.com/cockroachdb/pebble/v2/vfs")`,
			"protocol/a.go":               `import ("OUR/feed"; "OUR/internal/wire")`,
			"dht/a.go":                    `import ("github.com/libp2p/go-libp2p/core/peer"; "github.com/ipfs/go-cid")`,
			"node/a.go":                   `import ("net"; "net/http"; "OUR/corestore"; "OUR/dht"; hyper "OUR/protocol"; "github.com/libp2p/go-libp2p")`,
			"node/api/a.go":               `import ("net/http"; "OUR/node"; "OUR/corestore/disk")`,
			"cmd/p2pcore/a.go":            `import ("OUR/node/api"; "OUR/cmd/p2pcore/internal/x"; "OUR/internal/lifecycle"; "github.com/spf13/cobra")`,
			"cmd/p2pcore/internal/x/a.go": `import "OUR/corestore/disk"`,
			"integration/a_test.go":       `import ("OUR/node"; "github.com/stretchr/testify/require")`,
		}, nil},
		{"arrow to the left", source{
			"internal/wire/a.go": `import "OUR/feed"`,
			"feed/a.go":          ``,
		}, []string{"internal/wire/a.go:2: /internal/wire may not import /feed", "/internal/wire must never reach /feed: /internal/wire → /feed"}},
		{"forbidden through others", source{
			"protocol/a.go":       `import "OUR/feed"`,
			"feed/a.go":           `import "OUR/internal/odd"`,
			"internal/odd/a.go":   `import "OUR/internal/odder"`,
			"internal/odder/a.go": `import "net"`,
		}, []string{
			"/feed must never reach net: /feed → /internal/odd → /internal/odder → net",
			"/protocol must never reach net: /protocol → /feed → /internal/odd → /internal/odder → net",
		}},
		{"libp2p below node", source{
			"protocol/a.go": `import peerlib "github.com/libp2p/go-libp2p/core/peer"`,
		}, []string{"/protocol may not import github.com/libp2p/go-libp2p/core/peer", "/protocol → github.com/libp2p/go-libp2p/core/peer"}},
		{"blank import", source{
			"feed/a.go": `import _ "net/http/pprof"`,
		}, []string{"/feed → net/http/pprof"}},
		{"datastore in protocol", source{
			"protocol/a.go": `import "github.com/ipfs/go-datastore"`,
		}, []string{"/protocol may not import github.com/ipfs/go-datastore"}},
		{"host in dht", source{
			"dht/a.go": `import "github.com/libp2p/go-libp2p/core/host"`,
		}, []string{"/dht may not import github.com/libp2p/go-libp2p/core/host", "must never reach"}},
		{"feed in dht", source{
			"dht/a.go":  `import "OUR/feed"`,
			"feed/a.go": ``,
		}, []string{"/dht may not import /feed", "/dht → /feed"}},
		{"node below its interface only", source{
			"node/a.go":     `import "OUR/node/api"`,
			"node/api/a.go": ``,
		}, []string{"/node may not import /node/api", "/node → /node/api"}},
		{"internal in a program", source{
			"cmd/p2pcore/a.go":     `import "OUR/internal/merkle"`,
			"internal/merkle/a.go": ``,
		}, []string{"/cmd/p2pcore may not import /internal/merkle"}},
		{"internal in integration", source{
			"integration/a_test.go": `import ("OUR/internal/merkle"; "OUR/internal/vectors")`,
			"internal/merkle/a.go":  ``,
			"internal/vectors/a.go": `import "testing"`,
		}, []string{"/integration may not import /internal/merkle", "/internal/vectors, which is for test files only"}},
		{"test helper in product code", source{
			"feed/a.go":             `import "OUR/internal/vectors"`,
			"feed/a_test.go":        `import "OUR/internal/vectors"`,
			"internal/vectors/a.go": `import "testing"`,
		}, []string{"feed/a.go:2: /feed imports /internal/vectors, which is for test files only"}},
		{"tests choose their tools and look no higher", source{
			"feed/a_test.go":      `import ("net"; "github.com/libp2p/go-libp2p"; "OUR/feed"; "OUR/corestore")`,
			"feed/a.go":           ``,
			"corestore/a_test.go": `import ("OUR/corestore/disk"; "OUR/node")`,
			"protocol/a_test.go":  `import ("OUR/feed"; "github.com/ipfs/go-datastore")`,
		}, []string{"corestore/a_test.go:2: /corestore may not import /node", "feed/a_test.go:2: /feed may not import /corestore"}},
		{"package outside the table", source{
			"tools/a.go": ``,
			"a.go":       ``,
		}, []string{"/: is not in the import table", "/tools: is not in the import table"}},
		{"what the go command leaves out", source{
			"feed/testdata/a.go": `import "net"`,
			"_old/a.go":          `import "net"`,
			".git/a.go":          `import "net"`,
			"feed/_a.go":         `import "net"`,
			"other/go.mod":       `module other`,
			"other/a.go":         `import "net"`,
		}, nil},
		{"dot import", source{
			"node/a.go": `import . "time"`,
		}, []string{"import of time under no name"}},

		{"goroutines by their owner", source{
			"internal/lifecycle/a.go": `import ("time"; "sync"); func f() { go f(); time.AfterFunc(0, f); var wg sync.WaitGroup; wg.Go(f) }`,
			"node/a.go":               `import "sync"; type T struct { wg sync.WaitGroup; group G }; func (t *T) f() { t.group.Go(nil); t.wg.Wait() }`,
			"node/a_test.go":          `func f() { go f() }`,
		}, nil},
		{"go statement", source{
			"node/a.go": "func f() {\n\tgo f()\n}",
		}, []string{"node/a.go:3: go statement"}},
		{"go statement under a constraint", source{
			"node/a_windows.go": `func f() { func() { go f() }() }`,
		}, []string{"go statement"}},
		{"wait groups", source{
			"node/a.go": `import locks "sync"
				type T struct { wg locks.WaitGroup; many []*locks.WaitGroup }
				func (t *T) a() { t.wg.Go(nil) }
				func (t *T) b(p *locks.WaitGroup) { p.Go(nil); t.many[1].Go(nil) }
				func c() { var v locks.WaitGroup; v.Go(nil); w := new(locks.WaitGroup); w.Go(nil); x := &locks.WaitGroup{}; (x).Go(nil) }
				func d() { (*locks.WaitGroup).Go(nil, nil); (&locks.WaitGroup{}).Go(nil) }
				var e locks.WaitGroup`,
			"node/b.go": `func f() { e.Go(nil) }`,
		}, []string{"a.go:4: WaitGroup.Go", "a.go:5: WaitGroup.Go", "a.go:5", "a.go:6", "a.go:6", "a.go:6", "a.go:7", "a.go:7", "b.go:2: WaitGroup.Go"}},
		{"wait groups in disguise", source{
			"node/a.go": `import "sync"; type A struct { sync.WaitGroup }; type B = sync.WaitGroup`,
		}, []string{"embedded sync.WaitGroup", "other name for sync.WaitGroup"}},
		{"error groups", source{
			"node/a.go": `import "golang.org/x/sync/errgroup"`,
		}, []string{"/node may not import", "errgroup starts goroutines"}},
		{"timers with callbacks", source{
			"node/a.go": `import ("time"; c "context"); var f = time.AfterFunc; func g() { c.AfterFunc(nil, nil); time.NewTimer(1); x.AfterFunc() }`,
		}, []string{"time.AfterFunc outside", "context.AfterFunc outside"}},
		{"servers", source{
			"node/a.go": `import "net/http"; func f(s *http.Server) { http.ListenAndServe("", nil); s.ListenAndServeTLS("", ""); s.Serve(nil) }`,
		}, []string{"ListenAndServe outside", "ListenAndServeTLS outside"}},

		{"init and shared loggers", source{
			"node/a.go": `import ("log/slog"; logging "github.com/ipfs/go-log/v2")
				func init() {}
				var l *slog.Logger
				var m = logging.Logger("x")
				func f() { slog.Info("x"); slog.SetDefault(nil) }`,
			"node/b.go":                        `import log2 "log"; var ( a = 1; b = log2.New(nil, "", 0) ); func f() { log2.Printf("x") }`,
			"node/c_test.go":                   `import "log"; func init() { log.Print() }`,
			"cmd/p2pcore/d.go":                 `import "log"; func f() { log.SetFlags(0) }`,
			"cmd/p2pcore/internal/client/e.go": `import "log"; func f() { log.SetFlags(0) }`,
		}, []string{
			"/node may not import github.com/ipfs/go-log/v2",
			"e.go:2: logger of the whole process",
			"a.go:3: init function", "a.go:4: logger of a whole package", "a.go:5: logger of a whole package",
			"a.go:6: logger of the whole process", "a.go:6: logger of the whole process",
			"b.go:2: logger of a whole package", "b.go:2: logger of the whole process",
		}},
		{"loggers that are handed in", source{
			"node/a.go": `import "log/slog"
				type T struct { l *slog.Logger }
				func (t T) init() {}
				func f(l *slog.Logger) { l.Info("x"); slog.New(nil) }
				var g = func() *slog.Logger { return slog.New(nil) }
				const level = slog.LevelInfo`,
		}, nil},

		{"pure packages", source{
			"internal/replica/a.go":   `import "time"; type T struct { at time.Time }; func f(now time.Time) { now.After(now); time.Unix(1, 0) }`,
			"internal/wire/a_test.go": `import "os"`,
		}, nil},
		{"effects in pure packages", source{
			"internal/replica/a.go": `import ("time"; "log/slog"); func f() { time.Now() }; var now = time.Since`,
			"internal/merkle/a.go":  `import "os"`,
		}, []string{"merkle/a.go:2: /internal/merkle is free of effects and may not import os",
			"may not import log/slog", "may not ask a clock", "may not ask a clock"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := checkAll(c.in.load(t))
			ok := len(got) == len(c.want)
			for i := range c.want {
				ok = ok && strings.Contains(got[i], c.want[i])
			}
			if !ok {
				t.Errorf("faults:\n\t%s\nwant:\n\t%s", strings.Join(got, "\n\t"), strings.Join(c.want, "\n\t"))
			}
		})
	}
}

func TestFileThatDoesNotParseIsAnError(t *testing.T) {
	t.Parallel()
	if _, err := loadModule(fstest.MapFS{"a.go": {Data: []byte("package p\nfunc {")}}); err == nil {
		t.Error("error = nil, want one")
	}
}
