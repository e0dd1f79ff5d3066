package mesh

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

//go:embed compose.yml
var composeFile []byte

// Docker runs each node as a container. It needs root on the machine of the engine, where the nodes' stores and the ends
// of their links are, and the commands docker, docker-compose and ip.
type Docker struct {
	dir, project string
	env          []string
	island       string            // the network of the nodes that Cut has moved
	ids          map[string]string // containers, by the names of nodes
	stores       map[string]string
	moved        []string
}

var _ Backend = (*Docker)(nil)

// NewDocker makes the containers of a mesh, which do not run yet. image is a p2pcore's name; dir is for the mesh's files.
func NewDocker(ctx context.Context, image, dir string) (*Docker, error) {
	project := fmt.Sprintf("p2pmesh-%08x", rand.Uint32())
	b := &Docker{
		dir: dir, project: project, env: append(os.Environ(), "P2PCORE_IMAGE="+image), island: project + "_island",
		ids: make(map[string]string), stores: make(map[string]string),
	}
	if err := b.build(ctx); err != nil {
		return nil, errors.Join(err, b.Close(ctx))
	}
	return b, nil
}

func (b *Docker) build(ctx context.Context) error {
	if err := os.WriteFile(b.file(), composeFile, 0o600); err != nil {
		return err
	}
	if err := b.compose(ctx, "up", "--no-start"); err != nil {
		return err
	}
	if err := run(ctx, "docker", "network", "create", b.island); err != nil {
		return err
	}
	list, err := output(ctx, "docker", "ps", "--all", "--filter", "label=com.docker.compose.project="+b.project,
		"--format", `{{.Label "com.docker.compose.service"}} {{.ID}}`)
	if err != nil {
		return err
	}
	for line := range strings.Lines(list) {
		name, id, _ := strings.Cut(strings.TrimSpace(line), " ")
		b.ids[name] = id
		data, err := b.inspect(ctx, name, `{{range .Mounts}}{{if eq .Destination "/data"}}{{.Source}}{{end}}{{end}}`)
		if err != nil {
			return err
		}
		b.stores[name] = filepath.Join(data, "store")
	}
	for _, name := range slices.Concat([]string{Bootstrap}, writerNames, mirrorNames, readerNames) {
		if b.ids[name] == "" {
			return fmt.Errorf("compose has made no container for %s", name)
		}
	}
	return nil
}

func (b *Docker) file() string { return filepath.Join(b.dir, "compose.yml") }

// compose runs Compose on the mesh.
func (b *Docker) compose(ctx context.Context, args ...string) error {
	args = append([]string{"--project-name", b.project, "--file", b.file()}, args...)
	cmd := exec.CommandContext(ctx, "docker-compose", args...)
	cmd.Env = b.env
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("docker-compose %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// docker runs a command of the engine's on the container of a node.
func (b *Docker) docker(ctx context.Context, name string, command ...string) error {
	return run(ctx, "docker", append(command, b.ids[name])...)
}

// inspect returns what a template makes of the engine's description of a node.
func (b *Docker) inspect(ctx context.Context, name, template string) (string, error) {
	return output(ctx, "docker", "inspect", "--format", template, b.ids[name])
}

// Store implements Backend.
func (b *Docker) Store(name string) string { return b.stores[name] }

// Log implements Backend.
func (b *Docker) Log(ctx context.Context, name string) string {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	text, err := exec.CommandContext(ctx, "docker", "logs", b.ids[name]).CombinedOutput()
	if err != nil {
		return fmt.Sprintf("%s%v", text, err)
	}
	return string(text)
}

// Start implements Backend.
func (b *Docker) Start(ctx context.Context, name string) error {
	return b.docker(ctx, name, "start")
}

// Stop implements Backend.
func (b *Docker) Stop(ctx context.Context, name string) error {
	seconds := strconv.Itoa(int(stopTimeout.Seconds()))
	if err := b.docker(ctx, name, "stop", "--time", seconds); err != nil {
		return err
	}
	code, err := b.inspect(ctx, name, "{{.State.ExitCode}}")
	if err == nil && code != "0" {
		err = fmt.Errorf("it ended with %s:\n%s", code, tail(b.Log(ctx, name), 20))
	}
	return err
}

// Kill implements Backend.
func (b *Docker) Kill(ctx context.Context, name string) error {
	if err := b.docker(ctx, name, "kill"); err != nil {
		return err
	}
	return b.docker(ctx, name, "wait") // the engine answers before the process has ended
}

// Pause implements Backend. With version 1 of cgroups the engine gives up, and leaves the container running, when a thread
// waits for the disk all the time that it tries, some tenths of a second (runc, libcontainer/cgroups/fs/freezer.go). A node in
// the middle of downloads waits like that while it syncs, so the engine is asked until it meets a node that does not.
func (b *Docker) Pause(ctx context.Context, name string) error {
	for {
		err := b.docker(ctx, name, "pause")
		if err == nil || ctx.Err() != nil || !strings.Contains(err.Error(), "unable to freeze") {
			return err
		}
	}
}

// Resume implements Backend.
func (b *Docker) Resume(ctx context.Context, name string) error {
	return b.docker(ctx, name, "unpause")
}

// network is the network that Compose makes.
func (b *Docker) network() string { return b.project + "_default" }

// Disconnect implements Backend.
func (b *Docker) Disconnect(ctx context.Context, name string) error {
	return b.docker(ctx, name, "network", "disconnect", b.network())
}

// Reconnect implements Backend.
func (b *Docker) Reconnect(ctx context.Context, name string) error {
	return b.docker(ctx, name, "network", "connect", b.network())
}

// Cut implements Backend. The engine would give a container that changes networks another address, and its peers would
// have to be told; a cut in the middle of a network tells nobody.
func (b *Docker) Cut(ctx context.Context, names ...string) error {
	b.moved = append(b.moved, names...)
	return b.plug(ctx, b.island, names)
}

// Heal implements Backend.
func (b *Docker) Heal(ctx context.Context) error {
	names := b.moved
	b.moved = nil
	return b.plug(ctx, b.network(), names)
}

// plug moves the machine's ends of nodes' links to the bridge of a network.
func (b *Docker) plug(ctx context.Context, network string, names []string) error {
	id, err := output(ctx, "docker", "network", "inspect", "--format", "{{slice .Id 0 12}}", network)
	if err != nil {
		return err
	}
	for _, name := range names {
		end, err := b.link(ctx, name)
		if err != nil {
			return err
		}
		if err := run(ctx, "ip", "link", "set", end, "master", "br-"+id); err != nil {
			return err
		}
	}
	return nil
}

// link is the machine's end of a node's link.
func (b *Docker) link(ctx context.Context, name string) (string, error) {
	pid, err := b.inspect(ctx, name, "{{.State.Pid}}")
	if err != nil {
		return "", err
	}
	text, err := os.ReadFile(filepath.Join("/proc", pid, "root/sys/class/net/eth0/iflink"))
	if err != nil {
		return "", err
	}
	index, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return "", err
	}
	end, err := net.InterfaceByIndex(index)
	if err != nil {
		return "", fmt.Errorf("link of %s: %w", name, err)
	}
	return end.Name, nil
}

// Close implements Backend.
func (b *Docker) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	var errs []error
	for _, id := range b.ids { // frozen ones too, which Compose cannot stop
		errs = append(errs, run(ctx, "docker", "rm", "--force", id))
	}
	errs = append(errs, b.compose(ctx, "down", "--volumes", "--timeout", "0"))
	if out, err := output(ctx, "docker", "network", "ls", "--quiet", "--filter", "name="+b.island); err != nil || out != "" {
		errs = append(errs, err, run(ctx, "docker", "network", "rm", b.island))
	}
	return errors.Join(append(errs, os.RemoveAll(b.dir))...)
}
