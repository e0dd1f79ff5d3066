package integration

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// blocks returns the fenced blocks of README.md in a language.
func blocks(t *testing.T, language string) []string {
	t.Helper()
	return fenced(t, filepath.Join("..", "README.md"), language)
}

// fenced returns the fenced blocks of a page in a language.
func fenced(t *testing.T, path, language string) []string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, m := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllStringSubmatch(string(text), -1) {
		found = append(found, m[1])
	}
	return found
}

// readme runs the lines of README.md in a directory that holds what a clone does, with a home of its own.
type readme struct {
	t      *testing.T
	dir    string
	env    []string
	values *strings.Replacer // of the words that stand for something, and of the paths below /tmp
}

// run runs a line to its end and returns what it prints.
func (r *readme) run(line string) string {
	r.t.Helper()
	cmd := exec.Command("bash", "-e", "-o", "pipefail", "-c", r.values.Replace(line))
	cmd.Dir, cmd.Env = r.dir, r.env
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		r.t.Fatalf("%s: %v\n%s%s", cmd.Args[len(cmd.Args)-1], err, out, stderr.String())
	}
	return string(out)
}

// serve starts a line that runs until Ctrl-C, which comes at the end of the test, and returns the first it prints.
func (r *readme) serve(line string) string {
	r.t.Helper()
	cmd := exec.Command("bash", "-c", "exec "+r.values.Replace(line))
	cmd.Dir, cmd.Env = r.dir, r.env
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGINT)
		if err := cmd.Wait(); err != nil {
			r.t.Errorf("%s: after Ctrl-C: %v\n%s", line, err, stderr.String())
		}
	})
	first, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		r.t.Fatalf("%s: prints nothing: %v", line, err)
	}
	return strings.TrimSpace(first)
}

// TestReadme does what README.md says, line by line. Only the network is not the public one, and
// LINK, KEY and MULTIADDR are what the commands before have printed.
func TestReadme(t *testing.T) {
	dir, tmp := t.TempDir(), t.TempDir()
	for _, name := range []string{"cmd", "corestore", "dht", "feed", "internal", "node", "protocol"} {
		if err := os.CopyFS(filepath.Join(dir, name), os.DirFS(filepath.Join("..", name))); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"go.mod", "go.sum", "README.md"} {
		content, err := os.ReadFile(filepath.Join("..", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "big.iso"), []byte(strings.Repeat("not that big", 100_000)), 0o600); err != nil {
		t.Fatal(err)
	}
	env := os.Environ()
	for _, name := range []string{"GOMODCACHE", "GOCACHE", "GOPATH"} { // they follow HOME
		value, err := exec.Command("go", "env", name).Output()
		if err != nil {
			t.Fatal(err)
		}
		env = append(env, name+"="+strings.TrimSpace(string(value)))
	}
	env = append(env, "HOME="+filepath.Join(dir, "home"), "XDG_DATA_HOME=", "XDG_CONFIG_HOME=", "XDG_RUNTIME_DIR=",
		"P2PCORE_MDNS=false", "P2PCORE_LISTEN=/ip4/127.0.0.1/tcp/0")
	private := &readme{t: t, dir: dir, env: env}
	r := &readme{t: t, dir: dir, env: append(env, "P2PCORE_NETWORK=none")}
	var link, key, door string
	know := func() {
		r.values = strings.NewReplacer("/tmp/", tmp+"/", "LINK", link, "KEY", key, "MULTIADDR", door)
		private.values = r.values
	}
	know()

	tried := 0
	for _, block := range blocks(t, "sh") {
		if strings.HasPrefix(block, "make ") {
			continue // its first line runs this test
		}
		for line := range strings.Lines(block) {
			line, _, _ = strings.Cut(strings.TrimSpace(line), "  #")
			tried++
			if build, then, both := strings.Cut(line, " && "); both {
				r.run(build)
				line = then
			}
			switch {
			case strings.Contains(line, " bootstrap "):
				door = private.serve(line)
			case strings.Contains(line, "--network mine") && strings.Contains(line, " share "):
				// The share before holds the default store; its user has ended it.
				line = strings.Replace(line, "./p2pcore", "./p2pcore --store /tmp/second", 1)
				_, key, _ = strings.Cut(private.serve(line), "hyper://")
				key, _, _ = strings.Cut(key, "?")
			case strings.Contains(line, "--network mine"):
				private.run(line)
			case strings.Contains(line, " share "):
				link = r.serve(line)
			default:
				if got, want := r.run(line), strings.Join(lineNumbers(991, 1000), ""); strings.Contains(line, " cat ") && got != want {
					t.Errorf("%s printed %q, want %q", line, got, want)
				}
			}
			know()
		}
	}
	if tried < 10 {
		t.Errorf("README.md has %d commands, want at least 10", tried)
	}
	for copied, original := range map[string]string{"copy.md": "README.md", "copy.iso": "big.iso"} {
		if got, want := fileSum(t, filepath.Join(dir, copied)), fileSum(t, filepath.Join(dir, original)); got != want {
			t.Errorf("%s has SHA-256 %s, %s has %s", copied, got, original, want)
		}
	}
}

// lineNumbers are the lines that seq prints.
func lineNumbers(first, last int) []string {
	var lines []string
	for i := first; i <= last; i++ {
		lines = append(lines, strconv.Itoa(i)+"\n")
	}
	return lines
}

// TestReadmeShowsTheExample compares the library snippet with the example that is compiled and run.
func TestReadmeShowsTheExample(t *testing.T) {
	source, err := os.ReadFile(filepath.Join("..", "node", "example_readme_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	shown := blocks(t, "go")
	if len(shown) != 1 {
		t.Fatalf("README.md has %d blocks of Go, want 1", len(shown))
	}
	if !strings.Contains(string(source), shown[0]) {
		t.Errorf("README.md shows what is not in node/example_readme_test.go:\n%s", shown[0])
	}
	if n := strings.Count(shown[0], "\nfunc "); n != 2 {
		t.Errorf("README.md shows %d functions, want 2", n)
	}
}
