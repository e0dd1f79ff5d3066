package mesh

import (
	"context"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// dockerAll has all scenarios played on containers too: every run takes those that the table marks.
var dockerAll = flag.Bool("docker-all", false, "play all scenarios on containers")

// buildPatience bounds the build of an image: p2pcore and all that it is made of, with nothing in a cache.
const buildPatience = 8 * time.Minute

// needDocker skips a test that needs an engine on this machine.
func needDocker(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED, AND A NEED STAYS UNPROVEN: the stores of containers need root; .ci/run has it")
	}
	for _, command := range []string{"docker", "docker-compose", "ip"} {
		if _, err := exec.LookPath(command); err != nil {
			t.Skipf("SKIPPED, AND A NEED STAYS UNPROVEN: there is no %s; .ci/run installs it", command)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), requestTimeout)
	defer cancel()
	if err := run(ctx, "docker", "version"); err != nil {
		t.Skipf("SKIPPED, AND A NEED STAYS UNPROVEN: no Docker engine answers; .ci/run starts one\n%v", err)
	}
}

// logged runs a command that takes long, and logs what it says if it fails.
func logged(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	began := time.Now()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, tail(string(out), 40))
	}
	t.Logf("%s: %v", strings.Join(cmd.Args, " "), time.Since(began).Round(100*time.Millisecond))
	return string(out)
}

// TestDocker plays scenarios on containers of the image that is built from this tree. The variable GO_IMAGE names the image
// with Go, as for docker-compose.yml.
func TestDocker(t *testing.T) {
	needDocker(t)
	ctx, cancel := context.WithTimeout(t.Context(), buildPatience)
	defer cancel()
	const image = "p2pcore-mesh"
	build := []string{"build", "--quiet", "--tag", image}
	if name := os.Getenv("GO_IMAGE"); name != "" {
		build = append(build, "--build-arg", "GO_IMAGE="+name)
	}
	logged(t, exec.CommandContext(ctx, "docker", append(build, filepath.Join("..", ".."))...))
	b, err := NewDocker(ctx, image, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	m, err := Start(ctx, b)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	play(t, m, *dockerAll)
}
