package mesh

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// atOnce is how long after the end of the command that appends a reader may see what was appended.
const atOnce = time.Second

// quick is the network of docker-compose.yml, in a clean clone.
type quick struct {
	*testing.T
	ctx      context.Context
	dir      string
	project  string
	commands []string // that the file's first lines tell users to give
}

// command is a command of a shell in the clone. Its container gets no terminal, since there is none.
func (q *quick) command(text string) *exec.Cmd {
	text = strings.ReplaceAll(strings.ReplaceAll(text, " exec -T ", " exec "), " exec ", " exec -T ")
	cmd := exec.CommandContext(q.ctx, "bash", "-e", "-o", "pipefail", "-c", text)
	cmd.Dir = q.dir
	cmd.Env = append(os.Environ(), "COMPOSE_PROJECT_NAME="+q.project)
	// Compose and the shell have children, which hold their pipes.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	return cmd
}

// TestQuickStart does what docker-compose.yml tells users to do, in a clean clone.
func TestQuickStart(t *testing.T) {
	needDocker(t)
	ctx, cancel := context.WithTimeout(t.Context(), buildPatience)
	defer cancel()
	q := &quick{T: t, ctx: ctx, dir: filepath.Join(t.TempDir(), "p2pcore"), project: fmt.Sprintf("p2pquick-%08x", rand.Uint32())}
	logged(t, exec.CommandContext(ctx, "git", "clone", "--quiet", "--no-hardlinks", filepath.Join("..", ".."), q.dir))
	q.read()
	t.Cleanup(q.down)
	out := logged(t, q.command(q.commands[0]))
	if os.Getenv("GO_IMAGE") != "" && strings.Contains(out, "Pulling") {
		t.Errorf("an image was pulled:\n%s", out)
	}
	for _, service := range []string{Bootstrap, "writer", "mirror"} {
		q.healthy(service)
	}

	key := strings.TrimSpace(logged(t, q.command(q.commands[1])))
	logged(t, q.command(strings.ReplaceAll(q.commands[2], "KEY", key)))
	lines := q.follow(strings.ReplaceAll(q.commands[3], "KEY", key))
	for i, word := range []string{"first", "hello", "again"} {
		logged(t, q.command(strings.ReplaceAll(q.commands[4], "hello", word)))
		began := time.Now()
		line, err := lines.ReadString('\n')
		if err != nil || line != word+"\n" {
			t.Fatalf("the mirror says %q, %v, want %q", line, err, word)
		}
		took := time.Since(began)
		t.Logf("%s was there %v after the append", word, took)
		// The first one has the peers find each other.
		if i > 0 && took > atOnce {
			t.Errorf("%s was there %v after the append, want %v at most", word, took, atOnce)
		}
	}
}

// read reads the commands at the beginning of the compose file.
func (q *quick) read() {
	q.Helper()
	text, err := os.ReadFile(filepath.Join(q.dir, "docker-compose.yml"))
	if err != nil {
		q.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if command, ok := strings.CutPrefix(line, "#   "); ok {
			q.commands = append(q.commands, strings.TrimSpace(command))
		}
	}
	if len(q.commands) != 5 {
		q.Fatalf("docker-compose.yml tells to give %q", q.commands)
	}
}

// down ends the network, and says what its nodes have said if the test has failed.
func (q *quick) down() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(q.Context()), closeTimeout)
	defer cancel()
	q.ctx = ctx
	if q.Failed() {
		out, err := q.command("docker-compose logs --no-color --tail 20").CombinedOutput()
		q.Logf("%s%v", out, err)
	}
	if out, err := q.command("docker-compose down --volumes").CombinedOutput(); err != nil {
		q.Errorf("%v\n%s", err, out)
	}
}

// healthy waits until the image's own check is content with a service.
func (q *quick) healthy(service string) {
	q.Helper()
	id, err := q.command("docker-compose ps -q " + service).Output()
	if err != nil {
		q.Fatal(err)
	}
	err = Poll(q.ctx, func(ctx context.Context) error {
		state, err := output(ctx, "docker", "inspect", "--format", "{{.State.Health.Status}}", strings.TrimSpace(string(id)))
		if err == nil && state != "healthy" {
			err = fmt.Errorf("%s is %s", service, state)
		}
		return err
	})
	if err != nil {
		q.Fatal(err)
	}
}

// follow starts a command that goes on until the test ends, and returns what it prints.
func (q *quick) follow(text string) *bufio.Reader {
	q.Helper()
	cmd := q.command(text)
	out, err := cmd.StdoutPipe()
	if err != nil {
		q.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		q.Fatal(err)
	}
	q.Cleanup(func() {
		cmd.Cancel()
		cmd.Wait()
	})
	return bufio.NewReader(out)
}
