package integration

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestGuidesDoWhatTheySay runs the commands of a page of docs, one after the other, in a home of its own. Only the
// network is not the public one.
func TestGuidesDoWhatTheySay(t *testing.T) {
	for _, page := range []string{"tutorial.md", "operate.md"} {
		t.Run(page, func(t *testing.T) {
			t.Parallel()
			home := t.TempDir()
			path := filepath.Join("..", "docs", page)
			configured := false
			for _, text := range fenced(t, path, "toml") {
				configured = true
				config := filepath.Join(home, ".config", "p2pcore", "config.toml")
				if err := os.MkdirAll(filepath.Dir(config), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			commands := fenced(t, path, "sh")
			if len(commands) < 5 {
				t.Fatalf("%s has %d blocks of commands", page, len(commands))
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			// What is left running when a command fails must not stay.
			script := "trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT\n" + strings.Join(commands, "")
			cmd := exec.CommandContext(ctx, "bash", "-x", "-e", "-o", "pipefail", "-c", script)
			cmd.Dir = home
			cmd.Env = append(os.Environ(), "HOME="+home, "XDG_DATA_HOME=", "XDG_CONFIG_HOME=", "XDG_RUNTIME_DIR=",
				"PATH="+filepath.Dir(binary)+":"+os.Getenv("PATH"), "P2PCORE_STORE="+filepath.Join(home, "store"),
				"P2PCORE_MDNS=false", "P2PCORE_LISTEN=/ip4/127.0.0.1/tcp/0", "P2PCORE_METRICS=none")
			if !configured { // whose network is a private one
				cmd.Env = append(cmd.Env, "P2PCORE_NETWORK=none")
			}
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			t.Logf("%s", out)
		})
	}
}
