package integration

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait of these tests. It is generous, for two busy cores;
// reaching it is a failure, not a retry.
const patience = 3 * time.Minute

// binary is the program under test, built once by TestMain.
var binary string

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "p2pcore-integration-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "p2pcore")
	build := exec.Command("go", "build", "-o", binary, "github.com/p2pcore/p2pcore/cmd/p2pcore")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build p2pcore: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// process is one running p2pcore.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdout *bufio.Reader
	out    *os.File      // the read end behind stdout
	ended  chan struct{} // closed once err is set
	err    error

	mu     sync.Mutex
	heard  sync.Cond // more stderr, or the end; its L is mu
	stderr bytes.Buffer
	over   bool
}

// Write collects what the process says on stderr.
func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.heard.Broadcast()
	return p.stderr.Write(b)
}

// until waits for a line on stderr that is wanted; it is false when the process has ended without one.
func (p *process) until(wanted func(line string) bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for from := 0; ; {
		text := p.stderr.String()[from:]
		if line, _, whole := strings.Cut(text, "\n"); whole {
			if wanted(line) {
				return true
			}
			from += len(line) + 1
			continue
		}
		if p.over {
			return false
		}
		p.heard.Wait()
	}
}

func (p *process) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stderr.String()
}

// machine is a store and the environment that p2pcore runs in.
type machine struct {
	t     *testing.T
	store string
	flags []string // added to each command
	netns string   // network namespace, or empty
}

// newMachine returns a machine with an empty store of its own.
func newMachine(t *testing.T, flags ...string) *machine {
	t.Helper()
	return &machine{t: t, store: filepath.Join(t.TempDir(), "store"), flags: flags}
}

func (n *machine) command(ctx context.Context, args []string) *exec.Cmd {
	all := append([]string{binary, "--store", n.store}, n.flags...)
	all = append(all, args...)
	if n.netns != "" {
		all = append([]string{"ip", "netns", "exec", n.netns}, all...)
	}
	cmd := exec.CommandContext(ctx, all[0], all[1:]...)
	cmd.Dir = filepath.Dir(n.store)
	cmd.Env = append(os.Environ(), "HOME="+cmd.Dir, "XDG_DATA_HOME=", "XDG_CONFIG_HOME=", "XDG_RUNTIME_DIR=")
	return cmd
}

// start runs a command in the background. It is killed when the test ends.
func (n *machine) start(stdin io.Reader, args ...string) *process {
	n.t.Helper()
	cmd := n.command(context.Background(), args)
	p := &process{t: n.t, cmd: cmd, ended: make(chan struct{})}
	p.heard.L = &p.mu
	cmd.Stdin, cmd.Stderr = stdin, p
	r, w, err := os.Pipe()
	if err != nil {
		n.t.Fatal(err)
	}
	cmd.Stdout, p.out, p.stdout = w, r, bufio.NewReader(r)
	if err := cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	w.Close()
	go func() {
		p.err = cmd.Wait()
		p.mu.Lock()
		p.over = true
		p.heard.Broadcast()
		p.mu.Unlock()
		close(p.ended)
	}()
	n.t.Cleanup(func() {
		cmd.Process.Kill()
		<-p.ended
		r.Close()
		if n.t.Failed() {
			n.t.Logf("stderr of p2pcore %s:\n%s", strings.Join(args, " "), p.said())
		}
	})
	return p
}

// line returns the next line of stdout.
func (p *process) line() string {
	p.t.Helper()
	p.out.SetReadDeadline(time.Now().Add(patience))
	s, err := p.stdout.ReadString('\n')
	if err != nil {
		p.t.Fatalf("waiting for a line of %v: %v\nstderr:\n%s", p.cmd.Args, err, p.said())
	}
	return strings.TrimSuffix(s, "\n")
}

// object reads the next line of stdout as JSON.
func (p *process) object(into any) {
	p.t.Helper()
	s := p.line()
	if err := json.Unmarshal([]byte(s), into); err != nil {
		p.t.Fatalf("line %q is no JSON: %v", s, err)
	}
}

// wait waits for the end and returns the exit code, or -1 after a signal.
func (p *process) wait() int {
	p.t.Helper()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	select {
	case <-p.ended:
	case <-limit.C:
		p.cmd.Process.Signal(syscall.SIGQUIT)
		<-p.ended
		p.t.Fatalf("%v did not end; stderr:\n%s", p.cmd.Args, p.said())
	}
	return exitCode(p.t, p.err)
}

// interrupt is Ctrl-C: it asks the process to end and returns the exit code.
func (p *process) interrupt() int {
	p.t.Helper()
	p.cmd.Process.Signal(os.Interrupt)
	return p.wait()
}

// kill is kill -9.
func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.ended
}

func exitCode(t *testing.T, err error) int {
	t.Helper()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	t.Fatal(err)
	return -1
}

// result is a command that has ended.
type result struct {
	code           int
	stdout, stderr string
}

// run runs a command to its end.
func (n *machine) run(stdin io.Reader, args ...string) result {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := n.command(ctx, args)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &out, &errs
	err := cmd.Run()
	if ctx.Err() != nil {
		n.t.Fatalf("%v did not end; stderr:\n%s", cmd.Args, errs.String())
	}
	return result{exitCode(n.t, err), out.String(), errs.String()}
}

// must runs a command that has to succeed and returns its stdout.
func (n *machine) must(stdin io.Reader, args ...string) string {
	n.t.Helper()
	r := n.run(stdin, args...)
	if r.code != 0 {
		n.t.Fatalf("p2pcore %s: exit %d\n%s", strings.Join(args, " "), r.code, r.stderr)
	}
	return r.stdout
}

// shared is what share prints with --json.
type shared struct {
	Link, Key, ID, DiscoveryKey, Name, PeerID string
	Length, ByteLength                        uint64
	Addrs                                     []string
}

// fetched is what get prints with --json.
type fetched struct {
	Key, ID, File              string
	Length, ByteLength         uint64
	BlocksFetched, BlocksLocal uint64
	MS                         float64
}

// loopback makes a node listen on loopback only, over both transports.
var loopback = []string{"--listen", "/ip4/127.0.0.1/tcp/0", "--listen", "/ip4/127.0.0.1/udp/0/quic-v1"}

// alone is the flags of a node that finds others only by --peer.
var alone = append([]string{"--network", "none", "--mdns=false"}, loopback...)

// bootstrapped starts the bootstrap node of a private network named after the test and
// returns the flags with which others join it.
func bootstrapped(t *testing.T) []string {
	t.Helper()
	network := strings.ToLower(strings.ReplaceAll(t.Name(), "/", "-"))
	n := newMachine(t, append([]string{"--network", network, "--mdns=false"}, loopback...)...)
	p := n.start(nil, "bootstrap", "--json")
	var b struct {
		PeerID string
		Addrs  []string
	}
	p.object(&b)
	flags := append([]string{"--network", network, "--mdns=false"}, loopback...)
	for _, a := range b.Addrs {
		flags = append(flags, "--bootstrap", a)
	}
	if len(b.Addrs) == 0 {
		t.Fatal("the bootstrap node prints no address")
	}
	return flags
}
