package mesh

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestNamespaces plays the scenarios on processes in network namespaces.
func TestNamespaces(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED, AND A NEED STAYS UNPROVEN: network namespaces need root; .ci/run has it")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("SKIPPED, AND A NEED STAYS UNPROVEN: network namespaces need the ip command (iproute2); .ci/run installs it")
	}
	dir, err := os.MkdirTemp("", "mesh-") // short: sockets' paths are
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "p2pcore")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	t.Setenv("CGO_ENABLED", "0") // as in make build and in the image: the store's memory is on Go's heap
	if err := run(ctx, "go", "build", "-o", binary, "github.com/p2pcore/p2pcore/cmd/p2pcore"); err != nil {
		t.Fatal(err)
	}
	b, err := NewNamespaces(ctx, binary, dir)
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
	play(t, m, true)
}
