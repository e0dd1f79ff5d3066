package interop

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// patience bounds every scenario. It is generous, for two busy cores; reaching it is a failure, not a retry.
const patience = 2 * time.Minute

var baseline = flag.Bool("baseline", false, "run scenarios with JavaScript at both ends")

// javascript is where the packages and the peer are.
var javascript = filepath.Join("..", "js")

func TestMain(m *testing.M) {
	flag.Parse()
	if testing.Short() {
		return
	}
	// Scenarios wait a good deal, for each other's timers.
	if f := flag.Lookup("test.parallel"); f.Value.String() < "4" {
		f.Value.Set("4")
	}
	began := time.Now()
	if err := install(); err != nil {
		fmt.Fprintln(os.Stderr, "interop:", err)
		os.Exit(1)
	}
	installed := time.Now()
	code := m.Run()
	if err := processes.end(); err != nil {
		fmt.Fprintln(os.Stderr, "interop:", err)
		code = max(code, 1)
	}
	fmt.Printf("interop: npm ci %.1f s, scenarios %.1f s, %d Node processes\n", installed.Sub(began).Seconds(), time.Since(installed).Seconds(), processes.started)
	os.Exit(code)
}

// install gets the packages of the lock file, unless they are there.
func install() error {
	lock, err := os.ReadFile(filepath.Join(javascript, "package-lock.json"))
	if err != nil {
		return err
	}
	// npm leaves its own list of what is installed, which has no place for the lock file as a whole.
	mark := filepath.Join(javascript, "node_modules", ".installed-lock.json")
	installed, err := os.ReadFile(mark)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if bytes.Equal(installed, lock) {
		return nil
	}
	cmd := exec.Command("npm", "ci", "--no-audit", "--no-fund", "--loglevel=error")
	cmd.Dir = javascript
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("npm ci: %w\n%s", err, out)
	}
	return os.WriteFile(mark, lock, 0o644)
}
