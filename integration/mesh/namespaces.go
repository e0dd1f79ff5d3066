package mesh

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// The two bridges of the hub: all nodes are on the first, those that Cut has moved on the second.
const (
	mainland = "br0"
	island   = "br1"
)

// Namespaces runs each node as a process in a network namespace of its own. A further namespace, the hub, holds the
// bridges that connect them, so that the machine's own network is left alone. It needs root and the ip command.
type Namespaces struct {
	binary, dir, prefix string
	names               []string // the place is the number in addresses
	running             map[string]*exec.Cmd
	cancel              map[string]context.CancelFunc
	moved               []string
}

var _ Backend = (*Namespaces)(nil)

// NewNamespaces makes the network for the nodes of a mesh. binary is a p2pcore; dir is for stores and logs, and
// has to be short: sockets' paths have at most 100 bytes.
func NewNamespaces(ctx context.Context, binary, dir string) (*Namespaces, error) {
	// A run that was killed leaves its namespaces, and process numbers come again.
	b := &Namespaces{
		binary: binary, dir: dir, prefix: fmt.Sprintf("p2pmesh-%08x-", rand.Uint32()),
		names:   slices.Concat([]string{Bootstrap}, writerNames, mirrorNames, readerNames),
		running: make(map[string]*exec.Cmd), cancel: make(map[string]context.CancelFunc),
	}
	if err := b.build(ctx); err != nil {
		return nil, errors.Join(err, b.Close(ctx))
	}
	return b, nil
}

func (b *Namespaces) build(ctx context.Context) error {
	hub := b.namespace("hub")
	steps := [][]string{{"netns", "add", hub}}
	for _, bridge := range []string{mainland, island} {
		steps = append(steps, []string{"-n", hub, "link", "add", bridge, "type", "bridge"}, []string{"-n", hub, "link", "set", bridge, "up"})
	}
	for i, name := range b.names {
		ns, port := b.namespace(name), b.port(name)
		steps = append(steps,
			[]string{"netns", "add", ns},
			[]string{"-n", ns, "link", "set", "lo", "up"},
			[]string{"-n", hub, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", ns},
			[]string{"-n", hub, "link", "set", port, "master", mainland, "up"},
			[]string{"-n", ns, "addr", "add", fmt.Sprintf("10.79.0.%d/24", i+1), "dev", "eth0"},
			[]string{"-n", ns, "link", "set", "eth0", "up"},
		)
	}
	for _, args := range steps {
		if err := run(ctx, "ip", args...); err != nil {
			return err
		}
	}
	return nil
}

func (b *Namespaces) namespace(name string) string { return b.prefix + name }

// port is the hub's end of a node's link.
func (b *Namespaces) port(name string) string {
	return fmt.Sprintf("port%d", slices.Index(b.names, name))
}

// Store implements Backend.
func (b *Namespaces) Store(name string) string { return filepath.Join(b.dir, name) }

func (b *Namespaces) logPath(name string) string { return filepath.Join(b.dir, name+".log") }

// Log implements Backend.
func (b *Namespaces) Log(_ context.Context, name string) string {
	text, err := os.ReadFile(b.logPath(name))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// Start implements Backend.
func (b *Namespaces) Start(ctx context.Context, name string) error {
	if b.running[name] != nil {
		return errors.New("it runs already")
	}
	addrs := filepath.Join(b.dir, "addrs")
	args := []string{"netns", "exec", b.namespace(name), b.binary, "--store", b.Store(name), "--network", "mesh", "--mdns=false"}
	if name == Bootstrap {
		args = append(args, "--listen", "/ip4/0.0.0.0/tcp/4101", "--listen", "/ip4/0.0.0.0/udp/4101/quic-v1", "bootstrap", "--addrs-file", addrs)
	} else {
		args = append(args, "--bootstrap", "@"+addrs, "daemon")
	}
	log, err := os.OpenFile(b.logPath(name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	cmd := exec.CommandContext(life, "ip", args...) // ip becomes p2pcore: the process is the same
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), "HOME="+b.dir, "XDG_CONFIG_HOME=", "XDG_RUNTIME_DIR=")
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopTimeout
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		cancel()
		return err
	}
	b.running[name], b.cancel[name] = cmd, cancel
	return nil
}

// end waits for the end of a node that has been told to.
func (b *Namespaces) end(name string, tell func(*exec.Cmd) error) (*os.ProcessState, error) {
	cmd := b.running[name]
	if cmd == nil {
		return nil, errors.New("it does not run")
	}
	if err := tell(cmd); err != nil {
		return nil, err
	}
	cmd.Wait() // its state says more than its error
	b.cancel[name]()
	delete(b.running, name)
	delete(b.cancel, name)
	return cmd.ProcessState, nil
}

// Stop implements Backend.
func (b *Namespaces) Stop(ctx context.Context, name string) error {
	state, err := b.end(name, func(*exec.Cmd) error { b.cancel[name](); return nil })
	if err == nil && !state.Success() {
		err = fmt.Errorf("it ended with %v:\n%s", state, tail(b.Log(ctx, name), 20))
	}
	return err
}

// Kill implements Backend.
func (b *Namespaces) Kill(_ context.Context, name string) error {
	_, err := b.end(name, func(cmd *exec.Cmd) error { return cmd.Process.Kill() })
	return err
}

func (b *Namespaces) signal(name string, s os.Signal) error {
	if b.running[name] == nil {
		return errors.New("it does not run")
	}
	return b.running[name].Process.Signal(s)
}

// Pause implements Backend.
func (b *Namespaces) Pause(_ context.Context, name string) error {
	return b.signal(name, syscall.SIGSTOP)
}

// Resume implements Backend.
func (b *Namespaces) Resume(_ context.Context, name string) error {
	return b.signal(name, syscall.SIGCONT)
}

// hub runs ip link set in the hub for a node's port.
func (b *Namespaces) hub(ctx context.Context, name string, set ...string) error {
	return run(ctx, "ip", append([]string{"-n", b.namespace("hub"), "link", "set", b.port(name)}, set...)...)
}

// Disconnect implements Backend.
func (b *Namespaces) Disconnect(ctx context.Context, name string) error {
	return b.hub(ctx, name, "down")
}

// Reconnect implements Backend.
func (b *Namespaces) Reconnect(ctx context.Context, name string) error { return b.hub(ctx, name, "up") }

// Cut implements Backend.
func (b *Namespaces) Cut(ctx context.Context, names ...string) error {
	for _, n := range names {
		if err := b.hub(ctx, n, "master", island); err != nil {
			return err
		}
		b.moved = append(b.moved, n)
	}
	return nil
}

// Heal implements Backend.
func (b *Namespaces) Heal(ctx context.Context) error {
	for _, n := range b.moved {
		if err := b.hub(ctx, n, "master", mainland); err != nil {
			return err
		}
	}
	b.moved = nil
	return nil
}

// Close implements Backend.
func (b *Namespaces) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	var errs []error
	for _, name := range b.names {
		if b.running[name] != nil {
			errs = append(errs, b.Kill(ctx, name))
		}
	}
	for _, name := range append(b.names, "hub") {
		if _, err := os.Stat("/run/netns/" + b.namespace(name)); err == nil {
			errs = append(errs, run(ctx, "ip", "netns", "del", b.namespace(name)))
		}
	}
	return errors.Join(append(errs, os.RemoveAll(b.dir))...)
}

// run runs a command of the machine to its end.
func run(ctx context.Context, name string, args ...string) error {
	_, err := output(ctx, name, args...)
	return err
}

// output runs a command of the machine and returns what it prints, without the last line end.
func output(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, errs.String())
	}
	return strings.TrimRight(string(out), "\n"), nil
}
