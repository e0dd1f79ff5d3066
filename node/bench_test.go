package node

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	datastore "github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/p2pcore/p2pcore/corestore"
	"github.com/p2pcore/p2pcore/corestore/disk"
	"github.com/p2pcore/p2pcore/feed"
)

// BenchmarkReplicate measures how fast a feed that one node has gets into another one's store, over loopback: two
// hosts, two stores, every block proven, verified and written. An operation is a block. With "memory" and "disk" both
// nodes are in one process and share its garbage collector; with "processes" the one that has the feed is a process of
// its own, and the stores are on disk.
func BenchmarkReplicate(b *testing.B) {
	for _, transport := range []struct{ name, addr string }{{"TCP", loopbackTCP}, {"QUIC", loopbackQUIC}} {
		for _, setup := range []struct {
			name  string
			serve func(b *testing.B, addr string, size int) (peer.AddrInfo, feed.Key)
			open  func(b *testing.B) datastore.Batching
		}{{"memory", serveFrom(memory), memory}, {"disk", serveFrom(onDisk), onDisk}, {"processes", serveInChild, onDisk}} {
			for _, size := range []int{1 << 10, 64 << 10} {
				b.Run(fmt.Sprintf("%s/%s/%dKiB", transport.name, setup.name, size>>10), func(b *testing.B) {
					from, key := setup.serve(b, transport.addr, size)
					download(b, transport.addr, setup.open, from, key, size)
				})
			}
		}
	}
}

// download times the download of b.N blocks, from the connection to the last block stored.
func download(b *testing.B, addr string, open func(*testing.B) datastore.Batching, from peer.AddrInfo, key feed.Key, size int) {
	store := benchStore(b, open)
	n := newNode(b, store, WithListenAddrs(ma.StringCast(addr)))
	r := keyed(b, store, key)
	b.SetBytes(int64(size))
	b.ReportAllocs()
	b.ResetTimer()
	cpu := cpuTime()
	if err := n.Connect(b.Context(), from); err != nil {
		b.Fatal(err)
	}
	if err := r.Download(b.Context(), feed.Range{Start: 0, End: uint64(b.N)}); err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "blocks/s")
	b.ReportMetric(float64((cpuTime()-cpu).Nanoseconds())/float64(b.N), "cpu-ns/op")
}

// serveFrom makes a node in this process that has b.N blocks.
func serveFrom(open func(*testing.B) datastore.Batching) func(*testing.B, string, int) (peer.AddrInfo, feed.Key) {
	return func(b *testing.B, addr string, size int) (peer.AddrInfo, feed.Key) {
		store := benchStore(b, open)
		n := newNode(b, store, WithListenAddrs(ma.StringCast(addr)))
		w := named(b, store, "log")
		fillFeed(b, w, b.N, size)
		return info(n), w.Key()
	}
}

// fillFeed appends blocks that cannot be compressed.
func fillFeed(tb testing.TB, w *feed.Session, length, size int) {
	blocks := make([][]byte, min(length, max(1, 1<<20/size)))
	random := rand.NewChaCha8([32]byte{})
	for i := range blocks {
		blocks[i] = make([]byte, size)
		random.Read(blocks[i])
	}
	for length > 0 {
		n := min(length, len(blocks))
		if _, err := w.Append(tb.Context(), blocks[:n]...); err != nil {
			tb.Fatal(err)
		}
		length -= n
	}
}

// serveBenchmark is the variable that makes TestServeBenchmark serve: address, directory, blocks, and bytes per block.
const serveBenchmark = "P2PCORE_SERVE_BENCHMARK"

// serveProfile is the variable that names the file for a CPU profile of TestServeBenchmark, without the appends.
const serveProfile = "P2PCORE_SERVE_PROFILE"

// serveInChild runs TestServeBenchmark in a process of its own. With -cpuprofile=x.prof that writes its profile to
// x-serving.prof.
func serveInChild(b *testing.B, addr string, size int) (peer.AddrInfo, feed.Key) {
	cmd := exec.Command(os.Args[0], "-test.run=^TestServeBenchmark$")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %d %d", serveBenchmark, addr, b.TempDir(), b.N, size))
	if profile := flag.Lookup("test.cpuprofile").Value.String(); profile != "" {
		cmd.Env = append(cmd.Env, serveProfile+"="+strings.TrimSuffix(profile, ".prof")+"-serving.prof")
	}
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	lines := bufio.NewReader(stdout)
	b.Cleanup(func() {
		stdin.Close() // ends it
		if line, err := lines.ReadString('\n'); err == nil {
			if ns, err := strconv.ParseFloat(strings.TrimSpace(line), 64); err == nil {
				b.ReportMetric(ns/float64(b.N), "server-cpu-ns/op")
			}
		}
		_, _ = io.Copy(io.Discard, lines)
		if err := cmd.Wait(); err != nil {
			b.Errorf("serving process: %v", err)
		}
	})
	line, err := lines.ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	var p2p, text string
	if _, err := fmt.Sscan(line, &p2p, &text); err != nil {
		b.Fatal(err)
	}
	key, err := feed.ParseKey(text)
	if err != nil {
		b.Fatal(err)
	}
	from, err := peer.AddrInfoFromString(p2p)
	if err != nil {
		b.Fatal(err)
	}
	return *from, key
}

// TestServeBenchmark is the other process of BenchmarkReplicate. It prints where it can be reached and the feed's key
// when all blocks are appended, and at the end of its input the nanoseconds of CPU that it has used since.
func TestServeBenchmark(t *testing.T) {
	var addr, dir string
	var length, size int
	if _, err := fmt.Sscan(os.Getenv(serveBenchmark), &addr, &dir, &length, &size); err != nil {
		t.Skip("serves BenchmarkReplicate only")
	}
	d, err := disk.Open(filepath.Join(dir, "store"), disk.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	store, err := corestore.Open(t.Context(), d.Datastore(), corestore.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	n := newNode(t, store, WithListenAddrs(ma.StringCast(addr)))
	defer n.Close()
	w := named(t, store, "log")
	fillFeed(t, w, length, size)
	if path := os.Getenv(serveProfile); path != "" {
		file, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if err := pprof.StartCPUProfile(file); err != nil {
			t.Fatal(err)
		}
		defer pprof.StopCPUProfile()
	}
	cpu := cpuTime()
	fmt.Printf("%s/p2p/%s %s\n", n.Host().Addrs()[0], n.Host().ID(), w.Key())
	_, _ = io.Copy(io.Discard, os.Stdin)
	fmt.Println((cpuTime() - cpu).Nanoseconds())
}

// cpuTime is what this process has used so far, in user and kernel mode.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func benchStore(b *testing.B, open func(*testing.B) datastore.Batching) *corestore.Store {
	b.Helper()
	store, err := corestore.Open(b.Context(), open(b), corestore.Options{NoSync: true})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { store.Close() })
	return store
}

func memory(*testing.B) datastore.Batching { return dssync.MutexWrap(datastore.NewMapDatastore()) }

func onDisk(b *testing.B) datastore.Batching {
	b.Helper()
	d, err := disk.Open(filepath.Join(b.TempDir(), "store"), disk.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { d.Close() })
	return d.Datastore()
}
